"""What every detector of ours is: a stem, features, heads, and how what the heads say is read."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from training.models.backbone import Activation, Bend


class Cells(NamedTuple):
    """The places that can hold an object, one row a cell, stride after stride, rows of the picture first.

    corners: A x 2, column and row of the cell. strides: A x 1, pixels a cell.
    """

    corners: Tensor
    strides: Tensor

    @property
    def centers(self) -> Tensor:
        """A x 2 pixels: the middle of each cell (what assignment looks at)."""
        return (self.corners + 0.5) * self.strides


class Predictions(NamedTuple):
    """What a network says of B pictures. boxes: B x A x 4 xyxy pixels of the input. log_scores: B x A x classes."""

    boxes: Tensor
    log_scores: Tensor
    cells: Cells


class Network(nn.Module):
    """A convolutional one-stage detector without anchor boxes, one or more levels of cells.

    forward: B x 3 x H x W float32 BGR 0..255, H and W multiples of 32, to B x A x N raw numbers and the cells.
    architecture: its name in checkpoints. strides: of the levels, in the order of the rows.
    """

    architecture: ClassVar[str]
    strides: ClassVar[tuple[int, ...]]
    classes: int
    activation: Activation

    def stem(self, pictures: Tensor) -> Tensor:
        """The first convolution, of BGR pictures."""
        raise NotImplementedError

    def rgb_stem(self) -> nn.Module:
        """The same for B x 3 x H x W RGB 0..255, with everything folded that can be: what an exported file holds."""
        raise NotImplementedError

    def own_stem(self, weight: Tensor) -> Tensor:
        """The weights of the first convolution from those of an exported file: what ``rgb_stem`` did, undone."""
        raise NotImplementedError

    def features(self, stem: Tensor) -> tuple[Tensor, ...]:
        """What the heads look at, B x C x rows x columns a level."""
        raise NotImplementedError

    def levels(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """What the heads say, B x N x rows x columns a level."""
        raise NotImplementedError

    def boxes_of(self, rows: Tensor, cells: Cells) -> Tensor:
        """... x A x 4 xyxy pixels of the input, from rows of raw numbers."""
        raise NotImplementedError

    def scores_of(self, rows: Tensor) -> Tensor:
        """... x A x classes, 0..1."""
        raise NotImplementedError

    def log_scores_of(self, rows: Tensor) -> Tensor:
        """The logarithm of the scores, which does not underflow."""
        raise NotImplementedError

    def become(self, activation: Activation) -> None:
        """Take another activation, with weights that make the least of the difference."""
        raise NotImplementedError

    def bend(self, share: float) -> None:
        """Set how much of ``activation`` the activations have, 0..1; the rest is SiLU."""
        for module in self.modules():
            if isinstance(module, Bend):
                module.quicker, module.share = self.activation, 0.0 if self.activation == "silu" else share

    def forward(self, pictures: Tensor) -> tuple[Tensor, Cells]:
        maps = self.levels(self.features(self.stem(pictures)))
        return rows_of(maps), cells_of(maps, self.strides)

    def predicted(self, pictures: Tensor) -> Predictions:
        """What it says of pictures, read."""
        return self.read(*self(pictures))

    def read(self, rows: Tensor, cells: Cells) -> Predictions:
        """Rows of raw numbers as boxes and scores, float32 (half precision is too coarse for either)."""
        rows = rows.float()
        return Predictions(self.boxes_of(rows, cells), self.log_scores_of(rows), cells)


def rows_of(maps: list[Tensor]) -> Tensor:
    """B x N x rows x columns a level to B x A x N."""
    return torch.cat([one.flatten(2) for one in maps], 2).transpose(1, 2)


def cells_of(maps: list[Tensor], strides: tuple[int, ...]) -> Cells:
    """The cells of levels, ... x rows x columns each; on the device of the maps."""
    corners, pixels = [], []
    for one, stride in zip(maps, strides, strict=True):
        rows, columns, device = one.shape[-2], one.shape[-1], one.device
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        corners.append(torch.stack([x, y], -1).reshape(-1, 2).float())
        pixels.append(torch.full((rows * columns, 1), float(stride), device=device))
    return Cells(torch.cat(corners), torch.cat(pixels))
