"""From candidates to detections: the best class of each cell, and one box for one object (vectorised NMS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.classes import group_of
from pipeline.inference.manifest import Nms

MAX_CANDIDATES = 1000
MAX_DETECTIONS = 300


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a decoder found in one picture, in no order.

    boxes: N x 4 float32 xyxy in pixels of the network's input. scores: N float32, 0..1. class_ids: N int64.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Candidates:
        """These rows, in this order."""
        return Candidates(self.boxes[rows], self.scores[rows], self.class_ids[rows])


def rivals(classes: Sequence[str], nms: Nms) -> NDArray[np.int64] | None:
    """For each class the number of the set whose boxes suppress each other, or None for no suppression.

    ``group``: a car that is also seen as a truck is one vehicle; classes outside the groups stand alone.
    """
    if nms == "none":
        return None
    keys = [(group_of(name) or name) if nms == "group" else name for name in classes]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def suppress(found: Candidates, rivals_of_class: NDArray[np.int64] | None, nms_iou: float) -> Candidates:
    """Greedy non-maximum suppression: highest score first, at most ``MAX_DETECTIONS``.

    Equal scores keep the decoder's order, so the result depends on nothing but the input. Of more than
    ``MAX_CANDIDATES`` candidates only the best enter.
    """
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    best = found.take(order)
    if rivals_of_class is not None and len(order) > 1:
        sets = rivals_of_class[best.class_ids]
        with np.errstate(over="ignore", invalid="ignore"):  # a broken network's boxes may be of any size
            overlaps = iou_matrix(best.boxes, best.boxes) > nms_iou
        overlaps &= sets[:, None] == sets[None, :]
        best = best.take(_greedy(overlaps))
    return best.take(np.arange(min(len(best.scores), MAX_DETECTIONS)))


def iou_matrix(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """N x M intersection over union of xyxy boxes; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    shared = sides[..., 0] * sides[..., 1]
    union = _area(a)[:, None] + _area(b)[None, :] - shared
    overlap: NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return area


def _greedy(overlaps: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows that no better kept row overlaps; rows are in order of score."""
    alive = np.ones(len(overlaps), np.bool_)
    for i in range(len(overlaps)):
        if alive[i]:
            alive[i + 1 :] &= ~overlaps[i, i + 1 :]
    return np.flatnonzero(alive)
