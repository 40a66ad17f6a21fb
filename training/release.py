"""A model folder that the pipeline can run: model.onnx, manifest.yaml, card.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError, UsageError
from pipeline.inference.manifest import InputShape, Manifest, ModelInput, Thresholds
from pipeline.inference.onnx import RunSettings, Session
from pipeline.inference.store import Model, keep_model
from training.costs import interleaved_ms
from training.export import Difference, Precision, compare, export_onnx
from training.models.network import Network

MAX_BYTES = 8_000_000
Shape = tuple[int, int]
"""Width, height in pixels."""

# In the order of preference: of the shapes that suit a picture's aspect ratio alike, the first is taken.
SHAPES: tuple[Shape, ...] = ((416, 256), (416, 416), (544, 320), (640, 384), (256, 416))


def shapes_of(text: str) -> dict[Shape, float]:
    """``704x416=0.7,544x544=0.3`` (width first) as shapes and how often each is drawn; as often where nothing is said.

    Raises UsageError; sides are multiples of 32, as the network's strides want them.
    """
    shapes: dict[Shape, float] = {}
    for part in text.split(","):
        told = re.fullmatch(r"\s*(\d+)x(\d+)(?:=(\d*\.?\d+))?\s*", part)
        if told is None or any(int(side) % 32 or not int(side) for side in told.group(1, 2)):
            raise UsageError(f"--shapes: {part!r} is no shape", mend="write 704x416=0.7,544x544=0.3: multiples of 32")
        shapes[int(told[1]), int(told[2])] = float(told[3] or 1.0)
    return shapes


@dataclass(frozen=True, slots=True)
class Release:
    """What a model is called, how its scores are to be used, and whether it was taught people who lie."""

    name: str
    version: str
    classes: tuple[str, ...]
    thresholds: Thresholds
    card: str
    lying: bool = False


def manifest_of(release: Release, data: bytes, shapes: Sequence[Shape], costs_ms: dict[Shape, float]) -> Manifest:
    """The manifest of an exported detector. costs_ms: what each shape costs, if measured."""
    listed = [
        InputShape(width=w, height=h, cost_ms=round(costs_ms[w, h], 1) if (w, h) in costs_ms else None)
        for w, h in shapes
    ]
    return Manifest(
        name=release.name,
        version=release.version,
        family="passerby",
        sha256=hashlib.sha256(data).hexdigest(),
        input=ModelInput(
            name="image", layout="nhwc", dtype="uint8", color="rgb", scale="0-255", resize="letterbox", shapes=listed
        ),
        outputs={"boxes": "boxes", "scores": "scores"},
        classes=list(release.classes),
        thresholds=release.thresholds,
        nms="group",
        lying=release.lying,
        card="card.md",
    )


def shape_costs_ms(data: bytes, shapes: Sequence[Shape], rounds: int = 30) -> dict[Shape, float]:
    """CPU milliseconds a picture of each shape, one thread, measured interleaved."""
    runs = {}
    for width, height in shapes:
        fixed = {"batch": 1, "height": height, "width": width}
        session = Session(data, name="the export", settings=RunSettings(), fixed=fixed)
        picture = np.full((1, height, width, 3), 114, np.uint8)
        runs[f"{width}x{height}"] = lambda session=session, picture=picture: session.run(
            {"image": picture}, ["boxes", "scores"]
        )
    told = interleaved_ms(runs, rounds)
    return {(w, h): told[f"{w}x{h}"] for w, h in shapes}


def write_release(
    detector: Network,
    release: Release,
    folder: Path,
    pictures: Sequence[NDArray[np.uint8]],
    shapes: Sequence[Shape] = SHAPES,
    precision: Precision = "fp32",
) -> tuple[Model, Difference]:
    """Export, compare with torch on ``pictures`` (H x W x 3 uint8 RGB, sides multiples of 32), write the folder.

    Raises ModelError, and writes nothing, when the two differ or the file is too large to ship.
    """
    data = export_onnx(detector, precision)
    apart = compare(data, detector, pictures)
    apart.check(precision)
    if len(data) > MAX_BYTES:
        raise ModelError(f"{folder}: the network has {len(data)} bytes, a model that ships at most {MAX_BYTES}")
    manifest = manifest_of(release, data, shapes, shape_costs_ms(data, shapes))
    return keep_model(data, manifest, release.card, folder), apart
