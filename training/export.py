"""A trained detector as ONNX, compared with torch before anything is written.

One file serves every multiple of 32: ``image`` uint8 [batch, height, width, 3] RGB 0..255 (letterboxed, top left, pad
114) to ``boxes`` float32 [batch, anchors, 4] xyxy in pixels of the input and ``scores`` float32 [batch, anchors,
classes] 0..1. The free dimensions are named batch, height and width; a session that fixes them folds the grid away.
"""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.inference.onnx import RunSettings, Session
from training.models.network import Network, cells_of, rows_of

OPSET = 17
Precision = Literal["fp32", "fp16"]
MAX_SCORE_DIFFERENCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.05}
MAX_BOX_DIFFERENCE_PX: dict[Precision, float] = {"fp32": 0.1, "fp16": 4.0}
COMPARED = 9
"""Pictures on which an export is compared with torch."""
SHOWN_SCORE = 0.05
"""Boxes are compared where a class scores at least this: nobody uses the others."""


class ExportedDetector(nn.Module):
    """The detector as the file holds it: uint8 RGB NHWC in, boxes and scores out, float32 in any precision.

    fp16: the convolutions are in half precision; boxes, in which 11 bits would be half a pixel, and scores are not.
    """

    def __init__(self, network: Network, precision: Precision = "fp32") -> None:
        super().__init__()
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.network = copy.deepcopy(network).to(self.dtype)
        self.stem = network.rgb_stem().to(self.dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        maps = network.levels(network.features(self.stem(image.permute(0, 3, 1, 2).to(self.dtype))))
        boxes, scores = [], []
        for one, stride in zip(maps, network.strides, strict=True):
            # Level by level: its cells alone are folded away where the picture's size is fixed.
            rows, cells = rows_of([one]).float(), cells_of([one], (stride,))
            boxes.append(network.boxes_of(rows, cells))
            scores.append(network.scores_of(rows))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest differences between ONNX Runtime and torch on the pictures compared."""

    score: float
    box_px: float
    pictures: int

    def told(self) -> str:
        """In words."""
        return (
            f"from torch at most {self.score:.2g} in a score, {self.box_px:.2g} px in a box ({self.pictures} pictures)"
        )

    def check(self, precision: Precision = "fp32") -> None:
        """Raise ModelError when the export may not be used."""
        score, box_px = MAX_SCORE_DIFFERENCE[precision], MAX_BOX_DIFFERENCE_PX[precision]
        if not (self.score <= score and self.box_px <= box_px):
            raise ModelError(
                f"ONNX Runtime and torch differ by {self.score:.2g} in scores and {self.box_px:.2g} px in boxes; "
                f"allowed are {score:g} and {box_px:g} in {precision}: nothing was written",
                mend="check the exporter's version and the weights (a score of nan means a broken run)",
            )


def export_onnx(detector: Network, precision: Precision = "fp32") -> bytes:
    """The detector as the bytes of an ONNX file."""
    module = ExportedDetector(detector, precision).eval()
    example = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    axes = {
        "image": {0: "batch", 1: "height", 2: "width"},
        "boxes": {0: "batch", 1: "anchors"},
        "scores": {0: "batch", 1: "anchors"},
    }
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the one that keeps the dimensions' names
        torch.onnx.export(
            module, (example,), buffer, input_names=["image"], output_names=["boxes", "scores"],
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def precision_of(data: bytes) -> Precision:
    """Of the weights in an ONNX file."""
    kinds = {each.data_type for each in onnx.load_from_string(data).graph.initializer}
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def parity_told(precision: Precision) -> str:
    """The sentence of a card that `passerby models promote --gate` looks for."""
    return (
        f"ONNX Runtime and torch differ by at most {MAX_SCORE_DIFFERENCE[precision]:g} in a score and "
        f"{MAX_BOX_DIFFERENCE_PX[precision]:g} px in a box on validation pictures, or nothing is exported."
    )


def compare(data: bytes, detector: Network, pictures: Sequence[NDArray[np.uint8]]) -> Difference:
    """Run both on pictures (each H x W x 3 uint8 RGB, H and W multiples of 32) and tell how far they are apart.

    torch runs the network as it was trained, in float32, without what the export folds.
    """
    score = box = 0.0
    for picture in pictures:
        height, width = picture.shape[:2]
        fixed = {"batch": 1, "height": height, "width": width}
        session = Session(data, name="the export", settings=RunSettings(), fixed=fixed)
        boxes, scores = session.run({"image": picture[None]}, ["boxes", "scores"])
        bgr = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))[None].float()
        with torch.no_grad():
            told = detector.eval().predicted(bgr)
        wanted = told.log_scores.exp().numpy()
        shown = wanted.max(-1) >= SHOWN_SCORE
        apart = np.abs(boxes - told.boxes.numpy()).max(-1)
        score = _worst(score, np.abs(scores - wanted))
        box = _worst(box, apart[shown])
    return Difference(score, box, len(pictures))


def _worst(so_far: float, differences: NDArray[np.float32]) -> float:
    worst = float(differences.max()) if differences.size else 0.0
    return max(so_far, worst) if math.isfinite(worst) else math.inf
