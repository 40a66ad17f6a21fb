"""A validation split that shares no scene with training.

Frames of one camera or clip look alike, and a model that has seen one knows the other. Pictures are compared by their
edges (robust to light and to what passes by), those that are alike are joined into scenes, and whole scenes go to one
side. What is left in validation and still resembles a training picture, mirrored or without its black bars, is
dropped. The rule is seeded; no list of files is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from training.datasets import DataSpec, Sample

SIDE = 48
SHARE = 0.11
SEED = 7
MIRRORED_LIKENESS = 0.75
"""Above which a mirrored or trimmed picture is the same scene; unrelated pictures reach 0.5."""

Signatures = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into the samples. dropped: on neither side: validation pictures that resemble a training picture after
    all, and pictures that must not be held out (``SetSpec.validation``) of a scene that is."""

    train: list[int]
    validation: list[int]
    dropped: list[int]
    scenes: int


def signature(gray: NDArray[np.uint8]) -> Signatures:
    """2304 float32 of length 1 and mean 0: where the edges of a picture are, whatever their contrast.

    The dot product of two is their likeness, -1..1.
    """
    small = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    edges = np.hypot(cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1))
    edges = np.sqrt(edges / (cv2.blur(edges, (15, 15)) + 8))
    edges = cv2.GaussianBlur(edges, (0, 0), 1.0)
    edges -= edges.mean()
    return np.asarray(edges / (np.linalg.norm(edges) + 1e-6), np.float32).ravel()


def trimmed(gray: NDArray[np.uint8], least: int = 40) -> NDArray[np.uint8]:
    """The picture without uniform bars at its sides (a letterbox looks like every other letterbox)."""
    rows, columns = np.flatnonzero(gray.std(1) > 6), np.flatnonzero(gray.std(0) > 6)
    if len(rows) < least or len(columns) < least:
        return gray
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def read_gray(path: Path) -> NDArray[np.uint8]:
    """H x W uint8."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)


def split_by_scene(samples: Sequence[Sample], spec: DataSpec, *, share: float = SHARE, seed: int = SEED) -> Split:
    """Divide by scenes: of each set about ``share`` of the pictures, in whole scenes, go to validation.

    A scene that holds most of a set's share stays in training, so that validation sees several scenes.
    """
    grays = [read_gray(one.path) for one in samples]
    plain = np.stack([signature(gray) for gray in grays])
    limits = np.array([spec.by_name[one.dataset].likeness for one in samples])
    alike = plain @ plain.T > np.maximum(limits[:, None], limits[None])
    count, scene = connected_components(alike, directed=False)
    held = np.array([spec.by_name[one.dataset].validation for one in samples])
    chosen = _choose(samples, scene, held, share, np.random.default_rng(seed))
    train, validation, neither = (np.flatnonzero(each) for each in (~chosen, chosen & held, chosen & ~held))
    again = _resembling(grays, train, validation)
    return Split(
        [int(i) for i in train],
        [int(i) for i in validation[~again]],
        [int(i) for i in np.concatenate([validation[again], neither])],
        int(count),
    )


def _choose(
    samples: Sequence[Sample],
    scene: NDArray[np.int32],
    held: NDArray[np.bool_],
    share: float,
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """The pictures of the scenes to hold out. held: which pictures may be."""
    sizes = np.bincount(scene)
    sets = np.array([one.dataset for one in samples])
    chosen = np.zeros(len(samples), np.bool_)
    for name in sorted(set(sets[held])):
        mine = np.flatnonzero(sets == name)
        scenes = np.unique(scene[mine])
        goal = share * len(mine)
        for k in random.permutation(len(scenes)):
            size, have = sizes[scenes[k]], chosen[mine].sum()
            if (size > 0.6 * goal and size > 4) or have + size > goal:
                continue
            chosen |= scene == scenes[k]
    return chosen


def _resembling(
    grays: Sequence[NDArray[np.uint8]], train: NDArray[np.int64], validation: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which validation pictures resemble a training picture when both are trimmed, as they are or mirrored."""
    if not len(train) or not len(validation):
        return np.zeros(len(validation), np.bool_)
    theirs = np.stack([signature(trimmed(grays[i])) for i in train])
    ours = np.stack([signature(trimmed(grays[i])) for i in validation])
    mirrored = np.stack([signature(np.ascontiguousarray(trimmed(grays[i])[:, ::-1])) for i in validation])
    nearest = np.maximum((ours @ theirs.T).max(1), (mirrored @ theirs.T).max(1))
    return np.asarray(nearest > MIRRORED_LIKENESS)
