"""The bus of one process: bounded queues, one partition a key, values by reference.

Offsets count within a key, so that where a record lies does not depend on how threads interleave.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Generic, TypeVar

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.errors import BusError, RecordMalformed, RecordTooLarge

T = TypeVar("T")


@dataclass(slots=True)
class _Partition(Generic[T]):
    number: int
    waiting: deque[Record[T]] = field(default_factory=deque)
    polled: OrderedDict[int, Record[T]] = field(default_factory=OrderedDict)
    next_offset: int = 0


class MemoryTopic(Generic[T]):
    """A topic in memory. ``keys`` fixes the partition of each key; an unknown key is an error.

    capacity: records a key may have waiting (not yet polled) before ``send`` waits.
    codec: values go through it as they would on the wire, and what it cannot read comes as Malformed; without one
    they are handed over as they are.
    limit_bytes: of a record's bytes (only with a codec).
    """

    def __init__(
        self,
        name: str,
        keys: Sequence[str],
        capacity: int = 4,
        *,
        codec: Topic[T] | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError("a topic holds at least one record a key")
        self.name = name
        self._codec = codec
        self._limit_bytes = limit_bytes
        self._capacity = capacity
        self._partitions: dict[str, _Partition[T]] = {key: _Partition(n) for n, key in enumerate(keys)}
        self._turn: deque[str] = deque(keys)  # whose record is polled next: fair over the keys
        self._changed = threading.Condition()
        self._producers = 0
        self._closed = False

    def producer(self) -> MemoryProducer[T]:
        """A new producer; the topic ends once every producer is closed."""
        with self._changed:
            self._producers += 1
        return MemoryProducer(self)

    def consumer(self) -> MemoryConsumer[T]:
        """A consumer; one after the other, not two at once."""
        return MemoryConsumer(self)

    def close(self) -> None:
        """Give up: waiting senders fail with BusError, polls come back empty, and the topic is ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Record[T]]:
        """Take out what nobody polled, so that a run that gives up can account for it."""
        with self._changed:
            left = [record for partition in self._partitions.values() for record in partition.waiting]
            for partition in self._partitions.values():
                partition.waiting.clear()
            self._changed.notify_all()
            return left

    def waiting(self, key: str) -> int:
        """Records of ``key`` that are not polled yet."""
        with self._changed:
            return len(self._partitions[key].waiting)

    def _on_the_wire(self, key: str, value: Any) -> Any:
        """The value as it lies in the topic: a Message where there is a codec."""
        if self._codec is None:
            return value
        message = value if isinstance(value, Message) else self._codec.encode(key, value)
        size = len(message.value or b"")
        if self._limit_bytes is not None and size > self._limit_bytes:
            raise RecordTooLarge(
                f"a record of {key!r} for {self.name} has {size} bytes, and the topic takes {self._limit_bytes}",
                key=key,
            )
        return message

    def _read(self, record: Record[T]) -> Record[T]:
        """The record as the consumer sees it."""
        if self._codec is None:
            return record
        message: Any = record.value
        value: Any
        try:
            value = self._codec.decode(message)
        except RecordMalformed as error:
            value = Malformed(message, str(error))
        return replace(record, value=value, headers=message.headers)

    def _append(self, key: str, value: Any, *, wait: bool) -> bool:
        value = self._on_the_wire(key, value)
        with self._changed:
            partition = self._partitions.get(key)
            if partition is None:
                raise BusError(f"topic {self.name} has no key {key!r}")
            while not self._closed and len(partition.waiting) >= self._capacity:
                if not wait:
                    return False
                self._changed.wait()
            if self._closed:
                raise BusError(f"topic {self.name} is closed")
            partition.waiting.append(Record(self.name, partition.number, partition.next_offset, key, value))
            partition.next_offset += 1
            self._changed.notify_all()
            return True

    def _poll(self, timeout_s: float, max_records: int) -> list[Record[T]]:
        with self._changed:
            self._changed.wait_for(lambda: self._any_waiting() or self._ended(), timeout_s)
            taken: list[Record[T]] = []
            if self._closed:
                return []
            idle = 0
            while len(taken) < max_records and idle < len(self._turn):
                key = self._turn[0]
                self._turn.rotate(-1)
                partition = self._partitions[key]
                if not partition.waiting:
                    idle += 1
                    continue
                idle = 0
                record = partition.waiting.popleft()
                partition.polled[record.offset] = record
                taken.append(record)
            if taken:
                self._changed.notify_all()
        return [self._read(record) for record in taken]

    def _commit(self, records: Sequence[Record[T]]) -> None:
        with self._changed:
            for record in records:
                self._partitions[record.key].polled.pop(record.offset, None)

    def _return_polled(self) -> None:
        with self._changed:
            for partition in self._partitions.values():
                partition.waiting.extendleft(reversed(partition.polled.values()))
                partition.polled.clear()
            self._changed.notify_all()

    def _producer_closed(self) -> None:
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def _any_waiting(self) -> bool:
        return any(partition.waiting for partition in self._partitions.values())

    def _ended(self) -> bool:
        return self._closed or (self._producers <= 0 and not self._any_waiting())


class MemoryProducer(Generic[T]):
    """Sends to a MemoryTopic."""

    def __init__(self, topic: MemoryTopic[T]) -> None:
        self._topic = topic
        self._open = True

    def send(self, key: str, value: T) -> None:
        """Append; wait while ``key`` has its capacity waiting."""
        self._require_open()
        self._topic._append(key, value, wait=True)

    def try_send(self, key: str, value: T) -> bool:
        """Append if there is room for this key; say whether it was."""
        self._require_open()
        return self._topic._append(key, value, wait=False)

    def send_message(self, message: Message) -> None:
        """``send`` of a message as it is, to a topic with a codec."""
        self._require_open()
        self._topic._append(message.key, message, wait=True)

    def close(self) -> None:
        """No more will be sent by this producer; closing twice is harmless."""
        if self._open:
            self._open = False
            self._topic._producer_closed()

    def _require_open(self) -> None:
        if not self._open:
            raise BusError(f"the producer of topic {self._topic.name} is closed")

    def __enter__(self) -> MemoryProducer[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryConsumer(Generic[T]):
    """Reads a MemoryTopic. Closing it gives back what was polled and not committed, in order."""

    def __init__(self, topic: MemoryTopic[T]) -> None:
        self._topic = topic

    def poll(self, timeout_s: float, max_records: int = 1) -> list[Record[T]]:
        """Up to ``max_records`` records, fair over the keys; empty when none came within ``timeout_s``."""
        return self._topic._poll(timeout_s, max_records)

    def commit(self, records: Sequence[Record[T]]) -> None:
        """These are done and need not be delivered again."""
        self._topic._commit(records)

    @property
    def ended(self) -> bool:
        """Every producer is closed and everything was polled (or the topic was closed)."""
        with self._topic._changed:
            return self._topic._ended()

    def close(self) -> None:
        """Leave: uncommitted records are delivered again to the next consumer."""
        self._topic._return_polled()
