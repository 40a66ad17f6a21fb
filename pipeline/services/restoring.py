"""Taking over a partition: what its cameras were when the last transaction over it was committed.

1. the committed offset (the broker answers once no transaction over it is open)
2. the partition of ``state``, until its marker ``partition/<n>`` says that very offset: the commit markers of one
   transaction reach each partition at their own time, and a state that is one commit old would count twice
3. a marker that is further than the committed offset (which somebody set back) proves nothing until everything that
   was written to the partition of ``state`` is decided: the next one may be on its way
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.bus.base import Malformed, Record
from pipeline.bus.topics import CameraState, Forgotten, PartitionState, StateRecord
from pipeline.errors import BusUnavailable

_log = logging.getLogger(__name__)
_AGAIN_S = 0.05


class StateReader(Protocol):
    """Reads the topic ``state``, read_committed."""

    def beginning(self, partition: int) -> int: ...

    def end(self, partition: int) -> int: ...

    def read(self, partition: int, from_offset: int, to_offset: int) -> Iterator[Record[StateRecord | Malformed]]: ...


@dataclass(slots=True)
class RestoredPartition:
    """A partition as of its last commit. next_offset: None where nothing was ever committed.

    malformed: by key, the newest record of a key where that cannot be read.
    """

    partition: int
    next_offset: int | None
    cameras: dict[str, CameraState] = field(default_factory=dict)
    malformed: dict[str, Record[StateRecord | Malformed]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restorer:
    """Reads what was committed.

    committed: the group's committed next offsets (waits for open transactions). written_end: the end of a partition of
    ``state``, with what is not decided. windows_end: the end of a partition of ``windows``. patience_s: how long a
    marker may be behind the committed offset before the state counts as lost.
    """

    committed: Callable[[], Mapping[int, int]]
    state: StateReader
    written_end: Callable[[int], int]
    windows_end: Callable[[int], int]
    patience_s: float = 20.0
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def restore(self, partitions: Sequence[int]) -> list[RestoredPartition]:
        """The partitions, in this order. BusUnavailable while nobody knows what they are: try again."""
        offsets = self.committed()
        return [self._restore(partition, offsets.get(partition)) for partition in partitions]

    def _restore(self, partition: int, committed: int | None) -> RestoredPartition:
        found = RestoredPartition(partition, committed)
        marker: int | None = None
        position = self.state.beginning(partition)
        deadline_s = self.now_s() + self.patience_s
        written: int | None = None  # where it was, once the marker was found too far
        while True:
            end = self.state.end(partition)
            for record in self.state.read(partition, position, end):
                marker = _take(found, record, marker)
            position = max(position, end)
            if marker == committed:
                break
            if (marker or 0) > (committed or 0):
                if written is None:
                    written = self.written_end(partition)
                if position >= written:
                    break
                if self.now_s() >= deadline_s:
                    raise BusUnavailable(f"partition {partition} of the state waits for an open transaction")
            elif self.now_s() >= deadline_s:
                _log.error(
                    "partition %d: committed up to %s, its state says %s: the state is lost; counting goes on from "
                    "what there is", partition, committed, marker,
                )  # fmt: skip
                return found
            self.sleep(_AGAIN_S)
        if marker is not None:
            self._settle(found, marker)
        return found

    def _settle(self, found: RestoredPartition, marker: int) -> None:
        """Is the state ahead of the log, or of the group?"""
        if self._is_beyond_the_log(found.partition, marker):
            _log.warning(
                "partition %d: its state is of a longer log (up to %d): windows was made anew, so is the state",
                found.partition, marker,
            )  # fmt: skip
            found.cameras.clear()
            found.next_offset = None
        elif marker != found.next_offset:
            _log.warning(
                "partition %d: committed up to %s, but its state holds everything up to %d: going on from there, so "
                "that nothing counts twice", found.partition, found.next_offset, marker,
            )  # fmt: skip
            found.next_offset = marker

    def _is_beyond_the_log(self, partition: int, marker: int) -> bool:
        """Whether the log ends before ``marker``; asked twice, since a broker that just took over may lag behind."""
        if marker <= self.windows_end(partition):
            return False
        self.sleep(1.0)
        return marker > self.windows_end(partition)


def _take(found: RestoredPartition, record: Record[StateRecord | Malformed], marker: int | None) -> int | None:
    """Take one record of the state; the marker as of now."""
    state = record.value
    if isinstance(state, Malformed):
        _log.error("state, partition %d, offset %d: %s", record.partition, record.offset, state.reason)
        found.cameras.pop(record.key, None)  # whatever it says, the older one is out of date
        found.malformed[record.key] = record
        return marker
    found.malformed.pop(record.key, None)
    if isinstance(state, CameraState):
        found.cameras[state.camera_id] = state
    elif isinstance(state, PartitionState):
        if state.partition == found.partition:
            return state.next_offset
    elif isinstance(state, Forgotten):
        found.cameras.pop(state.key, None)
        if state.key == PartitionState(found.partition, 0).key:
            return None
    return marker
