"""What those who read the log without working on it (tail, lag, replay, evidence) need of a bus, in words.

``KafkaBus`` keeps it; tests use a log in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.bus.topics import WindowHeaders, window_headers
from pipeline.errors import RecordMalformed

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reader(Protocol[T_co]):
    """Spans of one topic, read_committed; see ``pipeline.bus.kafka.KafkaReader``."""

    def partitions(self) -> tuple[int, ...]: ...

    def partition_of(self, key: str) -> int: ...

    def beginning(self, partition: int) -> int: ...

    def end(self, partition: int) -> int: ...

    def beginnings(self, partitions: Sequence[int]) -> dict[int, int]: ...

    def ends(self, partitions: Sequence[int]) -> dict[int, int]: ...

    def at_time(self, partition: int, timestamp_ms: int) -> int: ...

    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[Any]]: ...

    def follow(
        self, partitions: Sequence[int], *, start: Mapping[int, int] | None = None, timeout_s: float = 1
    ) -> Iterator[Record[Any] | None]: ...

    def close(self) -> None: ...


class Log(Protocol):
    """Everything that lies in the topics, and how far a group is."""

    def reader(self, topic: Topic[T]) -> Reader[T]: ...

    def committed(self, group: str, topic_name: str, *, timeout_s: float = 30) -> dict[int, int]: ...


def untouched(topic: Topic[Any]) -> Topic[Message]:
    """The topic with its records as they lie there: key, bytes, headers."""
    return Topic(topic.name, lambda _, message: message, lambda message: message)


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """A window of the log by what its headers say, without its pictures. size_bytes: of its value."""

    partition: int
    offset: int
    timestamp_ms: int
    camera_id: str
    size_bytes: int
    headers: WindowHeaders

    @property
    def from_us(self) -> int | None:
        """UTC microseconds of its first frame or its status; None: it only marks an epoch's beginning."""
        return self.headers.captured_from_us

    @property
    def to_us(self) -> int | None:
        """UTC microseconds of its last frame or its status; None: it only marks an epoch's beginning."""
        return self.headers.captured_to_us


def window_place(record: Record[Any]) -> WindowPlace | None:
    """Where and what a record of the topic of raw windows is; None when it is no window."""
    value = record.value
    if isinstance(value, Malformed):
        return None
    try:
        headers = window_headers(Message(record.key, value, record.headers))
    except RecordMalformed:
        return None
    return WindowPlace(record.partition, record.offset, record.timestamp_ms, record.key, len(value), headers)
