"""Labelled pictures for the classifier: read, divided by scene, varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch.utils.data import Dataset
from tqdm import tqdm

from pipeline.errors import ConfigError
from training.annotations import Item, read_labelled
from training.scenes import signature

FRAMES_A_CLIP = 8
KEPT = 2
"""Pictures are kept in memory at so many times the input's sides, for crops."""
LIKENESS = 0.6
"""Of edges, above which two pictures of unknown scene show the same one."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """image: H x W x 3 uint8 RGB, at ``KEPT`` times the input. label: index of its class. scene: a number."""

    image: Image
    label: int
    scene: int


@dataclass(frozen=True, slots=True)
class PictureSet:
    """All pictures, their classes in alphabetical order, and the names of the scenes."""

    pictures: tuple[Picture, ...]
    classes: tuple[str, ...]
    scenes: tuple[str, ...]

    def of(self, scenes: frozenset[int], *, inside: bool) -> list[Picture]:
        """The pictures whose scene is (or is not) among ``scenes``."""
        return [each for each in self.pictures if (each.scene in scenes) == inside]


def read_pictures(data: Path, root: Path | None, shape: tuple[int, int], *, show: bool = False) -> PictureSet:
    """Read a folder per class or a list. shape: width and height of the input.

    A clip gives ``FRAMES_A_CLIP`` frames, evenly spaced. Pictures whose scene is not named are joined into scenes by
    the likeness of their edges. Raises ConfigError for a set that cannot be trained on.
    """
    items = read_labelled(data, root).strict()
    if not items or any(each.label is None for each in items):
        raise ConfigError(f"{data}: does not say what each picture shows", mend="a folder per class, or a list .csv")
    classes = tuple(sorted({each.label for each in items if each.label is not None}))
    if len(classes) < 2:
        raise ConfigError(f"{data}: all of it is {classes[0]!r}: there is nothing to tell apart")
    images: list[Image] = []
    owners: list[int] = []
    for i, item in enumerate(tqdm(items, desc="reading", unit="file", leave=False, disable=not show)):
        for frame in _frames(item):
            images.append(_kept(frame, shape))
            owners.append(i)
    scene_of, scenes = _scenes([items[i] for i in owners], images)
    pictures = tuple(
        Picture(image, classes.index(items[i].label or ""), scene)
        for image, i, scene in zip(images, owners, scene_of, strict=True)
    )
    return PictureSet(pictures, classes, scenes)


def divide(data: PictureSet, share: float, seed: int) -> frozenset[int]:
    """Scenes for validation: of each class about ``share`` of its scenes, at least one. A scene stays on one side.

    Raises ConfigError for a class of a single scene: nothing of it could be validated.
    """
    random = np.random.default_rng(seed)
    chosen: set[int] = set()
    for label, name in enumerate(data.classes):
        scenes = sorted({each.scene for each in data.pictures if each.label == label})
        if len(scenes) < 2:
            raise ConfigError(f"class {name!r} has a single scene", mend="add pictures of other cameras or places")
        wanted = max(1, round(share * len(scenes))) - len(chosen & set(scenes))
        free = [each for each in scenes if each not in chosen]
        chosen |= {int(each) for each in random.permutation(free)[: max(0, wanted)]}
    for label, name in enumerate(data.classes):
        if not any(each.label == label and each.scene not in chosen for each in data.pictures):
            raise ConfigError(f"class {name!r} has no scene left to train on", mend="add pictures of other places")
    return frozenset(chosen)


def folds(data: PictureSet, count: int, seed: int) -> list[frozenset[int]]:
    """The scenes in ``count`` parts, those of each class spread over them evenly."""
    random = np.random.default_rng(seed)
    parts: list[set[int]] = [set() for _ in range(count)]
    for label in range(len(data.classes)):
        taken = set().union(*parts)
        scenes = sorted({each.scene for each in data.pictures if each.label == label} - taken)
        for i, scene in enumerate(random.permutation(scenes).tolist()):
            parts[i % count].add(int(scene))
    return [frozenset(each) for each in parts]


class VariedPictures(Dataset[tuple[torch.Tensor, int]]):
    """``count`` pictures, a function of (seed, epoch, index): classes equally often, within one its scenes too."""

    def __init__(self, pictures: Sequence[Picture], shape: tuple[int, int], *, count: int, seed: int) -> None:
        self.epoch = 0
        self._pictures, self._shape, self._count, self._seed = pictures, shape, count, seed
        self._by_class: list[list[list[int]]] = []
        for label in sorted({each.label for each in pictures}):
            mine: dict[int, list[int]] = {}
            for i, each in enumerate(pictures):
                if each.label == label:
                    mine.setdefault(each.scene, []).append(i)
            self._by_class.append(list(mine.values()))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        random = np.random.default_rng((self._seed, self.epoch, index))
        scenes = self._by_class[int(random.integers(len(self._by_class)))]
        scene = scenes[int(random.integers(len(scenes)))]
        picture = self._pictures[scene[int(random.integers(len(scene)))]]
        varied = vary(picture.image, self._shape, random)
        return torch.from_numpy(np.ascontiguousarray(varied.transpose(2, 0, 1))), picture.label


def vary(image: Image, shape: tuple[int, int], random: np.random.Generator) -> Image:
    """Crop, mirror, colour, exposure, grey (as infrared cameras send), blur, noise, each sometimes."""
    height, width = image.shape[:2]
    share = random.uniform(0.6, 1.0)
    h, w = max(2, int(height * share)), max(2, int(width * random.uniform(0.85, 1.15) * share))
    w = min(w, width)
    top, left = int(random.integers(height - h + 1)), int(random.integers(width - w + 1))
    image = np.asarray(cv2.resize(image[top : top + h, left : left + w], shape, interpolation=cv2.INTER_AREA), np.uint8)
    if random.random() < 0.5:
        image = image[:, ::-1]
    pixels: NDArray[Any] = image.astype(np.float32)
    if random.random() < 0.6:  # little: how bright a picture is says much of what it shows
        pixels = 255 * (pixels / 255) ** random.uniform(0.85, 1.2) * random.uniform(0.85, 1.15)
        pixels *= random.uniform(0.9, 1.1, 3).astype(np.float32)
    grey = pixels.mean(2, keepdims=True)
    pixels = np.repeat(grey, 3, 2) if random.random() < 0.25 else grey + (pixels - grey) * random.uniform(0.5, 1.4)
    if random.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.3, 1.2))
    if random.random() < 0.5:
        noise = random.standard_normal(pixels.shape, np.float32)
        pixels = pixels + noise * np.float32(random.uniform(1, 10))
    return np.asarray(pixels.clip(0, 255), np.uint8)


def read_frames(path: Path, count: int) -> list[Image]:
    """``count`` frames of a clip, evenly spaced, H x W x 3 uint8 RGB. Raises ConfigError when it shows nothing."""
    capture = cv2.VideoCapture(str(path))
    total = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = {int((i + 0.5) * total / count) for i in range(count)}
    found: list[Image] = []
    for number in range(max(wanted) + 1):
        if not capture.grab():
            break
        if number in wanted:
            good, frame = capture.retrieve()
            if good:
                found.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
    capture.release()
    if not found:
        raise ConfigError(f"{path}: cannot be read as a clip", mend="remove it from the set or mend it")
    return found


def _frames(item: Item) -> list[Image]:
    if item.is_clip:
        return [without_bars(each) for each in read_frames(item.path, FRAMES_A_CLIP)]
    picture = cv2.imread(str(item.path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"{item.path}: cannot be read as a picture", mend="remove it from the set or mend it")
    return [without_bars(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))]


def without_bars(image: Image) -> Image:
    """The picture without black bars at its sides: cameras do not send them, and they look like night."""
    bright = image.max(2)
    rows, columns = np.flatnonzero(bright.max(1) > 24), np.flatnonzero(bright.max(0) > 24)
    if len(rows) < 16 or len(columns) < 16:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _kept(image: Image, shape: tuple[int, int]) -> Image:
    size = (KEPT * shape[0], KEPT * shape[1])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _scenes(items: Sequence[Item], images: Sequence[Image]) -> tuple[list[int], tuple[str, ...]]:
    """The scene of each picture, and the scenes' names. A named scene is one, whatever it looks like."""
    names: dict[str, int] = {}
    numbers = [names.setdefault(item.scene, len(names)) if item.scene else -1 for item in items]
    loose = [i for i, number in enumerate(numbers) if number < 0]
    if loose:
        edges = np.stack([signature(np.asarray(cv2.cvtColor(images[i], cv2.COLOR_RGB2GRAY), np.uint8)) for i in loose])
        alike = edges @ edges.T > LIKENESS
        known: dict[Path, int] = {}
        paths = np.array([known.setdefault(items[i].path, len(known)) for i in loose])  # frames of a clip: one scene
        _, parts = connected_components(alike | (paths[:, None] == paths[None]), directed=False)
        for i, part in zip(loose, parts.tolist(), strict=True):
            numbers[i] = names.setdefault(f"scene {part + 1}", len(names))
    return numbers, tuple(names)
