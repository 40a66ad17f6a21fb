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
    best = found.take(np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES])
    if rivals_of_class is None:
        return best.take(np.arange(min(len(best.scores), MAX_DETECTIONS)))
    with np.errstate(over="ignore", invalid="ignore"):  # a broken network's boxes may be of any size
        return best.take(_greedy(best.boxes, rivals_of_class[best.class_ids], nms_iou))


def _greedy(boxes: NDArray[np.float32], sets: NDArray[np.int64], nms_iou: float) -> NDArray[np.int64]:
    """The rows that no better kept row of their set overlaps by more than ``nms_iou``; rows come in order of score.

    Each kept row is compared with all that is left at once: far fewer pairs than a whole matrix, where hundreds of
    weak candidates lie around a few objects.
    """
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0) * (y1 - y0)
    # One array, so that what is left shrinks in one step; sets and row numbers are small and exact in float32.
    left = np.stack([x0, y0, x1, y1, area, sets.astype(np.float32), np.arange(len(boxes), dtype=np.float32)])
    kept: list[int] = []
    while left.shape[1] and len(kept) < MAX_DETECTIONS:
        first, left = left[:, 0], left[:, 1:]
        kept.append(int(first[6]))
        width = np.minimum(left[2], first[2]) - np.maximum(left[0], first[0])
        height = np.minimum(left[3], first[3]) - np.maximum(left[1], first[1])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        iou = shared / np.maximum(left[4] + first[4] - shared, np.float32(1e-9))
        left = left[:, ~((iou > nms_iou) & (left[5] == first[5]))]
    return np.array(kept, np.int64)
