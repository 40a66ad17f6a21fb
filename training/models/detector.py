"""The detector: backbone, a decoupled head a level, and boxes from what the heads say."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.models.backbone import Activation, Backbone, Bend, ConvUnit, DepthwiseConv, space_to_depth

HARDSWISH_SCALE = 1.2
"""SiLU(x) is nearest to HardSwish(1.2 x) / 1.2: without a step of training the released weights keep 0.93 of their
AP50 so, and 0.36 unscaled."""

MAX_LOG_SIZE = 8.0
"""Boxes are at most e^8 cells wide: an untrained network must not overflow."""


class Cells(NamedTuple):
    """The places that can hold an object, one row a cell, stride after stride, rows of the picture first.

    corners: A x 2, column and row of the cell. strides: A x 1, pixels a cell.
    """

    corners: Tensor
    strides: Tensor

    @property
    def centers(self) -> Tensor:
        """A x 2 pixels: the middle of each cell (what assignment looks at; decoding starts from the corner)."""
        return (self.corners + 0.5) * self.strides


class Head(nn.Module):
    """What one level says of each cell: four box numbers, objectness, a logit a class."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.stem = ConvUnit(inputs, 64)
        self.class_branch = nn.Sequential(DepthwiseConv(64, 64), DepthwiseConv(64, 64))
        self.class_logits = nn.Conv2d(64, classes, 1)
        self.box_branch = nn.Sequential(DepthwiseConv(64, 64), DepthwiseConv(64, 64))
        self.box_numbers = nn.Conv2d(64, 4, 1)
        self.object_logit = nn.Conv2d(64, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        logits = self.class_logits(self.class_branch(x))
        boxes = self.box_branch(x)
        return torch.cat([self.box_numbers(boxes), self.object_logit(boxes), logits], 1)


class Detector(nn.Module):
    """Anchor-free single-stage detector (YOLOX-nano's shape).

    forward: B x 3 x H x W float32 BGR 0..255, H and W multiples of 32, to B x A x (5 + classes) raw numbers and the
    cells. A row is x offset, y offset, log width, log height (in cells), object logit, class logits.
    """

    def __init__(self, classes: int, activation: Activation = "silu") -> None:
        super().__init__()
        self.classes = classes
        self.activation = activation
        self.backbone = Backbone()
        self.heads = nn.ModuleList(Head(channels, classes) for channels in Backbone.channels)
        self.bend(1.0)

    def bend(self, share: float) -> None:
        """Set how much of ``activation`` the activations have, 0..1; the rest is SiLU."""
        for module in self.modules():
            if isinstance(module, Bend):
                module.quicker, module.share = self.activation, 0.0 if self.activation == "silu" else share

    @torch.no_grad()
    def become(self, activation: Activation) -> None:
        """Take another activation than SiLU, with weights that make the least of the difference."""
        if activation == "hardswish" and self.activation == "silu":
            for unit in self.modules():
                if isinstance(unit, ConvUnit) and unit.conv.bias is not None:
                    unit.conv.bias.mul_(HARDSWISH_SCALE)
            self.backbone.stem.conv.weight.mul_(HARDSWISH_SCALE)
            for head in self.heads:
                assert isinstance(head, Head)
                for last in (head.class_logits, head.box_numbers, head.object_logit):
                    last.weight.div_(HARDSWISH_SCALE)
        self.activation = activation
        self.bend(1.0)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Cells]:
        maps = self.levels(self.backbone(space_to_depth(pictures)))
        rows = torch.cat([one.flatten(2) for one in maps], 2).transpose(1, 2)
        return rows, cells_of([(one.shape[-2], one.shape[-1]) for one in maps])

    def levels(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """The heads' maps, B x (5 + classes) x H/s x W/s, stride after stride."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]


def cells_of(sizes: list[tuple[int, int]]) -> Cells:
    """The cells of levels of ``(rows, columns)``, at the backbone's strides."""
    corners, strides = [], []
    for (rows, columns), stride in zip(sizes, Backbone.strides, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        corners.append(torch.stack([x, y], -1).reshape(-1, 2).float())
        strides.append(torch.full((rows * columns, 1), float(stride)))
    return Cells(torch.cat(corners), torch.cat(strides))


def boxes_of(rows: Tensor, cells: Cells) -> Tensor:
    """... x A x 4 xyxy in pixels of the input, from the first four numbers of each row."""
    centers = (rows[..., :2] + cells.corners) * cells.strides
    half = torch.exp(rows[..., 2:4].clamp(max=MAX_LOG_SIZE)) * cells.strides / 2
    return torch.cat([centers - half, centers + half], -1)


def log_scores_of(rows: Tensor) -> Tensor:
    """... x A x classes: log(sigmoid(object) * sigmoid(class)), which does not underflow."""
    logsigmoid = torch.nn.functional.logsigmoid
    return logsigmoid(rows[..., 4:5]) + logsigmoid(rows[..., 5:])
