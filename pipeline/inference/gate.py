"""Whether a detector may take another's place: both scored on the same pictures, in the same evaluation.

The scores are those of ``passerby-train evaluate CANDIDATE PRESENT --out scores.json``; each names the sha256 of the
file it is of, so that no other file passes under its name.
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
from pipeline.inference.manifest import Manifest
from pipeline.inference.store import Model

_PARITY = re.compile(r"^## Parity\s+(?P<told>.+?)\s*(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Compared:
    """AP at IoU 0.5 of one group in one view at one input, of both models."""

    view: str
    shape: tuple[int, int]
    group: str
    candidate: float
    present: float

    @property
    def gain(self) -> float:
        """How much better the candidate is; negative: worse."""
        return self.candidate - self.present

    def words(self) -> str:
        """For people."""
        width, height = self.shape
        return f"{self.view}, {width}x{height}, {self.group}: {self.candidate:.3f}, before {self.present:.3f}"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the comparison shows. refusals: why the candidate may not take the place; empty: it may."""

    compared: tuple[Compared, ...]
    parity: str
    refusals: tuple[str, ...]


def judge(scores: Path, candidate: Model, present: Manifest, margin: float) -> Gate:
    """Compare two detectors. margin: by how much (AP, 0..1) the candidate may be worse in any group, view and input.

    A detector that was trained here (family passerby) must also state in its card how far its ONNX file is from torch.
    Raises ModelError where ``scores`` does not hold both, at one input and on the same pictures.
    """
    told = _read(scores)
    ours = [each for each in told if each.get("sha256") == candidate.manifest.sha256]
    theirs = [each for each in told if each.get("sha256") == present.sha256]
    for found, manifest in ((ours, candidate.manifest), (theirs, present)):
        if not found:
            raise ModelError(
                f"{scores}: holds no score of {manifest.name} {manifest.version} (sha256 {manifest.sha256[:12]}…)",
                mend="score both in one run: passerby-train evaluate CANDIDATE PRESENT --out scores.json",
            )
    compared = tuple(_compared(scores, ours, theirs))
    if not compared:
        raise ModelError(
            f"{scores}: the two are not scored at one input, or on pictures that label no group",
            mend="name the input of both: passerby-train evaluate CANDIDATE@416x256 PRESENT@416x256 --out scores.json",
        )
    refusals = [f"{each.words()}: worse by more than {margin:g}" for each in compared if not each.gain >= -margin]
    parity = parity_of(candidate)
    if parity is None and candidate.manifest.family == "passerby":
        refusals.append("its card states no parity of ONNX and torch")
    return Gate(compared, parity or "not stated: it was not trained here", tuple(refusals))


def parity_of(model: Model) -> str | None:
    """What the model's card says of how far ONNX Runtime is from what it was trained with; None: nothing."""
    if model.manifest.card is None:
        return None
    try:
        found = _PARITY.search((model.folder / model.manifest.card).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return " ".join(found["told"].split()) if found is not None else None


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        scores = [dict(each) for each in told]
        for each in scores:
            each["shape"] = tuple(int(side) for side in each["shape"])
            each["mean"] = {str(group): float(ap) for group, ap in each["mean"].items()}
            each["view"], each["pictures"] = str(each["view"]), dict(each["pictures"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path}: holds no scores of detectors: {type(error).__name__} {error}",
            mend="write them with `passerby-train evaluate --out`",
        ) from None
    return scores


def _compared(path: Path, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Iterator[Compared]:
    """Every group of every view and input that both were scored in; one that neither could be is left out."""
    before = {(each["view"], each["shape"]): each for each in theirs}
    for each in ours:
        other = before.get((each["view"], each["shape"]))
        if other is None:
            continue
        if each["pictures"] != other["pictures"]:
            raise ModelError(f"{path}: the two are not scored on the same pictures", mend="score both in one run")
        for group, ap in each["mean"].items():
            was = other["mean"].get(group, math.nan)
            if not (math.isnan(ap) and math.isnan(was)):
                yield Compared(each["view"], each["shape"], group, ap, was)
