"""Points, lines and polygons as they are written: checked, with a mend for what people commonly write instead."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.config.problems import fault
from pipeline.core.rules import Point

_DIRECTIONS = {"up": (0.0, -1.0), "down": (0.0, 1.0), "left": (-1.0, 0.0), "right": (1.0, 0.0)}


def one_or_many(value: Any) -> Any:
    """``classes: car`` means ``classes: [car]``."""
    return [value] if isinstance(value, str) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _coordinate(value: Any) -> Any:
    if isinstance(value, bool):
        raise fault("not-a-number", "must be a number, not true or false")
    if _is_number(value) and not 0 <= value <= 1:
        if value < 0 or value <= 1.5:
            raise fault("outside-picture", f"{value} is outside the picture", "coordinates go from 0 to 1")
        raise fault(
            "pixels",
            f"{value} looks like pixels, coordinates go from 0 to 1",
            "divide x by the picture's width and y by its height",
        )
    return value


def _point(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"x", "y"}:
        raise fault("point-as-map", "a point is a pair", f"write [{value['x']}, {value['y']}]")
    if isinstance(value, list) and len(value) != 2:
        raise fault("point-length", f"a point has two numbers, x and y; this has {len(value)}")
    return value


def _not_flat(value: Any) -> Any:
    if isinstance(value, list) and value and all(_is_number(item) for item in value):
        raise fault("flat-points", "a flat list of numbers", "write points in pairs: [[x0, y0], [x1, y1]]")
    return value


def _line(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if len(points) < 2:
        raise fault("line-points", f"a line needs two points, A and B; this has {len(points)}", "add a point")
    for a, b in itertools.pairwise(points):
        if a == b:
            raise fault("line-same-points", "two points after each other are the same", "give A and B their own places")
    return points


def _polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if len(points) > 3 and points[0] == points[-1]:
        points = points[:-1]  # closed by hand, as GeoJSON has it
    if len(points) < 3:
        raise fault("polygon-points", f"an area needs three corners or more; this has {len(points)}", "add corners")
    if len(set(points)) != len(points):
        raise fault("polygon-same-points", "a corner is listed twice", "remove one of the two")
    if polygon_area(points) < 1e-6 and crossing_edges(points) is None:
        raise fault("polygon-flat", "the area is empty: its corners lie on one line", "move a corner")
    crossing = crossing_edges(points)
    if crossing is not None:
        a, b = (edge + 1 for edge in crossing)
        raise fault(
            "polygon-crosses-itself",
            f"the outline crosses itself: the edge after corner {a} meets the edge after corner {b}",
            "list the corners in order round the area",
        )
    return points


def polygon_area(points: tuple[Point, ...]) -> float:
    """Share of the picture, 0..1, by the shoelace formula; exact for outlines that do not cross themselves."""
    doubled = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, (*points[1:], points[0]), strict=True))
    return abs(doubled) / 2


def crossing_edges(points: tuple[Point, ...]) -> tuple[int, int] | None:
    """Two edges (by the index of their first corner) that meet though they are not neighbours, or None."""
    n = len(points)
    for i in range(n):
        for j in range(i + 1, n):
            a, b, c, d = points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]
            if a in (c, d) or b in (c, d):
                if {i, j} in ({0, n - 1}, {i, i + 1}):
                    continue
                return i, j
            if _meet(a, b, c, d):
                return i, j
    return None


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments ab and cd share a point."""
    ab_c, ab_d, cd_a, cd_b = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if ((ab_c > 0) != (ab_d > 0)) and ((cd_a > 0) != (cd_b > 0)) and 0 not in (ab_c, ab_d, cd_a, cd_b):
        return True
    return any(
        turn == 0 and min(p[0], q[0]) <= r[0] <= max(p[0], q[0]) and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])
        for turn, p, q, r in ((ab_c, a, b, c), (ab_d, a, b, d), (cd_a, c, d, a), (cd_b, c, d, b))
    )


def _direction(value: Any) -> Any:
    if isinstance(value, str):
        if value not in _DIRECTIONS:
            raise fault("direction-name", "must be up, down, left, right or a vector [dx, dy]")
        return _DIRECTIONS[value]
    return value


def _unit(vector: tuple[float, float]) -> tuple[float, float]:
    length = math.hypot(*vector)
    if length == 0:
        raise fault("direction-zero", "[0, 0] points nowhere", "[1, 0] is rightwards, [0, -1] upwards")
    return vector[0] / length, vector[1] / length


_Coordinate = Annotated[float, BeforeValidator(_coordinate), Field(ge=0, le=1)]
PointXY = Annotated[tuple[_Coordinate, _Coordinate], BeforeValidator(_point)]
LinePoints = Annotated[tuple[PointXY, ...], BeforeValidator(_not_flat), AfterValidator(_line)]
PolygonPoints = Annotated[tuple[PointXY, ...], BeforeValidator(_not_flat), AfterValidator(_polygon)]
Direction = Annotated[tuple[float, float], BeforeValidator(_direction), AfterValidator(_unit)]
