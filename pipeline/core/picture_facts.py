"""What a glance at a picture tells of the camera's condition: brightness by cell, and fine detail by cell. NumPy only.

Only the green channel is looked at: it is most of the luminance, and the others say little more about a covered lens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.frame import Picture

CELLS_ACROSS = 52
"""About so many cells stand side by side: 8 pixels each in a picture 416 wide."""
GRAY_ONE = 256
"""One gray level in ``PictureFacts.gray``."""


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Facts of one picture.

    gray: R x C uint16, mean brightness of each cell, 0..255 in units of 1/256.
    detail: float32, half as many each way (or one less), mean square of the difference between diagonal neighbours in
    each two by two cells, in gray levels squared: what is lost first when a lens goes out of focus.
    """

    gray: NDArray[np.uint16]
    detail: NDArray[np.float32]


def picture_facts(picture: Picture) -> PictureFacts:
    """The facts of ``picture`` (H x W x 3 uint8 RGB).

    Cells are squares of whole pixels, about 52 across; what is left over at the right and at the bottom is not looked
    at. A picture with a side under two cells has empty arrays.
    """
    side = max(1, round(picture.shape[1] / CELLS_ACROSS))
    green = picture[..., 1].astype(np.float32)
    gray = _cell_sums(green, side) * np.float32(GRAY_ONE / side**2)
    step = green[1:, 1:] - green[:-1, :-1]
    step *= step
    detail = _cell_sums(step, 2 * side) / np.float32(4 * side**2)
    return PictureFacts((gray + np.float32(0.5)).astype(np.uint16), detail)


def _cell_sums(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    rows, columns = values.shape[0] // side, values.shape[1] // side
    strips: NDArray[Any] = values[: rows * side].reshape(rows, side, values.shape[1]).sum(axis=1)
    sums: NDArray[np.float32] = strips[:, : columns * side].reshape(rows, columns, side).sum(axis=2)
    return sums
