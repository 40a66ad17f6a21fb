"""The head's training loop: one page, seeded, resumable. The trunk is frozen, so clips are features already."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from pipeline.errors import ModelError
from training.checkpoints import read_state, write_checkpoint
from training.scene.head import HeadShape, SceneHead, ranks_of

CHECKPOINT = "last.pt"


@dataclass(frozen=True, slots=True)
class SceneRecipe:
    """How a head is trained; a checkpoint holds it.

    ordinary: weight of all ordinary clips, and how many are drawn an epoch, for each labelled clip. smoothing: of the
    labels. clip: of the gradient's norm. step, weight_decay: AdamW's (Loshchilov, Hutter 2019), on one cycle (Smith,
    Topin 2018). ridge: the linear reader's penalty, a column. rank_gain, lstm_gain: what the readers' outputs are
    multiplied by before they are summed.
    """

    epochs: int = 15
    batch: int = 32
    step: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    ordinary: float = 0.1
    clip: float = 1.0
    ridge: float = 0.12
    rank_gain: float = 3.0
    lstm_gain: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """Clips to learn from. rows: N x S x C, as ``SceneHead.rows`` gives them. labels: N x K, 0 or 1. known: N x K
    bool, where a label is meant at all. ordinary: N bool, drawn by the recipe's share; the others are all used.
    again: M x R, further views of some of these clips as ``ranks_of`` gives them. again_of: M, of which clip each is.
    """

    rows: Tensor
    labels: Tensor
    known: Tensor
    ordinary: NDArray[np.bool_]
    again: Tensor
    again_of: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> Taught:
        """Some of them, with their views."""
        kept, views = torch.from_numpy(np.flatnonzero(chosen)), chosen[self.again_of]
        place = np.cumsum(chosen, dtype=np.int64) - 1
        again, again_of = self.again[torch.from_numpy(views)], place[self.again_of[views]]
        return Taught(self.rows[kept], self.labels[kept], self.known[kept], self.ordinary[chosen], again, again_of)


class SceneTraining:
    """A head on its way: weights, optimiser, epoch. folder: where checkpoints go (None: nowhere)."""

    def __init__(self, shape: HeadShape, recipe: SceneRecipe, taught: Taught, folder: Path | None = None) -> None:
        self.recipe, self.taught, self.folder = recipe, taught, folder
        self.labelled = np.flatnonzero(~taught.ordinary)
        self.others = np.flatnonzero(taught.ordinary)
        if not len(self.labelled):
            raise ModelError("there is no labelled clip to learn from", mend="look at the data file's sets")
        torch.manual_seed(recipe.seed)
        self.head = SceneHead(shape)
        self.head.standardise(taught.rows[torch.from_numpy(self.labelled)])
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=recipe.step, weight_decay=recipe.weight_decay)
        batches = -(-len(self._drawn(0)) // recipe.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.step, total_steps=batches * recipe.epochs
        )
        self.epoch = 0
        self.finished = False
        self.kinds: tuple[str, ...] = ()

    def run(self, *, show: str = "", until: int | None = None) -> SceneHead:
        """Train to the end (or to epoch ``until``); the head, ready to use."""
        told = tqdm(total=self.recipe.epochs, initial=self.epoch, desc=show, unit="epoch", disable=not show)
        if not self.head.shape.lstm:
            self.epoch = self.recipe.epochs
        with told as bar:
            while self.epoch < (until or self.recipe.epochs):
                torch.manual_seed(self.recipe.seed * 1000 + self.epoch)  # dropout goes on alike after a resume
                self.head.train()
                losses = [self._step(torch.from_numpy(each)) for each in self._batches()]
                self.epoch += 1
                bar.update()
                bar.set_postfix(loss=f"{np.mean(losses):.3f}")
                if self.folder is not None:
                    self.save(self.folder / CHECKPOINT)
        if self.epoch == self.recipe.epochs and not self.finished:
            finish_head(self.head, self.recipe, self.taught)
            self.finished = True
        return self.head.eval()

    def _step(self, chosen: Tensor) -> float:
        logits, _ = self.head.read(self.taught.rows[chosen])
        loss = masked_loss(logits, self.taught.labels[chosen], self.taught.known[chosen], self.recipe.smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.head.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def _batches(self) -> list[NDArray[np.int64]]:
        drawn = self._drawn(self.epoch)
        return np.array_split(drawn, -(-len(drawn) // self.recipe.batch))

    def _drawn(self, epoch: int) -> NDArray[np.int64]:
        """The clips of an epoch, mixed: every labelled one, and so many of the ordinary ones."""
        random = np.random.default_rng((self.recipe.seed, epoch))
        count = min(len(self.others), round(self.recipe.ordinary * len(self.labelled)))
        chosen = np.concatenate([self.labelled, random.choice(self.others, count, replace=False)])
        return np.asarray(random.permutation(chosen), np.int64)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "shape": asdict(self.head.shape),
            "recipe": asdict(self.recipe),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "finished": self.finished,
            "kinds": list(self.kinds),
        }
        write_checkpoint(path, state)

    @classmethod
    def resume(cls, folder: Path, taught: Taught) -> Self:
        """Go on where a checkpoint stopped; ends with the weights of an undisturbed run."""
        state = read_scene_checkpoint(folder / CHECKPOINT)
        training = cls(HeadShape(**state["shape"]), SceneRecipe(**state["recipe"]), taught, folder)
        training.head.load_state_dict(state["head"])
        training.optimizer.load_state_dict(state["optimizer"])
        training.schedule.load_state_dict(state["schedule"])
        training.epoch, training.finished = state["epoch"], state["finished"]
        return training


def masked_loss(logits: Tensor, labels: Tensor, known: Tensor, smoothing: float) -> Tensor:
    """The cross-entropy of each kind, mean over what is known. All B x K."""
    wanted = labels * (1 - smoothing) + smoothing / 2
    told = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (told * known).sum() / known.sum().clamp(min=1)


def read_scene_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint. Raises ModelError naming the file."""
    return read_state(path, "a scene head", keys=("shape", "head"))


