"""Sends to one topic: idempotent, in order, bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.bus.base import Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SentRecord:
    """Where a message lies in the log now (acknowledged by all in-sync replicas)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class KafkaProducer(Generic[T]):
    """base.Producer over Kafka; made by ``KafkaBus.producer``. Safe to use from several threads."""

    def send(self, key: str, value: T) -> None:
        """Encode and append; wait while ``max_waiting_bytes`` are unacknowledged.

        Raises RecordTooLarge before anything is sent, BusUnavailable after ``block_s`` without room, BusError when
        closed. What happens to the record afterwards ``on_sent`` hears (without one: the next send or flush raises it).
        """
        raise NotImplementedError

    def try_send(self, key: str, value: T) -> bool:
        """Append if there is room; say whether there was."""
        raise NotImplementedError

    def send_message(self, message: Message, partition: int | None = None) -> None:
        """Append a message as it is (a value of None deletes the key), to ``partition`` or by key; else as ``send``."""
        raise NotImplementedError

    def try_send_message(self, message: Message, partition: int | None = None) -> bool:
        """``send_message`` if there is room; say whether there was."""
        raise NotImplementedError

    def flush(self, timeout_s: float = 60) -> None:
        """Wait until everything sent so far is acknowledged or failed; BusUnavailable when that takes longer."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Records sent and not yet acknowledged or failed."""
        raise NotImplementedError

    @property
    def waiting_bytes(self) -> int:
        """Their bytes."""
        raise NotImplementedError

    def close(self, timeout_s: float = 10) -> None:
        """Send what waits (for up to ``timeout_s``; the rest fails into ``on_sent``) and leave."""
        raise NotImplementedError
