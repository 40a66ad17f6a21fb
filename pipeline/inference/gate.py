"""Whether a model may take another's place: both scored on the same pictures or clips, in the same evaluation.

The scores are those of ``passerby-train evaluate CANDIDATE PRESENT --out scores.json``; each names the sha256 of the
file it is of, so that no other file passes under its name. What is compared:

    detectors     AP at IoU 0.5 of people and of vehicles, in each view, at each input that both were scored at
    classifiers   the share that is right: mean over the scenes, and of each class
    scene models  of each kind: AUC, and accuracy at the model's own threshold
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.inference.models import AnyModel, sha256_of
from pipeline.inference.scene import SceneFiles

_PARITY = re.compile(r"^## (?:Parity|Export)\s+(?P<told>.+?)\s*(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure (0..1, more is better) of both models, at one place (view and input, for detectors)."""

    place: str
    figure: str
    candidate: float
    present: float

    @property
    def gain(self) -> float:
        """How much better the candidate is; negative: worse."""
        return self.candidate - self.present

    def words(self) -> str:
        """For people."""
        where = ", ".join(each for each in (self.place, self.figure) if each)
        return f"{where}: {self.candidate:.3f}, before {self.present:.3f}"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the comparison shows. refusals: why the candidate may not take the place; empty: it may."""

    compared: tuple[Compared, ...]
    parity: str
    refusals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Score:
    """One entry of the file. seen: what it was scored on, equal only where that is the same."""

    sha256: str
    place: str
    figures: dict[str, float]
    seen: Any


def judge(scores: Path, candidate: AnyModel, present: AnyModel, margin: float) -> Gate:
    """Compare two models of one task. margin: by how much (0..1) the candidate may be worse in any figure.

    A detector that was trained here (family passerby) must also state in its card how far its ONNX file is from torch.
    Raises ModelError where ``scores`` does not hold both, at one input and on the same pictures or clips.
    """
    told = _read(scores, candidate.manifest.task)
    ours = [each for each in told if each.sha256 == sha256_of(candidate)]
    theirs = [each for each in told if each.sha256 == sha256_of(present)]
    for found, model in ((ours, candidate), (theirs, present)):
        if not found:
            raise ModelError(
                f"{scores}: holds no score of {model.name} {model.manifest.version} (sha256 {sha256_of(model)[:12]}…)",
                mend="score both in one run: passerby-train evaluate CANDIDATE PRESENT --out scores.json",
            )
    compared = tuple(_compared(scores, ours, theirs))
    if not compared:
        raise ModelError(f"{scores}: {_NOTHING_COMPARED[candidate.manifest.task]}", mend=_BOTH)
    refusals = [f"{each.words()}: worse by more than {margin:g}" for each in compared if not each.gain >= -margin]
    parity = parity_of(candidate)
    if parity is None and not isinstance(candidate, SceneFiles) and candidate.manifest.family == "passerby":
        refusals.append("its card states no parity of ONNX and torch")
    return Gate(compared, parity or "not stated: it was not trained here", tuple(refusals))


_NOTHING_COMPARED = {
    "detection": "the two are not scored at one input, or on pictures that label no group",
    "classification": "the two tell no class in common",
    "scene": "the two know no kind in common of which there are clips that show it and clips that do not",
}
_BOTH = "score both alike: passerby-train evaluate CANDIDATE PRESENT --out scores.json, detectors as NAME@416x256"


def parity_of(model: AnyModel) -> str | None:
    """What the model's card says of how far ONNX Runtime is from what it was trained with; None: nothing."""
    if model.manifest.card is None:
        return None
    try:
        found = _PARITY.search((model.folder / model.manifest.card).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return " ".join(found["told"].split()) if found is not None else None


def _read(path: Path, task: str) -> list[_Score]:
    """The scores of models of this task."""
    try:
        told = [dict(each) for each in json.loads(path.read_text(encoding="utf-8"))]
        scores = [_READERS[task](each) for each in told if each.get("task", "detection") == task]
        if not scores:
            raise ValueError(f"none is of task {task}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path}: holds no scores of models for {task}: {type(error).__name__} {error}",
            mend="write them with `passerby-train evaluate --out`",
        ) from None
    return scores


def _detector(told: dict[str, Any]) -> _Score:
    width, height = (int(side) for side in told["shape"])
    place = f"{told['view']}, {width}x{height}"
    return _Score(str(told.get("sha256", "")), place, _figures(told["mean"]), dict(told["pictures"]))


def _classifier(told: dict[str, Any]) -> _Score:
    counts = {str(scene): int(count) for scene, (_, count) in told["by_scene"].items()}
    by_class = {f"class {name}": right for name, right in told["by_class"].items()}
    figures = _figures({"mean of the scenes": told["scene_accuracy"], **by_class})
    return _Score(str(told.get("sha256", "")), "", figures, counts)


def _scene_model(told: dict[str, Any]) -> _Score:
    figures = {f"{kind}, {name}": each[name] for kind, each in told["kinds"].items() for name in ("AUC", "accuracy")}
    return _Score(str(told["sha256"]), "", _figures(figures), (str(told["clips"]), str(told["detector"])))


_READERS = {"detection": _detector, "classification": _classifier, "scene": _scene_model}


def _figures(told: dict[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in told.items()}


def _compared(path: Path, ours: list[_Score], theirs: list[_Score]) -> Iterator[Compared]:
    """Every figure at every place that both were scored at; one that neither could be is left out.

    One that only the present model has is lost, so it is not a number; one that only the candidate has is nobody's
    loss, and left out.
    """
    before = {each.place: each for each in theirs}
    for place, each in {each.place: each for each in ours}.items():
        other = before.get(place)
        if other is None:
            continue
        if each.seen != other.seen:
            raise ModelError(
                f"{path}: the two are not scored on the same pictures or clips", mend="score both in one run"
            )
        for figure, was in other.figures.items():
            now = each.figures.get(figure, math.nan)
            if not (math.isnan(now) and math.isnan(was)):
                yield Compared(place, figure, now, was)
