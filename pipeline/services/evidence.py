"""``passerby evidence``: from an event's id to the very frames the model saw.

1. find the event in ``counts`` and ``events``, newest first
2. its ``origin`` names the window it was seen in; from there go back and forth through the camera's windows of that
   epoch until every frame of ``provenance.frames`` is there, and the seconds asked for around them
3. run detector and tracker over the cut once more, to draw what they saw (drawing is in ``outputs.evidence``)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.analytics.camera import Observation
from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.cloudevents import decode_event
from pipeline.bus.codec import decode_window, frame_pictures, frame_times
from pipeline.bus.topics import Topics
from pipeline.core.events import SCENE_EVENT, Event
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView
from pipeline.errors import OffsetGone, PasserbyError, UsageError
from pipeline.outputs.evidence import box_of
from pipeline.services.log import Log, Reader, WindowPlace, untouched, window_place
from pipeline.services.plans import Plan
from pipeline.services.published import PublishedEvent
from pipeline.services.replay import CameraSpan, Replay, decoded, run_stages
from pipeline.services.stages import InferStages, UnknownCamera

_CHUNK = 1000  # records of a partition that are looked through at once
_BACK = 64  # windows that are read at once
_WARM_UP_S = 3.0
_SAME_OBJECT_IOU = 0.3
_COMPARED = (("model_sha256", "model"), ("config_sha256", "configuration"))

Looked = Callable[[int], None]
"""Told how many records were looked at."""


def find_event(
    log: Log, topics: Topics, event_id: str, *, camera_id: str | None = None, since_ms: int | None = None,
    looked: Looked = lambda _: None,
) -> PublishedEvent:  # fmt: skip
    """The event of that id, looked for from the newest record backwards, in all partitions in turn.

    camera_id: only in its partitions. since_ms: only what was published then or later (milliseconds since 1970).
    Raises UsageError when it is not there, BusError.
    """
    readers = [log.reader(untouched(topic)) for topic in (topics.events, topics.counts)]
    count = 0
    try:
        searches = [search for reader in readers for search in _searches(reader, camera_id, since_ms)]
        while searches:
            for search in list(searches):
                chunk = search.chunk()
                if chunk is None:
                    searches.remove(search)
                    continue
                for record in search.reader.read(search.partition, *chunk):
                    count += 1
                    found = _is_it(record, event_id)
                    if found is not None:
                        return found
                looked(count)
    finally:
        for reader in readers:
            reader.close()
    where = f"{topics.counts.name} and {topics.events.name}" + (f" of camera {camera_id}" if camera_id else "")
    raise UsageError(
        f"no event {event_id} in {where} ({count} records looked at)",
        mend="it may be deleted by retention; and events of `passerby run` have no log that pictures can be cut from",
    )


@dataclass(slots=True)
class _Search:
    """What is left to look through of a partition: [begin, end)."""

    reader: Reader[Message]
    partition: int
    begin: int
    end: int

    def chunk(self) -> tuple[int, int] | None:
        if self.end <= self.begin:
            return None
        first = max(self.begin, self.end - _CHUNK)
        chunk, self.end = (first, self.end), first
        return chunk


def _searches(reader: Reader[Message], camera_id: str | None, since_ms: int | None) -> Iterator[_Search]:
    partitions = reader.partitions() if camera_id is None else (reader.partition_of(camera_id),)
    for partition in partitions:
        begin = reader.beginning(partition) if since_ms is None else reader.at_time(partition, max(0, since_ms))
        yield _Search(reader, partition, begin, reader.end(partition))


def _is_it(record: Record[Any], event_id: str) -> PublishedEvent | None:
    if ("ce_id", event_id.encode()) not in record.headers or isinstance(record.value, Malformed):
        return None
    event = decode_event(record.value)
    return PublishedEvent(
        record.topic, record.partition, record.offset, record.value, event, event.data["origin"]["offset"]
    )


@dataclass(frozen=True, slots=True)
class CutFrame:
    """A frame of the cut: where it lies, its bytes as they lie there, and the picture they hold.

    named: whether the event's provenance names it.
    """

    place: WindowPlace
    frame: Frame
    encoded: bytes
    named: bool

    @property
    def sha256(self) -> str:
        """Of ``encoded``."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class CutWindow:
    """A record of the cut; sha256 of its whole value."""

    place: WindowPlace
    window: FrameWindow
    record: Record[bytes]
    sha256: str


