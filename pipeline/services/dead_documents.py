"""Cameras' documents that cannot be read: each becomes a dead letter once, in the whole cluster.

The member of the group that has the partition of ``cameras`` sends it, and then commits the offset behind the record:
whoever gets the partition next begins behind it. Only a worker that dies between the two has it sent twice.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.bus.topics import DeadLetter
from pipeline.errors import BusError

_log = logging.getLogger(__name__)
Unreadable = Record[Any]
"""A record of ``cameras`` whose value is Malformed."""


class LetterProducer(Protocol):
    """What is needed of ``KafkaProducer``."""

    def try_send_message(self, message: Message, partition: int | None = None) -> bool: ...


class DeadDocuments:
    """Those that are still to be buried, one after the other. ``on_sent`` is called on the client's thread, all else on
    the worker's.

    open_producer: made when the first is found, with ``on_sent``. commit: the offset behind a record, for the group.
    buried: told of each one that is in the log.
    """

    def __init__(
        self,
        letters: Topic[DeadLetter],
        open_producer: Callable[[], LetterProducer],
        commit: Callable[[Unreadable], None],
        buried: Callable[[], None],
    ) -> None:
        self._letters = letters
        self._open_producer = open_producer
        self._commit = commit
        self._buried = buried
        self._producer: LetterProducer | None = None
        self._waiting: deque[Unreadable] = deque()
        self._lock = threading.Lock()
        self._sent: Message | None = None  # the letter of the first that waits, once it is handed over
        self._answer: object | None = None  # where it lies, or a BusError

    def found(self, record: Unreadable) -> None:
        """A record that cannot be read was polled (perhaps once more)."""
        if all((each.partition, each.offset) != (record.partition, record.offset) for each in self._waiting):
            self._waiting.append(record)

    def forget(self, partitions: Collection[int]) -> None:
        """These are another worker's now, and so are their records that are not buried yet."""
        if self._waiting and self._waiting[0].partition in partitions:
            self._expect(None)
        self._waiting = deque(record for record in self._waiting if record.partition not in partitions)

    def tick(self) -> None:
        """Go on with the oldest, without waiting for the broker's answer."""
        if not self._waiting:
            return
        if self._producer is None:
            self._producer = self._open_producer()
        record = self._waiting[0]
        try:
            if self._sent is None:
                self._send(self._producer, record)
            elif self._answer is not None:
                self._settle(record, self._answer)
        except BusError as error:
            place = f"partition {record.partition}, offset {record.offset}"
            _log.error("cameras, %s: it is left to the next worker to bury it: %s", place, error)
            self._waiting.popleft()
            self._expect(None)

    def on_sent(self, message: Message, answer: object) -> None:
        """What became of a letter."""
        with self._lock:
            if message is self._sent:
                self._answer = answer

    def _send(self, producer: LetterProducer, record: Unreadable) -> None:
        value: Malformed = record.value
        letter = DeadLetter(
            value.message, value.reason, "RecordMalformed", record.topic, record.partition, record.offset,
            record.timestamp_ms, "ingest",
        )  # fmt: skip
        message = self._letters.encode(record.key, letter)
        self._expect(message)
        if not producer.try_send_message(message):
            self._expect(None)

    def _settle(self, record: Unreadable, answer: object) -> None:
        if isinstance(answer, BusError):
            raise answer
        self._buried()
        self._commit(record)
        self._waiting.popleft()
        self._expect(None)

    def _expect(self, message: Message | None) -> None:
        with self._lock:
            self._sent, self._answer = message, None
