"""PicoDet-S: ESNet, a CSP-PAN of four levels, a head that tells each side of a box as a distribution.

Yu, Chang, Ji et al.: "PP-PicoDet: A Better Real-Time Object Detector on Mobile Devices", arXiv 2111.00902; the head's
distributions: Li et al.: "Generalized Focal Loss", NeurIPS 2020. BatchNorm is left out: the published weights have it
folded into the convolutions. The submodules are called in the order in which the published file calls them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UsageError
from training.models.backbone import Activation, ConvUnit, CspLayer, DepthwiseConv, doubled
from training.models.network import Cells, Network

BINS = 8
"""A side's distance is the expectation over 0..7 strides."""
WIDTH = 96
"""Channels of every level of the neck."""
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)
"""Of ImageNet's pixels, 0..255. The mean is taken away from the pixels, the deviation is in the stem's weights."""


class Squeeze(nn.Module):
    """Channels weighted by what the whole picture holds.

    Hu, Shen, Sun: "Squeeze-and-Excitation Networks", CVPR 2018; HardSigmoid in place of the sigmoid.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 4, 1)
        self.expand = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.expand(weights))


def _each(channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 a channel, without activation."""
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)


class KeepBlock(nn.Module):
    """Half of the channels pass by, half pass a ghost and a squeeze; then the halves are shuffled."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.reduce = ConvUnit(channels // 2, middle // 2)
        self.ghost = _each(middle // 2)
        self.squeeze = Squeeze(middle)
        self.expand = ConvUnit(middle, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        past, through = x.chunk(2, 1)
        reduced = self.reduce(through)
        mixed = self.expand(self.squeeze(torch.cat([reduced, self.ghost(reduced)], 1)))
        both = torch.cat([past, mixed], 1)
        batch, channels, rows, columns = both.shape
        return both.reshape(batch, 2, channels // 2, rows, columns).transpose(1, 2).flatten(1, 2)


class HalveBlock(nn.Module):
    """Half as high and wide: two ways beside each other, then a depthwise convolution over both."""

    def __init__(self, inputs: int, outputs: int, middle: int) -> None:
        super().__init__()
        self.near = nn.Sequential(_each(inputs, 2), ConvUnit(inputs, outputs // 2))
        self.reduce = ConvUnit(inputs, middle)
        self.halve = _each(middle, 2)
        self.squeeze = Squeeze(middle)
        self.expand = ConvUnit(middle, outputs // 2)
        self.join = DepthwiseConv(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        near = self.near(x)
        far = self.expand(self.squeeze(self.halve(self.reduce(x))))
        joined: Tensor = self.join(torch.cat([near, far], 1))
        return joined


def _stage(inputs: int, outputs: int, middles: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        HalveBlock(inputs, outputs, middles[0]), *[KeepBlock(outputs, middle) for middle in middles[1:]]
    )


class CspPastFirst(CspLayer):
    """A CSP layer whose short way is called first, as in the published file."""

    def __init__(self) -> None:
        super().__init__(2 * WIDTH, WIDTH, 1, shortcut=False, kernel=5)

    def forward(self, x: Tensor) -> Tensor:
        past, through = self.past(x), self.through(x)
        joined: Tensor = self.join(torch.cat([self.blocks(through), past], 1))
        return joined


class Head(nn.Module):
    """What one level says of each cell: a logit a class, then the logits of the four sides' distributions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(DepthwiseConv(WIDTH, WIDTH, kernel=5), DepthwiseConv(WIDTH, WIDTH, kernel=5))
        self.numbers = nn.Conv2d(WIDTH, classes + 4 * BINS, 1)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.numbers(self.branch(x))
        return said


