"""A decoder a family: the raw outputs of one picture to candidates. NumPy only.

Each decoder looks at scores first and works out boxes only for the cells that are above the floor.
Every cell gives at most one candidate: its best class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.inference.manifest import Manifest
from pipeline.inference.postprocess import Candidates

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_MAX_LOG_SIZE = 12.0  # e^12 cells are wider than any picture: keeps exp from overflowing on a broken model


class Decoder(Protocol):
    """Turns the outputs of one picture into candidates."""

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        """outputs: float32, without the batch axis, in the order of ``Manifest.output_names``. floor: lowest score.

        Raises ModelError where a tensor's shape is not what the manifest says.
        """


def decoder_for(manifest: Manifest, width: int, height: int) -> Decoder:
    """The decoder of a family for an input of ``width`` x ``height`` pixels."""
    made: dict[str, type[_Decoder]] = {
        "passerby": BoxesScores,
        "boxes_scores": BoxesScores,
        "yolox": Yolox,
        "gfl": Gfl,
        "ultralytics": Ultralytics,
        "detr": Detr,
    }
    return made[manifest.family](manifest, width, height)


class _Decoder:
    def __init__(self, manifest: Manifest, width: int, height: int) -> None:
        self.options = manifest.options
        self.classes = len(manifest.classes)
        self.width, self.height = width, height
        self.sigmoid = manifest.options.activation == "sigmoid"

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        raise NotImplementedError

    def best(self, scores: Floats, floor: float) -> tuple[Rows, Floats, Rows]:
        """Rows of A x C scores whose best class is at or above the floor, its probability, its number."""
        limit = np.float32(_logit(floor)) if self.sigmoid else np.float32(floor)
        # Comparing everything and looking at the few hits is several times quicker than a maximum along C.
        rows = np.unique(np.flatnonzero(scores >= limit) // scores.shape[1])
        few = scores[rows]
        ids = few.argmax(axis=1).astype(np.int64)
        best = few[np.arange(len(rows)), ids]
        return rows, (_sigmoid(best) if self.sigmoid else best), ids


class BoxesScores(_Decoder):
    """``boxes`` A x 4 xyxy and ``scores`` A x C."""

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        boxes, scores = outputs
        _expect("boxes", boxes, (None, 4))
        _expect("scores", scores, (len(boxes), self.classes))
        rows, best, ids = self.best(scores, floor)
        few = boxes[rows]
        if self.options.box_units == "normalized":
            few = few * np.array([self.width, self.height] * 2, np.float32)
        return Candidates(few, best, ids)


class Yolox(_Decoder):
    """``output`` A x (5 + C): offsets from the cell's corner and log sizes in cells, objectness, classes.

    xy = (cell + o) * stride, wh = exp(o) * stride, score = objectness * class (Ge et al. 2021).
    """

    def __init__(self, manifest: Manifest, width: int, height: int) -> None:
        super().__init__(manifest, width, height)
        self.cells, self.strides = _cells(self.options.strides or [8, 16, 32], width, height)

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        (output,) = outputs
        _expect("output", output, (len(self.cells), 5 + self.classes))
        # A score never exceeds its objectness, so most cells are ruled out by one column.
        limit = np.float32(_logit(floor)) if self.sigmoid else np.float32(floor)
        likely = np.flatnonzero(output[:, 4] >= limit)
        few = output[likely]
        parts = _sigmoid(few[:, 4:]) if self.sigmoid else few[:, 4:]
        scores = parts[:, 1:] * parts[:, :1]
        ids = scores.argmax(axis=1).astype(np.int64) if len(likely) else np.zeros(0, np.int64)
        best = scores[np.arange(len(likely)), ids]
        above = np.flatnonzero(best >= np.float32(floor))
        rows = likely[above]
        return Candidates(_from_center(self._boxes(output, rows)), best[above], ids[above])

    def _boxes(self, output: Floats, rows: Rows) -> Floats:
        if self.options.decoded:
            return output[rows, :4]
        stride = self.strides[rows, None]
        center = (self.cells[rows] + output[rows, :2]) * stride
        size = np.exp(np.minimum(output[rows, 2:4], _MAX_LOG_SIZE)) * stride
        return np.concatenate([center, size], axis=1)


class Gfl(_Decoder):
    """A level: scores A_l x C, and A_l x 4*bins logits of the distances left, top, right, bottom in strides.

    A distance is the expectation of its softmax distribution over 0..bins-1 (Li et al. 2020).
    """

    def __init__(self, manifest: Manifest, width: int, height: int) -> None:
        super().__init__(manifest, width, height)
        self.bins = self.options.bins or 8
        center = self.options.center or "pixel_half"
        self.levels: list[tuple[Floats, int]] = []
        for stride in self.options.strides or []:
            cells, _ = _cells([stride], width, height)
            shift = {"cell_half": 0.5 * stride, "pixel_half": 0.5 * (stride - 1), "corner": 0.0}[center]
            self.levels.append((cells * np.float32(stride) + np.float32(shift), stride))

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        levels = len(self.levels)
        found = []
        for i, (centers, stride) in enumerate(self.levels):
            scores, sides = outputs[i], outputs[levels + i]
            _expect(f"cls of stride {stride}", scores, (len(centers), self.classes))
            _expect(f"reg of stride {stride}", sides, (len(centers), 4 * self.bins))
            rows, best, ids = self.best(scores, floor)
            shares = _softmax(sides[rows].reshape(-1, 4, self.bins))
            reach = (shares @ np.arange(self.bins, dtype=np.float32)) * np.float32(stride)
            boxes = np.concatenate([centers[rows] - reach[:, :2], centers[rows] + reach[:, 2:]], axis=1)
            found.append(Candidates(boxes, best, ids))
        return Candidates(
            np.concatenate([part.boxes for part in found]),
            np.concatenate([part.scores for part in found]),
            np.concatenate([part.class_ids for part in found]),
        )


class Ultralytics(_Decoder):
    """``output`` (4 + C) x A: centre, width, height in input pixels, then classes (or A x (4 + C), ``transposed``)."""

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        (output,) = outputs
        rowwise = output if self.options.transposed else output.T
        _expect("output", rowwise, (None, 4 + self.classes))
        if self.options.transposed:
            rows, best, ids = self.best(rowwise[:, 4:], floor)
        else:
            rows, best, ids = self._best_of_columns(output[4:], floor)
        few = rowwise[rows, :4]
        if self.options.box_units == "normalized":
            few = few * np.array([self.width, self.height] * 2, np.float32)
        return Candidates(_from_center(few), best, ids)

    def _best_of_columns(self, scores: Floats, floor: float) -> tuple[Rows, Floats, Rows]:
        """As ``best``, for C x A: a maximum along the first axis runs at full speed."""
        limit = np.float32(_logit(floor)) if self.sigmoid else np.float32(floor)
        rows = np.flatnonzero(scores.max(axis=0) >= limit)
        few = scores[:, rows]
        ids = few.argmax(axis=0).astype(np.int64)
        best = few[ids, np.arange(len(rows))]
        return rows, (_sigmoid(best) if self.sigmoid else best), ids


class Detr(_Decoder):
    """``logits`` Q x C (sigmoid) or Q x (C + 1) (softmax with a column of "no object"), ``boxes`` Q x 4 cxcywh 0..1."""

    def __call__(self, outputs: Sequence[Floats], floor: float) -> Candidates:
        logits, boxes = outputs
        columns = self.classes + (self.options.background is not None)
        _expect("logits", logits, (None, columns))
        _expect("boxes", boxes, (len(logits), 4))
        if self.options.activation == "softmax":
            logits = _softmax(logits)
        if self.options.background is not None:
            logits = np.delete(logits, self.options.background, axis=1)
        rows, best, ids = self.best(logits, floor)
        few = boxes[rows] * np.array([self.width, self.height] * 2, np.float32)
        return Candidates(_from_center(few), best, ids)


def _cells(strides: Sequence[int], width: int, height: int) -> tuple[Floats, Floats]:
    """x, y of every cell (A x 2), level after level, row by row, and the stride of each (A)."""
    cells, steps = [], []
    for stride in strides:
        columns, rows = math.ceil(width / stride), math.ceil(height / stride)
        y, x = np.divmod(np.arange(columns * rows), columns)
        cells.append(np.stack([x, y], axis=1))
        steps.append(np.full(columns * rows, stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)


def cell_count(stride: int, width: int, height: int) -> int:
    """Cells of one level."""
    return math.ceil(width / stride) * math.ceil(height / stride)


def _expect(what: str, array: NDArray[Any], shape: tuple[int | None, int]) -> None:
    if array.ndim != 2 or array.shape[1] != shape[1] or shape[0] not in {None, array.shape[0]}:
        wanted = "x".join("N" if side is None else str(side) for side in shape)
        got = "x".join(str(side) for side in array.shape)
        raise ModelError(f"output {what} is {got}, where the manifest's classes and shapes make it {wanted}")


def _from_center(boxes: Floats) -> Floats:
    half = boxes[:, 2:] * np.float32(0.5)
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def _sigmoid(logits: Floats) -> Floats:
    share: Floats = np.float32(1) / (np.float32(1) + np.exp(-np.clip(logits, -60, 60)))
    return share


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability)) if 0 < probability < 1 else math.copysign(60, probability - 0.5)
