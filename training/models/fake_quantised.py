"""A network whose convolutions compute as they will in 8 bits, to be trained so (quantisation-aware training).

What goes into a convolution, its weights and what comes out of it are rounded to the 8-bit values they will have and
go on as floats; gradients pass the rounding unchanged, and not where a value is cut off. Jacob et al.: "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018. The rounding is torch's own
(torch.fake_quantize_*); torch.ao.quantization, which would wrap it, is about to be removed from torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from training.models.network import Network
from training.models.pretrained import called_convolutions


class Affine(NamedTuple):
    """How a tensor is held in 8 bits without sign: value = scale * (number - zero), number 0..255."""

    scale: float
    zero: int


class Ranges(NamedTuple):
    """Of a convolution in 8 bits."""

    input: Affine
    output: Affine


class FakeQuantisedConv(nn.Conv2d):
    """A convolution in 8 bits. It shares weight and bias with the convolution it is made of; it has no other state.

    largest: weights are -largest..largest times a scale (a channel's, or of all) that follows them.
    """

    def __init__(self, conv: nn.Conv2d, ranges: Ranges, largest: int, per_channel: bool) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, cast("tuple[int, int]", conv.kernel_size),
            cast("tuple[int, int]", conv.stride), cast("tuple[int, int]", conv.padding),
            groups=conv.groups, bias=conv.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = conv.weight, conv.bias
        self.ranges, self.largest, self.per_channel = ranges, largest, per_channel

    def forward(self, x: Tensor) -> Tensor:
        weight, steps = self.rounded_weight()
        bias = self.bias
        if bias is not None:  # 32 bits, in steps of the products that it is added to
            steps = steps * self.ranges.input.scale
            bias = bias + ((bias / steps).round() * steps - bias).detach()
        return _rounded(self._conv_forward(_rounded(x, self.ranges.input), weight, bias), self.ranges.output)

    def rounded_weight(self) -> tuple[Tensor, Tensor]:
        """The weights as 8 bits hold them, and the step of each output channel."""
        sizes = self.weight.detach().abs()
        most = sizes.amax((1, 2, 3)) if self.per_channel else sizes.amax().expand(len(sizes)).contiguous()
        steps = torch.where(most > 0, most / self.largest, torch.ones_like(most))
        zeros = torch.zeros_like(steps, dtype=torch.int32)
        held = torch.fake_quantize_per_channel_affine(self.weight, steps, zeros, 0, -self.largest, self.largest)
        return held, steps


def _rounded(x: Tensor, held: Affine) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, held.scale, held.zero, 0, 255)


def convolution_names(network: Network) -> list[str]:
    """The names of its convolutions in the order of the calls, which is their order in an exported file."""
    names = {id(module): name for name, module in network.named_modules()}
    return [names[id(each)] for each in called_convolutions(network)]


def fake_quantise(network: Network, ranges: Mapping[str, Ranges], *, largest: int, per_channel: bool = True) -> None:
    """Let the convolutions named in ``ranges`` compute in 8 bits from now on. Parameters stay the very same ones."""
    for name, told in ranges.items():
        parent, _, own = name.rpartition(".")
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        setattr(network.get_submodule(parent), own, FakeQuantisedConv(conv, told, largest, per_channel))
