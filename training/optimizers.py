"""The optimisers by name. torch is imported where one is made: the command line names them without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn

Optimizer = Literal["sgd", "rmsprop", "adam", "adamw"]
MOMENTUM = 0.9


def optimizer_of(
    name: Optimizer, parameters: Iterable[nn.Parameter], step: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with (Nesterov) momentum, RMSprop, Adam or AdamW. SGD's useful steps are about ten times the others'."""
    import torch

    if name == "sgd":
        return torch.optim.SGD(parameters, step, momentum=MOMENTUM, nesterov=True, weight_decay=weight_decay)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, step, momentum=MOMENTUM, weight_decay=weight_decay)
    if name == "adam":
        return torch.optim.Adam(parameters, step, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, step, weight_decay=weight_decay)
