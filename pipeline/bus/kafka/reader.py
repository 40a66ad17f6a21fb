"""Reads spans of a topic without a group: replay, evidence, tail, restoring state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from pipeline.bus.base import Malformed, Record

T = TypeVar("T")


class KafkaReader(Generic[T]):
    """Reads any span of a topic, read_committed; made by ``KafkaBus.reader``. Belongs to one thread."""

    def partitions(self) -> tuple[int, ...]:
        """The partitions of the topic. TopicMissing when there is none."""
        raise NotImplementedError

    def partition_of(self, key: str) -> int:
        """The partition a producer puts ``key`` into."""
        raise NotImplementedError

    def beginning(self, partition: int) -> int:
        """The oldest offset there is."""
        raise NotImplementedError

    def end(self, partition: int) -> int:
        """The offset behind the last one that is decided: open transactions and what follows them lie behind it."""
        raise NotImplementedError

    def at_time(self, partition: int, timestamp_ms: int) -> int:
        """The first offset whose record was sent at or after ``timestamp_ms``; the end when there is none."""
        raise NotImplementedError

    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[T | Malformed]]:
        """The records of [from_offset, to_offset) that are there (aborted ones and markers leave gaps), in order.

        A ``from_offset`` that is deleted begins at the oldest. BusUnavailable when nothing comes for ``timeout_s``.
        """
        raise NotImplementedError

    def follow(
        self, partitions: Sequence[int], *, start: Mapping[int, int] | None = None, timeout_s: float = 1
    ) -> Iterator[Record[T | Malformed] | None]:
        """Every record from ``start`` (default: the end as of now) on, for ever; None whenever ``timeout_s`` passes
        without one, so that the caller can look at its own clock."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave."""
        raise NotImplementedError
