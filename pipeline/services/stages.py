"""Inference: windows in, counts and events out. The stages that ``passerby run`` and ``passerby infer`` share.

    1. poll records, as many as may be in flight
    2. decode them, off this thread where that costs time
    3. begin, in the order of the log: fence, settle under which plan the window is judged, hand each frame to the
       batcher; the network runs on its threads, over all cameras, and behind it the scene model on its own (scenes)
    4. finish, in the order of the log: wait for the detections of a window, let a classifier judge the frames that are
       due (labels), observe frame by frame, hand on the results, and say that the record is done

Steps 2 to 4 overlap: later windows are decoded and detected while earlier ones are observed here. What comes out of a
window depends on the log before it and on nothing else, so whoever does it again gets the same.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.analytics.clips import Clip, ClipSeen
from pipeline.analytics.labels import Judgement
from pipeline.analytics.snapshot import clip_in
from pipeline.bus.base import Consumer, Record
from pipeline.core.detections import Detections
from pipeline.core.events import Origin
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.errors import PasserbyError
from pipeline.services.labels import LabelWork
from pipeline.services.scenes import ClipChains, SceneWork, SeenWindow

T = TypeVar("T")


class FrameDetector(Protocol):
    """Something that finds objects in one picture, later."""

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        """Detections of ``picture`` in pixels of the original ``width`` x ``height`` frame."""


class ResultSink(Protocol):
    """Where results go."""

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        """One frame (None for a change of status, or the end) was observed."""


class CameraPlan(Protocol):
    """Under which rules and with which model a camera is judged. One object a revision: identity says what changed."""

    @property
    def detector(self) -> FrameDetector:
        """Its model at work. Raises ModelError when it cannot be loaded."""

    @property
    def scenes(self) -> SceneWork | None:
        """Its scene model at work, if it has one. Raises ModelError when it cannot be loaded."""

    @property
    def labels(self) -> LabelWork | None:
        """Its classifier at work, if it has one. Raises ModelError when it cannot be loaded."""

    def analytics(self, snapshot: bytes | None) -> CameraAnalytics:
        """New analytics of the camera, or such that go on from a snapshot (taken under whatever rules)."""


class Results(ResultSink, Protocol[T]):
    """Takes what the stages give, on their thread and in the order of the log a partition."""

    def done(self, record: Record[T], window: FrameWindow, observe_s: float) -> None:
        """Every frame and the status of ``window`` were observed, in ``observe_s`` seconds."""

    def void(self, record: Record[T], window: FrameWindow) -> None:
        """The window was sent by a reader that is not its camera's any more: nothing of it counts."""

    def refused(self, record: Record[T], window: FrameWindow | None, error: Exception, /) -> None:
        """It cannot be decoded (then ``window`` is None) or analysed. What this raises ends the work."""


class ObservationFailed(Exception):
    """The analytics failed on a window they should have taken: a bug, or a window nobody thought of."""

    def __init__(self, partition: int, offset: int, cause: Exception) -> None:
        super().__init__(f"partition {partition}, offset {offset}: {type(cause).__name__}: {cause}")
        self.place = (partition, offset)
        self.cause = cause


@dataclass(slots=True)
class CameraInUse:
    """A camera as of its last finished window.

    epoch, writer: who may speak for it: what is older, or of this epoch by somebody else, is void. sequence: of the
    last window taken; what is not newer was sent twice (a writer that got no answer sends again) and is void.
    plan: None until a window came since it was restored from ``snapshot``, or where its model cannot be loaded.
    """

    partition: int
    epoch: int = -1
    writer: str = ""
    sequence: int = -1
    next_offset: int = 0
    plan: CameraPlan | None = None
    analytics: CameraAnalytics | None = None
    snapshot: bytes | None = None

    def under(self, plan: CameraPlan) -> CameraAnalytics:
        """Its analytics, under ``plan`` from now on."""
        if self.analytics is None or self.plan is not plan:
            before = self.snapshot if self.analytics is None else self.analytics.snapshot()
            self.analytics, self.plan, self.snapshot = plan.analytics(before), plan, None
        return self.analytics

    def clip(self) -> Clip:
        """The clip of its scene model; without pictures where it comes out of a snapshot."""
        if self.analytics is not None:
            return self.analytics.clip or Clip()
        return (clip_in(self.snapshot) if self.snapshot else None) or Clip()

    def state(self) -> bytes:
        """The snapshot of its analytics; empty when there never were any."""
        if self.analytics is not None:
            return self.analytics.snapshot()
        return self.snapshot or b""


