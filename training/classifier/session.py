"""What the commands do with classifiers: train, cross-validate, evaluate, release, write the card."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError, UsageError
from pipeline.inference.store import Model, keep_model, load_model
from training.classifier.pictures import PictureSet, VariedPictures, divide, folds, read_pictures
from training.classifier.release import MAX_DIFFERENCE, answers, write_classifier
from training.classifier.scores import ClassifierScore, score_answers, table
from training.classifier.trainer import (
    CHECKPOINT,
    Recipe,
    Training,
    load_classifier,
    probabilities,
    read_classifier_checkpoint,
)
from training.devices import device_of

SHARE = 0.2
"""Of the scenes of each class, for validation."""
COMPARED = 32
"""Pictures on which the export is compared with torch."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pictures come from: a folder per class or a list, and the folder its files are relative to."""

    data: Path
    root: Path | None = None

    def read(self, recipe: Recipe) -> PictureSet:
        """All of its pictures."""
        return read_pictures(self.data, self.root, recipe.shape, show=True)


def train_classifier(
    source: Source, out: Path, recipe: Recipe, *, resume: bool = False, device: str = "auto", show: bool = True
) -> ClassifierScore:
    """Train, or go on. Returns the score on the validation scenes."""
    if not resume and (out / CHECKPOINT).exists():
        raise UsageError(f"{out}: there is a run in it already", mend="add --resume, or name another --out")
    if resume:
        kept = read_classifier_checkpoint(out / CHECKPOINT)
        recipe = replace(Recipe(**kept["recipe"]), epochs=recipe.epochs)
    data = source.read(recipe)
    held = divide(data, SHARE, recipe.seed)
    if resume:
        training = Training.resume(out, recipe.epochs, device_of(device))
        if training.classes != data.classes:
            raise UsageError(f"{out}: was trained on the classes {', '.join(training.classes)}", mend="name its data")
    else:
        training = Training(data.classes, recipe, out, device_of(device))
    pictures = VariedPictures(data.of(held, inside=False), recipe.shape, count=recipe.pictures, seed=recipe.seed)
    validation = data.of(held, inside=True)
    network = training.run(pictures, validation, show=show)
    return score_answers(str(out), probabilities(network, validation, recipe.shape), validation, data)


def cross_validate(source: Source, out: Path, recipe: Recipe, count: int, device: str = "auto") -> ClassifierScore:
    """Train ``count`` times, each time judged on scenes it has not seen: every picture is judged once.

    Early stopping is off: it would choose by the very scenes that are scored.
    """
    data = source.read(recipe)
    recipe = replace(recipe, patience=0)
    told = np.zeros((len(data.pictures), len(data.classes)), np.float32)
    for i, held in enumerate(folds(data, count, recipe.seed)):
        rows = [k for k, each in enumerate(data.pictures) if each.scene in held]
        train = data.of(held, inside=False)
        if not rows or len({each.label for each in train}) < len(data.classes):
            raise UsageError(f"{count} folds leave a fold without one of the classes", mend="ask for fewer --folds")
        training = Training(data.classes, recipe, out / f"fold{i}", device_of(device))
        training.run(
            VariedPictures(train, recipe.shape, count=recipe.pictures, seed=recipe.seed),
            [data.pictures[k] for k in rows],
        )
        told[rows] = probabilities(training.network, [data.pictures[k] for k in rows], recipe.shape)
    return score_answers(f"{count} folds", told, data.pictures, data)


def evaluate_classifier(model: Model, source: Source, *, everything: bool, seed: int = 0) -> ClassifierScore:
    """Score a model through the pipeline's own code, on the validation scenes or on all pictures."""
    shape = model.manifest.input.shapes[0]
    data = read_pictures(source.data, source.root, (shape.width, shape.height))
    if data.classes != tuple(model.manifest.classes):
        raise ModelError(f"{model.name} tells {', '.join(model.manifest.classes)} apart, not {', '.join(data.classes)}")
    pictures = list(data.pictures) if everything else data.of(divide(data, SHARE, seed), inside=True)
    name, of = f"{model.name} {model.manifest.version}", (model.manifest.version, model.manifest.sha256)
    return score_answers(name, answers(model, pictures), pictures, data, of)


