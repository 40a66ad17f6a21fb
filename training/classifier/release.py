"""A classifier as ONNX, compared with torch before anything is written."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from pipeline.errors import ModelError
from pipeline.inference.classifier import Classifier as Runner
from pipeline.inference.classifier import stretched
from pipeline.inference.manifest import InputShape, Manifest, ModelInput, Thresholds
from pipeline.inference.onnx import RunSettings, Session
from pipeline.inference.store import Model, keep_model
from training.classifier.network import Classifier, ExportedClassifier
from training.classifier.pictures import Image, Picture
from training.classifier.trainer import probabilities
from training.costs import interleaved_ms
from training.export import OPSET

MAX_DIFFERENCE = 1e-4
"""Of a probability, between ONNX Runtime and torch."""
MAX_BYTES = 500_000
SCORE = 0.7
"""From this probability on a class counts as seen."""


def export_classifier(network: Classifier, shape: tuple[int, int]) -> bytes:
    """The classifier as the bytes of an ONNX file: ``image`` uint8 B x H x W x 3 RGB to ``probabilities`` B x C."""
    buffer: Any = io.BytesIO()
    example = torch.zeros(2, shape[1], shape[0], 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the one that keeps the dimensions' names
        torch.onnx.export(
            ExportedClassifier(network).eval(), (example,), buffer, input_names=["image"],
            output_names=["probabilities"], dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}},
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def largest_difference(data: bytes, network: Classifier, pictures: Sequence[Picture], shape: tuple[int, int]) -> float:
    """Between the probabilities of ONNX Runtime and of torch, on these pictures."""
    session = Session(data, name="the export", settings=RunSettings())
    fed = np.stack([stretched(each.image, *shape) for each in pictures])
    (told,) = session.run({"image": fed}, ["probabilities"])
    apart = np.abs(told - probabilities(network.cpu(), pictures, shape))
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def write_classifier(
    network: Classifier,
    classes: Sequence[str],
    shape: tuple[int, int],
    pictures: Sequence[Picture],
    folder: Path,
    version: str,
) -> tuple[Model, float]:
    """Export, compare with torch on ``pictures``, measure, write the folder; the model and the largest difference.

    Raises ModelError, and writes nothing, when the two differ or the file is too large to ship.
    """
    data = export_classifier(network, shape)
    apart = largest_difference(data, network, pictures, shape)
    if not apart <= MAX_DIFFERENCE:
        raise ModelError(
            f"ONNX Runtime and torch differ by {apart:.2g} in probabilities; allowed is {MAX_DIFFERENCE:g}: "
            "nothing was written"
        )
    if len(data) > MAX_BYTES:
        raise ModelError(f"{folder}: the network has {len(data)} bytes, a classifier at most {MAX_BYTES}")
    manifest = Manifest(
        name=folder.name,
        version=version,
        task="classification",
        family="classifier",
        sha256=hashlib.sha256(data).hexdigest(),
        input=ModelInput(
            name="image",
            layout="nhwc",
            dtype="uint8",
            color="rgb",
            scale="0-255",
            resize="stretch",
            shapes=[InputShape(width=shape[0], height=shape[1], cost_ms=round(_cost_ms(data, shape), 2))],
        ),
        outputs={"probabilities": "probabilities"},
        classes=list(classes),
        thresholds=Thresholds(score=SCORE, low=SCORE),
        nms="none",
        card="card.md",
    )
    text = f"# {folder.name} {version}\n\nThe card is written by `passerby-train card`.\n"
    return keep_model(data, manifest, text, folder), apart


def _cost_ms(data: bytes, shape: tuple[int, int]) -> float:
    session = Session(data, name="the export", settings=RunSettings())
    empty: Image = np.full((1, shape[1], shape[0], 3), 114, np.uint8)
    return max(0.01, interleaved_ms({"it": lambda: session.run({"image": empty}, ["probabilities"])}, 50)["it"])


def answers(model: Model, pictures: Sequence[Picture]) -> np.ndarray:
    """N x C float32: what the model says of each picture, through the pipeline's own code."""
    runner = Runner(model)
    return np.stack([runner.classify(each.image) for each in pictures])
