"""YOLOX-nano: its backbone, a decoupled head a level, and boxes from what the heads say.

Ge, Liu, Wang, Li, Sun: "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.backbone import Activation, Backbone, ConvUnit, DepthwiseConv, space_to_depth
from training.models.network import Cells, Network

HARDSWISH_SCALE = 1.2
"""SiLU(x) is nearest to HardSwish(1.2 x) / 1.2: without a step of training the released weights keep 0.93 of their
AP50 so, and 0.36 unscaled."""

PATCHES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Row and column of the 2x2 pixels, in the order of space_to_depth."""

MAX_LOG_SIZE = 8.0
"""Boxes are at most e^8 cells wide: an untrained network must not overflow."""


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


class YoloxNano(Network):
    """YOLOX-nano. A row is x offset, y offset, log width, log height (in cells), object logit, class logits."""

    architecture = "yolox-nano"
    strides = Backbone.strides

    def __init__(self, classes: int, activation: Activation = "silu") -> None:
        super().__init__()
        self.classes = classes
        self.activation = activation
        self.backbone = Backbone()
        self.heads = nn.ModuleList(Head(channels, classes) for channels in Backbone.channels)
        self.bend(1.0)

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

    def stem(self, pictures: Tensor) -> Tensor:
        """Of the four shifted copies of each picture."""
        bent: Tensor = self.backbone.stem(space_to_depth(pictures))
        return bent

    def rgb_stem(self) -> nn.Module:
        """The four shifted copies and their 3x3 convolution are one 6x6 convolution with stride 2 here."""
        own = self.backbone.stem.conv
        assert own.bias is not None
        folded = nn.Conv2d(3, own.out_channels, 6, 2, 2)
        with torch.no_grad():
            folded.bias.copy_(own.bias)  # type: ignore[union-attr]
            folded.weight.copy_(folded_stem(own.weight))
        return nn.Sequential(folded, self.backbone.stem.bend)

    def own_stem(self, weight: Tensor) -> Tensor:
        """One 6x6 convolution over RGB as the 3x3 convolution over four shifted copies of BGR."""
        if weight.shape[1:] != (3, 6, 6):
            return weight
        return torch.cat([weight[:, :, row::2, column::2].flip(1) for row, column in PATCHES], 1)

    def features(self, stem: Tensor) -> tuple[Tensor, ...]:
        """Of three levels."""
        return self.backbone.features(stem)

    def levels(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """The heads' maps, B x (5 + classes) x H/s x W/s, stride after stride."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]

    def boxes_of(self, rows: Tensor, cells: Cells) -> Tensor:
        """From the first four numbers: offsets from the cell's corner, not from its middle."""
        centers = (rows[..., :2] + cells.corners) * cells.strides
        half = torch.exp(rows[..., 2:4].clamp(max=MAX_LOG_SIZE)) * cells.strides / 2
        return torch.cat([centers - half, centers + half], -1)

    def scores_of(self, rows: Tensor) -> Tensor:
        """Objectness times class."""
        return rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()

    def log_scores_of(self, rows: Tensor) -> Tensor:
        """log(sigmoid(object) * sigmoid(class))."""
        return functional.logsigmoid(rows[..., 4:5]) + functional.logsigmoid(rows[..., 5:])


def folded_stem(weight: Tensor) -> Tensor:
    """A 3x3 convolution over four shifted copies of a BGR picture (N x 12 x 3 x 3) as one of 6x6 over RGB."""
    folded = torch.zeros(weight.shape[0], 3, 6, 6)
    for patch, (row, column) in enumerate(PATCHES):
        folded[:, :, row::2, column::2] = weight[:, 3 * patch : 3 * patch + 3].flip(1)
    return folded
