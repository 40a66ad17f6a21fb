"""A user's ONNX file becomes a model: look at it, say what it is, refuse what cannot work, write its manifest.

The network itself is never changed: what is kept is the very file that was brought, so its sha256 stays true
(docs/decisions/0030-preprocessing-of-brought-models.md).
"""

from __future__ import annotations

import ast
import hashlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.core.classes import group_of
from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.decoders import decoder_for
from pipeline.inference.families import (
    CLASS_SETS,
    Defaults,
    Recognised,
    classes_of,
    defaults_of,
    few,
    likely_families,
    recognise,
)
from pipeline.inference.manifest import (
    MODEL_NAME,
    Color,
    Family,
    InputShape,
    Layout,
    Manifest,
    ModelInput,
    Resize,
    Scale,
    Thresholds,
)
from pipeline.inference.onnx import RunSettings, Session, TensorFacts, as_float32
from pipeline.inference.onnx_file import check_stands_alone, read_model_file
from pipeline.inference.postprocess import rivals, suppress
from pipeline.inference.preprocess import InputFit
from pipeline.inference.store import Model, keep_model

_FREE_SHAPES = ((640, 384), (512, 512))  # for a network that takes any: one for 16:9, one for 4:3, of like cost
COST_RUNS = 7


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user says about the file; None where the family's defaults are to be used.

    classes: names, or one of the sets ``coco80``, ``coco91``. shapes: (width, height), where the network is free.
    """

    family: Family
    name: str
    classes: tuple[str, ...] | None = None
    resize: Resize | None = None
    color: Color | None = None
    scale: Scale | None = None
    score_threshold: float | None = None
    nms_iou: float | None = None
    shapes: tuple[tuple[int, int], ...] | None = None
    version: str = "1"


@dataclass(frozen=True, slots=True)
class Examined:
    """A file that works: its bytes, the manifest for them, and what was found, in lines for a person.

    warnings: what works but is probably not what one wants.
    """

    data: bytes
    manifest: Manifest
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    found: tuple[str, ...]
    warnings: tuple[str, ...]

    def keep(self, place: Path) -> Model:
        """Write the model as ``place``/NAME, whole or not at all. Raises ModelError."""
        return keep_model(self.data, self.manifest, None, place / self.manifest.name)


def examine(path: Path, wanted: Wanted) -> Examined:
    """Look at ``path``, run it on a drawn picture, measure it. Raises ModelError, in one line, if it cannot work."""
    data = read_model_file(path)
    check_stands_alone(data, path)
    probe = Session(data, name=str(path), settings=RunSettings())
    facts, layout = _one_picture_input(probe, path)
    shapes = _shapes(facts, layout, wanted, path)
    samples = _first_run(probe, facts, layout, shapes[0], path)
    try:
        told = recognise(wanted.family, samples, *shapes[0])
        classes, told = _classes(wanted, told, probe.metadata)
    except ModelError as error:
        likely = likely_families(wanted.family, samples, *shapes[0])
        mend = f"it looks like --family {' or '.join(likely)}" if likely else error.mend
        raise ModelError(f"{path}: {Exception.__str__(error)}", mend=mend) from None
    manifest = _manifest(path, data, wanted, told, _input(facts, layout, shapes, wanted, told), classes)
    costs, boxes = _tried(data, manifest, facts, path)
    measured = [
        shape.model_copy(update={"cost_ms": round(costs[i], 2)}) for i, shape in enumerate(manifest.input.shapes)
    ]
    manifest = manifest.model_copy(update={"input": manifest.input.model_copy(update={"shapes": measured})})
    return Examined(
        data=data,
        manifest=manifest,
        inputs=tuple(str(each) for each in probe.inputs),
        outputs=tuple(str(each) for each in probe.outputs),
        found=(*told.found, f"{len(classes)} classes", f"{boxes} boxes in a drawn picture"),
        warnings=_warnings(classes, facts),
    )


def _one_picture_input(probe: Session, path: Path) -> tuple[TensorFacts, Layout]:
    """The network's input and where its channels are."""
    if len(probe.inputs) != 1:
        has = "; ".join(str(each) for each in probe.inputs) or "none"
        raise ModelError(
            f"{path}: one input, the picture, is wanted; this network has {has}", mend="export it without them"
        )
    facts = probe.inputs[0]
    if facts.dtype not in {"float32", "uint8"}:
        raise ModelError(
            f"{path}: its input {facts} is neither float32 nor uint8", mend="export it with a float32 input"
        )
    if len(facts.shape) != 4:
        raise ModelError(f"{path}: its input {facts} is not a batch of pictures (4 dimensions)")
    if facts.shape[1] == 3:
        return facts, "nchw"
    if facts.shape[3] == 3:
        return facts, "nhwc"
    raise ModelError(f"{path}: its input {facts} has three colour channels neither second nor last")