def load_head(path: Path) -> SceneHead:
    """The head of a checkpoint, ready to use."""
    state = read_scene_checkpoint(path)
    head = SceneHead(HeadShape(**state["shape"]))
    head.load_state_dict(state["head"])
    return head.eval()


@torch.no_grad()
def finish_head(head: SceneHead, recipe: SceneRecipe, taught: Taught) -> None:
    """Solve the linear reader, with all views, and weigh the two readers against each other: training's last step."""
    factor = recipe.lstm_gain if head.shape.ranks and head.shape.lstm else float(head.shape.lstm)
    head.classify.weight.mul_(factor)
    head.classify.bias.mul_(factor)
    if not head.shape.ranks:
        return
    ranks = torch.cat([ranks_of(taught.rows), taught.again])
    clip = torch.cat([torch.arange(len(taught.rows)), torch.from_numpy(taught.again_of)])
    others = max(1, int(taught.ordinary.sum()))
    share = recipe.ordinary * float((~taught.ordinary).sum()) / others
    weights = torch.from_numpy(np.where(taught.ordinary, min(1.0, share), 1.0))
    weights = (weights / clip.bincount())[clip]  # a clip has one weight, which its views share
    assert isinstance(head.rank_weight, Tensor)
    assert isinstance(head.bias, Tensor)
    for kind in range(head.shape.kinds):
        known = taught.known[clip, kind] > 0
        wanted = 2 * taught.labels[clip[known], kind].double() - 1
        told = ridge(ranks[known].double(), wanted, weights[known], recipe.ridge)
        head.rank_weight[kind] = recipe.rank_gain * told.weight.float()
        head.bias[kind] = recipe.rank_gain * (told.bias - told.weight @ told.mean).float()


class Ridge(NamedTuple):
    """``bias + (x - mean) @ weight``."""

    weight: Tensor
    mean: Tensor
    bias: Tensor


def ridge(rows: Tensor, wanted: Tensor, weights: Tensor, penalty: float) -> Ridge:
    """Weighted ridge regression (Hoerl, Kennard 1970) on standardised columns, in its dual form where that is smaller.

    rows: N x C. wanted, weights: N. penalty: a column, so that twice the columns are penalised alike.
    """
    total = weights.sum()
    mean = (weights[:, None] * rows).sum(0) / total
    spread = ((weights[:, None] * (rows - mean) ** 2).sum(0) / total).sqrt() + 1e-6
    bias = (weights * wanted).sum() / total
    scaled = (rows - mean) / spread
    least = penalty * rows.shape[1]
    if len(rows) > rows.shape[1]:
        weighed = scaled.T * weights
        found = torch.linalg.solve(weighed @ scaled + least * torch.eye(len(weighed)), weighed @ (wanted - bias))
    else:
        dual = torch.linalg.solve(scaled @ scaled.T + torch.diag(least / weights), wanted - bias)
        found = scaled.T @ dual
    return Ridge(found / spread, mean, bias)


@torch.no_grad()
def logits_of(head: SceneHead, rows: Tensor) -> NDArray[np.float64]:
    """N x K, as the exported head has them before its sigmoid."""
    head.eval()
    return np.asarray(head.judge(rows)[0].numpy(), np.float64)
