"""What counts as a crossing of a line and as a stay in a zone, computed from the script itself.

Both look at the actor's anchor (a point of its box in the picture, as the rule says) as a function of continuous
time: sampled at 50 Hz (the quickest gait swings at 3 Hz), and once more between two samples where something happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.core.classes import expand
from pipeline.core.rules import Anchor, LineRule, ZoneRule
from pipeline.sources.synthetic.perspective import Floats

if TYPE_CHECKING:
    from pipeline.sources.synthetic.scene import Actor, Scene

_FINE = 41
_AWAY = 9
MARGIN_OF_HEIGHT = 0.08
"""An anchor has changed sides once it is this far beyond the line, in heights of its box."""
MARGIN_PX = 2.5
"""... and at least this far in pixels."""
_NEAR_OF_HEIGHT = 0.3
_SHORTEST_STAY_S = 0.5
_LONGEST_GAP_S = 1.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """An actor went over a line to its ``direction`` side (as one walks from A to B), its anchor at ``t_s`` on it."""

    line: str
    direction: Literal["left", "right"]
    class_name: str
    track: int
    t_s: float


@dataclass(frozen=True, slots=True)
class Dwell:
    """An actor's anchor was in a zone from ``entered_s`` to ``left_s``; both within the scene's duration."""

    zone: str
    class_name: str
    track: int
    entered_s: float
    left_s: float


def anchors_of(scene: Scene, actor: Actor, anchor: Anchor, at: Floats) -> tuple[Floats, Floats]:
    """(T x 2 anchors, T box heights) in pixels, of the box in the picture; NaN where the actor is not in it."""
    return _anchors(actor.boxes(scene.camera, at)[0], anchor)


def _anchors(boxes: Floats, anchor: Anchor) -> tuple[Floats, Floats]:
    x0, y0, x1, y1 = boxes.T
    y = {"bottom_center": y1, "center": (y0 + y1) / 2, "top_center": y0}[anchor]
    return np.stack([(x0 + x1) / 2, y], axis=-1), y1 - y0


def _side(a: Floats, b: Floats, points: Floats) -> Floats:
    """Signed pixels from the line through A and B; positive on the right as one walks from A to B (y is down)."""
    along = (b - a) / np.hypot(*(b - a))
    away = points - a
    return np.asarray(along[0] * away[..., 1] - along[1] * away[..., 0])


def _between(a: Floats, b: Floats, points: Floats) -> Floats:
    along = b - a
    return np.asarray(((points - a) @ along) / (along @ along))


def crossings_of(scene: Scene, line: LineRule, actor: Actor, margin: float = 1.0) -> list[Crossing]:
    """The crossings of one actor over a line of two points, in time order.

    The side an anchor is on changes once it is ``margin`` x max(2.5 px, 0.08 box heights) beyond the line, having
    gone through between A and B; so jitter on the line is one crossing if it ends beyond, none if it does not. The
    crossing's time is the last instant on the line before that. A side is forgotten while the actor is out of the
    picture.
    """
    if actor.class_name not in expand(line.classes):
        return []
    (a, b), size = (np.array(point) for point in line.points), np.array([scene.width, scene.height])
    a, b = a * size, b * size
    at, boxes = scene.way(actor)
    anchors, heights = _anchors(boxes, line.anchor)
    sides = _side(a, b, anchors)
    clear = np.maximum(MARGIN_PX, MARGIN_OF_HEIGHT * heights) * margin
    settled = np.where(sides > clear, 1, np.where(sides < -clear, -1, 0))
    told = np.where(np.isnan(sides), _AWAY, settled)
    certain = np.flatnonzero(told)
    found: list[Crossing] = []
    known = 0
    for index in certain[np.diff(told[certain], prepend=0) != 0]:
        if np.isnan(sides[index]):
            known = 0
            continue
        side = int(settled[index])
        if known and side != known:
            last = index - 1
            while sides[last] * side > 0:
                last -= 1
            fine = np.linspace(at[last], at[last + 1], _FINE)
            points, _ = anchors_of(scene, actor, line.anchor, fine)
            nearest = int(np.argmin(np.abs(_side(a, b, points))))
            t_s, on = float(fine[nearest]), points[nearest : nearest + 1]
            if 0.0 <= float(_between(a, b, on)[0]) <= 1.0:
                found.append(
                    Crossing(line.name, "right" if side > 0 else "left", actor.class_name, actor.track, round(t_s, 4))
                )
        known = side
    return found


def begins_or_ends_near(scene: Scene, line: LineRule, actor: Actor) -> bool:
    """Whether a counted actor is about the line at the scene's very start or end, so that its side cannot be told."""
    if actor.class_name not in expand(line.classes):
        return False
    a, b = (np.array(point) * (scene.width, scene.height) for point in line.points)
    anchors, heights = anchors_of(scene, actor, line.anchor, np.array([0.0, scene.duration_s]))
    beside = (_between(a, b, anchors) > -0.05) & (_between(a, b, anchors) < 1.05)
    return bool((beside & (np.abs(_side(a, b, anchors)) < np.maximum(_NEAR_OF_HEIGHT * heights, 8.0))).any())


def inside(polygon: Floats, points: Floats) -> NDArray[np.bool_]:
    """T bools: which points lie in a polygon of K x 2 corners (even-odd rule); False for NaN."""
    within = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        spans = (y0 > points[:, 1]) != (y1 > points[:, 1])
        meets = x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0)
        within ^= spans & (points[:, 0] < meets)
    return np.asarray(within & ~np.isnan(points).any(axis=1))


def dwells_of(scene: Scene, zone: ZoneRule, actor: Actor) -> list[Dwell]:
    """The stays of one actor in a zone, in time order.

    A gap of less than 1 s does not end a stay; a stay of less than 0.5 s is none. Instants are exact to a millisecond.
    """
    if actor.class_name not in expand(zone.classes):
        return []
    polygon = np.array(zone.points) * np.array([scene.width, scene.height])
    at, boxes = scene.way(actor)
    within = inside(polygon, _anchors(boxes, zone.anchor)[0])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], within.astype(int), [0]])))

    def refined(index: int, enters: bool) -> float:
        """The instant between two samples at which the anchor enters (or leaves)."""
        if not 0 < index < len(at):
            return float(at[min(index, len(at) - 1)])
        fine = np.linspace(at[index - 1], at[index], _FINE)
        within_fine = inside(polygon, anchors_of(scene, actor, zone.anchor, fine)[0])
        return float(fine[int(np.argmax(within_fine == enters))])

    stays: list[list[float]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        entered, left = refined(int(start), True), refined(int(end), False)
        if stays and entered - stays[-1][1] < _LONGEST_GAP_S:
            stays[-1][1] = left
        else:
            stays.append([entered, left])
    return [
        Dwell(zone.name, actor.class_name, actor.track, round(entered, 4), round(left, 4))
        for entered, left in stays
        if left - entered >= _SHORTEST_STAY_S
    ]