def _shapes(facts: TensorFacts, layout: Layout, wanted: Wanted, path: Path) -> list[tuple[int, int]]:
    """The (width, height) to run at: what the network fixes, or what the user says, or two that suit most cameras."""
    height, width = facts.shape[2:4] if layout == "nchw" else facts.shape[1:3]
    shapes = list(wanted.shapes or ())
    if isinstance(width, int) and isinstance(height, int):
        if shapes and shapes != [(width, height)]:
            raise ModelError(f"{path}: takes {width}x{height} and nothing else", mend="leave --shapes out")
        return [(width, height)]
    if not shapes:
        shapes = [
            (width if isinstance(width, int) else w, height if isinstance(height, int) else h) for w, h in _FREE_SHAPES
        ]
    return list(dict.fromkeys(shapes))


def drawn_picture(width: int, height: int) -> Picture:
    """A picture with edges, areas and all colours: the same on every machine."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256], axis=-1)
    for i in range(4):
        left, top = width * (2 * i + 1) // 10, height * (i + 2) // 8
        picture[top : top + height // 4, left : left + width // 12] = (40 * i, 200 - 40 * i, 90)
    return picture.astype(np.uint8)


def _first_run(
    probe: Session, facts: TensorFacts, layout: Layout, shape: tuple[int, int], path: Path
) -> dict[str, NDArray[np.float32]]:
    """The outputs of one run, as tables; its values only tell probabilities from logits and pixels from fractions."""
    plain = ModelInput(
        name=facts.name,
        layout=layout,
        dtype="uint8" if facts.dtype == "uint8" else "float32",
        color="rgb",
        scale="0-255",
        resize="stretch",
        shapes=[InputShape(width=shape[0], height=shape[1])],
    )
    fixed = facts.shape[0]
    batch = fixed if isinstance(fixed, int) else 1
    fit = InputFit(plain, *shape, *shape)
    tensor = fit.tensor([drawn_picture(*shape)], batch)
    names = [each.name for each in probe.outputs]
    try:
        ran = probe.run({facts.name: tensor}, names)
    except ModelError as error:
        free = not all(isinstance(side, int) for side in facts.shape)
        raise ModelError(str(error), mend=f"{shape[0]}x{shape[1]} may not suit it: --shapes" if free else "") from None
    tables = {}
    for name, output in zip(names, ran, strict=True):
        if output.ndim < 2 or len(output) != batch:
            got = "x".join(str(side) for side in output.shape)
            raise ModelError(f"{path}: output {name} is {got}, not a table for each of {batch} pictures")
        tables[name] = as_float32(output[0])
        if not np.isfinite(tables[name]).all():
            raise ModelError(f"{path}: output {name} holds numbers that are not finite")
    return tables


def _classes(wanted: Wanted, told: Recognised, metadata: dict[str, str]) -> tuple[tuple[str, ...], Recognised]:
    """The names of the class columns, from the user, the file's metadata, or what their number stands for."""
    names = wanted.classes
    if names is not None and len(names) == 1:
        names = CLASS_SETS.get(names[0], names)
    if names is None:
        names = names_in(metadata) or classes_of(wanted.family, told.columns)
    if names is None:
        raise ModelError(f"has {told.columns} classes whose names are not known", mend="name them with --classes a,b,c")
    if len(names) == told.columns:
        options = told.options
        if wanted.family == "detr" and options.activation == "softmax":
            options = options.model_copy(update={"activation": "sigmoid", "background": None})
    elif wanted.family == "detr" and len(names) == told.columns - 1:  # the last column is "no object"
        options = told.options.model_copy(update={"activation": "softmax", "background": -1})
    else:
        raise ModelError(f"has {told.columns} classes, but {len(names)} are named: {few(names)}", mend="mend --classes")
    return names, Recognised(told.outputs, told.columns, options, told.found)


