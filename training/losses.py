"""What a batch costs the network: scores by binary cross-entropy, boxes by generalised IoU.

A class that a picture's set does not label is neither object nor background there: its terms are left out, cell by
cell, since the pictures of a mosaic come from several sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from training.assignment import assign
from training.datasets import ANY_VEHICLE, VEHICLES
from training.models.network import Predictions
from training.overlap import giou

BOX_WEIGHT = 2.5


class Targets(NamedTuple):
    """What a batch of B pictures shows. boxes: B x (N_i x 4) xyxy pixels. labels: B x (N_i), may be ``ANY_VEHICLE``.

    known: bool B x A x C, whether a cell lies where that class is labelled.
    """

    boxes: Sequence[Tensor]
    labels: Sequence[Tensor]
    known: Tensor

    def to(self, device: torch.device) -> Targets:
        """On a device."""
        return Targets(
            [each.to(device) for each in self.boxes], [each.to(device) for each in self.labels], self.known.to(device)
        )


class Losses(NamedTuple):
    """Two scalars to add up."""

    scores: Tensor
    boxes: Tensor


def detection_losses(told: Predictions, wanted: Targets) -> Losses:
    """Losses of a batch, each divided by the sum of the targets. told: what the network says of it."""
    predicted, log_scores, cells = told
    scores = log_scores.exp()
    targets, counted = torch.zeros_like(scores), wanted.known.clone()
    box_loss = scores.new_zeros(())
    for i, (boxes, labels) in enumerate(zip(wanted.boxes, wanted.labels, strict=True)):
        if not len(boxes):
            continue
        found = assign(scores[i].detach(), predicted[i].detach(), cells, boxes, labels)
        targets[i, found.cells, found.columns] = found.targets
        counted[i, found.cells, found.columns] = True
        guessed = labels[found.objects] == ANY_VEHICLE
        counted[i, found.cells[guessed]] = _only(counted[i, found.cells[guessed]], found.columns[guessed])
        apart = 1 - giou(predicted[i, found.cells], boxes[found.objects])
        box_loss = box_loss + (apart * found.targets).sum()
    whole = targets.sum().clamp(min=1.0)
    log_others = log_of_others(log_scores)
    entropy = -(targets * log_scores + (1 - targets) * log_others) * counted
    return Losses(entropy.sum() / whole, BOX_WEIGHT * box_loss / whole)


def distillation_losses(told: Predictions, taught: Predictions) -> Losses:
    """How far a network is from its teacher, cell by cell, each divided by the sum of the teacher's scores.

    The two speak of the same pictures and cells. The teacher also speaks of the classes that a set does not label
    (Hinton, Vinyals, Dean 2015, arXiv 1503.02531).
    """
    wanted, log_scores = taught.log_scores.exp(), told.log_scores
    log_others = log_of_others(log_scores)
    entropy = -(wanted * log_scores + (1 - wanted) * log_others)
    whole, weight = wanted.sum().clamp(min=1.0), wanted.amax(-1)
    apart = 1 - giou(told.boxes, taught.boxes)
    return Losses(entropy.sum() / whole, BOX_WEIGHT * (apart * weight).sum() / whole)


def log_of_others(log_scores: Tensor) -> Tensor:
    """log(1 - score), which stays finite."""
    return torch.log1p(-log_scores.exp().clamp(max=1 - 1e-6))


def _only(counted: Tensor, columns: Tensor) -> Tensor:
    """Of a vehicle of unknown class only the guessed class is asked for: the other vehicle classes may be right too."""
    counted = counted.clone()
    counted[:, list(VEHICLES)] = False
    return counted.scatter_(1, columns[:, None], True)
