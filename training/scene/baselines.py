"""What a scene model has to beat: the files' metadata, and the textbook CNN-LSTM.

Metadata (size of the picture, rate, length, bytes) say nothing of what happens, yet clips of one kind were often
collected from one place: what they reach is the true level of chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.address import locate
from pipeline.sources.base import StreamSettings
from pipeline.sources.video import Video
from training.scene.evaluate import SceneScore, Scored, folds_of, score_assignments, score_heads
from training.scene.features import ClipPlan, VideoClips
from training.scene.folds import ASSIGNMENTS, FOLDS
from training.scene.head import HeadShape
from training.scene.session import GATE, Place, prepare
from training.scene.trainer import SceneRecipe

TREES = 200
_LEAST_LEAF = 3


def baseline_rows(place: Place, kind: str, recipe: SceneRecipe) -> list[tuple[str, SceneScore]]:
    """The baselines' figures on the labelled clips alone (ordinary videos are left out: no false alarms)."""
    whole = prepare(place, ClipPlan(place="whole"))
    videos = whole.extractor.extract(whole.data.labelled(kind))
    textbook = HeadShape(appearance=True, ranks=False)
    score, scored = score_heads(videos, kind, textbook, replace(recipe, ordinary=0.0), GATE, show="textbook")
    told = [metadata_scores(each.videos, kind, a) for a, each in enumerate(scored)]
    return [
        ("textbook CNN-LSTM: whole frame, appearance", score),
        ("metadata alone, random trees", score_assignments(told, kind, GATE)),
    ]


def metadata_scores(videos: Sequence[VideoClips], kind: str, assignment: int) -> Scored:
    """Every video scored by its file's metadata, by trees that saw nothing of its scene."""
    columns = np.array([_metadata(each.clip.path) for each in videos], np.float64)
    labels = np.array([kind in each.clip.kinds for each in videos], np.bool_)
    fold = folds_of(videos, kind, assignment)
    scores = np.zeros(len(videos))
    for k in range(FOLDS):
        mine = fold == k
        random = np.random.default_rng((ASSIGNMENTS * k, assignment))
        told = [_tree(columns[~mine], labels[~mine], columns[mine], random) for _ in range(TREES)]
        scores[mine] = np.mean(told, axis=0)
    each_clip = [np.full(len(video.starts_us), score) for video, score in zip(videos, scores, strict=True)]
    return Scored(list(videos), each_clip, fold, labels)


def _metadata(path: Path) -> tuple[float, ...]:
    """Width, height, rate, seconds, bytes, bytes a second."""
    with Video(locate(str(path)), StreamSettings("clip", str(path))) as video:
        context = video.stream.codec_context
        seconds = video.duration_s or 0.0
        size = path.stat().st_size
        return (context.width, context.height, video.declared_fps or 0.0, seconds, size, size / max(seconds, 0.1))


def _tree(
    rows: NDArray[np.float64], labels: NDArray[np.bool_], asked: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64]:
    """What one extremely random tree says of ``asked``: the share of positives in the leaf.

    Geurts, Ernst, Wehenkel: "Extremely randomized trees", Machine Learning 63, 2006: of a few random splits a node
    takes the one that parts the labels best.
    """
    share = labels.mean()
    if len(rows) < 2 * _LEAST_LEAF or share in (0.0, 1.0):
        return np.full(len(asked), share)
    best: tuple[float, int, float] | None = None
    for column in random.choice(rows.shape[1], 3, replace=False):
        low, high = rows[:, column].min(), rows[:, column].max()
        if low == high:
            continue
        limit = float(random.uniform(low, high))
        left = rows[:, column] <= limit
        if not _LEAST_LEAF <= left.sum() <= len(rows) - _LEAST_LEAF:
            continue
        impurity = sum(part.sum() * labels[part].mean() * (1 - labels[part].mean()) for part in (left, ~left))
        if best is None or impurity < best[0]:
            best = (float(impurity), int(column), limit)
    if best is None:
        return np.full(len(asked), share)
    _, column, limit = best
    left, mine = rows[:, column] <= limit, asked[:, column] <= limit
    told = np.empty(len(asked))
    told[mine] = _tree(rows[left], labels[left], asked[mine], random)
    told[~mine] = _tree(rows[~left], labels[~left], asked[~mine], random)
    return told
