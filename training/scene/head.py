"""The head: how what the trunk sees changes from frame to frame, summed up by two readers.

Rows, one a step: log |f(t) - f(t-1)| and log |f(t) - 2 f(t-1) + f(t-2)|, means over the grid's cells: how fast and how
jerkily each of the trunk's features changes. Appearance itself tells the place and not the act.

    ranks   the values of each channel at three ranks over the clip (slow, middle, fast moments), and a linear reader
            on them, solved in closed form (ridge regression): the better reader where clips are few
    LSTM    an LSTM with attention over the rows: the order of the moments, and which of them counted

The head's logit is the sum of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.scene.trunk import CHANNELS

RANKS = (0.2, 0.5, 0.8)
"""Places in the sorted moments of a clip, 0..1."""

_LEAST = 0.03
"""Added before the logarithm: changes far below it are noise of the camera."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Sizes of a head. kinds: outputs. channels x cells: numbers a frame. appearance: read the features themselves
    and not their changes, without ranks (the textbook CNN-LSTM, kept to be compared with). ranks: with that reader.
    lstm: with the other one (without, attention is even)."""

    kinds: int = 1
    channels: int = CHANNELS
    cells: int = 12
    reduced: int = 32
    hidden: int = 24
    dropout: float = 0.5
    appearance: bool = False
    ranks: bool = True
    lstm: bool = True


class SceneHead(nn.Module):
    """Features of a clip to a logit a kind and the attention.

    forward: float32 B x T x (channels * cells), T at least 3, to logits B x kinds and attention B x (T-1) that sums to
    1: the weight of the step from frame t to t+1 (of frame t, B x T, with ``appearance``).
    Attention as in Bahdanau, Cho, Bengio: "Neural machine translation by jointly learning to align and translate",
    ICLR 2015, over an LSTM (Hochreiter, Schmidhuber 1997).
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        columns = 2 * shape.channels
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(columns))
        self.register_buffer("rank_weight", torch.zeros(shape.kinds, rank_columns(shape)))
        self.register_buffer("bias", torch.zeros(shape.kinds))
        self.reduce = nn.Linear(columns, shape.reduced)
        self.lstm = nn.LSTM(shape.reduced, shape.hidden, batch_first=True)
        self.attend = nn.Linear(shape.hidden, 1)
        self.classify = nn.Linear(shape.hidden, shape.kinds)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.judge(self.rows(features))

    def judge(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The same from what ``rows`` gives, which training computes once a clip."""
        logits, attention = self.read(rows)
        assert isinstance(self.rank_weight, Tensor)
        assert isinstance(self.bias, Tensor)
        if self.shape.ranks:
            logits = logits + ranks_of(rows) @ self.rank_weight.T
        return logits + self.bias, attention

    def rows(self, features: Tensor) -> Tensor:
        """B x T-1 x (2 * channels): what changes at each step (T rows of mean and maximum with ``appearance``)."""
        grid = features.reshape(*features.shape[:2], self.shape.channels, self.shape.cells)
        if self.shape.appearance:
            return torch.cat([grid.mean(3), grid.amax(3)], 2)
        step = grid[:, 1:] - grid[:, :-1]
        jerk = (step[:, 1:] - step[:, :-1]).abs().mean(3)
        jerk = torch.cat([jerk[:, :1], jerk], 1)  # the first step has none before it
        return torch.log(torch.cat([step.abs().mean(3), jerk], 2) + _LEAST)

    def read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM's part of the logits, and the attention."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        x = torch.relu(self.reduce(self.drop((rows - self.mean) * self.scale)))
        states, _ = self.lstm(self.drop(x))
        attention = torch.softmax(self.attend(torch.tanh(states))[..., 0], 1)
        summed = (attention[..., None] * states).sum(1)
        return self.classify(self.drop(summed)), attention

    @torch.no_grad()
    def standardise(self, rows: Tensor) -> None:
        """Take mean and spread from the training clips' ``rows``, so that every channel weighs alike."""
        flat = rows.flatten(0, 1)
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        self.mean.copy_(flat.mean(0))
        self.scale.copy_(1 / (flat.std(0) + 1e-4))


def rank_columns(shape: HeadShape) -> int:
    """How many columns ``ranks_of`` gives, of changes."""
    return len(RANKS) * 2 * shape.channels


def ranks_of(rows: Tensor) -> Tensor:
    """B x S x C to B x (ranks * C): each channel's values at ``RANKS`` of its sorted moments, rank after rank."""
    steps = int(rows.shape[1])  # a number also while the exporter traces: a clip has so many frames
    ordered = rows.sort(1).values
    return torch.cat([ordered[:, round(rank * (steps - 1))] for rank in RANKS], 1)
