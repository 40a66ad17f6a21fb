"""What the next transaction of an inference worker carries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.topics import DeadLetter, Topics

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Gathered:
    """Of one partition. messages: of events, counts and dead letters, by topic. cameras: whose state changed.

    forgotten: keys of the state to delete. dead: topic and kind of each dead letter, for the metrics.
    """

    next_offset: int
    messages: list[tuple[str, Message]] = field(default_factory=list)
    cameras: dict[str, None] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)

    def bury(self, topics: Topics, record: Record[Any], topic: str, kind: str, reason: str, error: str) -> None:
        """Add a dead letter of ``record``. It says the same whoever finds it, so that no run differs from another."""
        value = record.value
        message = value.message if isinstance(value, Malformed) else Message(record.key, value, record.headers)
        letter = DeadLetter(
            message, reason, error, record.topic, record.partition, record.offset, record.timestamp_ms, "infer"
        )
        self.messages.append((topics.dead_letters.name, topics.dead_letters.encode(record.key, letter)))
        self.dead.append((topic, kind))
        _log.warning("%s, partition %d, offset %d: %s", record.topic, record.partition, record.offset, reason)


class Gathering:
    """Of all partitions, until it is committed or dropped."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.partitions: dict[int, Gathered] = {}
        self.since_s: float | None = None  # when the first of it came
        self._now_s = now_s

    def __bool__(self) -> bool:
        return bool(self.partitions)

    def of(self, partition: int, next_offset: int) -> Gathered:
        """What is gathered of a partition, now up to ``next_offset``."""
        gathered = self.partitions.get(partition)
        if gathered is None:
            gathered = self.partitions[partition] = Gathered(next_offset)
        gathered.next_offset = next_offset
        if self.since_s is None:
            self.since_s = self._now_s()
        return gathered

    def drop(self, partitions: Collection[int] | None = None) -> None:
        """Forget it (None: all)."""
        for partition in list(self.partitions) if partitions is None else partitions:
            self.partitions.pop(partition, None)
        if not self.partitions:
            self.since_s = None
