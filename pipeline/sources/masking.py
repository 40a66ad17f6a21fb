"""Privacy masks: polygons painted black on the small picture, wide enough that nothing of what is under them shows.

A pixel of the scaled picture is made of a neighbourhood of source pixels, and its colour of a still wider one: chroma
is halved in the source (4:2:0), averaged by the scaler, and halved again in the scaled picture. So the mask is grown
by the reach of that neighbourhood (``reach_px``) before it is painted. tests/sources/test_masking.py changes what is
under masks and asks that no byte of any picture changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.frame import Picture
from pipeline.core.rules import Point


def reach_px(source_side: int, picture_side: int) -> float:
    """How far, in pixels of the picture, a source pixel's colour can spread along one axis.

    Reducing, the scaler's filter reaches a pixel of the picture; enlarging, about two pixels of the source; halved
    chroma doubles both. The factors are the smallest tried that let nothing through.
    """
    scale = picture_side / source_side
    return 2.0 + 2.5 * scale


def mask_pixels(
    polygons: Sequence[Sequence[Point]], width: int, height: int, reach: tuple[float, float]
) -> NDArray[np.intp]:
    """Flat indices (rising) of the pixels of a ``width`` x ``height`` picture that the polygons cover.

    polygons: points in 0..1 of the picture; may be concave or cross themselves (even-odd rule) and reach outside.
    reach: growth in pixels, (horizontal, vertical).
    """
    covered = np.zeros((height, width), dtype=bool)
    # Work in units of the reach, where growth is the same in both directions; half a pixel's diagonal belongs to it.
    unit_x, unit_y = reach[0] + 0.5, reach[1] + 0.5
    x = ((np.arange(width, dtype=np.float64) + 0.5) / unit_x)[None, :]
    y = ((np.arange(height, dtype=np.float64) + 0.5) / unit_y)[:, None]
    for polygon in polygons:
        corners = np.asarray(polygon, dtype=np.float64) * (width / unit_x, height / unit_y)
        inside = np.zeros((height, width), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            covered |= _distance_squared(x, y, (x0, y0), (x1, y1)) <= 2.0
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                with np.errstate(over="ignore", invalid="ignore"):  # an edge that is all but level
                    inside ^= crosses & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        covered |= inside
    return np.flatnonzero(covered)


def paint(picture: Picture, pixels: NDArray[np.intp]) -> None:
    """Make ``pixels`` (flat indices) of ``picture`` (C-contiguous) black, in place."""
    assert picture.flags.c_contiguous  # otherwise reshape would copy, and the mask be painted on the copy
    picture.reshape(-1, 3)[pixels] = 0


def _distance_squared(
    x: NDArray[np.floating], y: NDArray[np.floating], a: tuple[float, float], b: tuple[float, float]
) -> NDArray[np.floating]:
    """Squared distance of every grid point to the segment a-b."""
    along_x, along_y = b[0] - a[0], b[1] - a[1]
    length_squared = along_x**2 + along_y**2
    if length_squared == 0:
        return np.asarray((x - a[0]) ** 2 + (y - a[1]) ** 2)
    t = np.clip(((x - a[0]) * along_x + (y - a[1]) * along_y) / length_squared, 0.0, 1.0)
    return np.asarray((x - a[0] - t * along_x) ** 2 + (y - a[1] - t * along_y) ** 2)
