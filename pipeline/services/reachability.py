"""Where an object's anchor can be, and so which lines can be crossed and which areas entered.

- A detector finds objects down to about ``DETECTABLE_PX`` high at the network's input, reliably from ``SURE_PX`` up.
- Boxes are cut at the edge of the picture. So the largest box whose anchor is at a point (``room_at``) says what can be
  seen there: a bottom-centre anchor 2 % below the top edge belongs to an object of which at most 2 % shows.
- A crossing counts once the anchor is 0.05 box sizes beyond the line, and surely at 0.15 (pipeline.analytics.lines).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import CameraConfig, Config, LineConfig, Problem, ZoneConfig
from pipeline.core.classes import expand
from pipeline.core.geometry import inside_polygon
from pipeline.core.rules import Anchor, Point

DETECTABLE_PX = 8.0
SURE_PX = 24.0
_PERSON_ASPECT = 0.4  # width by height
_VEHICLE_ASPECT = 1.5
_TYPICAL_HEIGHT = 0.2  # of the picture's: somebody a few metres from a street camera
_BEYOND_SIZES, _CLEAR_SIZES = 0.05, 0.15


def room_at(x: float, y: float, anchor: Anchor) -> tuple[float, float]:
    """Width and height (0..1 of the picture) of the largest box inside the picture with its anchor at (x, y)."""
    height = {"bottom_center": y, "center": 2 * min(y, 1 - y), "top_center": 1 - y}[anchor]
    return 2 * min(x, 1 - x), height


@dataclass(frozen=True, slots=True)
class View:
    """Sizes of one camera in pixels: of its picture, and of that picture inside the network's input."""

    width: int
    height: int
    net_width: float
    net_height: float

    def seen_px(self, x: float, y: float, anchor: Anchor) -> tuple[float, float]:
        """Width and height at the network's input of the largest box with its anchor at (x, y); below 0 outside."""
        width, height = room_at(x, y, anchor)
        return width * self.net_width, height * self.net_height


def _aspect(classes: Sequence[str]) -> float:
    """Width by height of the narrowest kind of object that a rule watches."""
    return _PERSON_ASPECT if not expand(classes) <= expand(["vehicle"]) else _VEHICLE_ASPECT


def _line_samples(points: Sequence[Point], view: View, steps: int = 100) -> list[tuple[Point, Point]]:
    """Points along a line with the normal there, which is as long as the picture is high; both in 0..1."""
    lengths = [_length_px(a, b, view) for a, b in itertools.pairwise(points)]
    samples = []
    for (a, b), length in zip(itertools.pairwise(points), lengths, strict=True):
        dx, dy = (b[0] - a[0]) * view.width, (b[1] - a[1]) * view.height
        normal = -dy / length * view.height / view.width, dx / length
        count = max(1, round(steps * length / sum(lengths)))
        for i in range(count):
            t = (i + 0.5) / count
            samples.append(((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])), normal))
    return samples


def _length_px(a: Point, b: Point, view: View) -> float:
    return float(np.hypot((b[0] - a[0]) * view.width, (b[1] - a[1]) * view.height))


def _crossable(rule: LineConfig, view: View, *, sure: bool) -> float:
    """Share of a line that an object can cross: at all (the smallest that is found), or surely (a typical one)."""
    aspect = _aspect(rule.classes)
    least = SURE_PX if sure else DETECTABLE_PX
    height = _TYPICAL_HEIGHT if sure else DETECTABLE_PX / view.net_height
    apart = (_CLEAR_SIZES if sure else _BEYOND_SIZES) * height * float(np.sqrt(aspect))
    crossed = []
    for (x, y), (nx, ny) in _line_samples(rule.points, view):
        sides = [view.seen_px(x + s * apart * nx, y + s * apart * ny, rule.anchor) for s in (-1, 1)]
        inside = all(0 <= x + s * apart * nx <= 1 and 0 <= y + s * apart * ny <= 1 for s in (-1, 1))
        crossed.append(inside and all(w >= least * min(aspect, 1) and h >= least for w, h in sides))
    return float(np.mean(crossed))


