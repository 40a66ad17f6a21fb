"""The textbook's transfer learning: a trunk that knows ImageNet, a new head on it, then all of it with a small step.

Phase one: the trunk is frozen; of each clip there is what it sees, once, and the head learns on that. Phase two: trunk
and head learn together from the pixels, mirrored at random. Seeded, resumable after every epoch. (Yosinski, Clune,
Bengio, Lipson: "How transferable are features in deep neural networks?", NIPS 2014.)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.errors import ModelError
from training.checkpoints import read_state, write_checkpoint
from training.models.imagenet import ImageTrunk
from training.models.trunk_names import TrunkName
from training.scene.head import HeadShape, SceneHead
from training.scene.trainer import CHECKPOINT, masked_loss
from training.scene.trunk import GRID

_AT_ONCE = 32
"""Pictures that the frozen trunk looks at together."""


@dataclass(frozen=True, slots=True)
class TransferRecipe:
    """How to transfer; a checkpoint holds it.

    side: of the square pictures, pixels. epochs, batch, step: of phase one; fine_epochs, fine_batch, fine_step: of
    phase two. Both batches are clips; the steps are AdamW's, each phase on a falling half cosine. smoothing: of the
    labels. clip: of the gradient's norm.
    """

    trunk: TrunkName = "resnet50"
    side: int = 224
    epochs: int = 15
    fine_epochs: int = 3
    batch: int = 32
    fine_batch: int = 4
    step: float = 2e-3
    fine_step: float = 5e-5
    weight_decay: float = 0.05
    smoothing: float = 0.1
    clip: float = 1.0
    dropout: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Clips to learn from. pictures: N x T x S x S x 3 uint8 RGB. rows: N x T x C, what the untouched trunk makes of
    them (``SceneHead.rows``). labels, known: N x K float32, as in ``training.scene.trainer.Taught``."""

    pictures: NDArray[np.uint8]
    rows: Tensor
    labels: Tensor
    known: Tensor

    def part(self, chosen: NDArray[np.bool_]) -> Shown:
        """Some of them."""
        kept = torch.from_numpy(np.flatnonzero(chosen))
        return Shown(self.pictures[chosen], self.rows[kept], self.labels[kept], self.known[kept])


def head_shape(trunk: ImageTrunk, recipe: TransferRecipe, kinds: int) -> HeadShape:
    """The textbook's head: an LSTM with attention on what each picture shows, not on how it changes."""
    cells = GRID[0] * GRID[1]
    return HeadShape(
        kinds, trunk.channels, cells, dropout=recipe.dropout, appearance=True, ranks=False
    )  # fmt: skip


@torch.no_grad()
def rows_of(trunk: ImageTrunk, head: SceneHead, pictures: NDArray[np.uint8]) -> Tensor:
    """N x T x C: what the trunk makes of clips (N x T x S x S x 3 uint8)."""
    told = []
    for clip in pictures:
        parts = [trunk(torch.from_numpy(clip[i : i + _AT_ONCE])) for i in range(0, len(clip), _AT_ONCE)]
        told.append(head.rows(torch.cat(parts)[None]))
    return torch.cat(told) if told else torch.zeros(0)


