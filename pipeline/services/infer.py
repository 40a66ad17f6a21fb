"""Inference: windows in, counts and events out.

    1. poll windows, as many as may be in flight
    2. hand each frame to the batcher; the network runs on its threads
    3. in the order of the log: wait for the detections of a window, observe frame by frame, publish, commit

Steps 2 and 3 overlap: the network works on later windows while the analytics of earlier ones run here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.bus.base import Consumer, Record
from pipeline.core.detections import Detections
from pipeline.core.events import Origin
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.ledger import FrameLedger

_POLL_S = 0.2


class FrameDetector(Protocol):
    """Something that finds objects in one picture, later."""

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        """Detections of ``picture`` in pixels of the original ``width`` x ``height`` frame."""


class ResultSink(Protocol):
    """Where results go."""

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        """One frame (None for a change of status, or the end) was observed."""


@dataclass(slots=True)
class _Job:
    record: Record[FrameWindow]
    detections: Sequence[Future[Detections]]


class InferWorker:
    """Runs one consumer's windows through detector and analytics, in order a camera.

    max_in_flight: windows handed to the detector and not yet observed; bounds memory and the age of results.
    """

    def __init__(
        self,
        consumer: Consumer[FrameWindow],
        detector_of: Callable[[str], FrameDetector],
        analytics_of: Callable[[str], CameraAnalytics],
        sink: ResultSink,
        ledger: FrameLedger,
        *,
        max_in_flight: int = 4,
    ) -> None:
        self._consumer = consumer
        self._detector_of = detector_of
        self._analytics_of = analytics_of
        self._sink = sink
        self._ledger = ledger
        self._max_in_flight = max_in_flight
        self._cameras: dict[str, CameraAnalytics] = {}
        self._epochs: dict[str, int] = {}
        self._jobs: deque[_Job] = deque()

    def run(self) -> None:
        """Work until the topic has ended and everything in it is observed."""
        while self._jobs or not self._consumer.ended:
            room = self._max_in_flight - len(self._jobs)
            if room > 0:
                for record in self._consumer.poll(0.0 if self._jobs else _POLL_S, room):
                    self._begin(record)
            if self._jobs:
                self._finish(self._jobs.popleft())
        for camera_id, analytics in self._cameras.items():
            self._sink.observed(_nothing(camera_id, self._epochs[camera_id]), None, analytics.close())

    def abandon(self) -> None:
        """Give up what is in flight, after a failure: each frame is told as dropped."""
        while self._jobs:
            window = self._jobs.popleft().record.value
            if window.frames:
                self._ledger.dropped(window.camera_id, len(window.frames), "failed")

    def _begin(self, record: Record[FrameWindow]) -> None:
        window = record.value
        if window.epoch < self._epochs.get(window.camera_id, 0):
            # Sent by a reader that was already replaced: the newer stream tells the same span of time.
            if window.frames:
                self._ledger.dropped(window.camera_id, len(window.frames), "superseded_epoch")
            self._consumer.commit([record])
            return
        self._epochs[window.camera_id] = window.epoch
        submit = self._detector_of(window.camera_id).submit
        self._jobs.append(_Job(record, [submit(frame.picture, window.width, window.height) for frame in window.frames]))

    def _finish(self, job: _Job) -> None:
        window = job.record.value
        try:
            detections = [future.result() for future in job.detections]
        except BaseException:
            self._jobs.appendleft(job)  # so that ``abandon`` accounts for it
            raise
        analytics = self._cameras.get(window.camera_id)
        if analytics is None:
            analytics = self._cameras[window.camera_id] = self._analytics_of(window.camera_id)
        origin = Origin(topic=job.record.topic, partition=job.record.partition, offset=job.record.offset)
        for frame, seen in zip(window.frames, detections, strict=True):
            self._sink.observed(window, frame, analytics.observe(window, frame, seen, origin))
        if window.status is not None:
            self._sink.observed(window, None, analytics.status(window, origin))
        if window.frames:
            self._ledger.analysed(window.camera_id, len(window.frames))
        self._consumer.commit([job.record])


def _nothing(camera_id: str, epoch: int) -> FrameWindow:
    return FrameWindow(camera_id, epoch, 0, (), 0, 0, 0.0, "wall")
