"""What the commands do: data, features, training, cross-validation, release."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.clip_crop import cut
from pipeline.errors import ModelError, UsageError
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneFiles
from pipeline.inference.store import load_model
from training.scene.card import Released, scene_card
from training.scene.data import DATA, SceneClip, SceneData, read_scene_data
from training.scene.evaluate import (
    Gate,
    SceneScore,
    Scored,
    alarm_threshold,
    best_threshold,
    gated,
    score_assignments,
    score_heads,
    taught_of,
)
from training.scene.export import compare_scene, export_encoder, export_head
from training.scene.features import ClipPlan, Extractor, VideoClips
from training.scene.frames import default_cache, pictures_of
from training.scene.head import HeadShape, SceneHead
from training.scene.release import SceneRelease, write_scene
from training.scene.trainer import CHECKPOINT, SceneRecipe, SceneTraining, load_head, read_scene_checkpoint
from training.scene.trunk import Trunk, load_trunk

COMPARED = 6
"""Clips on which the export is compared with torch."""
GATE = Gate(1, 0.25)
"""A person in a quarter of the frames. Two would be meant for a fight, but fighters are often found as one box: asking
for two loses a tenth of the fights and no false alarm (docs/decisions/0090)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things come from. trunk: an ONNX file (None: the detector's own). cache: of features."""

    data: Path = DATA
    root: Path | None = None
    detector: str = "passerby-nano"
    trunk: Path | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data, what sees it, and how it is cut."""

    data: SceneData
    trunk: Trunk
    extractor: Extractor

    def videos(self, kinds: Sequence[str]) -> list[VideoClips]:
        """The clips of every video that says something of one of the kinds; labelled ones with all their views."""
        made = {each.path: each for kind in kinds for each in self.data.labelled(kind)}
        chosen: list[SceneClip] = [*made.values(), *self.data.ordinary]
        return self.extractor.extract(chosen, again=True)


def prepare(place: Place, plan: ClipPlan | None = None) -> Prepared:
    """Read the data file and load the detector and its trunk."""
    model = load_model(place.detector)
    trunk = load_trunk(place.trunk or model.path)
    cache = place.cache or default_cache()
    extractor = Extractor(Detector(model), export_encoder(trunk), plan or ClipPlan(), cache)
    return Prepared(read_scene_data(place.data, place.root), trunk, extractor)


def train_scene(
    prepared: Prepared, kinds: Sequence[str], recipe: SceneRecipe, out: Path, *, resume: bool = False
) -> SceneHead:
    """Train a head on every clip, or go on; the checkpoint lies in ``out``."""
    check_kinds(prepared.data, kinds)
    if not resume and (out / CHECKPOINT).exists():
        raise UsageError(f"{out}: there is a run in it already", mend="add --resume, or name another --out")
    shape = HeadShape(kinds=len(kinds))
    taught = taught_of(prepared.videos(kinds), kinds, SceneHead(shape))
    training = SceneTraining.resume(out, taught) if resume else SceneTraining(shape, recipe, taught, out)
    training.kinds = tuple(kinds)
    head = training.run(show="head")
    training.save(out / CHECKPOINT)
    return head


def check_kinds(data: SceneData, kinds: Sequence[str]) -> None:
    """Raise UsageError unless some set labels each of them."""
    unknown = [each for each in kinds if each not in data.kinds]
    if not kinds or unknown:
        raise UsageError(f"--kind {', '.join(unknown)}: no set labels it", mend=", ".join(data.kinds))


def evaluate_scene(
    prepared: Prepared, kind: str, shapes: dict[str, HeadShape], recipe: SceneRecipe, out: Path | None
) -> list[tuple[str, SceneScore]]:
    """Cross-validate heads; the first is the one to ship, and what its release needs is written to ``out`` (JSON)."""
    videos = prepared.videos([kind])
    rows: list[tuple[str, SceneScore]] = []
    for name, shape in shapes.items():
        score, scored = score_heads(videos, kind, shape, recipe, GATE, show=name)
        rows.append((name, score))
        if out is not None and len(rows) == 1:
            limit = float(np.mean([_limit(each) for each in scored]))
            shifted = [_shifted(each, limit) for each in scored]
            told = {
                "kind": kind,
                "limit": limit,
                "start": float(np.mean([_start(each) for each in shifted])),
                "score": score.as_dict(),
                "shifted": score_assignments(shifted, kind, GATE).as_dict(),
                "recipe": asdict(recipe),
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return rows


def _limit(scored: Scored) -> float:
    made = ~scored.ordinary
    return best_threshold(scored.highest[made], scored.labels[made])


def _start(scored: Scored) -> float:
    behind = gated(scored, GATE)
    parts = [behind[i] for i in np.flatnonzero(scored.ordinary)]
    return alarm_threshold(np.concatenate(parts) if parts else np.zeros(1))


def _shifted(scored: Scored, limit: float) -> Scored:
    """The scores with ``limit`` moved to 0.5, as the release does."""
    moved = []
    for each in scored.scores:
        held = np.clip(each, 1e-9, 1 - 1e-9)
        logits = np.log(held / (1 - held)) - np.log(limit / (1 - limit))
        moved.append(1 / (1 + np.exp(-logits)))
    return replace(scored, scores=moved)


def read_told(path: Path) -> dict[str, Any]:
    """What ``evaluate_scene`` wrote. Raises ModelError naming the file."""
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not {"kind", "limit", "start", "score"} <= told.keys():
            raise KeyError("limit")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}: no scores: {error}", mend="write them with `scene evaluate --out`") from None
    return told


def release_scene(
    prepared: Prepared, run: Path, scores: Sequence[Path], to: Path, version: str, command: str, remarks: str = ""
) -> SceneFiles:
    """Write the model's folder from a trained head and its cross-validation, compared with torch on real crops."""
    state = read_scene_checkpoint(run / CHECKPOINT)
    kinds = tuple(state.get("kinds", ()))
    told = {each["kind"]: each for each in map(read_told, scores)}
    if set(told) != set(kinds):
        raise UsageError(f"the head knows {', '.join(kinds)}, the scores {', '.join(told)}", mend="evaluate each kind")
    head = load_head(run / CHECKPOINT)
    limits = torch.tensor([told[kind]["limit"] for kind in kinds])
    with torch.no_grad():
        head.bias.sub_(torch.logit(limits))  # type: ignore[operator]  # 0.5 parts the labelled clips best
    plan = prepared.extractor.plan
    encoder = export_encoder(prepared.trunk)
    data = export_head([head], plan.frames, prepared.trunk.features)
    difference = compare_scene(encoder, data, prepared.trunk, [head], _real_crops(prepared, kinds))
    difference.check()
    starts = {kind: (round(told[kind]["start"], 2), GATE) for kind in kinds}
    facts = Released(to.name, version, command, prepared.data, state["recipe"], told, difference, remarks)
    release = SceneRelease(to.name, version, plan, starts, scene_card(facts))
    return write_scene(encoder, data, prepared.trunk, release, to)


def _real_crops(prepared: Prepared, kinds: Sequence[str]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The crops of one clip each of some videos, evenly chosen."""
    clips = [each for kind in kinds for each in prepared.data.labelled(kind)] or list(prepared.data.clips)
    shown = []
    for clip in clips[:: max(1, len(clips) // COMPARED)][:COMPARED]:
        video = prepared.extractor.video(clip)
        if len(video.starts_us):
            pictures = pictures_of(clip.path, prepared.extractor.detector)[: prepared.extractor.plan.frames]
            x0, y0, x1, y1 = video.crops[0]
            shown.append(np.stack([cut(each, (x0, y0, x1, y1)) for each in pictures]))
    return shown
