"""A user's ONNX classifier becomes a model: what it takes and gives is looked at, what cannot work is refused."""

from __future__ import annotations

import hashlib
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.inference.adding import COST_RUNS, Examined, drawn_picture, names_in
from pipeline.inference.families import few
from pipeline.inference.manifest import MODEL_NAME, InputShape, Manifest, ModelInput, Thresholds
from pipeline.inference.models import not_probabilities
from pipeline.inference.onnx import RunSettings, Session, TensorFacts, as_float32
from pipeline.inference.onnx_file import check_stands_alone, read_model_file

_SCORE = 0.7
"""From this probability on a class counts as seen, where nobody says another."""


@dataclass(frozen=True, slots=True)
class WantedLabels:
    """What the user says of a classifier.

    classes: in the order of its outputs (None: as the file's metadata names them). shape: width and height of its
    input, where the network leaves them free.
    """

    name: str
    classes: tuple[str, ...] | None = None
    shape: tuple[int, int] | None = None
    score_threshold: float | None = None
    version: str = "1"


def examine_classifier(path: Path, wanted: WantedLabels) -> Examined:
    """Look at ``path``, run it on a drawn picture, measure it. Raises ModelError, in one line, if it cannot work.

    It must take ``uint8`` N x H x W x 3 RGB 0..255 and give N x C probabilities that sum to 1.
    """
    data = read_model_file(path)
    check_stands_alone(data, path)
    session = Session(data, name=str(path), settings=RunSettings())
    facts = _input(session, path)
    width, height = _shape(facts, wanted, path)
    if len(session.outputs) != 1:
        has = "; ".join(map(str, session.outputs))
        raise ModelError(f"{path}: one output, the probabilities, is wanted; this network has {has}")
    output = session.outputs[0].name
    fed, seconds = drawn_picture(width, height)[None], []
    for _ in range(COST_RUNS):
        started = time.thread_time()
        (told,) = session.run({facts.name: fed}, [output])
        seconds.append(time.thread_time() - started)
    classes = wanted.classes or names_in(session.metadata)
    if told.ndim != 2 or len(told) != 1:
        shown = "x".join(map(str, told.shape))
        raise ModelError(f"{path}: output {output} is {shown} for one picture, not 1 x classes: no classifier")
    columns = told.shape[1]
    if classes is None:
        raise ModelError(
            f"{path}: has {columns} classes whose names are not known", mend="name them with --classes a,b"
        )
    if len(classes) != columns:
        raise ModelError(
            f"{path}: has {columns} classes, but {len(classes)} are named: {few(classes)}", mend="mend --classes"
        )
    if wrong := not_probabilities(as_float32(told[0])):
        raise ModelError(f"{path}: {wrong}", mend="export it with the softmax in the graph")
    cost_ms = max(0.01, round(statistics.median(seconds) * 1000, 2))
    shape = InputShape(width=width, height=height, cost_ms=cost_ms)
    return Examined(
        data=data,
        manifest=_manifest(path, data, wanted, shape, (facts.name, output), classes),
        inputs=(str(facts),),
        outputs=tuple(map(str, session.outputs)),
        found=(f"{columns} classes, probabilities that sum to 1",),
        warnings=(),
    )


def _input(session: Session, path: Path) -> TensorFacts:
    has = "; ".join(map(str, session.inputs)) or "none"
    facts = session.inputs[0] if len(session.inputs) == 1 else None
    if facts is None or facts.dtype != "uint8" or len(facts.shape) != 4 or facts.shape[3] != 3:
        raise ModelError(
            f"{path}: a classifier takes one input, uint8 batch x height x width x 3; this network has {has}",
            mend="export it with scaling and the order of the axes in the graph",
        )
    return facts


def _shape(facts: TensorFacts, wanted: WantedLabels, path: Path) -> tuple[int, int]:
    batch, height, width = facts.shape[:3]
    if isinstance(batch, int) and batch != 1:
        raise ModelError(
            f"{path}: runs {batch} pictures at a time, fixed", mend="export it with a free batch, or with 1"
        )
    if isinstance(width, int) and isinstance(height, int):
        if wanted.shape not in {None, (width, height)}:
            raise ModelError(f"{path}: takes {width}x{height} and nothing else", mend="leave --shapes out")
        return width, height
    if wanted.shape is None:
        raise ModelError(
            f"{path}: its input {facts} takes any size", mend="name the one it was trained at: --shapes 96x64"
        )
    return wanted.shape


def _manifest(
    path: Path, data: bytes, wanted: WantedLabels, shape: InputShape, tensors: tuple[str, str], classes: tuple[str, ...]
) -> Manifest:
    score = _SCORE if wanted.score_threshold is None else wanted.score_threshold
    try:
        return Manifest(
            name=wanted.name,
            version=wanted.version,
            task="classification",
            family="classifier",
            file=MODEL_NAME,
            sha256=hashlib.sha256(data).hexdigest(),
            input=ModelInput(
                name=tensors[0], layout="nhwc", dtype="uint8", color="rgb", scale="0-255", resize="stretch",
                shapes=[shape],
            ),
            outputs={"probabilities": tensors[1]},
            classes=list(classes),
            thresholds=Thresholds(score=score, low=score),
            nms="none",
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path}: {f'{key}: ' if key else ''}{message}") from None
