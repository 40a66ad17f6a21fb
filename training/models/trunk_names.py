"""Which ImageNet trunks there are; torch is imported where one is made: the command line names them without it."""

from __future__ import annotations

from typing import Literal, get_args

TrunkName = Literal["resnet18", "resnet34", "resnet50", "efficientnet_lite0"]
TRUNKS: tuple[TrunkName, ...] = get_args(TrunkName)
