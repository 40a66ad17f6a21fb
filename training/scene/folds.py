"""Cross-validation by scene: a scene's clips all lie in one fold, and folds are alike in size and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
ASSIGNMENTS = 3


def assign_folds(scenes: Sequence[str], labels: Sequence[bool], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each clip, 0..folds-1.

    Scenes are drawn in a seeded order, large ones first, and each goes where its labels are scarcest.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, scene in enumerate(scenes):
        members[scene].append(i)
    random = np.random.default_rng(seed)
    drawn = [sorted(members)[i] for i in random.permutation(len(members))]
    drawn.sort(key=lambda scene: -len(members[scene]))
    have = np.zeros((folds, 2), np.float64)
    total = np.maximum(np.bincount(np.asarray(labels, np.int64), minlength=2), 1)
    fold = np.zeros(len(scenes), np.int64)
    for scene in drawn:
        adds = np.bincount(np.asarray([labels[i] for i in members[scene]], np.int64), minlength=2)
        after = have / total
        scarce = (after * adds).sum(1) + 1e-3 * have.sum(1) / total.sum()
        best = int(np.flatnonzero(scarce <= scarce.min() + 1e-9)[0])
        have[best] += adds
        fold[members[scene]] = best
    return fold


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties half. nan without both."""
    positive, negative = scores[labels], scores[~labels]
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean()
    return float(above)
