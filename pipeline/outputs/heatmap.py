"""Where people stand and vehicles drive: anchors gathered in a grid, shown as a transparent picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.tracks import TrackView

_COLUMNS = 160
# Stops from rare to frequent, red-green-blue; transparency rises with frequency too.
RAMPS = {
    "person": ((255, 214, 64), (255, 138, 0), (226, 32, 32)),
    "vehicle": ((120, 230, 255), (32, 132, 255), (96, 32, 220)),
    "other": ((225, 190, 255), (180, 100, 255), (120, 20, 200)),
}


class HeatMap:
    """Counts of bottom-centre anchors by group, in a grid of 160 columns; its memory never grows."""

    def __init__(self, width: int, height: int) -> None:
        """width, height: of the pictures, for the shape of the cells."""
        self.columns = _COLUMNS
        self.rows = max(1, round(_COLUMNS * height / max(width, 1)))
        self._grids: dict[str, NDArray[np.float64]] = {}

    def add(self, tracks: Sequence[TrackView], width: int, height: int) -> None:
        """Count the tracks of a frame. Boxes are in the space of ``width`` x ``height``."""
        if not tracks:
            return
        boxes = np.array([track.bbox for track in tracks], np.float64)
        column = ((boxes[:, 0] + boxes[:, 2]) / 2 / width * self.columns).clip(0, self.columns - 1)
        row = (boxes[:, 3] / height * self.rows).clip(0, self.rows - 1)
        cells = row.astype(np.intp) * self.columns + column.astype(np.intp)
        groups = [track.group or "other" for track in tracks]
        for group in dict.fromkeys(groups):
            mine = cells[[each == group for each in groups]]
            np.add.at(self._grid(group), mine, 1)

    def _grid(self, group: str) -> NDArray[np.float64]:
        if group not in self._grids:
            self._grids[group] = np.zeros(self.rows * self.columns)
        return self._grids[group]

    def grid(self, group: str) -> NDArray[np.float64]:
        """rows x columns: how many anchors fell into each cell."""
        return self._grid(group).reshape(self.rows, self.columns)

    def png(self, group: str) -> bytes | None:
        """The group's map as an RGBA PNG, one pixel a cell (to be stretched smoothly); None if nothing was seen."""
        counts = self.grid(group)
        if not counts.any():
            return None
        # A gentle blur makes paths of points; the square root keeps a busy corner from hiding everything else.
        heat = _blurred(np.sqrt(counts), 1.6)
        top = np.percentile(heat[heat > 0], 99.5)
        share = np.clip(heat / top, 0, 1)
        stops = np.array(RAMPS.get(group, RAMPS["other"]), np.float64)
        at = np.linspace(0, 1, len(stops))
        rgba = np.stack([np.interp(share, at, stops[:, channel]) for channel in range(3)] + [_alpha(share)], axis=-1)
        file = io.BytesIO()
        Image.fromarray(rgba.round().astype(np.uint8)).save(file, "PNG", optimize=True)
        return file.getvalue()


def _blurred(grid: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """``grid`` under a Gaussian of ``sigma`` cells; its edge cells go on outside."""
    reach = math.ceil(4 * sigma)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    bell /= bell.sum()
    for axis in (0, 1):
        margin = [(reach, reach) if axis == other else (0, 0) for other in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(grid, margin, "edge"), len(bell), axis)
        grid = windows @ bell
    return grid


def _alpha(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(share < 0.04, 0.0, 60 + 165 * share)
