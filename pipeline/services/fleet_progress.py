"""Whether every recording of the whole fleet is in the log: what ``passerby ingest --once`` waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.bus.base import Malformed, Record
from pipeline.bus.topics import IngestState
from pipeline.services.documents import CamerasReader, CamerasView
from pipeline.services.epochs import LogPosition, newest
from pipeline.services.fleet import recording_of


class StatesReader(Protocol):
    """What is needed of ``KafkaReader``."""

    def partitions(self) -> tuple[int, ...]: ...
    def ends(self, partitions: Sequence[int]) -> dict[int, int]: ...
    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[IngestState | Malformed | None]]: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Recordings of the fleet: how many there are, how many are told whole, and which failed, with the reason."""

    recordings: int
    ended: int
    failures: dict[str, str]

    @property
    def is_complete(self) -> bool:
        """Nothing is left to be read."""
        return self.ended + len(self.failures) == self.recordings


class FleetProgress:
    """Follows ``cameras`` and ``state``; what was read is not read again."""

    def __init__(self, cameras: CamerasReader, states: StatesReader) -> None:
        self._cameras = CamerasView(cameras)
        self._reader = states
        self._next: dict[int, int] = {}
        self._states: dict[str, IngestState] = {}

    def look(self) -> Progress:
        """How far the fleet is now. Raises BusError."""
        cameras = self._cameras.refresh()
        self._read_states()
        recordings = ended = 0
        failures: dict[str, str] = {}
        for camera_id, held in cameras.items():
            recording = recording_of(held.document)
            if not recording:
                continue
            recordings += 1
            state = self._states.get(camera_id)
            position = LogPosition.of(state) if state is not None else LogPosition(0)
            if position.recording != recording:
                continue
            ended += position.outcome == "ended"
            if position.outcome == "failed":
                failures[camera_id] = position.reason
        return Progress(recordings, ended, failures)

    def _read_states(self) -> None:
        partitions = self._reader.partitions()
        ends = self._reader.ends(partitions)
        told = [*self._states.values()]
        for partition in partitions:
            records = self._reader.read(partition, self._next.get(partition, 0), ends[partition])
            told += [record.value for record in records if isinstance(record.value, IngestState)]
            self._next[partition] = max(ends[partition], self._next.get(partition, 0))
        self._states = newest(told)