def release_classifier(checkpoint: Path, to: Path, source: Source, version: str) -> tuple[Model, float]:
    """Export a checkpoint; the model and the largest difference to torch on validation pictures."""
    network, state = load_classifier(checkpoint)
    recipe = Recipe(**state["recipe"])
    data = source.read(recipe)
    pictures = data.of(divide(data, SHARE, recipe.seed), inside=True)
    shown = pictures[:: max(1, len(pictures) // COMPARED)]
    return write_classifier(network, state["classes"], recipe.shape, shown, to, version)


def write_classifier_card(
    folder: Path, scores: Path, checkpoint: Path, command: str, source: Source, remarks: str
) -> Model:
    """Write the card into a model's folder, beside unchanged weights. scores: what the commands wrote with --scores."""
    model = load_model(folder)
    try:
        told = [ClassifierScore(**each) for each in json.loads(scores.read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{scores}: no scores of a classifier: {error}") from None
    recipe = Recipe(**read_classifier_checkpoint(checkpoint)["recipe"])
    data = source.read(recipe)
    held = divide(data, SHARE, recipe.seed)
    classes, shape = ", ".join(model.manifest.classes), model.manifest.input.shapes[0]
    shown = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in _shown(recipe).items())
    parts = [
        f"# {model.name} {model.manifest.version}\n\nSays what a whole picture shows: {classes}. A plain convolutional "
        f"network ({len(model.read()) // 1000} kB), trained from nothing; {shape.width}x{shape.height} pixels in, "
        f"{shape.cost_ms} ms a picture, one CPU thread.",
        f"## Data\n\n{_data(data, held, source)}\n\nNo picture is part of this model's folder.",
        "## Split\n\nA scene (a camera, or a place) stays on one side. Of each class "
        f"{SHARE:.0%} of the scenes are for validation (seed {recipe.seed}): early stopping looked at them, so their "
        "figures are optimistic; those of the folds are not: there every scene was judged by a network that had not "
        "seen it, after a fixed number of epochs.",
        "## Figures\n\n" + "\n\n".join(table(each) for each in told),
        f"## Parity\n\nONNX Runtime and torch differ by at most {MAX_DIFFERENCE:g} in a probability, or nothing is "
        "written.",
    ]
    if remarks:
        parts.append(remarks.strip())
    parts.append(f"## How it was trained\n\n```\n{command}\n```\n\n{shown}.")
    return keep_model(model.read(), model.manifest, "\n\n".join(parts) + "\n", folder)


def _shown(recipe: Recipe) -> dict[str, object]:
    told = {name: getattr(recipe, name) for name in recipe.__slots__ if name not in {"shape", "amp"}}
    return told | {"input": "x".join(str(side) for side in recipe.shape)}


def _data(data: PictureSet, held: frozenset[int], source: Source) -> str:
    lines = ["| class | scenes | pictures | of them validation | licences |", "| --- | --- | --- | --- | --- |"]
    licences = _licences(source)
    for label, name in enumerate(data.classes):
        mine = [each for each in data.pictures if each.label == label]
        scenes = {each.scene for each in mine}
        validation = sum(each.scene in held for each in mine)
        shown = licences.get(name, "not stated")
        lines.append(f"| {name} | {len(scenes)} | {len(mine)} | {validation} | {shown} |")
    return "\n".join(lines)


def _licences(source: Source) -> dict[str, str]:
    """Class -> licences of its files, if the list names them."""
    if source.data.suffix.lower() != ".csv":
        return {}
    counted: dict[str, Counter[str]] = {}
    with source.data.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            counted.setdefault(row["label"], Counter())[row.get("licence") or "not stated"] += 1
    return {label: ", ".join(sorted(each)) for label, each in counted.items()}
