"""CSPDarknet with depthwise convolutions and a PAFPN neck, at the width and depth of YOLOX-nano.

Ge, Liu, Wang, Li, Sun: "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430 (nano: depth 0.33, width 0.25).
BatchNorm is left out: the published weights have it folded into the convolutions. The submodules stand in the order in
which they are called, so that the convolutions of an exported network can be matched with these one by one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["silu", "hardswish", "relu"]
_QUICKER = {"hardswish": functional.hardswish, "relu": functional.relu}


class Bend(nn.Module):
    """The activation: SiLU (Elfwing, Uchibe, Doya 2018, arXiv 1702.03118), a quicker one, or on the way to it.

    share: of the quicker one, 0..1. On a CPU in ONNX Runtime, SiLU is about a quarter of such a network's time;
    HardSwish (Howard et al. 2019, arXiv 1905.02244), nearly the same function, costs a third of that, and ReLU is
    computed within the convolution before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.quicker: Activation = "relu"
        self.share = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.share <= 0:
            return functional.silu(x)
        quick = _QUICKER[self.quicker](x)
        return quick if self.share >= 1 else torch.lerp(functional.silu(x), quick, self.share)


class ConvUnit(nn.Module):
    """A convolution that keeps the size (divided by the stride), then the activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups)
        self.bend = Bend()

    def forward(self, x: Tensor) -> Tensor:
        bent: Tensor = self.bend(self.conv(x))
        return bent


class DepthwiseConv(nn.Sequential):
    """``kernel`` x ``kernel`` a channel, then 1x1 over the channels, an activation after each."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__(ConvUnit(inputs, inputs, kernel, stride, inputs), ConvUnit(inputs, outputs))


class Bottleneck(nn.Module):
    """1x1, then a depthwise convolution, with or without a shortcut."""

    def __init__(self, channels: int, shortcut: bool, kernel: int = 3) -> None:
        super().__init__()
        self.reduce = ConvUnit(channels, channels)
        self.mix = DepthwiseConv(channels, channels, kernel=kernel)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.reduce(x))
        return x + y if self.shortcut else y


class CspLayer(nn.Module):
    """Cross stage partial layer: half of the channels pass the bottlenecks, half pass by."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True, kernel: int = 3) -> None:
        super().__init__()
        half = outputs // 2
        self.through = ConvUnit(inputs, half)
        self.past = ConvUnit(inputs, half)
        self.blocks = nn.Sequential(*[Bottleneck(half, shortcut, kernel) for _ in range(depth)])
        self.join = ConvUnit(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        through, past = self.through(x), self.past(x)
        joined: Tensor = self.join(torch.cat([self.blocks(through), past], 1))
        return joined


class SpatialPyramidPooling(nn.Module):
    """Maxima over 5x5, 9x9 and 13x13 cells beside the cells themselves.

    The 5x5 maximum of a 5x5 maximum is the 9x9 maximum, so that three small poolings do it.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvUnit(inputs, inputs // 2)
        self.join = ConvUnit(inputs * 2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        pools = [self.reduce(x)]
        for _ in range(3):
            pools.append(functional.max_pool2d(pools[-1], 5, 1, 2))
        joined: Tensor = self.join(torch.cat(pools, 1))
        return joined


class Backbone(nn.Module):
    """Three feature maps at strides 8, 16 and 32 with 64, 128 and 256 channels."""

    strides = (8, 16, 32)
    channels = (64, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvUnit(12, 16, 3)
        self.stage2 = nn.Sequential(DepthwiseConv(16, 32, 2), CspLayer(32, 32, 1))
        self.stage3 = nn.Sequential(DepthwiseConv(32, 64, 2), CspLayer(64, 64, 3))
        self.stage4 = nn.Sequential(DepthwiseConv(64, 128, 2), CspLayer(128, 128, 3))
        self.stage5 = nn.Sequential(
            DepthwiseConv(128, 256, 2), SpatialPyramidPooling(256, 256), CspLayer(256, 256, 1, shortcut=False)
        )
        self.lateral5 = ConvUnit(256, 128)
        self.top_down4 = CspLayer(256, 128, 1, shortcut=False)
        self.lateral4 = ConvUnit(128, 64)
        self.top_down3 = CspLayer(128, 64, 1, shortcut=False)
        self.down3 = DepthwiseConv(64, 64, 2)
        self.bottom_up4 = CspLayer(128, 128, 1, shortcut=False)
        self.down4 = DepthwiseConv(128, 128, 2)
        self.bottom_up5 = CspLayer(256, 256, 1, shortcut=False)

    def features(self, stem: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the stem's output, B x 16 x H/2 x W/2, to the three maps."""
        x3 = self.stage3(self.stage2(stem))
        x4 = self.stage4(x3)
        top5 = self.lateral5(self.stage5(x4))
        top4 = self.lateral4(self.top_down4(torch.cat([doubled(top5), x4], 1)))
        out3 = self.top_down3(torch.cat([doubled(top4), x3], 1))
        out4 = self.bottom_up4(torch.cat([self.down3(out3), top4], 1))
        out5 = self.bottom_up5(torch.cat([self.down4(out4), top5], 1))
        return out3, out4, out5


def space_to_depth(pictures: Tensor) -> Tensor:
    """B x 3 x H x W to B x 12 x H/2 x W/2: the 2x2 pixels top left, bottom left, top right, bottom right."""
    rows, odd_rows = pictures[..., ::2, :], pictures[..., 1::2, :]
    return torch.cat([rows[..., ::2], odd_rows[..., ::2], rows[..., 1::2], odd_rows[..., 1::2]], 1)


def doubled(x: Tensor) -> Tensor:
    """Twice as high and wide, each cell four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
