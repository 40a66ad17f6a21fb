"""What is lost where the crop stays: clips that are held out, seen through places that a stay may have left.

A crop stays while it holds at least ``keep`` of what the best place holds: a clip may be seen through any such place.
Most labelled clips are one window long, and nothing stays in them. So each is seen from one of those places at random,
from the one of them that holds least, and from where its first half alone puts the crop, if that is one of them: as
near as such clips come to what the clip before leaves. The heads are trained as ever, and the thresholds are theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.core.clip_crop import Crop, crop_at, held_weights
from training.scene.evaluate import Gate, Scored, gated, score_assignments, train_folds
from training.scene.features import Extractor, VideoClips, clip_indices, weights_of
from training.scene.folds import ASSIGNMENTS, auc
from training.scene.frames import people_of
from training.scene.head import HeadShape, SceneHead
from training.scene.trainer import SceneRecipe

FIGURES = ("accuracy", "AUC", "fights found", "false clips")
"""Accuracy at 0.5; positives found and clips of ordinary videos that pass, behind the gate and at the alarm threshold
that was chosen on the other folds, crops as they are."""

Way = Literal["at random", "holds least", "by the first half"]
"""Which of the places that hold enough; by the first half: the best place where its own holds too little."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One way to place the crops. keep: the least share of the best place's weight. draw: number of a random one."""

    keep: float
    way: Way
    draw: int = 0

    def place(self, held: NDArray[np.float64], half: NDArray[np.float64], seed: tuple[int, ...]) -> tuple[int, int]:
        """The place of one clip, y and x of ``held``. half: what the first half of the clip alone holds at each place.
        seed: the clip's own.

        A draw orders all places once, whatever ``keep`` is: what differs between two shares is the share.
        """
        allowed = held >= self.keep * held.max()
        order = -held
        if self.way == "at random":
            order = np.random.default_rng((self.draw, *seed)).random(held.shape)
        elif self.way == "holds least":
            order = held
        elif half.any() and allowed.flat[half.argmax()]:
            order = -half
        y, x = divmod(int(np.where(allowed, order, np.inf).argmin()), held.shape[1])
        return y, x


@dataclass(frozen=True, slots=True, eq=False)
class KeptScore:
    """What one share does. keep, way: None for the crops as they are. moved: share of the labelled clips that are not
    seen in their own crops, mean over the draws. figures: a row a draw, a column each of ``FIGURES``, means over the
    assignments of folds."""

    keep: float | None
    way: Way | None
    moved: float
    figures: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SeenElsewhere:
    """Clips as several stays show them. rows: of all clips as they are, then of those that are seen elsewhere.
    of: a row for each stay and clip."""

    rows: torch.Tensor
    of: NDArray[np.int64]


def stays_of(keeps: Sequence[float], draws: int) -> list[Stay]:
    """Every stay to look at: each share in each way, at random so many times."""
    return [
        Stay(keep, way, draw)
        for keep in keeps
        for way in get_args(Way)
        for draw in range(draws if way == "at random" else 1)
    ]


def see_elsewhere(
    extractor: Extractor, videos: Sequence[VideoClips], head: SceneHead, stays: Sequence[Stay], gate: Gate
) -> SeenElsewhere:
    """Encode the clips anew where a stay shows them elsewhere. Ordinary clips behind a shut gate score 0 wherever they
    are cut, and stay as they are."""
    with torch.no_grad():
        rows = [head.rows(torch.from_numpy(each.features)) for each in videos]
        count = sum(len(each) for each in rows)
        of, first = np.tile(np.arange(count), (len(stays), 1)), 0
        for number, video in enumerate(tqdm(videos, desc="seen elsewhere", unit="video")):
            wanted: dict[tuple[int, Crop], int] = {}
            for (s, i), crop in _crops(extractor, video, number, stays, gate).items():
                of[s, first + i] = wanted.setdefault((i, crop), count + len(wanted))
            if wanted:
                rows.append(head.rows(torch.from_numpy(extractor.recut(video, [*wanted])).float()))
            count, first = count + len(wanted), first + len(video.starts_us)
    return SeenElsewhere(torch.cat(rows), of)