class TransferTraining:
    """Trunk and head on their way. The trunk given is changed in phase two: hand over a copy to keep one.

    epoch: counts through both phases. folder: where checkpoints go (None: nowhere).
    """

    def __init__(
        self,
        recipe: TransferRecipe,
        trunk: ImageTrunk,
        shown: Shown,
        kinds: tuple[str, ...],
        folder: Path | None = None,
    ) -> None:
        if not len(shown.labels):
            raise ModelError("there is no labelled clip to learn from", mend="look at the data file's sets")
        torch.manual_seed(recipe.seed)
        self.recipe, self.trunk, self.shown, self.kinds, self.folder = recipe, trunk, shown, kinds, folder
        self.head = SceneHead(head_shape(trunk, recipe, len(kinds)))
        self.head.standardise(shown.rows)
        self.epoch = 0
        self._begin(fine=False)

    @property
    def epochs(self) -> int:
        """Of both phases."""
        return self.recipe.epochs + self.recipe.fine_epochs

    def run(self, *, show: str = "", until: int | None = None) -> Self:
        """Train to the end (or to epoch ``until``)."""
        end = min(until if until is not None else self.epochs, self.epochs)
        with tqdm(total=self.epochs, initial=self.epoch, desc=show, unit="epoch", disable=not show) as bar:
            while self.epoch < end:
                if self.epoch >= self.recipe.epochs and not self.fine:
                    self._begin(fine=True)
                bar.set_postfix(loss=f"{self._learn():.3f}", phase=2 if self.fine else 1)
                self.epoch += 1
                bar.update()
                if self.folder is not None:
                    self.save(self.folder / CHECKPOINT)
        self.head.eval()
        return self

    def _begin(self, *, fine: bool) -> None:
        """Enter a phase: what learns in it, and a new optimiser."""
        self.fine = fine
        self.trunk.requires_grad_(fine)
        learning = [*self.head.parameters(), *(self.trunk.parameters() if fine else ())]
        step = self.recipe.fine_step if fine else self.recipe.step
        self.optimizer = torch.optim.AdamW(learning, lr=step, weight_decay=self.recipe.weight_decay)

    def _learn(self) -> float:
        """One epoch; its mean loss."""
        recipe = self.recipe
        torch.manual_seed(recipe.seed * 1000 + self.epoch)  # dropout goes on alike after a resume
        random = np.random.default_rng((recipe.seed, self.epoch))
        size = recipe.fine_batch if self.fine else recipe.batch
        drawn = random.permutation(len(self.shown.labels))
        batches = np.array_split(drawn, -(-len(drawn) // size))
        begun, length = (recipe.epochs, recipe.fine_epochs) if self.fine else (0, recipe.epochs)
        self.head.train()
        losses = []
        for i, chosen in enumerate(batches):
            done = (self.epoch - begun + i / len(batches)) / length
            for group in self.optimizer.param_groups:
                group["lr"] = (recipe.fine_step if self.fine else recipe.step) * 0.5 * (1 + math.cos(math.pi * done))
            losses.append(self._step(torch.from_numpy(chosen), random))
        return float(np.mean(losses))

    def _step(self, chosen: Tensor, random: np.random.Generator) -> float:
        logits, _ = self.head.read(self._seen(chosen, random) if self.fine else self.shown.rows[chosen])
        loss = masked_loss(logits, self.shown.labels[chosen], self.shown.known[chosen], self.recipe.smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        learning = [each for group in self.optimizer.param_groups for each in group["params"]]
        nn.utils.clip_grad_norm_(learning, self.recipe.clip)
        self.optimizer.step()
        return float(loss.detach())

    def _seen(self, chosen: Tensor, random: np.random.Generator) -> Tensor:
        """What the trunk makes of these clips now, each mirrored or not."""
        clips = torch.from_numpy(self.shown.pictures[chosen.numpy()])
        mirrored = torch.from_numpy(random.random(len(clips)) < 0.5)
        clips = torch.where(mirrored[:, None, None, None, None], clips.flip(3), clips)
        features: Tensor = self.trunk(clips.flatten(0, 1))
        return self.head.rows(features.reshape(*clips.shape[:2], -1))

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "task": "transfer", "recipe": asdict(self.recipe), "kinds": list(self.kinds), "epoch": self.epoch,
            "fine": self.fine, "trunk": self.trunk.state_dict(), "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        write_checkpoint(path, state)

    @classmethod
    def resume(cls, folder: Path, shown: Shown) -> Self:
        """Go on where a checkpoint stopped; ends with the weights of an undisturbed run."""
        state = read_transfer(folder / CHECKPOINT)
        recipe = TransferRecipe(**state["recipe"])
        training = cls(recipe, ImageTrunk(recipe.trunk, recipe.side, GRID), shown, tuple(state["kinds"]), folder)
        training.trunk.load_state_dict(state["trunk"])
        training.trunk.to(memory_format=torch.channels_last)
        training.head.load_state_dict(state["head"])
        training._begin(fine=state["fine"])
        training.optimizer.load_state_dict(state["optimizer"])
        training.epoch = state["epoch"]
        return training


@torch.no_grad()
def transfer_logits(training: TransferTraining, shown: Shown) -> NDArray[np.float64]:
    """N x K: what the network says of clips."""
    head = training.head.eval()
    rows = rows_of(training.trunk, head, shown.pictures) if training.fine else shown.rows
    return np.asarray(head.judge(rows)[0].numpy(), np.float64)


def read_transfer(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint. Raises ModelError naming the file."""
    return read_state(path, "transfer learning", task="transfer")
