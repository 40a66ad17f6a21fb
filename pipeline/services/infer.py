"""The stages over the bus of one process: what ``passerby run`` works with. ``passerby infer`` is ``infer_worker``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.analytics.camera import CameraAnalytics
from pipeline.bus.base import Consumer, Record
from pipeline.core.frame import FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.services.labels import LabelWork
from pipeline.services.scenes import SceneWork
from pipeline.services.stages import (
    CameraPlan,
    FrameDetector,
    InferStages,
    ObservationFailed,
    ResultSink,
)

__all__ = ["FrameDetector", "InferWorker", "ResultSink"]

_POLL_S = 0.2


@dataclass(slots=True)
class _Fixed:
    """The plan of a camera whose configuration does not change."""

    detector: FrameDetector
    make: Callable[[], CameraAnalytics]
    scenes: SceneWork | None
    labels: LabelWork | None

    def analytics(self, snapshot: bytes | None) -> CameraAnalytics:
        assert snapshot is None
        return self.make()


class InferWorker:
    """The stages over a bus of this process, until its topic ends: results go to ``sink`` as they come.

    scenes_of, labels_of: the scene model and the classifier of a camera at work, where it has one. max_in_flight:
    windows handed to the detector and not yet observed. on_turn: called at each turn of the loop. on_done: hears of
    each finished window, and of the seconds that observing it took.
    """

    def __init__(
        self,
        consumer: Consumer[FrameWindow],
        detector_of: Callable[[str], FrameDetector],
        analytics_of: Callable[[str], CameraAnalytics],
        sink: ResultSink,
        ledger: FrameLedger,
        *,
        scenes_of: Callable[[str], SceneWork | None] = lambda _camera_id: None,
        labels_of: Callable[[str], LabelWork | None] = lambda _camera_id: None,
        max_in_flight: int = 4,
        on_turn: Callable[[], None] = lambda: None,
        on_done: Callable[[FrameWindow, float], None] = lambda _window, _observe_s: None,
    ) -> None:
        self._on_turn = on_turn
        self._on_done = on_done
        self.observed = sink.observed
        self._consumer = consumer
        self._ledger = ledger
        plans: dict[str, _Fixed] = {}

        def plan_of(_record: Record[FrameWindow], window: FrameWindow) -> CameraPlan:
            plan = plans.get(window.camera_id)
            if plan is None:
                camera_id = window.camera_id
                plan = plans[camera_id] = _Fixed(
                    detector_of(camera_id), lambda: analytics_of(camera_id), scenes_of(camera_id), labels_of(camera_id)
                )
            return plan

        self._stages = InferStages(consumer, plan_of, self, max_in_flight=max_in_flight)

    def run(self) -> None:
        """Work until the topic has ended and everything in it is observed."""
        stages = self._stages
        while stages.in_flight or not self._consumer.ended:
            self._on_turn()
            stages.take(_POLL_S)
            try:
                stages.finish_next()
            except ObservationFailed as failed:
                raise failed.cause from None
        for camera_id, camera in stages.cameras.items():
            if camera.analytics is not None:
                self.observed(_nothing(camera_id, camera.epoch), None, camera.analytics.close())

    def abandon(self) -> None:
        """Give up what is in flight, after a failure: each frame is told as dropped."""
        for record in self._stages.forget():
            if record.value.frames:
                self._ledger.dropped(record.value.camera_id, len(record.value.frames), "failed")

    def done(self, record: Record[FrameWindow], window: FrameWindow, observe_s: float) -> None:
        """Account for it and commit it."""
        if window.frames:
            self._ledger.analysed(window.camera_id, len(window.frames))
        self._consumer.commit([record])
        self._on_done(window, observe_s)

    def void(self, record: Record[FrameWindow], window: FrameWindow) -> None:
        """Sent by a reader that was already replaced: the newer stream tells the same span of time."""
        if window.frames:
            self._ledger.dropped(window.camera_id, len(window.frames), "superseded_epoch")
        self._consumer.commit([record])

    def refused(self, _record: Record[FrameWindow], _window: FrameWindow | None, error: Exception) -> None:
        """In one process nothing comes that cannot be analysed: it is a failure of the run."""
        raise error


def _nothing(camera_id: str, epoch: int) -> FrameWindow:
    return FrameWindow(camera_id, epoch, 0, (), 0, 0, 0.0, "wall")
