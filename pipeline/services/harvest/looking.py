"""What detector and tracker saw in every frame, out of the log or out of recordings.

Pictures come masked: ingest paints privacy masks where it decodes. Windows in the log may have been made before a mask
was drawn, so the masks of the camera's newest document are painted here once more, before anything looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.camera import CameraAnalytics
from pipeline.bus.base import Malformed
from pipeline.config import Config
from pipeline.core.detections import Detections
from pipeline.core.events import Origin
from pipeline.core.frame import Frame, FrameWindow, Picture, TimeSource
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import Point
from pipeline.core.tracks import TrackView
from pipeline.errors import UsageError
from pipeline.inference.batching import Batcher
from pipeline.services import wiring
from pipeline.services.log import Log
from pipeline.services.plans import Plan, Plans
from pipeline.services.replay import Replay
from pipeline.services.spans import index_camera
from pipeline.services.stages import FrameDetector
from pipeline.sources.base import EpochStarted, SampledFrame, StreamItem, SystemClock
from pipeline.sources.masking import mask_pixels, paint, reach_px
from pipeline.sources.open import may_end

_TOGETHER = 8  # frames of a recording that the network may work on at once
_CODED_PX = 16.0  # JPEG spreads what is under a mask over the blocks that it touches
Masks = tuple[tuple[Point, ...], ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model as labels and events name it."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One frame, and what was seen in it.

    picture: the largest there is, masks painted (H x W x 3 uint8 RGB). width, height: of the original frame, the space
    of boxes. found: everything from ``low`` on; ``score``: from here on it is believed. tracks: the confirmed ones.
    source: where the frame lies, for people.
    """

    camera_id: str
    epoch: int
    frame: Frame
    picture: Picture
    width: int
    height: int
    found: Detections
    tracks: tuple[TrackView, ...]
    model: ModelFacts
    low: float
    score: float
    source: str

    @property
    def key(self) -> tuple[str, int, int]:
        """Camera, epoch and index: no other frame has these."""
        return self.camera_id, self.epoch, self.frame.index

    @property
    def at_us(self) -> int:
        """When it was filmed, UTC microseconds."""
        return self.frame.captured_at_us


@dataclass(slots=True)
class _Judge:
    """A camera's detector and analytics."""

    detector: FrameDetector
    analytics: CameraAnalytics

    def looks(self, window: FrameWindow, origin: Origin, source: str) -> Iterator[Look]:
        """Every frame of the window, in order; the network works on all of them at once."""
        found: list[tuple[Frame, Future[Detections]]] = [
            (frame, self.detector.submit(frame.picture, window.width, window.height)) for frame in window.frames
        ]
        told, tracker = self.analytics.writer.provenance, self.analytics.rules.tracker
        model = ModelFacts(told["model"], told["model_version"], told["model_sha256"])
        for frame, future in found:
            detections = future.result()
            observation = self.analytics.observe(window, frame, detections, origin)
            picture = frame.picture if frame.preview is None else frame.preview
            yield Look(
                window.camera_id, window.epoch, frame, picture, window.width, window.height, detections,
                observation.tracks, model, tracker["low_score"], tracker["high_score"], source,
            )  # fmt: skip


def looks_at_recordings(config: Config) -> Iterator[Look]:
    """Every sampled frame of every camera that is a recording, camera by camera.

    Raises UsageError for a camera that has no end, SourceError for what cannot be read, ModelError.
    """
    for camera in config.cameras.values():
        if not may_end(camera.source.location.reveal(), camera.source.mode):
            raise UsageError(
                f"camera {camera.id} is a stream, not a recording",
                mend="harvest the log of its cluster (without --offline), or name a recording of it",
            )
    parts = wiring.build(config, preview="all")
    stop = threading.Event()
    with ExitStack() as stack:
        stack.callback(stop.set)
        batchers = {
            name: stack.enter_context(Batcher(each, workers=parts.threads, wait_s=config.inference.batch_wait_s))
            for name, each in parts.detectors.items()
        }
        for camera_id, part in parts.cameras.items():
            judge = _Judge(batchers[part.config.model], wiring.build_analytics(part))
            source = part.config.source.location.shown_without_user
            with wiring.build_stream(part, FrameLedger(), SystemClock(), stop) as stream:
                for number, window in enumerate(_windows(camera_id, stream, part.settings.sample_fps)):
                    yield from judge.looks(window, Origin(topic="", partition=0, offset=number), source)


