"""Plane geometry of boxes, polylines and polygons, over arrays.

Coordinates are pixels, x to the right and y down. Arrays are float64 unless said otherwise. A polyline is P x 2 (P >= 2
points); a polygon is P x 2 (P >= 3), closed by itself. "Right" of a segment is the right hand of who walks from its
first to its second point as seen in the picture: for a segment drawn left to right that is downwards.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.rules import Anchor

Floats = NDArray[np.float64]


def anchor_points(boxes: NDArray[Any], anchor: Anchor) -> Floats:
    """The anchor of each xyxy box: N x 4 -> N x 2."""
    points = np.empty((len(boxes), 2))
    points[:, 0] = (boxes[:, 0] + boxes[:, 2]) / 2
    if anchor == "bottom_center":
        points[:, 1] = boxes[:, 3]
    elif anchor == "top_center":
        points[:, 1] = boxes[:, 1]
    else:
        points[:, 1] = (boxes[:, 1] + boxes[:, 3]) / 2
    return points


def box_sizes(boxes: NDArray[Any]) -> Floats:
    """The size of each xyxy box in pixels: the root of its area, at least 1. N x 4 -> N."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    sizes: Floats = np.sqrt(np.maximum(area, 1.0))
    return sizes


def box_iou(first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """Intersection over union of every pair of xyxy boxes: N x 4, M x 4 -> N x M, 0..1."""
    width = np.minimum(first[:, None, 2], second[None, :, 2]) - np.maximum(first[:, None, 0], second[None, :, 0])
    height = np.minimum(first[:, None, 3], second[None, :, 3]) - np.maximum(first[:, None, 1], second[None, :, 1])
    np.maximum(width, 0.0, out=width)
    np.maximum(height, 0.0, out=height)
    width *= height  # now the shared area; in place, since these are the largest arrays of a frame
    area_first = (first[:, 2] - first[:, 0]) * (first[:, 3] - first[:, 1])
    area_second = (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    union = area_first[:, None] + area_second[None, :]
    union -= width
    np.maximum(union, 1e-9, out=union)
    iou: Floats = np.divide(width, union)
    return iou


def _cross(ax: Any, ay: Any, bx: Any, by: Any) -> Any:
    return ax * by - ay * bx


def signed_crossings(before: Floats, after: Floats, polyline: Floats) -> NDArray[np.int64]:
    """How often each straight step ``before[i] -> after[i]`` passes through the polyline: N x 2, N x 2 -> N.

    +1 for each passage to the right, -1 for each to the left; a step round the end of the line gives 0. A point that
    lies exactly on the line belongs to its right, so that steps that meet there count as one passage.
    """
    p, q = polyline[:-1], polyline[1:]
    dx, dy = q[:, 0] - p[:, 0], q[:, 1] - p[:, 1]
    was_right = _cross(dx, dy, before[:, None, 0] - p[:, 0], before[:, None, 1] - p[:, 1]) >= 0
    is_right = _cross(dx, dy, after[:, None, 0] - p[:, 0], after[:, None, 1] - p[:, 1]) >= 0
    step = (after - before)[:, None, :]
    p_side = _cross(step[..., 0], step[..., 1], p[:, 0] - before[:, None, 0], p[:, 1] - before[:, None, 1]) >= 0
    q_side = _cross(step[..., 0], step[..., 1], q[:, 0] - before[:, None, 0], q[:, 1] - before[:, None, 1]) >= 0
    passes = (was_right != is_right) & (p_side != q_side)
    signed: NDArray[np.int64] = np.where(passes, np.where(is_right, 1, -1), 0).sum(axis=1)
    return signed


def distance_to_polyline(points: Floats, polyline: Floats) -> Floats:
    """Distance in pixels of each point to the nearest point of the polyline: N x 2 -> N."""
    p, d = polyline[:-1], polyline[1:] - polyline[:-1]
    length2 = np.maximum((d * d).sum(axis=1), 1e-12)
    offset = points[:, None, :] - p[None, :, :]
    along = np.clip((offset * d).sum(axis=2) / length2, 0.0, 1.0)
    apart = offset - along[..., None] * d
    nearest: Floats = np.sqrt((apart * apart).sum(axis=2).min(axis=1))
    return nearest


def inside_polygon(points: Floats, polygon: Floats) -> NDArray[np.bool_]:
    """Whether each point lies inside the polygon (even-odd rule): N x 2 -> N."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, None, 0], points[:, None, 1]
    straddles = (start[:, 1] > y) != (end[:, 1] > y)
    rise = end[:, 1] - start[:, 1]
    at_x = start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / np.where(rise == 0, 1.0, rise)
    inside: NDArray[np.bool_] = ((straddles & (x < at_x)).sum(axis=1) % 2).astype(bool)
    return inside


def closed(polygon: Floats) -> Floats:
    """The outline of a polygon as a polyline that ends where it began."""
    return np.vstack([polygon, polygon[:1]])


def passage_fractions(before: Floats, after: Floats, polyline: Floats) -> list[float]:
    """Where one step (two points) meets the polyline's segments: fractions 0..1 of the step, rising; may be empty."""
    fractions = []
    step = after - before
    for p, q in itertools.pairwise(polyline):
        d = q - p
        denominator = float(_cross(step[0], step[1], d[0], d[1]))
        if denominator == 0.0:
            continue
        offset = p - before
        on_step = float(_cross(offset[0], offset[1], d[0], d[1])) / denominator
        on_line = float(_cross(offset[0], offset[1], step[0], step[1])) / denominator
        if 0.0 <= on_step <= 1.0 and -1e-9 <= on_line <= 1.0 + 1e-9:
            fractions.append(on_step)
    return sorted(fractions)
