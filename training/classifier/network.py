"""A plain convolutional classifier: convolutions, pooling, fully connected layers, softmax."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

SHAPE = (96, 64)
"""Width and height of the input by default: what a whole picture shows is seen at that size, in under a millisecond."""


class Classifier(nn.Module):
    """Four convolutions of stride 2 with BatchNorm and ReLU, pooling, two fully connected layers.

    forward: B x 3 x H x W float32 RGB 0..255 to B x classes logits. channels: of the first convolution; later ones
    have 2, 3 and 4 times as many. The mean over the picture says how much of something there is, the maximum that it
    is there at all (a lamp, a sky): the fully connected layers get both.
    """

    def __init__(self, classes: int, channels: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        self.classes, self.channels, self.dropout = classes, channels, dropout
        widths = [3, channels, 2 * channels, 3 * channels, 4 * channels]
        blocks: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.convolutions = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Linear(2 * widths[-1], widths[-1]), nn.ReLU(), nn.Dropout(dropout), nn.Linear(widths[-1], classes)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.convolutions(pictures / 127.5 - 1)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        logits: Tensor = self.head(pooled)
        return logits


class ExportedClassifier(nn.Module):
    """The classifier as the file holds it: uint8 RGB NHWC in, probabilities out."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        probabilities: Tensor = self.network(image.permute(0, 3, 1, 2).float()).softmax(1)
        return probabilities
