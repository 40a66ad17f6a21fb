"""What training pictures go through: mosaics, scale, aspect, mirror, colour, night, blur, JPEG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.datasets import ANY_VEHICLE, PERSON, VEHICLES, Boxes, DataSpec, Sample
from training.losses import Targets

PAD = 114
LARGEST_PX = 640

Image = NDArray[np.uint8]
Rect = tuple[int, int, int, int]


class Example(NamedTuple):
    """One training picture. image: 3 x H x W uint8 BGR. boxes: N x 4 xyxy pixels. known: A x C bool."""

    image: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor


class AugmentedPictures(Dataset[Example]):
    """``count`` pictures, a function of (seed, epoch, index): workers and restarts change nothing.

    shapes: (width, height) of the input and how often each is drawn; a batch has one shape. strides: of the network.
    turned: how often a picture of people alone is laid on its side, so that people who lie are learned, too.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: DataSpec,
        shapes: dict[tuple[int, int], float],
        *,
        count: int,
        batch: int,
        seed: int,
        strides: tuple[int, ...],
        turned: float = 0.0,
    ) -> None:
        self._samples = samples
        self._strides = strides
        self._turned = turned
        self._shapes = list(shapes)
        self._odds = np.array(list(shapes.values())) / sum(shapes.values())
        weights = np.array([spec.by_name[one.dataset].weight for one in samples])
        self._weights = weights / weights.sum()
        self._count, self._batch, self._seed = count, batch, seed
        self.epoch = 0
        self._packed = [_packed(one.read()) for one in samples]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        of_batch = np.random.default_rng((self._seed, self.epoch, 1, index // self._batch))
        random = np.random.default_rng((self._seed, self.epoch, 0, index))
        width, height = self._shapes[of_batch.choice(len(self._shapes), p=self._odds)]
        canvas = np.full((height, width, 3), PAD, np.uint8)
        owner = np.full((height, width), -1, np.int64)
        boxes, labels, known, unsaid = [], [], [], []
        for number, (rect, scale) in enumerate(_layout(width, height, random)):
            k = int(random.choice(len(self._samples), p=self._weights))
            sample = self._samples[k]
            image = np.asarray(cv2.imdecode(self._packed[k], cv2.IMREAD_COLOR), np.uint8)
            if self._turned and shows_people_alone(sample) and random.random() < self._turned:
                image, sample = on_its_side(image, sample, left=random.random() < 0.5)
            kept, rows = _place(canvas, owner, number, rect, scale, (image, sample), random)
            objects, told = ~sample.ignored[rows], sample.labels[rows]
            boxes.append(kept[objects])
            labels.append(told[objects])
            unsaid += list(zip(kept[~objects], told[~objects].tolist(), strict=True))
            known.append(sample.known)
        everything = np.ones(len(known[0]), np.bool_)  # owner -1: padding holds nothing of any class
        x, y = cell_centers(width, height, self._strides)
        known_there = np.array([*known, everything])[owner[y, x]]
        for (left, top, right, bottom), label in unsaid:
            inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
            known_there[np.ix_(inside, VEHICLES if label == ANY_VEHICLE or label in VEHICLES else (label,))] = False
        return Example(
            torch.from_numpy(np.ascontiguousarray(distort(canvas, random).transpose(2, 0, 1))),
            torch.from_numpy(np.concatenate(boxes)),
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(known_there),
        )


def collate(examples: list[Example]) -> tuple[torch.Tensor, Targets]:
    """B x 3 x H x W uint8, and what it shows."""
    images = torch.stack([each.image for each in examples])
    known = torch.stack([each.known for each in examples])
    return images, Targets([each.boxes for each in examples], [each.labels for each in examples], known)


def shows_people_alone(sample: Sample) -> bool:
    """Whether it has people, and nothing else that is labelled: a car on its side teaches nothing."""
    return len(sample.labels) > 0 and bool((sample.labels == PERSON).all())


def on_its_side(image: Image, sample: Sample, *, left: bool) -> tuple[Image, Sample]:
    """A picture turned by a quarter, to the left or to the right, and its boxes: who stood there lies."""
    x_min, y_min, x_max, y_max = sample.boxes.T
    sides = (y_min, 1 - x_max, y_max, 1 - x_min) if left else (1 - y_max, x_min, 1 - y_min, x_max)
    turned = np.ascontiguousarray(np.rot90(image, 1 if left else -1))
    return turned, replace(sample, boxes=np.stack(sides, 1).astype(np.float32))


def _packed(image: Image) -> Image:
    """As JPEG in memory, no larger than needed: some thousand pictures as arrays take gigabytes."""
    scale = LARGEST_PX / max(image.shape[:2])
    if scale < 1:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], np.uint8)


