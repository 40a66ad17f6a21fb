"""What a person sees while a run works: each camera's numbers, gathered as results come by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from pipeline.analytics.camera import Observation
from pipeline.core.events import CAMERA_STATUS
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.outputs.annotated import Totals
from pipeline.outputs.terminal import CameraView

_SPAN_S = 5.0  # the rate shown is that of the last few seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a file is read: seconds of stream time. ``duration_s`` is None where the container does not tell."""

    position_s: float
    duration_s: float | None


@dataclass(slots=True)
class _Camera:
    state: str = "starting"
    people: int = 0
    vehicles: int = 0
    totals: Totals = field(default_factory=dict)
    last_at_us: int | None = None
    live: bool = False
    seen: int = 0
    tampered: bool = False
    marks: list[tuple[float, int]] = field(default_factory=list)


class RunMonitor:
    """Keeps the newest numbers of every camera; thread-safe.

    now_s: a monotonic clock in seconds. utc_us: UTC in microseconds, for the age of live results.
    """

    def __init__(
        self,
        camera_ids: list[str],
        ledger: FrameLedger,
        *,
        now_s: Callable[[], float],
        utc_us: Callable[[], int],
        progress_of: Callable[[str], Progress | None],
    ) -> None:
        self._lock = threading.Lock()
        self._cameras = {camera_id: _Camera() for camera_id in camera_ids}
        self._ledger = ledger
        self._now_s = now_s
        self._utc_us = utc_us
        self._progress_of = progress_of
        self._began_s = now_s()

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        """A result came by."""
        with self._lock:
            camera = self._cameras[window.camera_id]
            if window.status is not None and frame is None:
                camera.state = window.status.state
            for event in observation.events:
                if event.type == CAMERA_STATUS:
                    camera.tampered = event.data["state"] == "tampered"
            if frame is not None:
                camera.state = "tampered" if camera.tampered else "up"
                camera.people = observation.occupancy.get("person", 0)
                camera.vehicles = observation.occupancy.get("vehicle", 0)
                camera.totals = cast(Totals, observation.totals)
                camera.last_at_us = frame.captured_at_us
                camera.live = window.time_source != "pts"
                camera.seen += 1

    def views(self) -> list[CameraView]:
        """All cameras at this instant, in the order of the configuration."""
        accounts = self._ledger.lines()
        now_s, utc_us = self._now_s(), self._utc_us()
        with self._lock:
            views = []
            for camera_id, camera in self._cameras.items():
                account = accounts.get(camera_id)
                progress = self._progress_of(camera_id)
                fraction = _fraction(progress)
                lag_s = (utc_us - camera.last_at_us) / 1e6 if camera.live and camera.last_at_us else None
                views.append(
                    CameraView(
                        camera_id,
                        camera.state,
                        _rate(camera, now_s),
                        camera.people,
                        camera.vehicles,
                        camera.totals,
                        lag_s,
                        account.dropped if account else {},
                        account.captured if account else 0,
                        account.analysed if account else 0,
                        1.0 if camera.state == "ended" and progress else fraction,
                        self._eta_s(fraction, now_s) if camera.state != "ended" else None,
                    )
                )
            return views

    def _eta_s(self, fraction: float | None, now_s: float) -> float | None:
        if fraction is None or fraction < 0.01:
            return None
        return (now_s - self._began_s) * (1 - fraction) / fraction


def _fraction(progress: Progress | None) -> float | None:
    if progress is None or not progress.duration_s:
        return None
    return min(1.0, max(0.0, progress.position_s / progress.duration_s))


def _rate(camera: _Camera, now_s: float) -> float:
    camera.marks.append((now_s, camera.seen))
    while len(camera.marks) > 2 and camera.marks[1][0] <= now_s - _SPAN_S:
        camera.marks.pop(0)
    (then_s, then), (last_s, last) = camera.marks[0], camera.marks[-1]
    return (last - then) / (last_s - then_s) if last_s > then_s else 0.0
