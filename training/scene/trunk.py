"""The encoder: the first half of a trained detector, frozen, and what it sees pooled to a small grid.

A detector knows what people look like; its trunk up to stride 32 is a better start for scenes than random weights (12
points of accuracy) and costs nothing to make. What it sees at stride 16 on the way there is read as well: it is
computed in any case. Any YOLOX-nano-shaped ONNX serves, ours or the original: the convolutions stand in the order of
the calls.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ModelError
from training.models.backbone import Backbone, Bend
from training.models.pretrained import activation_in, called_convolutions, onnx_convolutions
from training.models.yolox import YoloxNano, folded_stem

GRID = (3, 4)
"""Rows and columns that the features are pooled to."""
SIZE = (160, 256)
"""Height and width in pixels that a crop is resized to."""
CHANNELS = 384
"""128 at stride 16, then 256 at stride 32."""


class Trunk(nn.Module):
    """Crops to features.

    forward: uint8 N x H x W x 3 RGB 0..255 of any size to float32 N x (channels * cells): channel after channel, those
    of stride 16 first, the cells of the grid row by row. Resizing (bilinear) and the order of colours are part of it.
    """

    def __init__(self, size: tuple[int, int] = SIZE, grid: tuple[int, int] = GRID) -> None:
        super().__init__()
        self.size, self.grid = size, grid
        self.stem = nn.Conv2d(3, 16, 6, 2, 2)
        self.bend = Bend()
        whole = Backbone()
        self.stage2, self.stage3 = whole.stage2, whole.stage3
        self.stage4, self.stage5 = whole.stage4, whole.stage5
        self.register_buffer("pool16", pooling(size[0] // 16, size[1] // 16, grid))
        self.register_buffer("pool32", pooling(size[0] // 32, size[1] // 32, grid))

    @property
    def features(self) -> int:
        """Numbers a picture."""
        return CHANNELS * self.grid[0] * self.grid[1]

    def forward(self, pictures: Tensor) -> Tensor:
        pixels = pictures.permute(0, 3, 1, 2).float()
        pixels = functional.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False)
        x = self.stage3(self.stage2(self.bend(self.stem(pixels))))
        x16 = self.stage4(x)
        x32 = self.stage5(x16)
        assert isinstance(self.pool16, Tensor)
        assert isinstance(self.pool32, Tensor)
        return torch.cat([x16.flatten(2) @ self.pool16, x32.flatten(2) @ self.pool32], 1).flatten(1)


def pooling(rows: int, columns: int, grid: tuple[int, int]) -> Tensor:
    """(rows * columns) x (cells of the grid): the mean over each cell's part, which may overlap (adaptive pooling)."""
    cells = torch.eye(rows * columns).reshape(1, rows * columns, rows, columns)
    pooled = functional.adaptive_avg_pool2d(cells, grid)
    return pooled.reshape(rows * columns, grid[0] * grid[1])


def load_trunk(path: Path) -> Trunk:
    """The trunk of an exported detector. Raises ModelError when the file is no YOLOX-nano shape."""
    convolutions = onnx_convolutions(path)
    trunk = Trunk().eval()
    detector = YoloxNano(6)
    ours = called_convolutions(detector)
    inside = {id(each) for each in trunk_convolutions(detector.backbone)}
    used = sum(id(each) in inside for each in ours)
    if len(convolutions) < used:
        raise ModelError(
            f"{path}: {len(convolutions)} convolutions are too few", mend="name a passerby or YOLOX-nano file"
        )
    weight, bias = convolutions[0]
    stem = torch.from_numpy(weight.copy())
    with torch.no_grad():
        if stem.shape[1] == 12:
            stem = folded_stem(stem)
        if stem.shape != trunk.stem.weight.shape or trunk.stem.bias is None:
            raise ModelError(
                f"{path}: its first convolution is {tuple(stem.shape)}", mend="name a passerby or YOLOX-nano file"
            )
        trunk.stem.weight.copy_(stem)
        trunk.stem.bias.copy_(torch.from_numpy(bias.copy()))
        for conv, (weight, bias) in zip(ours[1:used], convolutions[1:used], strict=True):
            if tuple(conv.weight.shape) != weight.shape or conv.bias is None:
                raise ModelError(f"{path}: a convolution is {weight.shape}, wanted {tuple(conv.weight.shape)}")
            conv.weight.copy_(torch.from_numpy(weight.copy()))
            conv.bias.copy_(torch.from_numpy(bias.copy()))
    for name in ("stage2", "stage3", "stage4", "stage5"):
        setattr(trunk, name, getattr(detector.backbone, name))
    _bend(trunk, path)
    return trunk.requires_grad_(False)


def trunk_convolutions(backbone: Backbone) -> list[nn.Module]:
    """The convolutions up to stride 32."""
    parts = (backbone.stem, backbone.stage2, backbone.stage3, backbone.stage4, backbone.stage5)
    return [each for part in parts for each in part.modules() if isinstance(each, nn.Conv2d)]


def _bend(trunk: Trunk, path: Path) -> None:
    """Give every activation the one of the file."""
    activation = activation_in(path)
    for module in trunk.modules():
        if isinstance(module, Bend):
            module.quicker, module.share = activation, 0.0 if activation == "silu" else 1.0
