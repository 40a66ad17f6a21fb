"""Reads one topic as a member of a group; a thread of its own polls, so that a slow caller is never thrown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from pipeline.bus.base import Malformed, Record

T = TypeVar("T")


class KafkaConsumer(Generic[T]):
    """base.Consumer over Kafka; made by ``KafkaBus.consumer``. ``poll`` and ``commit`` belong to one thread."""

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[T | Malformed]]:
        """Up to ``max_records`` records, in order a partition, fair over the partitions; empty after ``timeout_s``.

        The listener hears of partitions in here. Raises BusUnavailable, BusDenied, Fenced, OffsetGone, BusError: what
        the poll thread met, once each. While a broker is merely away, poll comes back empty.
        """
        raise NotImplementedError

    def commit(self, records: Sequence[Record[Any]]) -> None:
        """Commit the offsets behind these records (the at-least-once way; waits for the broker).

        Partitions that are not ours any more are passed over: another worker reads those records again.
        Raises BusUnavailable or Fenced.
        """
        raise NotImplementedError

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Deliver these partitions from these offsets on (inside ``assigned``, or between polls)."""
        raise NotImplementedError

    @property
    def assignment(self) -> tuple[int, ...]:
        """The partitions that the listener was told are ours, in order."""
        raise NotImplementedError

    @property
    def positions(self) -> dict[int, int]:
        """The offset behind the last record ``poll`` delivered, a partition."""
        raise NotImplementedError

    def lag(self) -> dict[int, int]:
        """Records a partition that are readable and were not delivered by ``poll`` yet; without a request."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        """False: a topic of Kafka has no end."""
        return False

    def close(self) -> None:
        """Leave the group (a static member leaves it only for its session); calls no listener, commits nothing."""
        raise NotImplementedError
