"""Which parts of a picture a network's answer came from: Grad-CAM, as a picture.

Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017. The
maps of the last convolutions are weighted by how much the score would grow with them; what speaks for it is warm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.core.classes import group_of
from pipeline.errors import UsageError
from pipeline.inference.classifier import stretched
from training.classifier.network import Classifier
from training.datasets import CLASSES
from training.models.network import Network, rows_of

TOP = 20
"""Cells of a detector that count: the score explained is the sum of theirs."""

Image = NDArray[np.uint8]
Heat = NDArray[np.float32]


def classifier_heat(network: Classifier, image: Image, shape: tuple[int, int], label: int) -> Heat:
    """H x W float32 0..1: where class ``label`` comes from. image: H x W x 3 uint8 RGB. shape: the input's."""
    network.eval()
    fed = torch.from_numpy(stretched(image, *shape).copy()).permute(2, 0, 1)[None].float()
    maps = network.convolutions(fed / 127.5 - 1).detach().requires_grad_()
    logits = network.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
    (gradient,) = torch.autograd.grad(logits[0, label], maps)
    return _sized(weighted(maps, gradient), image)


def detector_heat(network: Network, image: Image, shape: tuple[int, int], group: str) -> Heat:
    """H x W float32 0..1: where the likeliest objects of a group come from, all levels together."""
    columns = [i for i, name in enumerate(CLASSES) if group_of(name) == group]
    if not columns:
        raise UsageError(f"{group!r} is no group", mend="person or vehicle")
    network.eval()
    fed = torch.from_numpy(cv2.resize(image, shape, interpolation=cv2.INTER_AREA)[:, :, ::-1].copy())
    features = network.features(network.stem(fed.permute(2, 0, 1)[None].float()))
    maps = [each.detach().requires_grad_() for each in features]
    scores = network.log_scores_of(rows_of(network.levels(tuple(maps))))[0][:, columns].exp().amax(1)
    gradients = torch.autograd.grad(scores.topk(min(TOP, len(scores))).values.sum(), maps)
    heats = [
        functional.interpolate(weighted(one, gradient)[None, None], maps[0].shape[-2:], mode="bilinear")[0, 0]
        for one, gradient in zip(maps, gradients, strict=True)
    ]
    return _sized(torch.stack(heats).sum(0), image)


def weighted(maps: Tensor, gradient: Tensor) -> Tensor:
    """h x w: the maps (1 x C x h x w) summed by their mean gradients, what speaks against it left out."""
    return functional.relu((maps * gradient.mean((2, 3), keepdim=True)).sum(1))[0].detach()


def overlaid(image: Image, heat: Heat, caption: str) -> Image:
    """The picture and, beside it, the same under its heat, with a caption. H x 2W x 3 uint8 RGB."""
    warm = cv2.applyColorMap(np.asarray(heat * 255, np.uint8), cv2.COLORMAP_TURBO)[:, :, ::-1]
    mixed = np.asarray(cv2.addWeighted(image, 0.55, np.ascontiguousarray(warm), 0.45, 0), np.uint8)
    both = np.ascontiguousarray(np.hstack([image, mixed]))
    scale = max(0.4, image.shape[0] / 700)
    for color, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(both, caption, (8, int(28 * scale) + 6), cv2.FONT_HERSHEY_SIMPLEX, scale, color, width, cv2.LINE_AA)
    return np.asarray(both, np.uint8)


def explain(checkpoint: Path, files: Sequence[Path], out: Path, label: str | None = None) -> list[Path]:
    """Write a picture a file. label: of a classifier a class (default: the likeliest), of a detector a group."""
    from training.classifier.trainer import load_classifier
    from training.trainer import load_weights, task_of

    written = []
    is_classifier = task_of(checkpoint) == "classification"
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        image = _read(file)
        if is_classifier:
            network, state = load_classifier(checkpoint)
            shape, classes = tuple(state["recipe"]["shape"]), list(state["classes"])
            if label is not None and label not in classes:
                raise UsageError(f"--label {label!r} is no class of it", mend=f"one of {', '.join(classes)}")
            fed = torch.from_numpy(stretched(image, *shape).copy()).permute(2, 0, 1)[None].float()
            with torch.no_grad():
                told = network(fed).softmax(1)[0]
            number = classes.index(label) if label is not None else int(told.argmax())
            heat = classifier_heat(network, image, (shape[0], shape[1]), number)
            caption = f"{classes[number]} {float(told[number]):.2f}"
        else:
            caption = label or "person"
            heat = detector_heat(load_weights(checkpoint), image, _detector_shape(image), caption)
        path = out / f"{file.stem}.png"
        cv2.imwrite(str(path), overlaid(image, heat, caption)[:, :, ::-1])
        written.append(path)
    return written


def _detector_shape(image: Image) -> tuple[int, int]:
    """Multiples of 32 near the picture's aspect ratio, 416 wide."""
    return 416, max(32, round(416 * image.shape[0] / image.shape[1] / 32) * 32)


def _sized(heat: Tensor, image: Image) -> Heat:
    most = float(heat.max())
    plain = (heat / most if most > 0 else heat).numpy()
    sized = cv2.resize(plain, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(sized.clip(0, 1), np.float32)


def _read(file: Path) -> Image:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"{file}: cannot be read as a picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
