"""The contract every bus keeps, in words.

- A topic carries values of one type; a record has a key (the camera_id) and an offset in its partition.
- Records of one key stay in the order they were sent. Between keys there is no order.
- A consumer of a group gets every record at least once: what was polled but not committed is delivered again to
  whoever takes the partition over.
- ``send`` of a full bus waits (back-pressure); ``try_send`` says False instead. Nothing is ever dropped by the bus.
- A record over the topic's limit is refused before it is sent, with RecordTooLarge; the topic goes on.
- What cannot be decoded is delivered as ``Malformed``, in its place in the order; the topic goes on.
- Partitions come and go: the listener hears of them inside ``poll``, on the caller's thread, and no record of a
  partition is delivered before ``assigned`` has returned or after ``revoked`` or ``lost`` was called.
- ``close`` of a producer lets consumers drain what was sent; then ``poll`` says the topic is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """A value in the log, and where it lies; ``timestamp_ms`` is when it was sent (-1: the bus does not say)."""

    topic: str
    partition: int
    offset: int
    key: str
    value: T
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = -1


@dataclass(frozen=True, slots=True)
class Message:
    """A record as bytes, before it has a place in the log. A ``value`` of None deletes the key (compacted topics)."""

    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Malformed:
    """The value of a record that could not be decoded: what came, and why it cannot be read."""

    message: Message
    reason: str


@dataclass(frozen=True, slots=True)
class Topic(Generic[T]):
    """A topic by its full name, and how its values become messages. ``decode`` raises RecordMalformed."""

    name: str
    encode: Callable[[str, T], Message]
    decode: Callable[[Message], T]


class PartitionListener(Protocol):
    """Hears which partitions of the windows (or cameras) are ours."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """These came to us: restore what belongs to them; their first record comes after this returns."""

    def revoked(self, partitions: Sequence[int]) -> None:
        """These go to another worker when this returns: finish and commit, or drop, what is in flight of them."""

    def lost(self, partitions: Sequence[int]) -> None:
        """These went to another worker already: drop what is in flight; nothing of them can be committed."""


class Producer(Protocol[T_contra]):
    """Sends to one topic."""

    def send(self, key: str, value: T_contra) -> None:
        """Append; wait while the bus is full. Raises BusError when the bus is closed."""

    def try_send(self, key: str, value: T_contra) -> bool:
        """Append if there is room for this key; say whether it was."""

    def close(self) -> None:
        """No more will be sent by this producer."""


class Consumer(Protocol[T]):
    """Reads one topic."""

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[T]]:
        """Up to ``max_records`` records, fair over the keys; empty when none came within ``timeout_s``."""

    def commit(self, records: Sequence[Record[T]]) -> None:
        """These are done and need not be delivered again."""

    @property
    def ended(self) -> bool:
        """Every producer is closed and everything was polled."""
