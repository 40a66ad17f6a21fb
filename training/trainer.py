"""The training loop: one page, resumable, seeded."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.errors import ModelError, UsageError
from training.augment import AugmentedPictures, collate
from training.checkpoints import read_state, write_checkpoint
from training.devices import CPU, halves
from training.distributed import average_gradients, given_by_first, place, share_of, told_by_first
from training.losses import Losses, Targets, detection_losses, distillation_losses
from training.models.architectures import network_of
from training.models.backbone import Activation
from training.models.network import Network
from training.names import free_names_only, names_losses, now_and_before

CHECKPOINT = "last.pt"
BEST = "best.pt"
Learns = Literal["all", "names"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; a checkpoint holds it. Steps are relative to the size (RMS) of each tensor's weights.

    pictures: an epoch. shapes: (width, height) and their odds. average: of the EMA. patience: epochs without a better
    validation after which it stops (0: never). activation: at the end, if not the network's own; ``ramp``: steps on
    the way from SiLU to ReLU.
    taught: share of the loss that is the distance to the teacher, if there is one. learns: everything, or only which
    vehicle it is (``training.names``); the teacher is then the start. turned: how often a picture of people alone is
    laid on its side: who fell lies, and few pictures show it. amp: half precision (bfloat16) where it runs on
    a GPU that has it.
    """

    epochs: int = 8
    pictures: int = 3392
    batch: int = 16
    step: float = 0.0013
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 10.0
    average: float = 0.998
    patience: int = 3
    seed: int = 0
    workers: int = 1
    activation: Activation | None = None
    ramp: int = 500
    taught: float = 0.0
    amp: bool = True
    learns: Learns = "all"
    turned: float = 0.0
    shapes: dict[tuple[int, int], float] = field(
        default_factory=lambda: {(416, 256): 0.5, (416, 416): 0.27, (544, 320): 0.23}
    )


