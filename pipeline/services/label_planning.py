"""What is wrong with the ``labels`` section of a configuration: the model, its task, its classes."""

from __future__ import annotations

from pipeline.config import Config, Problem
from pipeline.config.problems import did_you_mean
from pipeline.errors import ModelError
from pipeline.inference.classifier import Classifier
from pipeline.services.wiring import build_classifier


def label_problems(config: Config) -> list[Problem]:
    """All of it."""
    problems: list[Problem] = []
    models: dict[str, Classifier | None] = {}
    for camera_id, camera in config.cameras.items():
        name, key = camera.labels.model, ("cameras", camera_id, "labels")
        if name is None:
            if camera.labels.kinds or camera.labels.score is not None:
                message, mend = "labels names no model: nothing is judged", "add model: passerby-daylight"
                problems.append(config.problem(key, message, mend, code="labels-without-model", at_key=True))
            continue
        if name not in models:
            try:
                models[name] = build_classifier(name)
            except ModelError as error:
                models[name] = None
                told = config.problem((*key, "model"), error.args[0], error.mend, code="labels-model", severity="error")
                problems.append(told)
        model = models[name]
        problems += [
            config.problem(
                (*key, "kinds", i), f"the classifier {model.model.name} knows no class {kind!r}",
                did_you_mean(kind, model.classes), code="unknown-kind", severity="error",
            )
            for i, kind in enumerate(camera.labels.kinds or ())
            if model is not None and kind not in model.classes
        ]  # fmt: skip
    return problems
