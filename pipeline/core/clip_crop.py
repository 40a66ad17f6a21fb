"""One crop for a whole clip: where people are and things move.

A scene model looks at a part of the picture only, so that an act fills what it sees, and at the same part in every
frame of a clip: the differences from frame to frame then come from what moves, not from a crop that moves. Training
and the pipeline cut by this one rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.core.frame import Picture

Crop = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0..1 of the picture."""

BLOCK_PX = 4
"""Side of the squares of a picture that one cell of the grid stands for."""

_ANYWHERE = 0.05
"""Weight of motion where nobody was found, so that a clip without a box is cut by its motion alone."""


def gray_grid(picture: Picture) -> NDArray[np.uint8]:
    """The picture's green channel (near enough to luma), as means over squares of ``BLOCK_PX``: gh x gw uint8.

    What is left over at the right and bottom edge is not looked at. The picture is at least one square large.
    """
    rows, columns = picture.shape[0] // BLOCK_PX, picture.shape[1] // BLOCK_PX
    green = np.ascontiguousarray(picture[: rows * BLOCK_PX, : columns * BLOCK_PX, 1])
    lines = green.reshape(rows, BLOCK_PX, columns * BLOCK_PX)
    tall = lines[:, 0].astype(np.uint16)  # added line by line: half the time of a sum over so short an axis
    for n in range(1, BLOCK_PX):
        tall += lines[:, n]
    sums = tall[:, ::BLOCK_PX].copy()
    for n in range(1, BLOCK_PX):
        sums += tall[:, n::BLOCK_PX]
    grid: NDArray[np.uint8] = (sums // (BLOCK_PX * BLOCK_PX)).astype(np.uint8)
    return grid


def clip_weights(
    grays: NDArray[np.uint8],
    boxes: Sequence[NDArray[np.float32]],
    scores: Sequence[NDArray[np.float32]],
    *,
    persons: bool = True,
) -> NDArray[np.float32]:
    """How much a clip's cells are worth looking at: presence of people x motion, gh x gw float32, not negative.

    grays: T x gh x gw, as ``gray_grid`` gives them, T from 1 up. boxes, scores: of the people in each frame, n x 4 xyxy
    in 0..1 and n. persons: False leaves them out (motion alone).
    """
    frames, rows, columns = grays.shape
    motion = np.zeros((rows, columns), np.float32)
    if frames > 1:
        motion = np.abs(np.diff(grays.astype(np.int16), axis=0)).mean(0, dtype=np.float32)
    if not persons:
        return motion
    present = np.zeros((rows, columns), np.float32)
    every, sure = np.concatenate([*boxes]), np.concatenate([*scores])
    across = _ramp(columns, every[:, 0], every[:, 2])
    down = _ramp(rows, every[:, 1], every[:, 3]) * sure[:, None]
    ends = np.cumsum([len(each) for each in boxes]).tolist()
    for start, end in pairwise([0, *ends]):
        if end > start:
            present += down[start:end].T @ across[start:end]
    weights: NDArray[np.float32] = (present / frames + np.float32(_ANYWHERE)) * motion
    return weights


def best_crop(
    weights: NDArray[np.float32], width: float, height: float, last: Crop | None = None, keep: float = 1.0
) -> Crop:
    """The crop of ``width`` x ``height`` (0..1 of the picture) that holds the most weight, its middle counted twice.

    Counting the middle twice puts a small act into the centre. last: the crop before this one, which is kept while it
    holds at least ``keep`` of what the best place holds. Where nothing weighs anything: last, or the centre.
    """
    rows, columns = weights.shape
    if not weights.any():
        return last or ((1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2)
    held = held_weights(weights, width, height)
    y, x = divmod(int(held.argmax()), held.shape[1])
    if last is not None:
        at = min(held.shape[0] - 1, round(last[1] * rows)), min(held.shape[1] - 1, round(last[0] * columns))
        if held[at] >= keep * held[y, x]:
            return last
    return crop_at(y, x, weights, width, height)


def held_weights(weights: NDArray[np.float32], width: float, height: float) -> NDArray[np.float64]:
    """What a crop of ``width`` x ``height`` holds at every place for it, its middle counted twice, float64.

    [y, x]: of the crop whose top left corner is that of cell y, x of the weights.
    """
    rows, columns = weights.shape
    table = np.zeros((rows + 1, columns + 1), np.float64)
    table[1:, 1:] = weights.astype(np.float64).cumsum(0).cumsum(1)
    return _held(table, _cells(height, rows), _cells(width, columns))


def crop_at(y: int, x: int, weights: NDArray[np.float32], width: float, height: float) -> Crop:
    """The crop at a place of ``held_weights``."""
    rows, columns = weights.shape
    left, top = min(x / columns, 1 - width), min(y / rows, 1 - height)
    return left, top, left + width, top + height


def crop_pixels(crop: Crop, width: int, height: int) -> tuple[int, int, int, int]:
    """The crop in whole pixels of a picture: x0, y0, x1, y1. Crops of one size have one size in pixels, wherever."""
    wide = min(width, max(1, round((crop[2] - crop[0]) * width)))
    tall = min(height, max(1, round((crop[3] - crop[1]) * height)))
    x = min(max(0, round(crop[0] * width)), width - wide)
    y = min(max(0, round(crop[1] * height)), height - tall)
    return x, y, x + wide, y + tall


def cut(picture: Picture, crop: Crop) -> Picture:
    """The crop of a picture, a view of its pixels."""
    x0, y0, x1, y1 = crop_pixels(crop, picture.shape[1], picture.shape[0])
    return picture[y0:y1, x0:x1]


def _cells(share: float, cells: int) -> int:
    return min(cells, max(1, round(share * cells)))


def _ramp(cells: int, low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """n x cells: 1 in the inner three quarters of each stretch, falling to 0 an eighth of its length outside of it."""
    middles = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(cells)
    half = np.maximum((high - low) / 2, np.float32(0.5 / cells))[:, None]
    away = np.abs(middles[None] - ((low + high) / 2)[:, None]) / half
    return np.clip((np.float32(1.25) - away) / np.float32(0.5), 0, 1)


def _held(table: NDArray[np.float64], tall: int, wide: int) -> NDArray[np.float64]:
    """What every place for a window of tall x wide cells holds, the middle half counted twice (summed-area table)."""

    def sums(top: int, left: int, height: int, width: int) -> NDArray[np.float64]:
        rows, columns = table.shape[0] - tall, table.shape[1] - wide
        bottom, right = top + height, left + width
        return (
            table[bottom : bottom + rows, right : right + columns]
            - table[top : top + rows, right : right + columns]
            - table[bottom : bottom + rows, left : left + columns]
            + table[top : top + rows, left : left + columns]
        )

    inner_tall, inner_wide = max(1, tall // 2), max(1, wide // 2)
    inner = sums((tall - inner_tall) // 2, (wide - inner_wide) // 2, inner_tall, inner_wide)
    return sums(0, 0, tall, wide) + inner
