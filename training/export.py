"""A trained detector as ONNX, compared with torch before anything is written.

One file serves every multiple of 32: ``image`` uint8 [batch, height, width, 3] RGB 0..255 (letterboxed, top left, pad
114) to ``boxes`` float32 [batch, anchors, 4] xyxy in pixels of the input and ``scores`` float32 [batch, anchors,
classes] 0..1. The free dimensions are named batch, height and width; a session that fixes them folds the grid away.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ModelError
from pipeline.inference.onnx import RunSettings, Session
from training.models.backbone import Backbone
from training.models.detector import MAX_LOG_SIZE, Detector, boxes_of, log_scores_of

OPSET = 17
MAX_SCORE_DIFFERENCE = 1e-3
MAX_BOX_DIFFERENCE_PX = 0.1
SHOWN_SCORE = 0.05
"""Boxes are compared where a class scores at least this: nobody uses the others."""


class ExportedDetector(nn.Module):
    """The detector as the file holds it: uint8 RGB NHWC in, boxes and scores out.

    The stem's four shifted copies and its 3x3 convolution are one 6x6 convolution with stride 2 here, RGB included.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        conv = detector.backbone.stem.conv
        weight, bias = conv.weight.detach(), conv.bias
        assert bias is not None
        folded = torch.zeros(weight.shape[0], 3, 6, 6)
        # Patches in the order of space_to_depth: (row, column) of the 2x2.
        for patch, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            folded[:, :, row::2, column::2] = weight[:, 3 * patch : 3 * patch + 3].flip(1)  # BGR to RGB
        self.weight, self.bias = nn.Parameter(folded), nn.Parameter(bias.detach().clone())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = image.permute(0, 3, 1, 2).float()
        stem = self.detector.backbone.stem.bend(functional.conv2d(pixels, self.weight, self.bias, 2, 2))
        maps = self.detector.levels(self.detector.backbone.features(stem))
        boxes, scores = [], []
        for one, stride in zip(maps, Backbone.strides, strict=True):
            rows = one.permute(0, 2, 3, 1)
            boxes.append(_level_boxes(rows[..., :4], stride))
            scores.append((rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()).flatten(1, 2))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


def _level_boxes(numbers: Tensor, stride: int) -> Tensor:
    """B x h x w x 4 offsets and log sizes to B x (h*w) x 4 xyxy pixels."""
    height, width = numbers.shape[1], numbers.shape[2]
    columns = torch.arange(width, dtype=torch.float32)[None, :, None].expand(height, width, 1)
    lines = torch.arange(height, dtype=torch.float32)[:, None, None].expand(height, width, 1)
    centers = (numbers[..., :2] + torch.cat([columns, lines], 2)) * stride
    half = numbers[..., 2:].clamp(max=MAX_LOG_SIZE).exp() * (stride / 2)
    return torch.cat([centers - half, centers + half], 3).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest differences between ONNX Runtime and torch on the pictures compared."""

    score: float
    box_px: float
    pictures: int

    def check(self) -> None:
        """Raise ModelError when the export may not be used."""
        if not (self.score <= MAX_SCORE_DIFFERENCE and self.box_px <= MAX_BOX_DIFFERENCE_PX):
            raise ModelError(
                f"ONNX Runtime and torch differ by {self.score:.2g} in scores and {self.box_px:.2g} px in boxes; "
                f"allowed are {MAX_SCORE_DIFFERENCE:g} and {MAX_BOX_DIFFERENCE_PX:g}: nothing was written",
                mend="check the exporter's version and the weights (a score of nan means a broken run)",
            )


def export_onnx(detector: Detector) -> bytes:
    """The detector as the bytes of an ONNX file."""
    module = ExportedDetector(detector).eval()
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


def compare(data: bytes, detector: Detector, pictures: Sequence[NDArray[np.uint8]]) -> Difference:
    """Run both on pictures (each H x W x 3 uint8 RGB, H and W multiples of 32) and tell how far they are apart.

    torch runs the network as it was trained, without what the export folds.
    """
    score = box = 0.0
    for picture in pictures:
        height, width = picture.shape[:2]
        fixed = {"batch": 1, "height": height, "width": width}
        session = Session(data, name="the export", settings=RunSettings(), fixed=fixed)
        boxes, scores = session.run({"image": picture[None]}, ["boxes", "scores"])
        bgr = torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1)))[None].float()
        with torch.no_grad():
            rows, cells = detector.eval()(bgr)
        wanted = log_scores_of(rows).exp().numpy()
        shown = wanted.max(-1) >= SHOWN_SCORE
        apart = np.abs(boxes - boxes_of(rows, cells).numpy()).max(-1)
        score = _worst(score, np.abs(scores - wanted))
        box = _worst(box, apart[shown])
    return Difference(score, box, len(pictures))


def _worst(so_far: float, differences: NDArray[np.float32]) -> float:
    worst = float(differences.max()) if differences.size else 0.0
    return max(so_far, worst) if math.isfinite(worst) else math.inf
