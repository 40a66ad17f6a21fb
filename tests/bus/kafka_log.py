"""What the tests of the bus on Kafka share: topics of their own, and a listener that remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.bus.kafka import KafkaBus, KafkaConsumer
from pipeline.bus.kafka.reader import KafkaReader
from pipeline.errors import RecordMalformed
from tests.broker import Broker


def texts(name: str) -> Topic[str]:
    """Values are text; what is no UTF-8 is malformed."""

    def decode(message: Message) -> str:
        try:
            return (message.value or b"").decode()
        except UnicodeDecodeError as error:
            raise RecordMalformed("not UTF-8") from error

    return Topic(name, lambda key, value: Message(key, value.encode()), decode)


@contextmanager
def bus_with(broker: Broker, prefix: str, *names: str, partitions: int = 2, copies: int = 1) -> Iterator[KafkaBus]:
    """A bus, and the topics ``prefix.name`` made."""
    with KafkaBus(broker.settings(prefix), client_id=f"{prefix}-test") as bus:
        admin = bus.admin()
        for name in names:
            admin.create(f"{prefix}.{name}", partitions, copies, {})
        yield bus


class Remembers:
    """A PartitionListener that writes down what it hears, and may do something about it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[int, ...]]] = []
        self.on_assigned: Callable[[tuple[int, ...]], Any] = lambda partitions: None
        self.on_revoked: Callable[[tuple[int, ...]], Any] = lambda partitions: None

    def assigned(self, partitions: Sequence[int]) -> None:
        """Came."""
        self.heard.append(("assigned", tuple(partitions)))
        self.on_assigned(tuple(partitions))

    def revoked(self, partitions: Sequence[int]) -> None:
        """Goes."""
        self.heard.append(("revoked", tuple(partitions)))
        self.on_revoked(tuple(partitions))

    def lost(self, partitions: Sequence[int]) -> None:
        """Went."""
        self.heard.append(("lost", tuple(partitions)))


def poll_until(consumer: KafkaConsumer[str], count: int, patience_s: float = 30) -> list[Record[str | Malformed]]:
    """The next ``count`` records, or what came of them in time."""
    records: list[Record[str | Malformed]] = []
    until = time.monotonic() + patience_s
    while len(records) < count and time.monotonic() < until:
        records += consumer.poll(0.1, count - len(records))
    return records


def wait_for(condition: Callable[[], bool], patience_s: float = 30, *, doing: Callable[[], Any] = lambda: None) -> None:
    """Until the condition holds; AssertionError when it never does."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, "it never came to be"
        doing()
        time.sleep(0.02)


def values(records: Sequence[Record[str | Malformed]]) -> list[str | Malformed]:
    """Their values."""
    return [record.value for record in records]


def committed_values(bus: KafkaBus, topic: Topic[str]) -> list[str | Malformed]:
    """Everything a read_committed reader sees, a partition after the other."""
    with bus.reader(topic) as reader:
        return [
            record.value
            for partition, end in settled_ends(reader).items()
            for record in reader.read(partition, 0, end, timeout_s=10)
        ]


def settled_ends(reader: KafkaReader[str]) -> dict[int, int]:
    """The ends once they stay: a commit is answered before its markers stand behind the records."""
    partitions = reader.partitions()
    ends = reader.ends(partitions)
    while True:
        time.sleep(0.2)
        before, ends = ends, reader.ends(partitions)
        if ends == before:
            return dict(sorted(ends.items()))
