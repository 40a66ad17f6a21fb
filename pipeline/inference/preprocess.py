"""From pictures to the network's input, and boxes back to the original frame. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.detections import Boxes
from pipeline.core.frame import Picture
from pipeline.inference.manifest import InputShape, Manifest, ModelInput


def choose_shape(manifest: Manifest, source_width: int, source_height: int) -> InputShape:
    """The input shape for pictures of this size.

    Each shape is meant for an aspect ratio (``InputShape.meant_for``). The nearest on a logarithmic scale wins;
    shapes whose distances differ by less than 0.1 (10 %) are equally near, and of these the manifest's first is taken.
    """
    raise NotImplementedError


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
        """The input for ``pictures`` (each height x width x 3 uint8 RGB), padded with empty ones to ``batch``.

        Returns uint8 B x H x W x 3 or float32 B x 3 x H x W (or as the manifest says); a view where nothing is to do.
        """
        raise NotImplementedError

    def to_source(self, boxes: NDArray[np.float32], width: int, height: int) -> Boxes:
        """Boxes in input pixels to pixels of an original frame of ``width`` x ``height``, clipped to it."""
        raise NotImplementedError


def fit(manifest: Manifest, source_width: int, source_height: int) -> InputFit:
    """The chosen shape and the size of the pictures for it."""
    raise NotImplementedError
