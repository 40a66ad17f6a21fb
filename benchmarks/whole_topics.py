"""Topics read from their beginning to their present end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.bus.base import Message, Record, Topic
from pipeline.core.event_json import encode_json
from pipeline.core.events import Event


def as_it_lies(name: str) -> Topic[Message]:
    """A topic whose records are not decoded."""
    return Topic(name, lambda _, message: message, lambda message: message)


def records(bus: Any, topic: Topic[Any]) -> Iterator[Record[Any]]:
    """Every record of ``topic``, partition by partition. bus: one with ``reader`` (KafkaBus)."""
    with bus.reader(topic) as reader:
        for partition in reader.partitions():
            yield from reader.read(partition, reader.beginning(partition), reader.end(partition))


def without_origin(event: Event) -> bytes:
    """An event as JSON, but for where its window lies in the log: to be compared with another run's."""
    data = {key: value for key, value in event.data.items() if key != "origin"}
    return encode_json({**event.attributes(), "data": data})
