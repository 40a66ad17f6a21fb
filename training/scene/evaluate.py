"""Cross-validation by scene: accuracy and AUC, and false alarms on ordinary videos that the head never saw.

Every clip is scored by a head that saw neither it nor its scene, and every threshold is chosen on the clips of the
other folds. Ordinary videos are divided by scene in the same way.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.analytics.clips import ClipSeen
from pipeline.analytics.scenes import SceneWatcher
from pipeline.core.rules import SceneKind
from training.scene.features import VideoClips
from training.scene.folds import ASSIGNMENTS, FOLDS, assign_folds, auc
from training.scene.head import HeadShape, SceneHead, rank_columns, ranks_of
from training.scene.trainer import SceneRecipe, SceneTraining, Taught, logits_of

FALSE_SHARE = 0.01
"""Of the clips of ordinary videos, that may pass gate and threshold where the threshold is chosen."""
LEAST_START = 0.5
END_BELOW = 0.15
"""How far the score has to fall below ``start`` until an event may end."""


@dataclass(frozen=True, slots=True)
class Gate:
    """People that have to be there: see ``SceneKind``."""

    persons: int = 2
    share: float = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one assignment of folds gave, a row a video. scores: of each of its clips, held out. fold: of the video."""

    videos: list[VideoClips]
    scores: list[NDArray[np.float64]]
    fold: NDArray[np.int64]
    labels: NDArray[np.bool_]

    @property
    def ordinary(self) -> NDArray[np.bool_]:
        """Which of the videos are ordinary ones."""
        return np.array([each.clip.ordinary for each in self.videos], np.bool_)

    @property
    def highest(self) -> NDArray[np.float64]:
        """Each video's highest score, before gates."""
        return np.array([each.max() if len(each) else 0.0 for each in self.scores], np.float64)


@dataclass(frozen=True, slots=True)
class SceneScore:
    """The figures of one kind, means over the assignments.

    accuracy, spread: at 0.5, mean and standard deviation over all folds. chosen: accuracy at the threshold that suited
    the other folds. auc: within an assignment. by_assignment: accuracy of each.
    start: the thresholds for alarms. false_share: of ordinary clips at ``start`` behind the gate. false_ungated:
    without the gate. false_hour: events an hour, so many clips in a row. found: share of labelled positives with a clip
    at ``start`` behind the gate. hours: of ordinary video, all of it held out.
    """

    accuracy: float
    spread: float
    chosen: float
    auc: float
    by_assignment: tuple[float, ...]
    start: tuple[float, ...]
    false_share: float
    false_ungated: float
    false_hour: float
    found: float
    hours: float
    ordinary_clips: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def taught_of(videos: Sequence[VideoClips], kinds: Sequence[str], head: SceneHead) -> Taught:
    """Every clip of the videos, with what is known of it and the further views that there are of it."""
    kept = [each for each in videos if len(each.starts_us)]
    counts = [len(each.features) for each in kept]
    first = np.cumsum([0, *counts])
    again, again_of = [torch.zeros(0, rank_columns(head.shape))], [np.zeros(0, np.int64)]
    with torch.no_grad():
        rows = torch.cat([head.rows(torch.from_numpy(each.features)) for each in kept])
        for each, start in zip(kept, first, strict=False):
            if each.again is not None and head.shape.ranks:
                views = torch.from_numpy(each.again).flatten(0, 1).float()
                again.append(ranks_of(head.rows(views)))
                again_of.append(np.repeat(start + np.arange(len(each.again)), each.again.shape[1]))
    labels = np.repeat([[kind in each.clip.kinds for kind in kinds] for each in kept], counts, 0)
    known = np.repeat([[kind in each.clip.known for kind in kinds] for each in kept], counts, 0)
    ordinary = np.repeat([each.clip.ordinary for each in kept], counts)
    tables = torch.from_numpy(labels).float(), torch.from_numpy(known).float()
    return Taught(rows, *tables, ordinary, torch.cat(again), np.concatenate(again_of))