def line_problems(config: Config, camera: CameraConfig, view: View) -> Iterator[Problem]:
    """Lines that nothing can cross, or hardly, that are too short, or lie under a mask."""
    for name, rule in camera.lines.items():
        key = ("cameras", camera.id, "lines", name, "points")
        possible = _crossable(rule, view, sure=False)
        if possible == 0:
            yield config.problem(
                key, f"no object can cross this line: {_why(rule, view)}", _mend_reach(rule), code="line-unreachable",
                severity="error",
            )  # fmt: skip
        elif (surely := _crossable(rule, view, sure=True)) < 0.5:
            yield config.problem(
                key, f"objects are surely counted on only {surely:.0%} of this line: {_why(rule, view)}",
                _mend_reach(rule), code="line-near-edge",
            )  # fmt: skip
        length = sum(_length_px(a, b, view) for a, b in itertools.pairwise(rule.points))
        wide = _TYPICAL_HEIGHT * view.height * _aspect(rule.classes)
        if length < wide:
            yield config.problem(
                key, f"the line is {length / view.width:.1%} of the picture's width long: an object is wider",
                "draw it across the whole way that objects take", code="line-short",
            )  # fmt: skip
        masked = _masked([point for point, _ in _line_samples(rule.points, view)], camera)
        if masked > 0.5:
            yield config.problem(
                key, f"{masked:.0%} of this line lies under a mask", "move the line or the mask",
                code="line-masked", severity="error" if masked > 0.95 else "warning",
            )  # fmt: skip


def _why(rule: LineConfig, view: View) -> str:
    """The edge that is too near, and what can be seen of an object there."""
    x, y = (float(np.mean([point[i] for point in rule.points])) for i in (0, 1))
    near = min(("left", x), ("right", 1 - x), ("top", y), ("bottom", 1 - y), key=lambda edge: edge[1])
    width, height = view.seen_px(x, y, rule.anchor)
    anchor = rule.anchor.replace("_", " ")
    if near[0] in ("left", "right"):
        return f"it is {near[1]:.1%} from the {near[0]} edge: of an object there {max(width, 0):.0f} px are left"
    if height < SURE_PX:
        return (
            f"an object with its {anchor} there shows at most {max(height, 0) / view.net_height:.1%} of the picture's "
            f"height, {max(height, 0):.0f} px at the network (it needs {DETECTABLE_PX:.0f}, better {SURE_PX:.0f})"
        )
    return f"it is {near[1]:.1%} from the {near[0]} edge, and a box's {anchor} does not get clear beyond it"


def _mend_reach(rule: LineConfig) -> str:
    ys = [point[1] for point in rule.points]
    if rule.anchor == "bottom_center" and max(ys) < 0.5:
        return "move it down, to where whole objects are seen"
    return "move it further into the picture"


def zone_problems(config: Config, camera: CameraConfig, view: View) -> Iterator[Problem]:
    """Areas that are next to nothing, that no anchor can be in, or that lie under a mask."""
    for name, rule in camera.zones.items():
        key = ("cameras", camera.id, "zones", name, "points")
        samples = _zone_samples(rule)
        if len(samples) < 4:
            yield config.problem(
                key, "the area is next to nothing: less than 0.02 % of the picture", "move its corners apart",
                code="zone-tiny", severity="error",
            )  # fmt: skip
            continue
        seen = [view.seen_px(x, y, rule.anchor) for x, y in samples]
        least = DETECTABLE_PX * min(_aspect(rule.classes), 1)
        share = float(np.mean([w >= least and h >= DETECTABLE_PX for w, h in seen]))
        if share < 0.05:
            yield config.problem(
                key, f"no object can have its {rule.anchor.replace('_', ' ')} in this area: it would hardly show",
                "move it away from the edge, or use another anchor", code="zone-unreachable", severity="error",
            )  # fmt: skip
        masked = _masked(samples, camera)
        if masked > 0.5:
            yield config.problem(
                key, f"{masked:.0%} of this area lies under a mask", "move the area or the mask",
                code="zone-masked", severity="error" if masked > 0.95 else "warning",
            )  # fmt: skip


def _zone_samples(rule: ZoneConfig) -> list[Point]:
    """Points of a 70 x 70 grid that lie inside, spread over the area's own extent when it is small."""
    polygon = np.array(rule.points)
    low, high = polygon.min(0), polygon.max(0)
    n = 70 if (high - low).min() > 0.2 else 35
    if ((high - low).prod()) < 0.0002:
        return []
    xs, ys = (low[i] + (np.arange(n) + 0.5) / n * (high[i] - low[i]) for i in (0, 1))
    grid = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in grid[inside_polygon(grid, polygon)]]


def _masked(samples: Sequence[Point], camera: CameraConfig) -> float:
    """Share of the points that a mask covers."""
    points = np.array(samples)
    covered = np.zeros(len(points), bool)
    for mask in camera.masks:
        covered |= inside_polygon(points, np.array(mask))
    return float(covered.mean()) if len(points) else 0.0