def _crops(
    extractor: Extractor, video: VideoClips, number: int, stays: Sequence[Stay], gate: Gate
) -> dict[tuple[int, int], Crop]:
    """(stay, clip) -> crop, where it is not the clip's own."""
    plan, found = extractor.plan, dict[tuple[int, int], Crop]()
    people = people_of(video.clip.path, extractor.detector, extractor.cache)
    looked = np.ones(len(video.starts_us), np.bool_)
    if video.clip.ordinary:
        looked = video.gate(gate.persons, gate.share)
    for i, index in enumerate(clip_indices(people.times_us, plan)):
        weights = weights_of(people, index, plan)
        if not looked[i] or not weights.any():  # where nothing moves, a crop stays as it is
            continue
        held = held_weights(weights, plan.width, plan.height)
        half = held_weights(weights_of(people, index[: plan.stride], plan), plan.width, plan.height)
        for s, stay in enumerate(stays):
            crop = crop_at(*stay.place(held, half, (number, i)), weights, plan.width, plan.height)
            if not np.array_equal(crop, video.crops[i]):
                found[s, i] = crop
    return found


def evaluate_kept(
    extractor: Extractor,
    videos: Sequence[VideoClips],
    kind: str,
    gate: Gate,
    recipe: SceneRecipe,
    keeps: Sequence[float],
    draws: int,
) -> list[KeptScore]:
    """Cross-validate, each head asked about clips as they are cut, and as each share and draw would show them."""
    kept = [each for each in videos if len(each.starts_us)]
    shape = HeadShape()
    stays = stays_of(keeps, draws)
    seen = see_elsewhere(extractor, kept, SceneHead(shape), stays, gate)
    told = np.zeros((ASSIGNMENTS, 1 + len(stays), len(FIGURES)))
    for a in range(ASSIGNMENTS):
        trained = train_folds(kept, kind, shape, recipe, a, show=f"folds {a + 1}/{ASSIGNMENTS}")
        plain = trained.scored(trained.taught.rows)
        starts = np.array(score_assignments([plain], kind, gate).start)
        each_way = [plain, *(trained.scored(seen.rows[torch.from_numpy(of)]) for of in seen.of)]
        told[a] = [_figures(each, starts, gate) for each in each_way]
    figures, made = told.mean(0), ~trained.taught.ordinary
    moved = (seen.of != np.arange(seen.of.shape[1]))[:, made].mean(1)
    scores = [KeptScore(None, None, 0.0, figures[:1])]
    for keep, way in dict.fromkeys((each.keep, each.way) for each in stays):
        mine = [s for s, each in enumerate(stays) if (each.keep, each.way) == (keep, way)]
        scores.append(KeptScore(keep, way, float(moved[mine].mean()), figures[1:][mine]))
    return scores


def _figures(scored: Scored, starts: NDArray[np.float64], gate: Gate) -> tuple[float, ...]:
    """One assignment's ``FIGURES``. starts: of each fold."""
    made, labels, highest = ~scored.ordinary, scored.labels, scored.highest
    passing = [each >= starts[fold] for each, fold in zip(gated(scored, gate), scored.fold, strict=True)]
    found = [bool(passing[i].any()) for i in np.flatnonzero(made & labels)]
    false = [bool(each) for i in np.flatnonzero(~made) for each in passing[i]]
    right = ((highest >= 0.5) == labels)[made]
    return float(right.mean()), auc(highest[made], labels[made]), _mean(found), _mean(false)


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else 0.0


def table(scores: Sequence[KeptScore]) -> str:
    """Markdown: a row a share and way to place."""
    names = [f"{name} (sd)" for name in FIGURES]
    lines = [f"| crop kept from | place | seen elsewhere | {' | '.join(names)} |", "| --- " * (3 + len(names)) + "|"]
    for each in scores:
        draws = len(each.figures)
        place = f"{each.way}, {draws} draws" if draws > 1 else each.way or "the best"
        keep = "as it is" if each.keep is None else f"{each.keep:g}"
        cells = [
            f"{value:{form}}" + (f" ({spread:{form}})" if draws > 1 else "")
            for value, spread, form in zip(
                each.figures.mean(0), each.figures.std(0), (".3f", ".3f", ".1%", ".2%"), strict=True
            )
        ]
        lines.append(f"| {keep} | {place} | {each.moved:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)
