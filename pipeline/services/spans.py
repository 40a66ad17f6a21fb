"""A camera's windows in the log without their pictures, and from where on its analytics can be done again.

Analytics have a past: tracks, open counts. At the beginning of an epoch they have none but the totals (and the time of
the last event), which the counts published before it tell. So the log can be replayed exactly from the beginning of
any epoch that it still holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.bus.topics import Topics
from pipeline.core.events import rfc3339
from pipeline.errors import OffsetGone, UsageError
from pipeline.services.log import Log, WindowPlace, window_place

Progress = Callable[[int, int], None]
"""Told how much is done, of how much."""


def no_progress(_done: int, _of: int) -> None:
    """For who does not want to know."""


@dataclass(frozen=True, slots=True)
class CameraIndex:
    """The windows of one camera that count, in the order of the log; what others sent in its name is left out.

    beginning, end: of the partition. begins: the places in ``windows`` where an epoch begins.
    """

    camera_id: str
    partition: int
    beginning: int
    end: int
    windows: tuple[WindowPlace, ...]
    begins: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the first window there ever was is still there."""
        return bool(self.begins) and self.begins[0] == 0 and self.windows[0].headers.epoch <= 1

    def at_time(self, time_us: int) -> int:
        """The place of the first window that has something at or after ``time_us`` of the video; len if none."""
        for number, window in enumerate(self.windows):
            if window.to_us is not None and window.to_us >= time_us:
                return number
        return len(self.windows)

    def at_offset(self, offset: int) -> int:
        """The place of the first window at or behind ``offset``; len if none."""
        for number, window in enumerate(self.windows):
            if window.offset >= offset:
                return number
        return len(self.windows)

    def epoch_of(self, number: int) -> int | None:
        """The place where the epoch of that window begins; None where its beginning is gone."""
        return max((begin for begin in self.begins if begin <= number), default=None)

    def told(self, number: int) -> str:
        """That window for people: ``offset 120 (2026-01-01T08:00:00.000000Z, epoch 3)``."""
        window = self.windows[number]
        timed = next((place for place in self.windows[number:] if place.from_us is not None), window)
        when = rfc3339(timed.from_us) if timed.from_us is not None else "no time"
        return f"offset {window.offset} ({when}, epoch {window.headers.epoch})"


def index_camera(log: Log, topics: Topics, camera_id: str, *, progress: Progress = no_progress) -> CameraIndex:
    """Read the headers of a camera's windows. Raises OffsetGone when the log holds none, BusError."""
    reader = log.reader(topics.windows_raw)
    try:
        partition = reader.partition_of(camera_id)
        beginning, end = reader.beginning(partition), reader.end(partition)
        windows: list[WindowPlace] = []
        begins: list[int] = []
        fence: tuple[int, str] | None = None
        for record in reader.read(partition, beginning, end):
            progress(record.offset + 1 - beginning, end - beginning)
            place = window_place(record) if record.key == camera_id else None
            if place is None:
                continue
            claim = (place.headers.epoch, place.headers.writer)
            if fence is not None and claim != fence and claim[0] <= fence[0]:
                continue  # of a reader that was replaced
            if claim != fence:
                fence = claim
                if place.headers.sequence == 0:
                    begins.append(len(windows))
            windows.append(place)
    finally:
        reader.close()
    if not windows:
        raise OffsetGone(
            f"the log holds no window of camera {camera_id!r}",
            mend=f"looked at {topics.windows.name}, partition {partition}, offsets {beginning} to {end}",
        )
    return CameraIndex(camera_id, partition, beginning, end, tuple(windows), tuple(begins))


@dataclass(frozen=True, slots=True)
class Span:
    """Which windows are replayed. Numbers are places in ``CameraIndex.windows``.

    start: where the analytics begin. first: the first whose results are wanted. last: behind the last. until: behind
    the last that is read: a window more than wanted, where the log has one that may bring results that belong to the
    window before it (what an epoch left open is closed by the next).
    exact: whether the results are those of the whole history. notes: what a person has to know of it.
    """

    start: int
    first: int
    last: int
    until: int
    exact: bool
    notes: tuple[str, ...] = ()


def choose_span(
    index: CameraIndex, *, first: int, last: int, processed_to: int | None = None, exact: bool = False
) -> Span:
    """The windows ``first`` to ``last`` of an index, begun where the analytics can begin.

    processed_to: offset up to which results are published; nothing behind it is taken. exact: rather leave out the
    beginning than give results that need what is gone. Raises UsageError when nothing is left.
    """
    notes: list[str] = []
    end = len(index.windows) if processed_to is None else index.at_offset(processed_to)
    if last > end:
        notes.append(f"inference has come to offset {processed_to}: what lies behind it is left out")
        last = end
    begin = index.epoch_of(first) if first < len(index.windows) else None
    if begin is None and first < last:
        gone = f"the log begins in the middle of epoch {index.windows[0].headers.epoch}, {index.told(0)}"
        later = next((place for place in index.begins if place >= first), None)
        if exact:
            if later is None or later >= last:
                raise UsageError(
                    f"camera {index.camera_id}: {gone}, and no later epoch begins in the span: nothing of it can be "
                    "compared",
                    mend="what came before is deleted by retention",
                )
            notes.append(f"{gone}; what came before is deleted: comparing from {index.told(later)} on")
            begin = first = later
        else:
            notes.append(f"{gone}; tracks and totals begin anew there, so that results differ from those published")
            begin = 0
    if first >= last or begin is None:
        raise UsageError(f"camera {index.camera_id}: no window lies in this span", mend=_holds(index, end))
    known = begin in index.begins
    until = next((n + 1 for n in range(last, end) if index.windows[n].from_us is not None), last)
    return Span(begin, first, last, until, known, tuple(notes))


def _holds(index: CameraIndex, end: int) -> str:
    if end == 0:
        return "inference has not come to any of its windows yet"
    return f"there is {index.told(0)} to {index.told(end - 1)}"