class MeanAway(nn.Module):
    """RGB pixels without their mean; folded into a bias it would be wrong at the edges, where zeros are padded."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR[::-1]).reshape(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels - self.mean


class PicoDet(Network):
    """PicoDet-S. A row is a logit a class, then 4 x 8 logits: distances left, top, right, bottom in strides."""

    architecture = "picodet-s"
    strides = (8, 16, 32, 64)

    def __init__(self, classes: int, activation: Activation = "hardswish") -> None:
        super().__init__()
        self.classes = classes
        self.first = ConvUnit(3, 24, 3, 2)
        self.stage2 = _stage(24, 96, (44, 48, 48))
        self.stage3 = _stage(96, 192, (48, 120, 96, 120, 96, 96, 96))
        self.stage4 = _stage(192, 384, (96, 192, 192))
        self.laterals = nn.ModuleList(ConvUnit(channels, WIDTH) for channels in (96, 192, 384))
        self.top_down4, self.top_down3 = CspPastFirst(), CspPastFirst()
        self.down3, self.bottom_up4 = DepthwiseConv(WIDTH, WIDTH, 2, 5), CspPastFirst()
        self.down4, self.bottom_up5 = DepthwiseConv(WIDTH, WIDTH, 2, 5), CspPastFirst()
        self.top_from_lateral, self.top_from_out = (DepthwiseConv(WIDTH, WIDTH, 2, 5) for _ in range(2))
        self.heads = nn.ModuleList(Head(classes) for _ in self.strides)
        self.become(activation)

    def become(self, activation: Activation) -> None:
        """It is made with HardSwish, and keeps it."""
        if activation != "hardswish":
            raise UsageError(f"PicoDet-S has no {activation}", mend="leave --activation out: it bends by hardswish")
        self.activation = activation
        self.bend(1.0)

    def stem(self, pictures: Tensor) -> Tensor:
        """Of the pixels without their mean."""
        bent: Tensor = self.first(pictures - pictures.new_tensor(MEAN_BGR).reshape(3, 1, 1))
        return bent

    def rgb_stem(self) -> nn.Module:
        """The convolution with its columns turned to RGB."""
        own = self.first.conv
        assert own.bias is not None
        turned = nn.Conv2d(3, own.out_channels, 3, 2, 1)
        with torch.no_grad():
            turned.weight.copy_(own.weight.flip(1))
            turned.bias.copy_(own.bias)  # type: ignore[union-attr]
        return nn.Sequential(MeanAway(), turned, self.first.bend)

    def own_stem(self, weight: Tensor) -> Tensor:
        """Its columns turned to BGR."""
        return weight.flip(1)

    def features(self, stem: Tensor) -> tuple[Tensor, ...]:
        """Of four levels; the last is made of the third's."""
        x3 = self.stage2(functional.max_pool2d(stem, 3, 2, 1))
        x4 = self.stage3(x3)
        lateral3, lateral4, lateral5 = (one(x) for one, x in zip(self.laterals, (x3, x4, self.stage4(x4)), strict=True))
        top4 = self.top_down4(torch.cat([doubled(lateral5), lateral4], 1))
        out3 = self.top_down3(torch.cat([doubled(top4), lateral3], 1))
        out4 = self.bottom_up4(torch.cat([self.down3(out3), top4], 1))
        out5 = self.bottom_up5(torch.cat([self.down4(out4), lateral5], 1))
        return out3, out4, out5, self.top_from_lateral(lateral5) + self.top_from_out(out5)

    def levels(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """The heads' maps, B x (classes + 32) x rows x columns; the last level has its sides rounded up."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]

    def boxes_of(self, rows: Tensor, cells: Cells) -> Tensor:
        """Each side as far from the cell's middle pixel as its distribution expects."""
        shares = rows[..., self.classes :].reshape(*rows.shape[:-1], 4, BINS).softmax(-1)
        distances = (shares * torch.arange(BINS, dtype=shares.dtype, device=shares.device)).sum(-1) * cells.strides
        middles = cells.centers - 0.5
        return torch.cat([middles - distances[..., :2], middles + distances[..., 2:]], -1)

    def scores_of(self, rows: Tensor) -> Tensor:
        """A sigmoid a class; there is no objectness."""
        return rows[..., : self.classes].sigmoid()

    def log_scores_of(self, rows: Tensor) -> Tensor:
        """log(sigmoid(class))."""
        return functional.logsigmoid(rows[..., : self.classes])
