"""The networks there are, by the name that a checkpoint holds."""

from __future__ import annotations

from pipeline.errors import ModelError
from training.models.backbone import Activation
from training.models.network import Network
from training.models.picodet import PicoDet
from training.models.yolox import YoloxNano

ARCHITECTURES: dict[str, type[YoloxNano] | type[PicoDet]] = {each.architecture: each for each in (YoloxNano, PicoDet)}


def network_of(architecture: str, classes: int, activation: Activation | None = None) -> Network:
    """An untrained network. activation: where it is not the architecture's own. Raises ModelError for another name."""
    made = ARCHITECTURES.get(architecture)
    if made is None:
        raise ModelError(f"{architecture!r} is no network of ours", mend=f"one of {', '.join(ARCHITECTURES)}")
    return made(classes) if activation is None else made(classes, activation)
