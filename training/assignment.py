"""Which cells answer for which object: task-aligned assignment.

Feng, Zhong, Gao, Scott, Huang: "TOOD: Task-aligned One-stage Object Detection", ICCV 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.datasets import ANY_VEHICLE, VEHICLES
from training.models.network import Cells
from training.overlap import iou

TOP = 10
SMALL_PX = 16.0
"""An object narrower than this may hold no cell's centre: the cells within a stride of its own centre answer too."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """P positive cells of one picture.

    cells: P, indices. objects: P, indices of the boxes they answer for. columns: P, the class they are to say; for a
    vehicle of unknown class the one that the network itself finds likeliest. targets: P float32, how sure to be, 0..1.
    """

    cells: Tensor
    objects: Tensor
    columns: Tensor
    targets: Tensor


@torch.no_grad()
def assign(scores: Tensor, predicted: Tensor, cells: Cells, boxes: Tensor, labels: Tensor) -> Assignment:
    """Choose the positive cells of one picture.

    scores: A x C probabilities. predicted: A x 4 and boxes: N x 4, xyxy pixels. labels: N, may be ``ANY_VEHICLE``.
    Alignment is sqrt(score) * IoU^3; each object takes its ``TOP`` best cells, a cell that several want goes to the one
    it overlaps most. The target is the alignment, scaled so that an object's best cell is told its best IoU.
    """
    overlaps = iou(boxes[:, None], predicted[None])
    vehicles = torch.tensor(VEHICLES, device=labels.device)
    known = labels != ANY_VEHICLE
    of_class = scores[:, labels.clamp(max=ANY_VEHICLE - 1)].T
    likely = torch.where(known[:, None], of_class, scores[:, vehicles].max(-1).values[None])
    alignment = likely.sqrt() * overlaps.pow(3) * _may_answer(cells, boxes)
    best, rows = alignment.topk(min(TOP, alignment.shape[1]), 1)
    wanted = torch.zeros_like(alignment, dtype=torch.bool).scatter_(1, rows, best > 1e-9)
    at = wanted.any(0).nonzero()[:, 0]
    objects = (overlaps * wanted)[:, at].argmax(0)
    agreed = wanted[objects, at]
    at, objects = at[agreed], objects[agreed]
    strength, overlap = alignment[objects, at], overlaps[objects, at]
    most = torch.zeros(len(boxes), device=boxes.device).scatter_reduce_(0, objects, strength, "amax")
    reach = torch.zeros(len(boxes), device=boxes.device).scatter_reduce_(0, objects, overlap, "amax")
    targets = strength / (most[objects] + 1e-9) * reach[objects]
    guessed = vehicles[scores[at][:, vehicles].argmax(-1)]
    columns = torch.where(known[objects], labels[objects], guessed)
    return Assignment(at, objects, columns, targets)


def _may_answer(cells: Cells, boxes: Tensor) -> Tensor:
    """N x A: the cells whose centre lies in a box, or beside the centre of a small one."""
    centers = cells.centers[None]
    inside = ((centers > boxes[:, None, :2]) & (centers < boxes[:, None, 2:])).all(-1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = ((centers - middle[:, None]).abs() < cells.strides[None]).all(-1)
    small = (boxes[:, 2:] - boxes[:, :2]).amin(-1) < SMALL_PX
    return inside | (near & small[:, None])