@dataclass(frozen=True, slots=True, eq=False)
class FoldHeads:
    """One assignment of folds, trained. videos: those that have clips. taught: all their clips, in order. fold: of each
    video. heads: of each fold, which saw nothing of its scenes."""

    videos: list[VideoClips]
    kind: str
    taught: Taught
    fold: NDArray[np.int64]
    heads: list[SceneHead]

    @property
    def owner(self) -> NDArray[np.int64]:
        """Of which video each clip is."""
        return owners_of(self.videos)

    def scored(self, rows: torch.Tensor) -> Scored:
        """Every video by the head of its fold. rows: of each clip, as ``SceneHead.rows`` gives them."""
        owner = self.owner
        logits = np.zeros(len(owner))
        for k, head in enumerate(self.heads):
            mine = np.flatnonzero(self.fold[owner] == k)
            logits[mine] = logits_of(head, rows[torch.from_numpy(mine)])[:, 0]
        scores = 1 / (1 + np.exp(-logits))
        labels = np.array([self.kind in each.clip.kinds for each in self.videos], np.bool_)
        return Scored(self.videos, [scores[owner == i] for i in range(len(self.videos))], self.fold, labels)


def train_folds(
    videos: Sequence[VideoClips], kind: str, shape: HeadShape, recipe: SceneRecipe, assignment: int, *, show: str = ""
) -> FoldHeads:
    """Train a head for each fold on all the others."""
    kept = [each for each in videos if len(each.starts_us)]
    taught = taught_of(kept, [kind], SceneHead(shape))
    fold = folds_of(kept, kind, assignment)
    owner, heads = owners_of(kept), []
    for k in tqdm(range(FOLDS), desc=show, unit="fold", leave=False, disable=not show):
        seeded = SceneRecipe(**(asdict(recipe) | {"seed": recipe.seed + 10 * assignment + k}))
        heads.append(SceneTraining(shape, seeded, taught.part(fold[owner] != k)).run())
    return FoldHeads(kept, kind, taught, fold, heads)


def cross_validate(
    videos: Sequence[VideoClips], kind: str, shape: HeadShape, recipe: SceneRecipe, assignment: int, *, show: str = ""
) -> Scored:
    """Score every video by a head that saw nothing of its scene."""
    trained = train_folds(videos, kind, shape, recipe, assignment, show=show)
    return trained.scored(trained.taught.rows)


def owners_of(videos: Sequence[VideoClips]) -> NDArray[np.int64]:
    """Of which video each clip is, all clips in order."""
    return np.repeat(np.arange(len(videos)), [len(each.starts_us) for each in videos])


def folds_of(videos: Sequence[VideoClips], kind: str, assignment: int) -> NDArray[np.int64]:
    """The fold of each video: the labelled ones and the ordinary ones are each divided evenly."""
    fold = np.zeros(len(videos), np.int64)
    for ordinary in (False, True):
        mine = [i for i, each in enumerate(videos) if each.clip.ordinary == ordinary]
        scenes = [videos[i].clip.scene for i in mine]
        fold[mine] = assign_folds(scenes, [kind in videos[i].clip.kinds for i in mine], FOLDS, assignment)
    return fold