class RelativeAdamW:
    """AdamW whose step is a fraction of each tensor's RMS, so that small and large layers forget alike.

    Loshchilov, Hutter: "Decoupled Weight Decay Regularization", ICLR 2019; the scaling as in Adafactor
    (Shazeer, Stern 2018).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.steps = 0
        self.means = [torch.zeros_like(each) for each in self.parameters]
        self.squares = [torch.zeros_like(each) for each in self.parameters]

    @torch.no_grad()
    def step(self, size: float) -> None:
        """One step; ``size`` is relative."""
        self.steps += 1
        first, second = 1 - 0.9**self.steps, 1 - 0.99**self.steps
        for weight, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            if weight.grad is None:
                continue
            mean.lerp_(weight.grad, 0.1)
            square.mul_(0.99).addcmul_(weight.grad, weight.grad, value=0.01)
            rms = float(weight.square().mean().sqrt().clamp(min=0.02))
            if weight.ndim > 1:
                weight.mul_(1 - size * self.weight_decay)
            weight.addcdiv_(mean / first, (square / second).sqrt() + 1e-12, value=-size * rms)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "means": self.means, "squares": self.squares}

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.steps = state["steps"]
        for ours, kept in ((self.means, state["means"]), (self.squares, state["squares"])):
            for one, other in zip(ours, kept, strict=True):
                one.copy_(other)  # wherever it lies


class Training:
    """A network on its way: weights, their average, the optimiser, and what validation said."""

    def __init__(self, network: Network, recipe: Recipe, folder: Path, device: torch.device = CPU) -> None:
        torch.manual_seed(recipe.seed)
        network.become(recipe.activation or network.activation)
        self.teacher: Network | None = None
        self.device = device
        self.amp = recipe.amp and halves(device)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.averaged: Network = copy.deepcopy(self.network)
        self.recipe, self.folder = recipe, folder
        if recipe.learns == "names":
            free_names_only(self.network)
        self.optimizer = RelativeAdamW(self.network.parameters(), recipe.weight_decay)
        self.epoch, self.step = 0, 0
        self.history: list[float] = []

    def run(self, pictures: AugmentedPictures, validate: Callable[[Network], float]) -> Network:
        """Train to the end or until validation stops getting better; the averaged weights of the best epoch."""
        recipe = self.recipe
        rank, processes = place()
        if recipe.batch % processes:
            raise UsageError(f"a batch of {recipe.batch} cannot be shared by {processes} processes")
        given_by_first(self.network)
        given_by_first(self.averaged)
        while self.epoch < recipe.epochs and not self._stuck():
            pictures.epoch = self.epoch
            batches = DataLoader(
                pictures, max(1, recipe.batch // processes), sampler=share_of(len(pictures), recipe.batch),
                num_workers=recipe.workers, collate_fn=collate,
            )  # fmt: skip
            bar = tqdm(batches, desc=f"epoch {self.epoch + 1}/{recipe.epochs}", unit="batch", disable=rank > 0)
            for images, wanted in bar:
                inputs = images.to(self.device).float().contiguous(memory_format=torch.channels_last)
                self.network.bend(self._bent())
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
                    losses = self._losses(inputs, wanted.to(self.device))
                self.network.zero_grad()
                (losses.scores + losses.boxes).backward()  # type: ignore[no-untyped-call]
                average_gradients(self.network.parameters())
                nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
                self.optimizer.step(self._step_size(len(batches)))
                self.step += 1
                self._average()
                bar.set_postfix(_shown(losses))
            self.averaged.bend(1.0)  # as it will run, also while it is still on its way there
            self.history.append(told_by_first(lambda: validate(copy.deepcopy(self.averaged).to(CPU)), self.device))
            if self.history[-1] == max(self.history):
                self.save(BEST)
            self.epoch += 1
            self.save(CHECKPOINT)
        if rank > 0:
            return self.averaged.eval()
        return load_weights(self.folder / BEST)

    def _losses(self, inputs: Tensor, wanted: Targets) -> Losses:
        if self.recipe.learns == "names":
            assert self.teacher is not None
            return names_losses(*now_and_before(self.network, self.teacher, inputs), wanted)
        told = self.network.predicted(inputs)
        own = detection_losses(told, wanted)
        if self.teacher is None:
            return own
        with torch.no_grad():
            taught = self.teacher.predicted(inputs)
        distance, share = distillation_losses(told, taught), self.recipe.taught
        return Losses(*((1 - share) * one + share * other for one, other in zip(own, distance, strict=True)))

    def _bent(self) -> float:
        """How much of the recipe's activation there is at this step: ReLU comes by and by, being so unlike SiLU."""
        if self.recipe.activation != "relu" or self.recipe.learns == "names":
            return 1.0
        return min(1.0, self.step / max(1, self.recipe.ramp))

    def _step_size(self, batches: int) -> float:
        """Warm-up, then half a cosine down to a fiftieth."""
        turn = 0.5 * (1 + math.cos(math.pi * self.step / (self.recipe.epochs * batches)))
        return self.recipe.step * min(1.0, self.step / max(1, self.recipe.warmup)) * (0.02 + 0.98 * turn)

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for average, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            average.lerp_(weight, 1 - kept)

    def _stuck(self) -> bool:
        best = self.history.index(max(self.history)) if self.history else 0
        return bool(self.recipe.patience) and len(self.history) - 1 - best >= self.recipe.patience

    def save(self, name: str) -> None:
        """Write a checkpoint, whole or not at all. Of several processes the first does."""
        if place()[0] > 0:
            return
        state = {
            "recipe": asdict(self.recipe),
            "architecture": self.network.architecture,
            "classes": self.network.classes,
            "activation": self.network.activation,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
        }
        write_checkpoint(self.folder / name, state)

    @classmethod
    def resume(cls, folder: Path, epochs: int | None = None, device: torch.device = CPU) -> Self:
        """Go on where a checkpoint stopped. epochs: another end than planned (the cosine then ends there)."""
        state = read_checkpoint(folder / CHECKPOINT)
        told = state["recipe"] | ({"epochs": epochs} if epochs is not None else {})
        training = cls(_network(state), Recipe(**told), folder, device)
        training.network.load_state_dict(state["network"])
        training.averaged.load_state_dict(state["averaged"])
        training.optimizer.restore(state["optimizer"])
        training.epoch, training.step, training.history = state["epoch"], state["step"], state["history"]
        return training


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint. Raises ModelError naming the file."""
    return read_state(path, "this program", keys=("averaged", "classes"))


def task_of(path: Path) -> str:
    """What a checkpoint was trained for: detection, classification. Raises ModelError naming the file."""
    return str(read_state(path, "this program").get("task", "detection"))


def _network(state: dict[str, Any]) -> Network:
    """A checkpoint's network; those of the first runs name neither architecture nor activation."""
    return network_of(state.get("architecture", "yolox-nano"), state["classes"], state.get("activation", "silu"))


def load_weights(path: Path) -> Network:
    """The averaged weights of a checkpoint, in a network ready to use."""
    state = read_checkpoint(path)
    network = _network(state)
    network.load_state_dict(state["averaged"])
    return network.eval()


def interpolated(start: Network, trained: Network, share: float) -> Network:
    """(1 - share) * start + share * trained, weight by weight: a little of the start undoes forgetting.

    Wortsman et al.: "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    mixed = copy.deepcopy(trained)
    weights: dict[str, Tensor] = start.state_dict()
    mixed.load_state_dict({k: torch.lerp(weights[k], v, share) for k, v in trained.state_dict().items()})
    return mixed


def mean_of(networks: dict[str, Network]) -> Network:
    """The mean of the weights of networks that set out from the same ones (several seeds or mixes of data), by name.

    Wortsman et al.: "Model soups", ICML 2022. Raises ModelError naming one that is not the same network.
    """
    (first, mixed), *others = networks.items()
    for count, (name, other) in enumerate(others, 2):
        if (other.architecture, other.activation) != (mixed.architecture, mixed.activation):
            raise ModelError(
                f"{name}: is {other.architecture} with {other.activation}, {first} {mixed.architecture} with "
                f"{mixed.activation}", mend="only weights of one network have a mean",
            )  # fmt: skip
        mixed = interpolated(mixed, other, 1 / count)
    return mixed


def _shown(losses: Losses) -> dict[str, str]:
    return {"scores": f"{float(losses.scores.detach()):.2f}", "boxes": f"{float(losses.boxes.detach()):.2f}"}
