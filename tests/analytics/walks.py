"""Plays boxes through a CameraAnalytics: what the tests of this folder and of tests/properties share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.core.detections import Detections
from pipeline.core.events import LINE_CROSSED, Event, Origin
from pipeline.core.frame import CameraState, Frame, FrameWindow, StreamStatus, TimeSource
from pipeline.core.rules import CameraRules

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
PROVENANCE = {"model": "m", "model_version": "1", "model_sha256": "aa", "config_sha256": "bb"}
ORIGIN: Origin = {"topic": "passerby.windows", "partition": 0, "offset": 7}
START_US = 1_700_000_000_000_000
WIDTH, HEIGHT = 640, 360

Seen = tuple[str, tuple[float, float, float, float], float]
"""Class, xyxy box in pixels, score."""
Scene = Callable[[float], Sequence[Seen]]


def detections(seen: Iterable[Seen]) -> Detections:
    """A frame's detections, highest score first."""
    ordered = sorted(seen, key=lambda one: -one[2])
    return Detections(
        np.array([box for _, box, _ in ordered], np.float32).reshape(-1, 4),
        np.array([score for *_, score in ordered], np.float32),
        np.array([CLASSES.index(name) for name, *_ in ordered], np.int64),
        CLASSES,
    )


def box(x: float, y: float, width: float = 30.0, height: float = 80.0) -> tuple[float, float, float, float]:
    """The box whose bottom centre is at (x, y)."""
    return (x - width / 2, y - height, x + width / 2, y)


def person(x: float, y: float, score: float = 0.9) -> Seen:
    return ("person", box(x, y), score)


def car(x: float, y: float, score: float = 0.9, name: str = "car") -> Seen:
    return (name, box(x, y, 90.0, 50.0), score)


@dataclass
class Player:
    """Feeds one camera, frame by frame, and keeps what it said."""

    rules: CameraRules
    time_source: TimeSource = "pts"
    epoch: int = 0
    size: tuple[int, int] = (WIDTH, HEIGHT)
    events: list[Event] = field(default_factory=list)
    index: int = 0

    def __post_init__(self) -> None:
        self.camera = CameraAnalytics(self.rules, provenance=PROVENANCE)

    def show(self, t_s: float, seen: Iterable[Seen]) -> Observation:
        at_us = round(t_s * 1e6)
        frame = Frame(self.index, at_us, START_US + at_us, np.zeros((1, 1, 3), np.uint8))
        window = FrameWindow("gate", self.epoch, 0, (frame,), *self.size, self.rules.sample_fps, self.time_source)
        self.index += 1
        observation = self.camera.observe(window, frame, detections(seen), ORIGIN)
        self.events += observation.events
        return observation

    def tell(self, state: CameraState, t_s: float, sequence: int = 99) -> Observation:
        status = StreamStatus(state, "because", START_US + round(t_s * 1e6))
        window = FrameWindow("gate", self.epoch, sequence, (), *self.size, 8.0, self.time_source, status)
        observation = self.camera.status(window, ORIGIN)
        self.events += observation.events
        return observation

    def close(self) -> list[Event]:
        self.events += self.camera.close().events
        return self.events


def instants(duration_s: float, fps: float, phase: float = 0.0) -> list[float]:
    """Evenly spaced times from 0."""
    return [(i + phase) / fps for i in range(int(duration_s * fps) + 1)]


def play(rules: CameraRules, scene: Scene, times: Iterable[float]) -> list[Event]:
    """All events of a scene seen at ``times``."""
    player = Player(rules)
    for t_s in times:
        player.show(t_s, scene(t_s))
    return player.close()


def crossings(events: Iterable[Event]) -> list[tuple[str, str]]:
    """(line, direction) of every crossing, in order."""
    return [(e.data["line"], e.data["direction"]) for e in events if e.type == LINE_CROSSED]


def of_type(events: Iterable[Event], type_: str) -> list[Event]:
    return [event for event in events if event.type == type_]
