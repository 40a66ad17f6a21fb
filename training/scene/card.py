"""The scene model's card: written by the run that releases it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from training.scene.data import SceneData
from training.scene.evaluate import FALSE_SHARE, SceneScore, table
from training.scene.export import MAX_FEATURE_DIFFERENCE, MAX_SCORE_DIFFERENCE, SceneDifference
from training.scene.folds import ASSIGNMENTS, FOLDS


@dataclass(frozen=True, slots=True)
class Released:
    """What a card is written from. told: kind -> what its cross-validation said."""

    name: str
    version: str
    command: str
    data: SceneData
    recipe: dict[str, Any]
    told: dict[str, dict[str, Any]]
    difference: SceneDifference
    remarks: str = ""


def scene_card(released: Released) -> str:
    """The card as Markdown."""
    kinds = ", ".join(released.told)
    rows = [(kind, _score(each["shifted"])) for kind, each in released.told.items()]
    hours = max(each.hours for _, each in rows)
    parts = [
        f"# {released.name} {released.version}\n\nSays of a clip of 16 frames (2 s at 8 frames a second) whether it "
        f"shows: {kinds}. A frozen CNN (the first half of Passerby's detector, up to stride 32) looks at each frame of "
        "one crop, where people are and things move; a head reads how its features at strides 16 and 32 change: a "
        "linear reader on ranked changes, and an LSTM with attention.",
        f"## Data\n\n{_data(released.data)}\n\nNo picture is part of this model's folder. The trunk's weights are "
        "passerby-nano's: see its card.",
        f"## Split\n\n{FOLDS}-fold cross-validation, {ASSIGNMENTS} assignments of folds; clips of one scene lie in one "
        "fold, ordinary videos too. Each clip is judged by a head that saw nothing of its scene; thresholds of a fold "
        "are chosen on the other folds. The released head is trained on all of it, so no figure here is of the "
        "released weights themselves. Readers and crop were chosen while looking at these figures, which "
        "are slightly optimistic.",
        f"## Figures\n\n{table(rows)}\n\nOrdinary video held out: {hours:.2f} hours, "
        f"{rows[0][1].ordinary_clips} clips, at the alarm threshold: at most {FALSE_SHARE:.0%} of the ordinary clips "
        "of the other folds pass it behind the gate. An "
        'event needs two clips in a row; clips of 2 s hold one, so "fights found" counts single clips behind the gate.',
        "## Thresholds\n\n"
        + "; ".join(f"{kind}: start {each['start']:.2f}" for kind, each in released.told.items())
        + ". 0.5 is where the two kinds of labelled clips part best.",
        f"## Export\n\nONNX Runtime against torch, from pixels to scores on {released.difference.clips} real clips: "
        f"features differ by {released.difference.feature:.1e} of their mean (allowed {MAX_FEATURE_DIFFERENCE:g}), "
        f"scores and attention by {released.difference.score:.1e} (allowed {MAX_SCORE_DIFFERENCE:g}).",
    ]
    if released.remarks:
        parts.append(released.remarks.strip())
    recipe = "; ".join(f"{key} {value}" for key, value in released.recipe.items())
    parts.append(f"## How it was trained\n\n```\n{released.command}\n```\n\n{recipe}.")
    return "\n\n".join(parts) + "\n"


def _score(told: dict[str, Any]) -> SceneScore:
    return SceneScore(**(told | {key: tuple(told[key]) for key in ("by_assignment", "start")}))


def _data(data: SceneData) -> str:
    lines = [
        "| set | says something of | videos | scenes | positives | licence |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in data.sets:
        mine = [clip for clip in data.clips if clip.dataset == each.name]
        held = Counter(kind for clip in mine for kind in clip.kinds)
        positives = ", ".join(f"{count} {kind}" for kind, count in held.items()) or "0"
        scenes = len({clip.scene for clip in mine})
        lines.append(
            f"| {each.name} | {', '.join(each.labelled)} | {len(mine)} | {scenes} | {positives} | {each.licence} |"
        )
    return "\n".join(lines)
