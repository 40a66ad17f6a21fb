"""Which vehicle it is, taught to a detector that finds vehicles well: nothing but the names may change.

Only the heads' class branches learn. Boxes and objectness stay as they are to the last bit, and each cell is held to
the group scores that it had, so that thresholds, suppression, tracks and counts find what they found.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError
from training.assignment import assign
from training.datasets import ANY_VEHICLE, CLASSES, VEHICLES
from training.losses import Losses, Targets, log_of_others
from training.models.network import Network, Predictions, cells_of, rows_of
from training.models.yolox import YoloxNano

HELD_WEIGHT = 10.0
"""With 10, 30 and 100 a first form of this named .95, .61 and .31 of close vehicles rightly (0.2.0: .27), AP50 of
vehicles .729, .730 and .733 (.732): the more, the nearer to the start. 16:9 views at 416x256, three epochs each."""

OTHERS = tuple(i for i in range(len(CLASSES)) if i not in VEHICLES)


def free_names_only(network: Network) -> None:
    """Freeze every weight but those of the class branches and their logits."""
    if not isinstance(network, YoloxNano):
        raise UsageError(
            f"--learns names: {network.architecture} has no branch of its own for classes", mend="train all of it"
        )
    network.requires_grad_(False)
    for head in network.heads:
        for part in (head.class_branch, head.class_logits):
            assert isinstance(part, nn.Module)
            part.requires_grad_(True)


def now_and_before(network: Network, start: Network, pictures: Tensor) -> tuple[Predictions, Predictions]:
    """What a network and the one that it started from say. The trunk, one and the same, runs once."""
    with torch.no_grad():
        features = network.features(network.stem(pictures))
        maps = start.levels(features)
        cells = cells_of(maps, start.strides)
        before = start.read(rows_of(maps), cells)
    return network.read(rows_of(network.levels(features)), cells), before


def names_losses(now: Predictions, before: Predictions, wanted: Targets) -> Losses:
    """Cross-entropy among the vehicle classes where a vehicle's class is labelled; elsewhere and there, group scores.

    The second term is how far the scores of the groups are from those of ``before``, at every cell, whatever is
    labelled (distillation: Hinton, Vinyals, Dean 2015, arXiv 1503.02531).
    Which cells answer for a vehicle follows from its group's score: where buses are called cars, none would for a bus.
    Each term is divided by the sum of its targets. Nothing is asked of boxes.
    """
    scores = before.log_scores.exp()
    named, whole = scores.new_zeros(()), scores.new_zeros(())
    for i, (boxes, labels) in enumerate(zip(wanted.boxes, wanted.labels, strict=True)):
        known = torch.isin(labels, torch.tensor(VEHICLES, device=labels.device))
        if not known.any():
            continue
        any_vehicle = torch.full_like(labels[known], ANY_VEHICLE)
        found = assign(scores[i], before.boxes[i], before.cells, boxes[known], any_vehicle)
        among = now.log_scores[i, found.cells].index_fill(1, torch.tensor(OTHERS, device=labels.device), -torch.inf)
        apart = functional.cross_entropy(among, labels[known][found.objects], reduction="none")
        named, whole = named + (apart * found.targets).sum(), whole + found.targets.sum()
    held = _apart(_groups(now.log_scores), _groups(before.log_scores))
    return Losses(named / whole.clamp(min=1.0) + HELD_WEIGHT * held, scores.new_zeros(()))


def _groups(log_scores: Tensor) -> Tensor:
    """B x A x G: each class that is no vehicle, and the likeliest vehicle."""
    return torch.cat([log_scores[..., list(OTHERS)], log_scores[..., list(VEHICLES)].amax(-1, keepdim=True)], -1)


def _apart(log_scores: Tensor, log_wanted: Tensor) -> Tensor:
    """Relative entropy of two sets of scores: 0 where they are the same."""
    wanted = log_wanted.exp()
    log_others, log_unwanted = log_of_others(log_scores), log_of_others(log_wanted)
    entropy = wanted * (log_wanted - log_scores) + (1 - wanted) * (log_unwanted - log_others)
    return entropy.sum() / wanted.sum().clamp(min=1.0)
