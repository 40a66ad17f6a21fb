"""The classifier's loop: one page, seeded, resumable, on a GPU where there is one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from pipeline.inference.classifier import stretched
from training.checkpoints import read_state, write_checkpoint
from training.classifier.network import SHAPE, Classifier
from training.classifier.pictures import Picture, VariedPictures
from training.devices import CPU
from training.optimizers import Optimizer, optimizer_of
from training.scalars import Scalars

CHECKPOINT, BEST = "last.pt", "best.pt"
Loss = Literal["cross-entropy", "mse"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train; a checkpoint holds it.

    pictures: an epoch. loss: cross-entropy, or mse between probabilities and the wanted ones (the Brier score).
    clip: largest norm of the gradient. patience: epochs without a better validation loss after which it stops (0:
    never). smoothing: of the wanted probabilities. amp: half precision where it runs on a GPU.
    """

    epochs: int = 16
    pictures: int = 1024
    batch: int = 64
    optimizer: Optimizer = "adamw"
    step: float = 2e-3
    weight_decay: float = 0.02
    loss: Loss = "cross-entropy"
    smoothing: float = 0.05
    clip: float = 5.0
    patience: int = 6
    channels: int = 16
    dropout: float = 0.3
    seed: int = 0
    amp: bool = True
    shape: tuple[int, int] = SHAPE


class Training:
    """A network on its way, its optimiser, and what validation said."""

    def __init__(self, classes: Sequence[str], recipe: Recipe, folder: Path, device: torch.device = CPU) -> None:
        torch.manual_seed(recipe.seed)
        self.classes, self.recipe, self.folder = tuple(classes), recipe, folder
        self.device = device
        network = Classifier(len(classes), recipe.channels, recipe.dropout)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = optimizer_of(recipe.optimizer, self.network.parameters(), recipe.step, recipe.weight_decay)
        self.amp = recipe.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self.epoch = 0
        self.history: list[float] = []

    def run(self, pictures: VariedPictures, validation: Sequence[Picture], *, show: bool = True) -> Classifier:
        """Train to the end, or until validation gets no better; the network of the best epoch."""
        recipe = self.recipe
        scalars = Scalars(self.folder)
        while self.epoch < recipe.epochs and not self._stuck():
            pictures.epoch = self.epoch
            torch.manual_seed(recipe.seed + 7919 * (self.epoch + 1))  # dropout: the same whether resumed or not
            self.network.train()
            batches = DataLoader(pictures, recipe.batch)
            schedule = _cosine(recipe.step, self.epoch, recipe.epochs, len(batches))
            bar = tqdm(batches, desc=f"epoch {self.epoch + 1}/{recipe.epochs}", unit="batch", disable=not show)
            losses = []
            for i, (images, labels) in enumerate(bar):
                for group in self.optimizer.param_groups:
                    group["lr"] = float(schedule[i])
                losses.append(self._step(images.to(self.device), labels.to(self.device)))
                bar.set_postfix(loss=f"{losses[-1]:.3f}")
            loss, accuracy = self.validate(validation)
            scalars.add(self.epoch, {"train/loss": float(np.mean(losses)), "val/loss": loss, "val/accuracy": accuracy})
            self.history.append(loss)
            self.epoch += 1
            if loss == min(self.history):
                self.save(BEST)
            self.save(CHECKPOINT)
        scalars.close()
        return load_classifier(self.folder / BEST)[0]

    def _step(self, images: Tensor, labels: Tensor) -> float:
        fed = images.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.float16, enabled=self.amp):
            loss = loss_of(self.recipe, self.network(fed).float(), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(loss.detach())

    def validate(self, pictures: Sequence[Picture]) -> tuple[float, float]:
        """Cross-entropy and accuracy, each class weighing the same."""
        told = probabilities(self.network, pictures, self.recipe.shape)
        labels = np.array([each.label for each in pictures])
        rows = -np.log(told[np.arange(len(labels)), labels].clip(1e-6)), told.argmax(1) == labels
        loss, accuracy = (float(np.mean([row[labels == k].mean() for k in np.unique(labels)])) for row in rows)
        return loss, accuracy

    def _stuck(self) -> bool:
        best = self.history.index(min(self.history)) if self.history else 0
        return bool(self.recipe.patience) and len(self.history) - 1 - best >= self.recipe.patience

    def save(self, name: str) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "task": "classification",
            "recipe": asdict(self.recipe),
            "classes": list(self.classes),
            "network": copy.deepcopy(self.network).cpu().state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "history": self.history,
        }
        write_checkpoint(self.folder / name, state)

    @classmethod
    def resume(cls, folder: Path, epochs: int | None = None, device: torch.device = CPU) -> Self:
        """Go on where a checkpoint stopped. epochs: another end than planned (the cosine then ends there)."""
        state = read_classifier_checkpoint(folder / CHECKPOINT)
        told = state["recipe"] | ({"epochs": epochs} if epochs is not None else {})
        training = cls(state["classes"], Recipe(**told), folder, device)
        training.network.load_state_dict(state["network"])
        training.optimizer.load_state_dict(state["optimizer"])
        training.scaler.load_state_dict(state["scaler"])
        training.epoch, training.history = state["epoch"], state["history"]
        return training


def loss_of(recipe: Recipe, logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of a batch. logits: B x C. labels: B int64."""
    if recipe.loss == "cross-entropy":
        return functional.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
    classes = logits.shape[1]
    wanted = functional.one_hot(labels, classes) * (1 - recipe.smoothing) + recipe.smoothing / classes
    return functional.mse_loss(logits.softmax(1), wanted.to(logits.dtype))


@torch.no_grad()
def probabilities(network: Classifier, pictures: Sequence[Picture], shape: tuple[int, int]) -> np.ndarray:
    """N x C float32: what the network says of each picture, scaled as the pipeline does."""
    network.eval()
    device = next(network.parameters()).device
    told = []
    for start in range(0, len(pictures), 64):
        batch = np.stack([stretched(each.image, *shape) for each in pictures[start : start + 64]])
        fed = torch.from_numpy(batch).permute(0, 3, 1, 2).float().to(device)
        told.append(network(fed).softmax(1).cpu().numpy())
    return np.concatenate(told) if told else np.zeros((0, network.classes), np.float32)


def read_classifier_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a classifier's checkpoint. Raises ModelError naming the file."""
    state = read_state(path, "a classifier", task="classification")
    state["recipe"]["shape"] = tuple(state["recipe"]["shape"])
    return state


def load_classifier(path: Path) -> tuple[Classifier, dict[str, Any]]:
    """The network of a checkpoint, ready to use, and the checkpoint."""
    state = read_classifier_checkpoint(path)
    network = Classifier(len(state["classes"]), state["recipe"]["channels"], state["recipe"]["dropout"])
    network.load_state_dict(state["network"])
    return network.eval(), state


def _cosine(step: float, epoch: int, epochs: int, batches: int) -> np.ndarray:
    """The step of each batch of an epoch: half a cosine over all epochs, after a warm-up of one epoch."""
    at = epoch + np.arange(1, batches + 1) / batches
    return step * np.minimum(1.0, at) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * at / max(epochs, 1))))
