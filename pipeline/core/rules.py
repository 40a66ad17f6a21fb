"""What a camera is asked to watch for, as plain values. Points are 0..1 of the picture, x to the right, y down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["bottom_center", "center", "top_center"]

DEFAULT_CLASSES = ("person", "vehicle")


@dataclass(frozen=True, slots=True)
class LineRule:
    """A directed line from A to B (two or more points). Left and right are as one walks from A to B.

    classes: classes or groups that count. anchor: the point of the box that has to cross.
    """

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = DEFAULT_CLASSES
    anchor: Anchor = "bottom_center"
    wrong_way: Literal["left", "right"] | None = None  # a crossing to this side is also an event of its own


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """A polygon. Times in seconds; None or 0 switches that event off."""

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = DEFAULT_CLASSES
    anchor: Anchor = "bottom_center"
    dwell_s: float | None = None  # zone.dwelled once an object stayed this long (loitering)
    crowded_at: int | None = None  # zone.crowded when at least this many are inside
    stopped_s: float | None = None  # vehicle.stopped once a vehicle stood still this long
    direction: tuple[float, float] | None = None  # direction.wrong for moving against this vector


@dataclass(frozen=True, slots=True)
class CameraRules:
    """All rules of one camera.

    count_window_s: span of a count window. sample_fps: the rate the camera is sampled at.
    """

    camera_id: str
    lines: tuple[LineRule, ...] = ()
    zones: tuple[ZoneRule, ...] = ()
    count_window_s: float = 10.0
    sample_fps: float = 8.0
    tracker: dict[str, float] = field(default_factory=dict)  # overrides of the tracker's own defaults