def best_threshold(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """The middle of the best stretch of thresholds for accuracy."""
    steps = np.linspace(0.02, 0.98, 193)
    right = np.array([((scores >= step) == labels).mean() for step in steps])
    return float(np.median(steps[right >= right.max() - 1e-9]))


def alarm_threshold(ordinary: NDArray[np.float64], share: float = FALSE_SHARE) -> float:
    """The lowest threshold, in hundredths from ``LEAST_START``, that at most ``share`` of ordinary clips reach.

    ordinary: their scores, 0 where the gate is shut.
    """
    for step in np.arange(LEAST_START, 0.991, 0.01):
        if (ordinary >= step).sum() <= share * len(ordinary):
            return round(float(step), 2)
    return 0.99


def gated(scored: Scored, gate: Gate) -> list[NDArray[np.float64]]:
    """The scores, 0 where the gate is shut."""
    return [
        np.where(video.gate(gate.persons, gate.share), scores, 0.0)
        for video, scores in zip(scored.videos, scored.scores, strict=True)
    ]


def score_assignments(all_scored: Sequence[Scored], kind: str, gate: Gate, clips: int = 2) -> SceneScore:
    """The figures, thresholds of each fold chosen on the other folds."""
    told = [_score_one(each, kind, gate, clips) for each in all_scored]
    folds = [accuracy for each in told for accuracy in each["folds"]]
    ordinary = [each for each in all_scored[0].videos if each.clip.ordinary]

    def mean(key: str) -> float:
        return statistics.fmean(each[key] for each in told)

    return SceneScore(
        accuracy=mean("accuracy"), spread=float(np.std(folds)), chosen=mean("chosen"), auc=mean("auc"),
        by_assignment=tuple(each["accuracy"] for each in told),
        start=tuple(start for each in told for start in each["starts"]),
        false_share=mean("false_share"), false_ungated=mean("false_ungated"), false_hour=mean("false_hour"),
        found=mean("found"), hours=_hours(ordinary), ordinary_clips=sum(len(each.starts_us) for each in ordinary),
    )  # fmt: skip


def _score_one(scored: Scored, kind: str, gate: Gate, clips: int) -> dict[str, Any]:
    ordinary, highest, behind = scored.ordinary, scored.highest, gated(scored, gate)
    made = ~ordinary
    chosen, false, ungated, found, starts, folds, events = [], [], [], [], [], [], 0
    for k in range(FOLDS):
        mine = scored.fold == k
        limit = best_threshold(highest[made & ~mine], scored.labels[made & ~mine])
        chosen += ((highest >= limit) == scored.labels)[made & mine].tolist()
        if (made & mine).any():
            folds.append(float(((highest >= 0.5) == scored.labels)[made & mine].mean()))
        start = alarm_threshold(_joined(behind, ordinary & ~mine))
        starts.append(start)
        false += (_joined(behind, ordinary & mine) >= start).tolist()
        ungated += (_joined(scored.scores, ordinary & mine) >= start).tolist()
        found += [bool((behind[i] >= start).any()) for i in np.flatnonzero(made & mine & scored.labels)]
        rule = SceneKind(kind, start, max(0.05, start - END_BELOW), clips)
        events += sum(len(events_of(scored.videos[i], behind[i], rule)) for i in np.flatnonzero(ordinary & mine))
    hours = _hours([each for each, is_so in zip(scored.videos, ordinary, strict=True) if is_so])
    return {
        "accuracy": float(((highest >= 0.5) == scored.labels)[made].mean()), "folds": folds, "starts": starts,
        "chosen": _mean(chosen), "auc": auc(highest[made], scored.labels[made]), "false_share": _mean(false),
        "false_ungated": _mean(ungated), "found": _mean(found), "false_hour": events / hours if hours else 0.0,
    }  # fmt: skip


def events_of(video: VideoClips, scores: NDArray[np.float64], rule: SceneKind) -> list[tuple[int, int]]:
    """Start and end (stream time, microseconds) of the events that the pipeline would tell of. scores: gated."""
    watcher = SceneWatcher([rule])
    told = []
    for i, score in enumerate(scores):
        seen = ClipSeen(
            starts_us=int(video.starts_us[i]), ends_us=int(video.ends_us[i]), scores={rule.kind: float(score)},
            frames=(), attention=(), follows=bool(video.follows[i]), region=None, admitted=frozenset({rule.kind}),
        )  # fmt: skip
        told += watcher.observe(int(video.ends_us[i]), seen)
    told += watcher.close()
    return [(each.started_us, each.ended_us or 0) for each in told if each.phase == "end"]


def _joined(scores: list[NDArray[np.float64]], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    parts = [scores[i] for i in np.flatnonzero(chosen)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _hours(videos: Sequence[VideoClips]) -> float:
    """Hours that the clips cover."""
    spans = [each.ends_us[-1] - each.starts_us[0] for each in videos if len(each.starts_us)]
    return float(sum(spans)) / 3.6e9


def score_heads(
    videos: Sequence[VideoClips], kind: str, shape: HeadShape, recipe: SceneRecipe, gate: Gate, *, show: str = ""
) -> tuple[SceneScore, list[Scored]]:
    """Three assignments of five folds, and their figures."""
    scored = [
        cross_validate(videos, kind, shape, recipe, a, show=f"{show} {a + 1}/{ASSIGNMENTS}" if show else "")
        for a in range(ASSIGNMENTS)
    ]
    return score_assignments(scored, kind, gate), scored


def table(rows: Sequence[tuple[str, SceneScore]]) -> str:
    """Markdown: a row a head."""
    lines = [
        "| head | accuracy (sd over folds) | by assignment | AUC | false clips, gated (all) | false events an hour | "
        "fights found |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in rows:
        by = " ".join(f"{one:.3f}" for one in each.by_assignment)
        false = f"{each.false_share:.1%} ({each.false_ungated:.1%})" if each.ordinary_clips else "not measured"
        hour = f"{each.false_hour:.1f}" if each.ordinary_clips else "not measured"
        lines.append(
            f"| {name} | {each.accuracy:.3f} ({each.spread:.3f}) | {by} | {each.auc:.3f} | {false} | {hour} | "
            f"{each.found:.0%} |"
        )
    return "\n".join(lines)
