"""Models of any task: load one, run it once, copy it; a model takes the place only of one of its own task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.inference.adding import drawn_picture
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.manifest import MANIFEST_NAME, AnyManifest, Manifest, checked, read_mapping
from pipeline.inference.scene import SceneFiles, SceneModel, load_scene_files
from pipeline.inference.scene_manifest import SceneManifest, scene_manifest_yaml
from pipeline.inference.store import Model, find_model, keep_files, keep_model, load_model, read_network

AnyModel = Model | SceneFiles

WHAT = {"detection": "a detector", "classification": "a classifier", "scene": "a scene model"}
"""Task -> what a model of it is called."""
_CLOSE_TO_ONE = 1e-3


def load_any(name_or_folder: str | Path, search: Sequence[Path] | None = None) -> AnyModel:
    """Find a model by name or folder and check its files, whatever its task. Raises ModelError."""
    folder = find_model(name_or_folder, search)
    return load_scene_files(folder) if told_task(folder) == "scene" else load_model(folder)


def told_task(folder: Path) -> str:
    """What the manifest in ``folder`` says its task is. Raises ModelError where it cannot be read."""
    return str(read_mapping(folder / MANIFEST_NAME).get("task", "detection"))


def sha256_of(model: AnyModel) -> str:
    """What events and scores name it by: of its network, or of a scene model's manifest, which names two."""
    return model.sha256 if isinstance(model, SceneFiles) else model.manifest.sha256


def run_once(model: AnyModel) -> None:
    """Load its networks and run them. Raises ModelError where they cannot, or give what their task does not."""
    if isinstance(model, SceneFiles):
        SceneModel(model)
    elif model.manifest.task == "classification":
        shape = model.manifest.input.shapes[0]
        told = Classifier(model).classify(drawn_picture(shape.width, shape.height))
        if wrong := not_probabilities(told):
            raise ModelError(f"model {model.name}: {wrong}", mend="export it with the softmax in the graph")
    else:
        Detector(model)


def not_probabilities(told: NDArray[np.float32]) -> str:
    """What is wrong with the answer of a classifier for one picture, C values; empty: nothing."""
    if np.all(told >= 0) and abs(float(told.sum()) - 1) < _CLOSE_TO_ONE:
        return ""
    return f"gives {', '.join(f'{each:g}' for each in told[:6])} for a picture: no probabilities that sum to 1"


def copy_model(model: AnyModel, folder: Path, name: str | None = None) -> AnyModel:
    """Write a checked model's files to ``folder``, whole or not at all; one of its own task that is there is replaced.

    name: another one than its manifest tells. Raises ModelError.
    """
    refuse_other_task(folder, model.name, model.manifest.task)
    card = _card(model)
    if isinstance(model, Model):
        manifest = _renamed(model, Manifest, name)
        return keep_model(model.read(), manifest, card, folder)
    told = (model.folder / MANIFEST_NAME).read_bytes()  # as it stands: its sha256 is the model's
    if name not in {None, model.name}:
        told = scene_manifest_yaml(_renamed(model, SceneManifest, name)).encode()
    files = {MANIFEST_NAME: told}
    for part in (model.manifest.encoder, model.manifest.head):
        files[part.file] = read_network(model.folder / part.file, part.sha256)
    if card is not None and model.manifest.card is not None:
        files[model.manifest.card] = card.encode()
    keep_files(files, folder)
    return load_scene_files(folder)


def refuse_other_task(folder: Path, name: str, task: str) -> None:
    """Raise ModelError where ``folder`` holds a model of another task than that of the model called ``name``."""
    if (folder / MANIFEST_NAME).is_file():
        refuse_place_of(name, task, folder.name, told_task(folder))


def refuse_place_of(name: str, task: str, other: str, others: str) -> None:
    """Raise ModelError where a model called ``other`` has another task (``others``) than the one called ``name``."""
    if task != others:
        raise ModelError(
            f"{name} is {WHAT[task]}: it cannot take the place of {other}, which is {WHAT.get(others, others)}",
            mend="give it a name of its own",
        )


def _renamed(model: AnyModel, kind: type[AnyManifest], name: str | None) -> AnyManifest:
    """Its manifest under another name. Raises ModelError for a name that cannot be."""
    path = model.folder / MANIFEST_NAME
    return checked(path, read_mapping(path) | {"name": name or model.name}, kind)


def _card(model: AnyModel) -> str | None:
    if model.manifest.card is None:
        return None
    try:
        return (model.folder / model.manifest.card).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