def names_in(metadata: dict[str, str]) -> tuple[str, ...] | None:
    """Class names as Ultralytics' exporter writes them: ``{0: 'person', 1: 'car'}``."""
    try:
        told = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(told, dict) and sorted(told) == list(range(len(told))):
        told = [told[i] for i in range(len(told))]
    if isinstance(told, list) and told and all(isinstance(name, str) and name for name in told):
        return tuple(told)
    return None


def _input(
    facts: TensorFacts, layout: Layout, shapes: Sequence[tuple[int, int]], wanted: Wanted, told: Recognised
) -> ModelInput:
    defaults = defaults_of(wanted.family, told)
    whole = facts.dtype == "uint8"
    if whole and wanted.scale not in {None, "0-255"}:
        raise ModelError(f"its input {facts} takes 0-255", mend="leave --scale out")
    return ModelInput(
        name=facts.name,
        layout=layout,
        dtype="uint8" if whole else "float32",
        color=wanted.color or defaults.color,
        scale="0-255" if whole else wanted.scale or defaults.scale,
        resize=wanted.resize or defaults.resize,
        pad=defaults.pad,
        shapes=[InputShape(width=width, height=height) for width, height in shapes],
    )


def _manifest(
    path: Path, data: bytes, wanted: Wanted, told: Recognised, spec: ModelInput, classes: tuple[str, ...]
) -> Manifest:
    defaults = defaults_of(wanted.family, told)
    try:
        return Manifest(
            name=wanted.name,
            version=wanted.version,
            family=wanted.family,
            file=MODEL_NAME,
            sha256=hashlib.sha256(data).hexdigest(),
            input=spec,
            outputs=told.outputs,
            classes=list(classes),
            thresholds=_thresholds(wanted, defaults),
            nms=defaults.nms,
            options=told.options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path}: {f'{key}: ' if key else ''}{message}") from None


def _thresholds(wanted: Wanted, defaults: Defaults) -> Thresholds:
    score = defaults.score if wanted.score_threshold is None else wanted.score_threshold
    nms_iou = defaults.nms_iou if wanted.nms_iou is None else wanted.nms_iou
    return Thresholds(score=score, low=min(defaults.low, score), nms_iou=nms_iou)


def _tried(data: bytes, manifest: Manifest, facts: TensorFacts, path: Path) -> tuple[list[float], int]:
    """Run every shape as the detector will: CPU milliseconds a picture at each, and boxes found at the first."""
    costs, boxes = [], []
    batch = facts.shape[0] if isinstance(facts.shape[0], int) else 1
    for shape in manifest.input.shapes:
        size = (shape.width, shape.height)
        session = Session(data, name=f"{path} at {size[0]}x{size[1]}", settings=RunSettings())
        tensor = InputFit(manifest.input, *size, *size).tensor([drawn_picture(*size)], batch)
        seconds = []
        for _ in range(COST_RUNS):
            started = time.thread_time()  # one thread: what it costs, not what else the machine did
            ran = session.run({facts.name: tensor}, manifest.output_names())
            seconds.append(time.thread_time() - started)
        costs.append(statistics.median(seconds) * 1000 / batch)
        try:
            candidates = decoder_for(manifest, *size)([as_float32(each[0]) for each in ran], manifest.thresholds.low)
        except ModelError as error:
            raise ModelError(f"{path} at {size[0]}x{size[1]}: {error}") from None
        kept = suppress(candidates, rivals(manifest.classes, manifest.nms), manifest.thresholds.nms_iou)
        boxes.append(len(kept.scores))
    return costs, boxes[0]


def _warnings(classes: tuple[str, ...], facts: TensorFacts) -> tuple[str, ...]:
    told = []
    if not any(group_of(name) for name in classes):
        told.append("none of its classes is a person or a vehicle: nothing will be counted by default")
    if isinstance(facts.shape[0], int) and facts.shape[0] > 1:
        told.append(
            f"it runs {facts.shape[0]} pictures at a time, fixed: a single one costs as much; export it with batch 1"
        )
    return tuple(told)
