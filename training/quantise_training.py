"""Quantisation-aware training: a detector goes on learning with its convolutions in 8 bits, as they will run.

It starts from the float weights of a file that we exported, with the ranges that static quantisation found; they stay
as they are, the weights move. The loop, the loss and the checkpoints are the detector's own, and the float network can
teach (distillation). Checkpoints hold float weights: any of them can be quantised or exported again.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from numpy.typing import NDArray

from pipeline.errors import ModelError, UsageError
from training.augment import AugmentedPictures
from training.datasets import CLASSES
from training.devices import CPU
from training.evaluate import Contender, picture_of
from training.export import export_onnx
from training.models.architectures import network_of
from training.models.fake_quantised import Ranges, convolution_names, fake_quantise
from training.models.network import Network
from training.models.pretrained import load_exported
from training.quantise import QuantiseSettings, convolutions_in, quantise, ranges_in
from training.session import Prepared, validation_score
from training.trainer import CHECKPOINT, Recipe, Training


@dataclass(frozen=True, slots=True)
class Planned:
    """How to train. run: the folder of its checkpoints. recipe: never with ``amp``, bfloat16 being no finer than the
    8 bits that are to be learned."""

    run: Path
    recipe: Recipe
    resume: bool = False
    device: torch.device = CPU

    def check(self, contender: Contender) -> None:
        """Raise before anything is measured: UsageError for a run that is there, ModelError for another's network."""
        if not self.resume and (self.run / CHECKPOINT).exists():
            raise UsageError(f"{self.run}: there is a run in it already", mend="add --resume, or name another --to")
        if not ours(contender):
            raise ModelError(
                f"{contender.name}: it cannot be trained in 8 bits",
                mend=f"a detector that passerby-train exported, with the classes {', '.join(CLASSES)}; or no --epochs",
            )


class Trained(NamedTuple):
    """data: the INT8 network. network: in torch, its convolutions in 8 bits as it was trained. epochs: it was for."""

    data: bytes
    network: Network
    epochs: int


def ours(contender: Contender) -> bool:
    """Whether its weights can be read back."""
    manifest = contender.model.manifest
    return manifest.family == "passerby" and tuple(manifest.classes) == CLASSES


def train_quantised(
    contender: Contender,
    prepared: Prepared,
    feeds: Sequence[dict[str, NDArray[Any]]],
    static: bytes,
    settings: QuantiseSettings,
    planned: Planned,
) -> Trained:
    """Train with the ranges of ``static``, the contender quantised without training. The best epoch by the validation
    score (AP50, 16:9, as INT8) is taken."""
    start = load_exported(contender.model.path, len(CLASSES))
    names = convolutions_in(onnx.load_from_string(contender.model.read()))
    ranges = ranges_in(static, names)
    training = (
        Training.resume(planned.run, planned.recipe.epochs, planned.device)
        if planned.resume
        else Training(copy.deepcopy(start), planned.recipe, planned.run, planned.device)
    )
    recipe = training.recipe
    if recipe.taught:
        training.teacher = copy.deepcopy(start).to(planned.device)
    for network in (training.network, training.averaged):
        in_eight_bits(network, start, ranges, settings)
    pictures = AugmentedPictures(
        prepared.train, prepared.spec, recipe.shapes,
        count=recipe.pictures, batch=recipe.batch, seed=recipe.seed, strides=start.strides,
    )  # fmt: skip
    views = [picture_of(each, prepared.spec, "16:9") for each in prepared.validation]

    def exported(network: Network) -> bytes:
        return quantise(export_onnx(_plain(network)), feeds[:1], settings, ranges)

    best = training.run(pictures, lambda network: validation_score(network, views, contender.shape, exported=exported))
    data = exported(best)
    in_eight_bits(best, start, ranges, settings)
    return Trained(data, best, len(training.history))


def in_eight_bits(network: Network, like: Network, ranges: Sequence[Ranges | None], settings: QuantiseSettings) -> None:
    """Let a network compute in 8 bits. like: the same, plain, on the CPU. ranges: in the order of the calls."""
    told = {name: each for name, each in zip(convolution_names(like), ranges, strict=True) if each is not None}
    fake_quantise(network, told, largest=settings.largest_weight, per_channel=settings.per_channel)


def _plain(network: Network) -> Network:
    """The same weights in a network that computes as ever."""
    plain = network_of(network.architecture, network.classes, network.activation)
    plain.load_state_dict(network.state_dict())
    return plain.eval()