@dataclass(slots=True)
class Cut:
    """What was cut out of the log for an event.

    windows: also those before the cut that only warm the tracker up. missing: frames the event names that are gone.
    """

    event: PublishedEvent
    topic: str
    windows: list[CutWindow]
    frames: list[CutFrame]
    missing: tuple[int, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the camera's original pictures: the space of the boxes."""
        shown = {cut.place.offset for cut in self.frames}
        window = next(each.window for each in self.windows if each.place.offset in shown)
        return window.width, window.height


def cut(log: Log, topics: Topics, event: PublishedEvent, *, before_s: float, after_s: float, most_s: float) -> Cut:
    """The frames of an event, with ``before_s`` before the first and ``after_s`` after the last it names.

    Of more than ``most_s`` the end is kept. Raises OffsetGone when the pictures are deleted, UsageError when the event
    lies in another log, BusError.
    """
    origin = event.event.data["origin"]
    if origin["topic"] != topics.windows.name:
        raise UsageError(f"the event was seen in {origin['topic']}, not in {topics.windows.name}")
    reader = log.reader(topics.windows_raw)
    try:
        return _Cutter(reader, event, origin["partition"], origin["offset"]).cut(before_s, after_s, most_s)
    finally:
        reader.close()


class _Cutter:
    def __init__(self, reader: Reader[bytes], event: PublishedEvent, partition: int, offset: int) -> None:
        self._reader = reader
        self._event = event
        self._partition = partition
        self._beginning, self._end = reader.beginning(partition), reader.end(partition)
        if offset < self._beginning:
            raise OffsetGone(
                f"the pictures of event {event.event.id} are deleted: it was seen at offset {offset} of "
                f"{event.event.data['origin']['topic']}, partition {partition}, which begins at {self._beginning} now",
                mend="how long pictures are kept is the retention of the windows topic",
            )
        found = self._read(offset, offset + 1)
        if not found or found[0][0].headers.epoch != event.event.data["epoch"]:
            raise OffsetGone(f"offset {offset} of partition {partition} is not the window the event was seen in")
        self._origin, _ = found[0]
        self._records: list[tuple[WindowPlace, Record[bytes]]] = found

    def cut(self, before_s: float, after_s: float, most_s: float) -> Cut:
        named = sorted(self._event.event.data.get("provenance", {}).get("frames", []))
        times = self._times(self._records)
        first_us = self._back_to(named, times)
        last_us = max((at for index, at in times.items() if index in named), default=max(times.values(), default=None))
        if first_us is None or last_us is None:
            first_us = last_us = self._origin.from_us if self._origin.from_us is not None else 0
        wanted = (max(first_us - _us(before_s), last_us + _us(after_s) - _us(most_s)), last_us + _us(after_s))
        self._extend_back(wanted[0] - _us(_WARM_UP_S))
        self._extend_forth(wanted[1])
        return self._made(named, wanted)

    def _made(self, named: list[int], wanted: tuple[int, int]) -> Cut:
        windows = [
            CutWindow(place, decode_window(record.value), record, hashlib.sha256(record.value).hexdigest())
            for place, record in self._records
        ]
        frames = [
            CutFrame(each.place, frame, encoded, frame.index in named)
            for each in windows
            for frame, (_, encoded) in zip(each.window.frames, frame_pictures(each.record.value), strict=True)
            if wanted[0] <= frame.captured_at_us <= wanted[1]
        ]
        if not frames:
            raise OffsetGone(f"the log holds no frame around event {self._event.event.id}")
        there = {each.frame.index for each in frames}
        missing = tuple(index for index in named if index not in there)
        told = Cut(self._event, self._records[0][1].topic, windows, frames, missing)
        if missing:
            told.notes.append(
                f"frames {', '.join(map(str, missing))} that the event names are not in the cut: they are deleted, or "
                "lie further back than it reaches"
            )
        return told

    def _back_to(self, named: Sequence[int], times: dict[int, int]) -> int | None:
        """Read backwards until the first frame that is named is there; its time, or that of the earliest there is."""
        while named and min(times, default=named[0] + 1) > named[0] and self._step_back():
            times.update(self._times(self._records[:_BACK]))
        return times.get(named[0]) if named and named[0] in times else min(times.values(), default=None)

    def _extend_back(self, to_us: int) -> None:
        while (self._records[0][0].from_us or to_us + 1) > to_us and self._step_back():
            pass
        while len(self._records) > 1 and (self._records[0][0].to_us or 0) < to_us:
            del self._records[0]

    def _extend_forth(self, to_us: int) -> None:
        last = self._records[-1][0]
        offset = last.offset + 1
        while offset < self._end and (last.to_us or 0) < to_us:
            until = min(self._end, offset + _BACK)
            for place, record in self._read(offset, until):
                if (place.from_us or 0) > to_us:
                    return
                self._records.append((place, record))
                last = place
            offset = until

    def _step_back(self) -> bool:
        """Read the camera's windows before the earliest that was read; False at the beginning of the epoch or log."""
        first = self._records[0][0]
        until = first.offset
        while first.headers.sequence > 0 and until > self._beginning:
            begin = max(self._beginning, until - _BACK)
            found = self._read(begin, until)
            if found:
                self._records[:0] = found
                return True
            until = begin
        return False

    def _read(self, begin: int, end: int) -> list[tuple[WindowPlace, Record[bytes]]]:
        """The windows of the event's camera, epoch and reader in a span."""
        found = []
        for record in self._reader.read(self._partition, begin, end):
            place = window_place(record) if record.key == self._event.event.camera_id else None
            if place is None or place.headers.epoch != self._event.event.data["epoch"]:
                continue
            if hasattr(self, "_origin") and place.headers.writer != self._origin.headers.writer:
                continue
            found.append((place, record))
        return found

    @staticmethod
    def _times(records: Sequence[tuple[WindowPlace, Record[bytes]]]) -> dict[int, int]:
        """index -> captured_at_us of the frames."""
        return {index: at for _, record in records for index, _, at in frame_times(record.value)}


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


@dataclass(slots=True)
class Seen:
    """What detector and tracker saw in the cut, done once more. tracks: frame index -> the tracks in it.

    rules: those of the window's document. object_id: the recomputed track that is the event's object, ``iou`` its
    overlap with the published box in the frame ``box_index``; None where none fits (or it is about no single object).
    """

    rules: CameraRules
    tracks: dict[int, tuple[TrackView, ...]]
    model: dict[str, str]
    object_id: str | None = None
    iou: float = 0.0
    box_index: int | None = None
    notes: list[str] = field(default_factory=list)


def see_again(replay: Replay, found: Cut) -> Seen | None:
    """Run the camera's model and tracker over the cut; None, with a note in the cut, where that cannot be done."""
    window = next(each.window for each in found.windows if each.window.frames)
    partition = found.windows[0].place.partition
    plans = replay.plans()
    try:
        plan: Plan = plans.plan(window, partition)
        rules, provenance = plan.engine_of(plan.camera).rules(plan.camera)
    except (PasserbyError, UnknownCamera) as error:
        found.notes.append(f"only the published box is drawn, without its track: {error}")
        return None
    results = _Tracks()
    records = iter([_with_value(each.record, each.window) for each in found.windows])
    span = CameraSpan(records, found.event.event.camera_id)
    run_stages(
        InferStages(span, lambda record, each: plans.plan(each, record.partition), results, decode=decoded), span
    )
    seen = Seen(rules, results.tracks, provenance)
    _say_what_differs(seen, found.event.event)
    _match(seen, found)
    return seen


class _Tracks:
    """Collects the tracks of each frame (stages.Results)."""

    def __init__(self) -> None:
        self.tracks: dict[int, tuple[TrackView, ...]] = {}

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:  # noqa: ARG002
        if frame is not None:
            self.tracks[frame.index] = observation.tracks

    def done(self, record: Record[Any], window: FrameWindow, observe_s: float) -> None:
        """Nothing more to do."""

    def void(self, record: Record[Any], window: FrameWindow) -> None:
        """Cannot be: all windows of a cut are of one reader."""

    def refused(self, record: Record[Any], window: FrameWindow | None, error: Exception, /) -> None:
        """A window that cannot be analysed has no tracks."""


def _with_value(record: Record[bytes], window: FrameWindow) -> Record[FrameWindow | Malformed]:
    return Record(
        record.topic, record.partition, record.offset, record.key, window, record.headers, record.timestamp_ms
    )


def _say_what_differs(seen: Seen, event: Event) -> None:
    told = event.data.get("provenance")
    if told is None:
        return
    # A scene event is of another model than the one that finds the boxes that are drawn.
    for name, what in _COMPARED[1:] if event.type == SCENE_EVENT else _COMPARED:
        if told[name] != seen.model[name]:
            seen.notes.append(
                f"boxes and track are drawn with another {what} than the event's "
                f"({seen.model[name][:12]}, not {told[name][:12]})"
            )


def _match(seen: Seen, found: Cut) -> None:
    """Which recomputed track is the event's object: the one that fits the published box best in a frame it names."""
    bbox = box_of(found.event.event)
    if bbox is None:
        return
    width, height = found.size
    box = (bbox["x_min"] * width, bbox["y_min"] * height, bbox["x_max"] * width, bbox["y_max"] * height)
    for each in found.frames:
        for track in seen.tracks.get(each.frame.index, ()) if each.named else ():
            overlap = _iou(box, track.bbox)
            if overlap > max(seen.iou, _SAME_OBJECT_IOU):
                seen.object_id, seen.iou, seen.box_index = track.track_id, overlap, each.frame.index


def _iou(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)
