"""``passerby lag``: how many seconds of video inference is behind, per camera and partition.

Of a camera waits what lies in its partition behind the committed offset of the inference group. It is behind by the
video between the first frame that waits and the newest: the headers ``captured_from`` and ``captured_to`` of the
windows say both, and no picture is decoded. A camera of which nothing waits is not behind, however long it was silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.bus.topics import Topics
from pipeline.services.log import Log, Reader, WindowPlace, window_place

_NEWEST = 48  # records at the end of a partition among which each camera's newest window is looked for
_MOST_READ = 2000  # records of those that wait, from the oldest on


@dataclass(frozen=True, slots=True)
class CameraLag:
    """One camera. behind_s: seconds of its video that wait; at_least: or more (not everything that waits was read).

    newest_us: UTC microseconds of its newest frame in the log. silent_s: since its newest window was sent.
    """

    camera_id: str
    behind_s: float
    at_least: bool
    newest_us: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of the windows topic. committed: None when the group never committed there.

    records_behind: records that wait. behind_s: of its camera that is most behind. cameras: those of its newest
    records and of those that wait longest.
    """

    partition: int
    committed: int | None
    end: int
    records_behind: int
    behind_s: float
    cameras: tuple[CameraLag, ...]


def measure(
    log: Log, topics: Topics, group: str, *, clock: Callable[[], float] = time.time, timeout_s: float = 30
) -> list[PartitionLag]:
    """The lag of ``group`` in every partition that has records, by number. Raises BusError.

    clock: seconds since 1970.
    """
    reader = log.reader(topics.windows_raw)
    try:
        committed = log.committed(group, topics.windows.name, timeout_s=timeout_s)
        partitions = reader.partitions()
        beginnings, ends = reader.beginnings(partitions), reader.ends(partitions)
        return [
            _partition(reader, partition, (beginnings[partition], ends[partition]), committed.get(partition), clock())
            for partition in partitions
            if ends[partition] > beginnings[partition]
        ]
    finally:
        reader.close()


def worst_s(lags: list[PartitionLag]) -> float:
    """Seconds that the camera most behind is behind; 0 when there is none."""
    return max((lag.behind_s for lag in lags), default=0.0)


def _partition(
    reader: Reader[bytes], partition: int, span: tuple[int, int], committed: int | None, now_s: float
) -> PartitionLag:
    beginning, end = span
    waits_from = min(max(beginning if committed is None else committed, beginning), end)
    newest = {place.camera_id: place for place in _places(reader, partition, max(beginning, end - _NEWEST), end)}
    first: dict[str, WindowPlace] = {}
    looked_to = min(end, waits_from + _MOST_READ)
    for place in _places(reader, partition, waits_from, looked_to):
        first.setdefault(place.camera_id, place)
        if place.offset >= newest.get(place.camera_id, place).offset:
            newest[place.camera_id] = place
        if newest.keys() <= first.keys() and place.offset - waits_from >= _NEWEST:
            looked_to = place.offset + 1
            break
    looked_at_all = looked_to >= end - _NEWEST
    cameras = tuple(
        _camera(place, first.get(camera_id), waits_from, looked_at_all=looked_at_all, now_s=now_s)
        for camera_id, place in sorted(newest.items())
    )
    behind_s = max((camera.behind_s for camera in cameras), default=0.0)
    return PartitionLag(partition, committed, end, end - waits_from, behind_s, cameras)


def _camera(
    newest: WindowPlace, first: WindowPlace | None, waits_from: int, *, looked_at_all: bool, now_s: float
) -> CameraLag:
    """What a camera's newest window and its first that waits (None: not found) say together."""
    waits = newest.offset >= waits_from
    since = first if first is not None else newest
    assert newest.to_us is not None
    assert since.from_us is not None
    behind_us = max(0, newest.to_us - since.from_us) if waits else 0
    # Where not everything was read, its first may lie before the one found, or its newest behind.
    at_least = waits and not looked_at_all and (first is None or first is newest)
    silent_s = max(0.0, now_s - newest.timestamp_ms / 1000)
    return CameraLag(newest.camera_id, behind_us / 1e6, at_least, newest.to_us, silent_s)


def _places(reader: Reader[bytes], partition: int, from_offset: int, to_offset: int) -> Iterator[WindowPlace]:
    """The windows of a span that say when they were filmed."""
    if to_offset <= from_offset:
        return
    for record in reader.read(partition, from_offset, to_offset):
        place = window_place(record)
        if place is not None and place.from_us is not None:
            yield place