@dataclass(slots=True)
class _Job(Generic[T]):
    record: Record[T]
    window: FrameWindow | None = None
    void: bool = False
    plan: CameraPlan | None = None
    detections: list[Future[Detections]] = field(default_factory=list)
    seen: Future[SeenWindow] | None = None
    labels: LabelWork | None = None
    error: Exception | None = None


PlanOf = Callable[[Record[T], FrameWindow], CameraPlan]
"""The plan a window is judged under. Raises UnknownCamera or Refused."""
DetectAgain = Callable[[FrameWindow, FrameDetector, Exception], list[Detections]]
"""A second attempt at a window whose detection failed. Raises Refused when it is the window's fault."""
WindowAgain = Callable[[int, int], FrameWindow | None]
"""The window at (partition, offset) once more; None where it is gone."""


class Refused(Exception):
    """This window cannot be analysed, whoever tries."""


class UnknownCamera(Exception):
    """There is no configuration for the window's camera: it leaves no trace in the state."""


class InferStages(Generic[T]):
    """Decode, detect and observe what a consumer polls, in order a camera.

    decode: a record's window, or its future (then an exception in it refuses the record); None: the value is one.
    max_in_flight: records polled and not yet finished; bounds memory and the age of results.
    detect_again: None: an exception of the detector ends the work. window_again: where the pictures of a clip come
    from whose camera was restored; None: it begins anew.
    """

    def __init__(
        self,
        consumer: Consumer[T],
        plan_of: PlanOf[T],
        results: Results[T],
        *,
        decode: Callable[[Record[T]], FrameWindow | Future[FrameWindow]] | None = None,
        detect_again: DetectAgain | None = None,
        window_again: WindowAgain = lambda _partition, _offset: None,
        max_in_flight: int = 4,
    ) -> None:
        self.cameras: dict[str, CameraInUse] = {}
        self._consumer = consumer
        self._plan_of = plan_of
        self._results = results
        self._decode = decode or attrgetter("value")
        self._detect_again = detect_again
        self._window_again = window_again
        self._max_in_flight = max_in_flight
        self._clips = ClipChains()
        self._decoding: deque[tuple[Record[T], FrameWindow | Future[FrameWindow]]] = deque()
        self._jobs: deque[_Job[T]] = deque()
        self._fences: dict[str, tuple[int, str, int]] = {}  # of windows begun: ahead of what is in ``cameras``

    @property
    def in_flight(self) -> int:
        """Records polled and not finished."""
        return len(self._decoding) + len(self._jobs)

    def take(self, timeout_s: float) -> None:
        """Steps 1 to 3: poll what there is room for (waiting only when nothing is in flight), begin what is decoded."""
        room = self._max_in_flight - self.in_flight
        if room > 0:
            for record in self._consumer.poll(0.0 if self.in_flight else timeout_s, room):
                self._decoding.append((record, self._decode(record)))
        self._begin_decoded()

    def finish_next(self) -> bool:
        """Step 4 for the oldest record in flight; False when there is none. When it raises, the record stays."""
        if not self._jobs:
            return False
        job = self._jobs[0]
        if job.error is None and not job.void:
            assert job.window is not None
            assert job.plan is not None
            try:
                self._finish(job, job.window, job.plan)
            except Refused as refused:
                job.error = refused.__cause__ if isinstance(refused.__cause__, Exception) else refused
        if job.error is not None:
            if job.window is not None and not isinstance(job.error, UnknownCamera):
                self._claim(job.record, job.window).next_offset = job.record.offset + 1
            self._results.refused(job.record, job.window, job.error)
        elif job.void:
            assert job.window is not None
            self._results.void(job.record, job.window)
        self._jobs.popleft()
        self._begin_decoded()
        return True

    def drain(self) -> None:
        """Finish everything that was polled."""
        while self.finish_next():
            pass

    def forget(self, partitions: Collection[int] | None = None) -> list[Record[T]]:
        """Drop what is in flight of these partitions (None: all), and their cameras; the records dropped."""
        dropped = [job.record for job in self._jobs if _lies_in(job.record, partitions)]
        dropped += [record for record, _ in self._decoding if _lies_in(record, partitions)]
        for job in self._jobs:
            if _lies_in(job.record, partitions):
                for future in job.detections:
                    future.cancel()
                if job.window is not None:
                    self._fences.pop(job.window.camera_id, None)  # they may be ahead of what is in ``cameras``
                    self._clips.forget(job.window.camera_id)
        self._jobs = deque(job for job in self._jobs if not _lies_in(job.record, partitions))
        self._decoding = deque(waiting for waiting in self._decoding if not _lies_in(waiting[0], partitions))
        for camera_id, camera in list(self.cameras.items()):
            if partitions is None or camera.partition in partitions:
                self.forget_camera(camera_id)
        if partitions is None:
            self._fences.clear()
            self._clips.forget_all()
        return dropped

    def forget_camera(self, camera_id: str) -> None:
        """Free what is remembered of a camera of which nothing is in flight."""
        self.cameras.pop(camera_id, None)
        self._fences.pop(camera_id, None)
        self._clips.forget(camera_id)

    def _begin_decoded(self) -> None:
        """Step 3 for all that is decoded; waits for the first only when there is nothing else to do."""
        while self._decoding:
            record, window = self._decoding[0]
            if isinstance(window, Future):
                if self._jobs and not window.done():
                    return
                error = window.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                job = _Job(record, error=error) if error is not None else self._begin(record, window.result())
            else:
                job = self._begin(record, window)
            self._decoding.popleft()
            self._jobs.append(job)

    def _begin(self, record: Record[T], window: FrameWindow) -> _Job[T]:
        if not self._may_speak(window):
            return _Job(record, window, void=True)
        try:
            plan = self._plan_of(record, window)
        except UnknownCamera as error:
            return _Job(record, window, error=error)
        except Refused as error:
            self._fences[window.camera_id] = (window.epoch, window.writer, window.sequence)
            return _Job(record, window, error=error)
        self._fences[window.camera_id] = (window.epoch, window.writer, window.sequence)
        job = _Job(record, window, plan=plan)
        try:
            submit = plan.detector.submit if window.frames else None
            for frame in window.frames:
                assert submit is not None
                job.detections.append(submit(frame.picture, window.width, window.height))
            if window.frames or window.status is not None:
                job.seen = self._look(job, window, plan)
            job.labels = plan.labels
        except Exception as error:  # a picture of the wrong size, a model that cannot be loaded: refused in its turn
            job.error = error
        return job

    def _look(self, job: _Job[T], window: FrameWindow, plan: CameraPlan) -> Future[SeenWindow] | None:
        """Let the scene model look at the window, once its detections are there; None where there is none."""
        scenes = plan.scenes
        if scenes is None:
            self._clips.leave_out(window.camera_id)
            return None
        found = partial(self._detections, job, window, plan)
        before = partial(self._clip_before, job.record, window)
        return self._clips.begin(window, job.record.offset, scenes, found, before)

    def _clip_before(self, record: Record[T], window: FrameWindow) -> Clip:
        """The clip of a camera of which nothing is in flight; of one that was restored, its pictures out of the log."""
        camera = self.cameras.get(window.camera_id)
        clip = camera.clip() if camera is not None else Clip()
        if clip.has_pictures or clip.epoch != window.epoch:
            return clip
        windows = {offset: self._window_again(record.partition, offset) for offset in {f.offset for f in clip.frames}}
        pictures = {
            (offset, frame.index): frame.picture
            for offset, each in windows.items() if each is not None
            for frame in each.frames
        }  # fmt: skip
        return clip.with_pictures(pictures) or clip.emptied()

    def _may_speak(self, window: FrameWindow) -> bool:
        """Whether it is news, by who speaks for the camera: the first that claims an epoch newer than the last."""
        fence = self._fences.get(window.camera_id)
        if fence is None:
            camera = self.cameras.get(window.camera_id)
            fence = (camera.epoch, camera.writer, camera.sequence) if camera is not None else None
        if fence is None or window.epoch > fence[0]:
            return True
        epoch, writer, sequence = fence
        return (window.epoch, window.writer) == (epoch, writer) and window.sequence > sequence

    def _claim(self, record: Record[T], window: FrameWindow) -> CameraInUse:
        """The window's camera, which its reader now speaks for."""
        camera = self.cameras.get(window.camera_id)
        if camera is None:
            camera = self.cameras[window.camera_id] = CameraInUse(record.partition)
        camera.epoch, camera.writer, camera.sequence = window.epoch, window.writer, window.sequence
        return camera

    def _finish(self, job: _Job[T], window: FrameWindow, plan: CameraPlan) -> None:
        found, clips, clip = self._seen(job, window, plan)
        camera = self._claim(job.record, window)
        try:
            analytics = camera.under(plan)
            _check_times(analytics, window)
        except (ValueError, PasserbyError) as error:
            raise Refused(str(error)) from error
        judged = _judged(job.labels, window, analytics)
        began_s = time.perf_counter()
        self._observe(job.record, window, analytics, zip(window.frames, found, clips, judged, strict=True))
        analytics.clip = clip
        camera.next_offset = job.record.offset + 1
        self._results.done(job.record, window, time.perf_counter() - began_s)

    def _seen(
        self, job: _Job[T], window: FrameWindow, plan: CameraPlan
    ) -> tuple[Sequence[Detections], Sequence[ClipSeen | None], Clip | None]:
        """What was found in each frame, the clips that frames completed, and the camera's clip behind the window."""
        if job.seen is None:
            found = self._detections(job, window, plan)
            return found, [None] * len(found), None
        try:
            seen = job.seen.result()
        except ValueError as error:
            raise Refused(str(error)) from error
        return seen.found, seen.clips, seen.clip

    def _detections(self, job: _Job[T], window: FrameWindow, plan: CameraPlan) -> list[Detections]:
        try:
            return [future.result() for future in job.detections]
        except Exception as error:
            if self._detect_again is None:
                raise
            return self._detect_again(window, plan.detector, error)

    def _observe(
        self,
        record: Record[T],
        window: FrameWindow,
        analytics: CameraAnalytics,
        seen: Iterable[tuple[Frame, Detections, ClipSeen | None, Judgement | None]],
    ) -> None:
        results = self._results
        origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
        try:
            for frame, found, clip, judged in seen:
                results.observed(window, frame, analytics.observe(window, frame, found, origin, clip, judged))
            if window.status is not None:
                results.observed(window, None, analytics.status(window, origin))
        except Exception as error:
            raise ObservationFailed(record.partition, record.offset, error) from error