def _windows(camera_id: str, items: Iterator[StreamItem], sample_fps: float) -> Iterator[FrameWindow]:
    """The frames of a stream in windows; each of one epoch and one size."""
    epoch, size = 0, (0, 0)
    time_source: TimeSource = "pts"
    waiting: list[Frame] = []

    def window() -> FrameWindow:
        made = FrameWindow(camera_id, epoch, 0, tuple(waiting), *size, sample_fps, time_source)
        waiting.clear()
        return made

    for item in items:
        if isinstance(item, SampledFrame):
            if waiting and (len(waiting) == _TOGETHER or size != (item.width, item.height)):
                yield window()
            size = (item.width, item.height)
            waiting.append(item.frame)
        elif isinstance(item, EpochStarted):
            if waiting:
                yield window()
            epoch, time_source = item.epoch, item.time_source
    if waiting:
        yield window()


def looks_at_log(
    log: Log,
    replay: Replay,
    camera_id: str,
    since_us: int | None = None,
    until_us: int | None = None,
    *,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Iterator[Look]:
    """Every frame of a camera that the log still has, filmed in [since_us, until_us) (UTC microseconds).

    Judged by the documents they were made under. Raises OffsetGone where the log has none, BusError, ModelError.
    """
    topics, plans = replay.topics, replay.plans()
    index = index_camera(log, topics, camera_id)
    masks = _newest_masks(plans, camera_id)
    wanted = {
        place.offset
        for place in index.windows
        if place.from_us is not None
        and place.to_us is not None
        and (since_us is None or place.to_us >= since_us)
        and (until_us is None or place.from_us < until_us)
    }
    if not wanted:
        return
    judge: _Judge | None = None
    plan: Plan | None = None
    done = 0
    reader = log.reader(topics.windows)
    try:
        for record in reader.read(index.partition, min(wanted), max(wanted) + 1):
            if record.offset not in wanted or isinstance(record.value, Malformed):
                continue
            now = plans.plan(record.value, index.partition)
            if judge is None or now is not plan:
                plan, judge = now, _Judge(now.detector, now.analytics(None))
            window = record.value if now.camera.masks == masks else _masked(record.value, masks)
            origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
            yield from judge.looks(window, origin, f"{record.topic}/{record.partition}/{record.offset}")
            done += 1
            progress(done, len(wanted))
    finally:
        reader.close()


def _newest_masks(plans: Plans, camera_id: str) -> Masks:
    """The masks of the camera as it is configured now; none where it was removed."""
    return next((camera.masks for camera in plans.cameras() if camera.id == camera_id), ())


def _masked(window: FrameWindow, masks: Masks) -> FrameWindow:
    """The window with ``masks`` painted over its pictures, whatever was painted before they were coded."""
    if not masks or not window.frames:
        return window
    frames = []
    painted: dict[tuple[int, int], NDArray[np.intp]] = {}
    for frame in window.frames:
        picture = np.array(frame.picture)  # the decoder's own may not be written to
        height, width = size = picture.shape[:2]
        if size not in painted:
            reach = reach_px(window.width, width) + _CODED_PX, reach_px(window.height, height) + _CODED_PX
            painted[size] = mask_pixels(masks, width, height, reach)
        paint(picture, painted[size])
        frames.append(replace(frame, picture=picture))
    return replace(window, frames=tuple(frames))