def _layout(width: int, height: int, random: np.random.Generator) -> Iterator[tuple[Rect, float]]:
    """Where pictures go and at which scale: four around a random point, or one."""
    if random.random() < 0.5:
        x, y = int(width * random.uniform(0.3, 0.7)), int(height * random.uniform(0.3, 0.7))
        for rect in ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)):
            yield rect, random.uniform(0.4, 1.0)
    else:
        yield (0, 0, width, height), random.uniform(0.6, 1.5) if random.random() < 0.7 else 1.0


def _place(
    canvas: Image,
    owner: NDArray[np.int64],
    number: int,
    rect: Rect,
    scale: float,
    source: tuple[Image, Sample],
    random: np.random.Generator,
) -> tuple[Boxes, NDArray[np.int64]]:
    """Draw a picture into its rectangle; the boxes that are left (pixels of the canvas) and their rows."""
    image, sample = source
    boxes = sample.boxes
    if random.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
    left, top, right, bottom = rect
    fit = min(canvas.shape[1] / image.shape[1], canvas.shape[0] / image.shape[0]) * scale
    width = max(8, round(image.shape[1] * fit * random.uniform(0.92, 1.09)))
    height = max(8, round(image.shape[0] * fit))
    how = cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
    x, y = _offset(right - left - width, random), _offset(bottom - top - height, random)
    x0, y0 = left + max(0, x), top + max(0, y)
    x1, y1 = min(right, left + x + width), min(bottom, top + y + height)
    canvas[y0:y1, x0:x1] = image[y0 - top - y : y1 - top - y, x0 - left - x : x1 - left - x]
    owner[y0:y1, x0:x1] = number
    placed = boxes * np.array([width, height] * 2, np.float32) + np.array([left + x, top + y] * 2, np.float32)
    return _clipped(placed, sample.ignored, (x0, y0, x1, y1))


def _offset(room: int, random: np.random.Generator) -> int:
    return int(random.integers(min(0, room), max(0, room) + 1))


def _clipped(boxes: Boxes, ignored: NDArray[np.bool_], rect: Rect) -> tuple[Boxes, NDArray[np.int64]]:
    """The boxes of which a quarter or more is seen (of a region: anything), cut to what is seen, and their rows."""
    left, top, right, bottom = rect
    seen = boxes.copy()
    seen[:, 0::2] = seen[:, 0::2].clip(left, right)
    seen[:, 1::2] = seen[:, 1::2].clip(top, bottom)
    before, after = boxes[:, 2:] - boxes[:, :2], seen[:, 2:] - seen[:, :2]
    enough = (after.prod(1) > 0.25 * before.prod(1)) & (after[:, 0] > 2) & (after[:, 1] > 3)
    enough |= ignored & (after > 0).all(1)
    return seen[enough].astype(np.float32), np.flatnonzero(enough)


def cell_centers(width: int, height: int, strides: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of the pixel at each cell's centre, in the network's order of cells; the last one where a cell sticks
    out."""
    xs, ys = [], []
    for stride in strides:
        rows = np.minimum(np.arange(-(-height // stride)) * stride + stride // 2, height - 1)
        columns = np.minimum(np.arange(-(-width // stride)) * stride + stride // 2, width - 1)
        xs.append(np.tile(columns, len(rows)))
        ys.append(np.repeat(rows, len(columns)))
    return np.concatenate(xs), np.concatenate(ys)


def distort(image: Image, random: np.random.Generator) -> Image:
    """Colour, grey, night (gamma, dimming, noise), blur, JPEG, each sometimes. H x W x 3 uint8 BGR."""
    if random.random() < 0.8:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + random.uniform(-6, 6)) % 180
        hsv[..., 1] = (hsv[..., 1] * random.uniform(0.5, 1.5)).clip(0, 255)
        hsv[..., 2] = (hsv[..., 2] * random.uniform(0.6, 1.4)).clip(0, 255)
        image = np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR), np.uint8)
    if random.random() < 0.1:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    if random.random() < 0.12:
        image = darkened(image, random, random.uniform(1.5, 2.6), random.uniform(0.4, 0.9), random.uniform(3, 12))
    if random.random() < 0.12:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.4)), np.uint8)
    if random.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 85))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return image


def darkened(image: Image, random: np.random.Generator, gamma: float, light: float, noise: float) -> Image:
    """A night of sorts: shadows deepened by ``gamma``, dimmed to ``light`` of 1, a sensor's ``noise`` (sd, 0..255)."""
    dark = 255 * (image / 255.0) ** gamma * light
    return np.asarray((dark + random.normal(0, noise, image.shape)).clip(0, 255), np.uint8)
