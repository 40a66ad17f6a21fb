"""How good a classifier is: by class, by scene, and beside the plainest rule there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.classifier.pictures import Picture, PictureSet


@dataclass(frozen=True, slots=True)
class ClassifierScore:
    """One model on one set of pictures.

    accuracy: the mean over the classes of the share that is right (a class of few pictures weighs as much).
    scene_accuracy: the same over (class, scene) pairs: a scene of many pictures weighs as much as one of few.
    by_scene: "class, scene" -> share right, pictures. brightness: scene_accuracy of the best threshold on the mean of
    a picture, chosen on these very pictures: two classes only, else nan. version, sha256: of the very file that was
    scored (empty: no file was), so that ``passerby models promote --gate`` knows whose the figures are.
    """

    model: str
    pictures: int
    accuracy: float
    scene_accuracy: float
    by_class: dict[str, float]
    by_scene: dict[str, tuple[float, int]]
    brightness: float
    version: str = ""
    sha256: str = ""
    task: str = "classification"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score_answers(
    name: str, told: NDArray[np.float32], pictures: Sequence[Picture], data: PictureSet, of: tuple[str, str] = ("", "")
) -> ClassifierScore:
    """told: N x C probabilities of ``pictures``, which are some of ``data``'s. of: version and sha256 of a file."""
    right = told.argmax(1) == np.array([each.label for each in pictures])
    by_scene = _by_scene(right, pictures, data)
    labels = np.array([each.label for each in pictures])
    by_class = {data.classes[k]: float(right[labels == k].mean()) for k in np.unique(labels)}
    return ClassifierScore(
        name,
        len(pictures),
        float(np.mean(list(by_class.values()))),
        _mean_of_classes(by_scene, data),
        by_class,
        by_scene,
        _brightness(pictures, data),
        *of,
    )


def table(score: ClassifierScore, most: int = 60) -> str:
    """The score as Markdown, the worst scenes first."""
    lines = [
        f"{score.model}: {score.pictures} pictures; right, mean of the classes: {score.accuracy:.3f}; "
        f"mean of the scenes: {score.scene_accuracy:.3f} (a threshold on brightness: {score.brightness:.3f})",
        "",
        "| class, scene | right | pictures |",
        "| --- | --- | --- |",
    ]
    worst = sorted(score.by_scene.items(), key=lambda each: (each[1][0], each[0]))
    lines += [f"| {name} | {right:.2f} | {count} |" for name, (right, count) in worst[:most]]
    return "\n".join(lines)


def _by_scene(right: NDArray[np.bool_], pictures: Sequence[Picture], data: PictureSet) -> dict[str, tuple[float, int]]:
    found: dict[str, list[bool]] = {}
    for good, each in zip(right.tolist(), pictures, strict=True):
        found.setdefault(f"{data.classes[each.label]}, {data.scenes[each.scene]}", []).append(good)
    return {name: (float(np.mean(each)), len(each)) for name, each in sorted(found.items())}


def _mean_of_classes(by_scene: dict[str, tuple[float, int]], data: PictureSet) -> float:
    of_class = [[right for key, (right, _) in by_scene.items() if key.startswith(f"{name}, ")] for name in data.classes]
    return float(np.mean([np.mean(each) for each in of_class if each]))


def _brightness(pictures: Sequence[Picture], data: PictureSet) -> float:
    if len(data.classes) != 2:
        return float("nan")
    bright = np.array([each.image.mean() for each in pictures])
    labels = np.array([each.label for each in pictures])
    best = 0.0
    for limit in np.unique(bright):
        for sign in (True, False):
            right = ((bright >= limit) == sign) == (labels == 0)
            best = max(best, _mean_of_classes(_by_scene(right, pictures, data), data))
    return best
