"""Scene models as they are shipped, scored on clips through the pipeline's own code; for ``promote --gate``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline.errors import ConfigError
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneFiles, SceneModel
from pipeline.inference.store import load_model
from pipeline.services.scene_files import score_file
from pipeline.services.scenes import CameraScenes, SceneEngine
from pipeline.services.wiring import scene_rules_of
from training.annotations import read_labelled
from training.scene.data import read_scene_data
from training.scene.folds import auc
from training.scene.frames import SAMPLE_FPS


@dataclass(frozen=True, slots=True)
class SceneModelScore:
    """One model on one set of clips, its highest score in each, before gates.

    kinds: kind -> AUC, accuracy (at the kind's ``start``; the mean of what share is right of the clips that show it and
    of those that do not), shown, others (how many clips). detector: name and sha256 of who found the people.
    clips: a digest of their names and labels. sha256: of the manifest.
    """

    model: str
    version: str
    sha256: str
    detector: str
    clips: str
    kinds: dict[str, dict[str, float]]
    task: str = "scene"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Clip:
    path: Path
    kinds: frozenset[str]
    known: frozenset[str]


def evaluate_scene_models(
    models: Sequence[SceneFiles], data: Path, root: Path | None, detector: str = "passerby-nano"
) -> list[SceneModelScore]:
    """Score each model. data: a scene data file (YAML), or a list (CSV: file, label) or folder per class of clips, in
    which a label that is a kind of one of the models means that the clip shows it, and another that it shows none.

    Clips that a model was trained on flatter it: score on others. Raises ConfigError, ModelError, SourceError.
    """
    kinds = list(dict.fromkeys(kind for each in models for kind in each.manifest.kinds))
    clips = _clips(data, root, kinds)
    told = "\n".join(sorted(f"{each.path.name} {sorted(each.kinds)} {sorted(each.known)}" for each in clips))
    digest = hashlib.sha256(told.encode()).hexdigest()
    finder = load_model(detector)
    seen_by = f"{finder.name} {finder.manifest.sha256}"
    scores = []
    for files in models:
        found = _highest(files, Detector(finder), [each.path for each in clips])
        figures = {
            kind: _figures(found, clips, kind, files.manifest.kinds[kind].start)
            for kind in files.manifest.kinds
            if any(kind in each.kinds for each in clips)
        }
        manifest = files.manifest
        scores.append(SceneModelScore(manifest.name, manifest.version, files.sha256, seen_by, digest, figures))
    return scores


def _clips(data: Path, root: Path | None, kinds: Sequence[str]) -> list[_Clip]:
    if data.suffix.lower() in {".yaml", ".yml"}:
        read = read_scene_data(data, root)
        made = {each.path: each for kind in kinds for each in read.labelled(kind)}
        clips = [_Clip(each.path, each.kinds, each.known) for each in made.values()]
    else:
        items = [each for each in read_labelled(data, root).strict() if each.is_clip]
        known = frozenset(kind for kind in kinds if any(each.label == kind for each in items))
        clips = [_Clip(each.path, frozenset({each.label or ""}) & known, known) for each in items]
    if not any(each.kinds for each in clips):
        raise ConfigError(f"{data}: none of its clips shows {', '.join(kinds)}", mend="labels are the names of kinds")
    return clips


def _highest(files: SceneFiles, finder: Detector, paths: Sequence[Path]) -> list[dict[str, float]]:
    with SceneEngine(SceneModel(files), threads=1) as engine:
        scenes = CameraScenes(engine, scene_rules_of(engine.model, finder.min_score), always=True)
        return [score_file(path, finder, scenes, SAMPLE_FPS).scores for path in tqdm(paths, desc=files.name)]


def _figures(found: Sequence[dict[str, float]], clips: Sequence[_Clip], kind: str, start: float) -> dict[str, float]:
    known = [i for i, each in enumerate(clips) if kind in each.known]
    scores = np.array([found[i][kind] for i in known])
    labels = np.array([kind in clips[i].kinds for i in known], np.bool_)
    right = (scores >= start) == labels
    accuracy = float(np.mean([right[labels].mean(), right[~labels].mean()])) if not labels.all() else float("nan")
    shown, others = float(labels.sum()), float((~labels).sum())
    return {"AUC": auc(scores, labels), "accuracy": accuracy, "shown": shown, "others": others}


def table(scores: Sequence[SceneModelScore]) -> str:
    """The scores as Markdown."""
    lines = ["| model | kind | clips that show it / do not | AUC | accuracy |", "| --- | --- | --- | --- | --- |"]
    for each in scores:
        for kind, told in each.kinds.items():
            clips = f"{told['shown']:.0f} / {told['others']:.0f}"
            name = f"{each.model} {each.version}"
            lines.append(f"| {name} | {kind} | {clips} | {told['AUC']:.3f} | {told['accuracy']:.3f} |")
    return "\n".join(lines)
