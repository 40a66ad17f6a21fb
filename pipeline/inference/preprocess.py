"""From pictures to the network's input, and boxes back to the original frame. NumPy only.

A letterbox keeps the aspect ratio and puts the picture into the top left corner; the rest is padding.
The pictures arrive already scaled (by the decoder, where it is cheapest); here is only what is left:
padding, the order of the channels, float and normalisation (0.3 to 0.6 ms for a float 416x416, a copy for uint8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.detections import Boxes
from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.manifest import InputShape, Manifest, ModelInput

# Of ImageNet, RGB, in 0..255: what most published backbones were trained with.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)

EQUALLY_NEAR = 0.1
"""Aspect ratios whose logarithms differ by less than this serve a picture equally well."""


def choose_shape(manifest: Manifest, source_width: int, source_height: int) -> InputShape:
    """The input shape for pictures of this size.

    Each shape is meant for an aspect ratio (``InputShape.meant_for``). The nearest on a logarithmic scale wins;
    shapes whose distances differ by less than ``EQUALLY_NEAR`` are equal, and of these the manifest's first is taken.
    The measured cost plays no part, so that the same camera gets the same shape on every machine.
    """
    if source_width < 1 or source_height < 1:
        raise ModelError(f"a picture of {source_width}x{source_height} has no shape")
    picture = math.log(source_width / source_height)
    distances = [abs(math.log(shape.meant_for) - picture) for shape in manifest.input.shapes]
    nearest = min(distances)
    return next(
        shape
        for shape, distance in zip(manifest.input.shapes, distances, strict=True)
        if distance < nearest + EQUALLY_NEAR
    )


@dataclass(frozen=True, slots=True)
class InputFit:
    """How pictures of one size go into the network.

    input_width, input_height: of the network's input. width, height: the size a window's picture has to have
    (letterbox: the content without padding, even sides; stretch: the input).
    """

    spec: ModelInput
    input_width: int
    input_height: int
    width: int
    height: int

    def tensor(self, pictures: Sequence[Picture], batch: int | None = None) -> NDArray[Any]:
        """The input for ``pictures`` (each height x width x 3 uint8 RGB), filled up to ``batch`` with empty ones.

        Returns uint8 or float32, B x H x W x 3 or B x 3 x H x W, as the manifest says; a view of the picture where
        there is nothing to do. Raises ModelError for a picture of another size or type.
        """
        return assemble([(self, picture) for picture in pictures], batch or len(pictures))

    def to_source(self, boxes: NDArray[np.float32], width: int, height: int) -> Boxes:
        """Boxes in input pixels to pixels of an original frame of ``width`` x ``height``, clipped to it."""
        x, y = np.float32(width / self.width), np.float32(height / self.height)
        source = boxes * np.array([x, y, x, y], np.float32)
        np.clip(source[:, 0::2], 0, width, out=source[:, 0::2])
        np.clip(source[:, 1::2], 0, height, out=source[:, 1::2])
        return source

    def check(self, picture: Picture) -> None:
        """Raise ModelError unless ``picture`` is height x width x 3 uint8."""
        if picture.shape != (self.height, self.width, 3) or picture.dtype != np.uint8:
            got = "x".join(str(side) for side in picture.shape)
            wanted = f"{self.height}x{self.width}x3 uint8"
            raise ModelError(f"a picture of {got} {picture.dtype} was sent where the model wants {wanted}")

    def scaled(self, picture: Picture) -> NDArray[Any]:
        """The picture in the network's scale and order of channels, height x width x 3; uint8 stays as it is."""
        pixels: NDArray[Any] = picture
        if self.spec.dtype == "float32":
            # Rows as long vectors: NumPy is slow along an axis of 3.
            rows = picture.reshape(self.height, -1).astype(np.float32)
            if self.spec.scale == "0-1":
                rows *= np.float32(1 / 255)
            elif self.spec.scale == "imagenet":
                rows -= np.tile(_MEAN, self.width)
                rows /= np.tile(_STD, self.width)
            pixels = rows.reshape(self.height, self.width, 3)
        return pixels[:, :, ::-1] if self.spec.color == "bgr" else pixels


def assemble(placed: Sequence[tuple[InputFit, Picture]], batch: int) -> NDArray[Any]:
    """One input of ``batch`` pictures of one input shape, which may differ in the size of their content.

    Places beyond the pictures hold padding. Raises ModelError for a picture that is not as its fit says.
    """
    fit_, first = placed[0]
    for each, picture in placed:
        each.check(picture)
    spec, width, height = fit_.spec, fit_.input_width, fit_.input_height
    as_it_is = spec.dtype == "uint8" and spec.layout == "nhwc" and spec.color == "rgb"
    if as_it_is and batch == 1 and (fit_.width, fit_.height) == (width, height):
        return np.ascontiguousarray(first)[None]
    if spec.layout == "nhwc":
        out = channels_last = np.empty((batch, height, width, 3), spec.dtype)
    else:
        out = np.empty((batch, 3, height, width), spec.dtype)
        channels_last = out.transpose(0, 2, 3, 1)
    pad = _pad_pixel(spec)
    for slot, (each, picture) in zip(channels_last, placed, strict=False):
        slot[: each.height, : each.width] = each.scaled(picture)
        slot[each.height :] = pad
        slot[: each.height, each.width :] = pad
    channels_last[len(placed) :] = pad
    return out


def _pad_pixel(spec: ModelInput) -> NDArray[Any]:
    """The padding pixel in the network's order and scale."""
    pixel = np.full(3, spec.pad, np.float32)
    if spec.scale == "0-1":
        pixel *= np.float32(1 / 255)
    elif spec.scale == "imagenet":
        pixel = (pixel - _MEAN) / _STD
    return pixel[::-1] if spec.color == "bgr" else pixel


def fit_shape(spec: ModelInput, shape: InputShape, source_width: int, source_height: int) -> InputFit:
    """How pictures of a size go into one shape."""
    if spec.resize == "stretch":
        return InputFit(spec, shape.width, shape.height, shape.width, shape.height)
    scale = min(shape.width / source_width, shape.height / source_height)
    return InputFit(
        spec,
        shape.width,
        shape.height,
        _even(source_width * scale, shape.width),
        _even(source_height * scale, shape.height),
    )


def fit(manifest: Manifest, source_width: int, source_height: int) -> InputFit:
    """The chosen shape and the size of the pictures for it."""
    return fit_shape(manifest.input, choose_shape(manifest, source_width, source_height), source_width, source_height)


def _even(side: float, limit: int) -> int:
    """The nearest even number of pixels (4:2:0 chroma has half of them) within 2..limit."""
    return max(2, min(round(side / 2) * 2, limit - limit % 2))
