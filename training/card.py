"""The model's card: what it is, where it comes from, how good it is and where it fails. Written by the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.inference.manifest import Thresholds
from training.datasets import DataSpec, Sample
from training.evaluate import Score, table
from training.export import Precision, parity_told
from training.scenes import SEED, SHARE, Split


@dataclass(frozen=True, slots=True)
class Told:
    """What a card is written from.

    architecture, weights: of the network, how many it has. precision: of the exported file. remarks: paragraphs by
    whoever released it (``--remarks FILE``).
    """

    name: str
    version: str
    command: str
    recipe: dict[str, Any]
    share: float
    thresholds: Thresholds
    architecture: str
    weights: int
    precision: Precision = "fp32"
    remarks: str = ""


ORIGINS = {
    "yolox-nano": ("YOLOX-nano", "Megvii, Apache-2.0"),
    "picodet-s": ("PicoDet-S", "PaddleDetection, Apache-2.0"),
}
"""Of each architecture: its name, and whose published weights are meant."""


def model_card(told: Told, spec: DataSpec, samples: Sequence[Sample], split: Split, scores: Sequence[Score]) -> str:
    """The card as Markdown."""
    network, source = ORIGINS[told.architecture]
    parts = [
        f"# {told.name} {told.version}\n\n"
        "Finds people, bicycles, cars, motorcycles, buses and trucks in pictures of fixed cameras, on a CPU. "
        f"A {network}-shaped anchor-free detector ({told.weights / 1e6:.1f} million weights).",
        f"## Origin\n\nInitialised from {network} trained on COCO ({source}), classes from COCO's, "
        "then trained further on the data below."
        + (
            f" The released weights lie {told.share:.0%} of the way from those weights to the trained ones."
            if told.share < 1
            else ""
        ),
        f"## Data\n\n{_data(spec, samples, split)}\n\nA set says nothing about a class that it does not label: such "
        "terms are left out of the loss. No picture is part of this model's folder.",
        f"## Split\n\nPictures of one scene stay on one side: pictures whose edges are alike are joined into scenes "
        f"({split.scenes} of {len(samples)} pictures), and whole scenes, about {SHARE:.0%} a set, are for validation "
        f"(seed {SEED}). {len(split.dropped)} validation pictures that still resembled a training picture, mirrored or "
        "without bars, were dropped. Thresholds and the released weights were chosen on this split too, so its figures "
        "are slightly optimistic.",
        "## Figures\n\nAP at IoU 0.5 on the validation split, by group (all vehicle classes as one), the mean over the "
        "kinds of sets (p people, v vehicles) of 20 pictures or more; every model through the same detector code, with "
        "suppression by group. CPU ms: one thread, network and decoding, medians measured in turn in one run on a "
        f"shared machine: read them against each other.\n\n{table(scores)}",
        f"## Parity\n\n{parity_told(told.precision)}",
        f"## Thresholds\n\nscore {told.thresholds.score}, low {told.thresholds.low}, suppression above IoU "
        f"{told.thresholds.nms_iou}: chosen on validation.",
    ]
    if told.remarks:
        parts.append(told.remarks.strip())
    parts.append(f"## How it was trained\n\n```\n{told.command}\n```\n\n{_recipe(told.recipe)}")
    return "\n\n".join(parts) + "\n"


def _data(spec: DataSpec, samples: Sequence[Sample], split: Split) -> str:
    lines = ["| set | labels | training | validation | weight | licence |", "| --- | --- | --- | --- | --- | --- |"]
    for each in spec.sets:
        train, validation = (
            sum(samples[i].dataset == each.name for i in part) for part in (split.train, split.validation)
        )
        labelled = " ".join(each.labelled)
        lines.append(f"| {each.name} | {labelled} | {train} | {validation} | {each.weight:g} | {each.licence} |")
    return "\n".join(lines)


def _recipe(recipe: dict[str, Any]) -> str:
    shown = {key: value for key, value in recipe.items() if key != "shapes"}
    shapes = ", ".join(f"{w}x{h} ({odds:g})" for (w, h), odds in recipe["shapes"].items())
    return "; ".join(f"{key} {value}" for key, value in shown.items()) + f"; input shapes {shapes}."
