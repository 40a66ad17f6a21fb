"""Objects that come and go in front of one camera: what its analytics keep of them afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.footprint import Footprint, footprint
from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.core.detections import Detections
from pipeline.core.events import Origin
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules, LineRule, ZoneRule

WIDTH, HEIGHT = 1920, 1080
_CLASSES = ("person", "car", "bicycle")
_FPS = 8
_SEEN_FRAMES = 4  # one more than the tracker asks for at this rate before it believes in an object
_REMEMBERED = 20_000
_QUIET_FRAMES = 10 * _FPS
_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
_ORIGIN = Origin(topic="windows", partition=0, offset=0)
RULES = CameraRules(
    "gate",
    (LineRule("middle", ((0.0, 0.5), (1.0, 0.5)), ("person", "vehicle", "bicycle"), wrong_way="left"),),
    (
        ZoneRule("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), dwell_s=0.1, crowded_at=5, stopped_s=0.2),
        ZoneRule("one way", ((0.0, 0.2), (0.5, 0.2), (0.5, 0.9), (0.0, 0.9)), direction=(0.0, -1.0)),
    ),
    count_window_s=10.0,
)


@dataclass
class Kept:
    """What the analytics hold when everybody has been gone for ten seconds.

    tracks: begun so far. confirmed: those of them that were believed, and so went through lines, zones and counts.
    snapshot_bytes: of the saved state.
    """

    tracks: int
    confirmed: int
    held: Footprint
    snapshot_bytes: int


@dataclass
class ShortTracks:
    """One camera, and how many tracks and events it has had."""

    per_frame: int = 100
    seed: int = 0
    tracks: int = 0
    confirmed: int = 0
    events: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        provenance = {"model": "none", "model_version": "0", "model_sha256": "", "config_sha256": ""}
        self._camera = CameraAnalytics(RULES, provenance=provenance)
        self._index = 0
        self._recent: dict[int, None] = {}
        self._window = FrameWindow("gate", 1, 0, (), WIDTH, HEIGHT, _FPS, "wall")

    def run(self, tracks: int) -> float:
        """Let objects come and go until there were ``tracks`` in all; the seconds it took."""
        began_s = time.perf_counter()
        for detections in self._generations():
            self._observe(detections)
            if self.tracks >= tracks:
                return time.perf_counter() - began_s
        raise AssertionError("generations have no end")

    def kept(self) -> Kept:
        """Let the last ones go, and weigh what stays."""
        for _ in range(_QUIET_FRAMES):
            self._observe(Detections.none(_CLASSES))
        return Kept(self.tracks, self.confirmed, footprint(self._camera), len(self._camera.snapshot()))

    def _generations(self) -> Iterator[Detections]:
        """A crowd at random places, seen for four frames while it walks down; then another."""
        while True:
            size = self._rng.uniform((20, 40), (60, 120), (self.per_frame, 2))
            at = self._rng.uniform((0, 0.3 * HEIGHT), (WIDTH - 60, 0.6 * HEIGHT), (self.per_frame, 2))
            class_ids = self._rng.integers(0, len(_CLASSES), self.per_frame)
            scores = self._rng.uniform(0.6, 0.95, self.per_frame).astype(np.float32)
            for step in range(_SEEN_FRAMES):
                corner = at + np.array([0, 30 * step])
                boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
                yield Detections(boxes, scores, class_ids.astype(np.int64), _CLASSES)

    def _observe(self, detections: Detections) -> None:
        at_us = self._index * 1_000_000 // _FPS
        frame = Frame(self._index, at_us, at_us, _NO_PICTURE)
        self._index += 1
        self._take(self._camera.observe(self._window, frame, detections, _ORIGIN))

    def _take(self, observation: Observation) -> None:
        self.events.update(event.type for event in observation.events)
        for view in observation.tracks:
            number = int(view.track_id.rpartition("/")[2])
            self.tracks = max(self.tracks, number)
            if number not in self._recent:
                self.confirmed += 1
                self._recent[number] = None
        if len(self._recent) > _REMEMBERED:
            self._recent = dict.fromkeys(list(self._recent)[_REMEMBERED // 2 :])