def _check_times(analytics: CameraAnalytics, window: FrameWindow) -> None:
    """Raises ValueError, before anything is observed, for frames that are not each later than the one before."""
    scene = analytics.scene
    last_us = None
    if scene is not None and analytics.streaming and scene.epoch == window.epoch:
        last_us = scene.at_us
    for frame in window.frames:
        if last_us is not None and frame.captured_at_us <= last_us:
            raise ValueError(f"frame {frame.index} at {frame.captured_at_us} us is not later than the one before")
        last_us = frame.captured_at_us


def _judged(labels: LabelWork | None, window: FrameWindow, analytics: CameraAnalytics) -> Sequence[Judgement | None]:
    """What the classifier says of each frame that is due. Raises Refused when the window is at fault, as with
    ``detect_again``; the classifier's own error when it fails on an empty picture, too.
    """
    due = analytics.to_judge(window) if labels is not None else []
    if labels is None or not any(due):
        return [None] * len(window.frames)
    try:
        return [
            labels.judge(frame.picture) if is_due else None for frame, is_due in zip(window.frames, due, strict=True)
        ]
    except Exception as error:
        labels.judge(window.frames[0].picture * 0)
        raise Refused(f"the classifier failed on it: {error}") from error


def _lies_in(record: Record[T], partitions: Collection[int] | None) -> bool:
    return partitions is None or record.partition in partitions


def detect_again(window: FrameWindow, detector: FrameDetector, error: Exception) -> list[Detections]:
    """Whose fault is it that the network failed? Each picture once more by itself; then an empty one instead.

    Raises Refused when it is the window's; the network's own error when it fails on an empty picture, too.
    """
    try:
        return [detector.submit(frame.picture, window.width, window.height).result() for frame in window.frames]
    except Exception as again:
        error = again
    first = window.frames[0].picture
    detector.submit(first * 0, window.width, window.height).result()  # when even this fails it is ours: the work ends
    raise Refused(f"the network failed on it: {error}") from error
