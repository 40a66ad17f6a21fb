"""Each family's decoder against the formulas written out cell by cell, and against known answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.inference.decoders import decoder_for
from pipeline.inference.manifest import Manifest
from pipeline.inference.postprocess import Candidates
from tests.inference.networks import manifest_for

CLASSES = ["person", "car", "dog"]
WIDTH, HEIGHT = 96, 64
Row = tuple[list[float], float, int]


def manifest(family: str, outputs: dict[str, Any], **options: Any) -> Manifest:
    shapes = [{"width": WIDTH, "height": HEIGHT}]
    return manifest_for(b"x", family=family, outputs=outputs, options=options, input={"shapes": shapes})


def decoded(told: Manifest, outputs: Sequence[np.ndarray], floor: float) -> Candidates:
    return decoder_for(told, WIDTH, HEIGHT)(outputs, floor)


def same(got: Candidates, wanted: list[Row]) -> None:
    """Equal as sets of rows."""
    order = np.lexsort((got.boxes[:, 1], got.boxes[:, 0], got.scores))
    wanted = sorted(wanted, key=lambda row: (row[1], row[0][0], row[0][1]))
    assert len(wanted) == len(got.scores)
    np.testing.assert_allclose(got.boxes[order], [row[0] for row in wanted], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.scores[order], [row[1] for row in wanted], rtol=1e-5)
    assert got.class_ids[order].tolist() == [row[2] for row in wanted]
    assert (got.boxes.dtype, got.scores.dtype, got.class_ids.dtype) == (np.float32, np.float32, np.int64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("decoded_in_graph", [None, True])
@pytest.mark.parametrize("strides", [[8, 16, 32], [8, 16, 32, 64]])
def test_yolox(activation: str | None, decoded_in_graph: bool | None, strides: list[int]) -> None:
    rng = np.random.default_rng(3)
    cells = [
        (x, y, stride)
        for stride in strides
        for y in range(math.ceil(HEIGHT / stride))
        for x in range(math.ceil(WIDTH / stride))
    ]
    output = rng.normal(0, 1, (len(cells), 5 + len(CLASSES))).astype(np.float32)
    if activation is None:
        output[:, 4:] = rng.random((len(cells), 1 + len(CLASSES)))
    wanted: list[Row] = []
    for row, (x, y, stride) in zip(output.astype(float), cells, strict=True):
        objectness, *classes = [sigmoid(value) for value in row[4:]] if activation else row[4:]
        best = max(range(len(classes)), key=lambda i: classes[i])
        score = objectness * classes[best]
        if decoded_in_graph:
            cx, cy, w, h = row[:4]
        else:
            cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
            w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
        if score >= 0.3:
            wanted.append(([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], score, best))
    assert 5 < len(wanted) < len(cells)
    told = manifest("yolox", {"output": "o"}, strides=strides, activation=activation, decoded=decoded_in_graph)
    same(decoded(told, [output], 0.3), wanted)


@pytest.mark.parametrize("center", ["cell_half", "pixel_half", "corner"])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize(("strides", "bins"), [([8, 16, 32], 8), ([8, 16, 32, 64], 16)])
def test_gfl(center: str, activation: str | None, strides: list[int], bins: int) -> None:
    rng = np.random.default_rng(4)
    scores, sides, wanted = [], [], []
    for stride in strides:
        columns, rows = math.ceil(WIDTH / stride), math.ceil(HEIGHT / stride)
        level = rng.random((columns * rows, len(CLASSES))).astype(np.float32)
        if activation:
            level = rng.normal(0, 1, level.shape).astype(np.float32)
        reach = rng.normal(0, 2, (columns * rows, 4 * bins)).astype(np.float32)
        scores.append(level)
        sides.append(reach)
        shift = {"cell_half": stride / 2, "pixel_half": (stride - 1) / 2, "corner": 0}[center]
        for cell in range(columns * rows):
            values = [sigmoid(value) if activation else float(value) for value in level[cell]]
            best = max(range(len(values)), key=lambda i: values[i])
            x, y = cell % columns * stride + shift, cell // columns * stride + shift
            distances = []
            for side in reach[cell].astype(float).reshape(4, bins):
                powers = [math.exp(value) for value in side]
                distances.append(sum(i * power for i, power in enumerate(powers)) / sum(powers) * stride)
            left, top, right, bottom = distances
            if values[best] >= 0.7:
                wanted.append(([x - left, y - top, x + right, y + bottom], values[best], best))
    assert len(wanted) > 10
    names = [f"t{i}" for i in range(len(strides))]
    outputs = {"cls": names, "reg": [f"r{name}" for name in names]}
    told = manifest("gfl", outputs, strides=strides, bins=bins, center=center, activation=activation)
    same(decoded(told, [*scores, *sides], 0.7), wanted)


@pytest.mark.parametrize("units", [None, "pixels", "normalized"])
def test_boxes_and_scores(units: str | None) -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1], [0, 0, 1, 1]], np.float32)
    size = np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    scores = np.array([[0.1, 0.6, 0.2], [0.3, 0.2, 0.1], [0.05, 0.3, 0.95]], np.float32)
    told = manifest("boxes_scores", {"boxes": "b", "scores": "s"}, box_units=units)
    given = boxes if units == "normalized" else boxes * size
    same(decoded(told, [given, scores], 0.5), [([0, 0, 48, 32], 0.6, 1), ([0, 0, 96, 64], 0.95, 2)])


@pytest.mark.parametrize("transposed", [None, True])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_ultralytics(transposed: bool | None, activation: str | None) -> None:
    # cx, cy, w, h, three classes
    rows = np.array([[50, 30, 20, 10, 0.1, 0.8, 0.2], [10, 10, 4, 6, 0.3, 0.2, 0.1], [70, 40, 30, 8, 0.6, 0.3, 0.5]])
    if activation:
        rows[:, 4:] = np.log(rows[:, 4:] / (1 - rows[:, 4:]))
    output = rows.astype(np.float32) if transposed else np.ascontiguousarray(rows.T.astype(np.float32))
    told = manifest("ultralytics", {"output": "o"}, transposed=transposed, activation=activation)
    same(decoded(told, [output], 0.5), [([40, 25, 60, 35], 0.8, 1), ([55, 36, 85, 44], 0.6, 0)])


def test_detr_with_a_column_of_no_object() -> None:
    probabilities = np.array([[0.7, 0.1, 0.1, 0.1], [0.02, 0.02, 0.02, 0.94], [0.1, 0.1, 0.6, 0.2]])
    logits = (np.log(probabilities) + 3).astype(np.float32)  # a softmax does not mind a constant
    boxes = np.array([[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 1, 1], [0.25, 0.75, 0.5, 0.5]], np.float32)
    told = manifest("detr", {"logits": "l", "boxes": "b"}, activation="softmax", background=-1)
    wanted: list[Row] = [([24, 24, 72, 40], 0.7, 0), ([0, 32, 48, 64], 0.6, 2)]
    same(decoded(told, [logits, boxes], 0.5), wanted)
    first = manifest("detr", {"logits": "l", "boxes": "b"}, activation="softmax", background=0)
    same(decoded(first, [np.roll(logits, 1, axis=1), boxes], 0.5), wanted)


def test_detr_with_sigmoids() -> None:
    probabilities = np.array([[0.7, 0.6, 0.1], [0.02, 0.02, 0.3]])
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    boxes = np.array([[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 1, 1]], np.float32)
    told = manifest("detr", {"logits": "l", "boxes": "b"}, activation="sigmoid")
    same(decoded(told, [logits, boxes], 0.5), [([24, 24, 72, 40], 0.7, 0)])


def test_a_broken_network_neither_overflows_nor_gives_a_candidate_for_not_a_number() -> None:
    output = np.full((96 * 64 // 64 + 6 * 4 + 3 * 2, 8), 1e30, np.float32)
    output[:, 4:] = np.nan
    told = manifest("yolox", {"output": "o"})
    assert len(decoded(told, [output], 0.1).scores) == 0
    output[:, 4:] = 1
    assert np.isfinite(decoded(told, [output], 0.1).scores).all()


@pytest.mark.parametrize(
    ("family", "outputs", "tables", "said"),
    [
        ("yolox", {"output": "o"}, [(126, 9)], "output is 126x9, .* make it 126x8"),
        ("yolox", {"output": "o"}, [(125, 8)], "output is 125x8"),
        ("boxes_scores", {"boxes": "b", "scores": "s"}, [(5, 4), (5, 4)], "scores is 5x4, .* 5x3"),
        ("boxes_scores", {"boxes": "b", "scores": "s"}, [(5, 4), (6, 3)], "scores is 6x3"),
        ("ultralytics", {"output": "o"}, [(8, 30)], "output is 30x8, .* Nx7"),
        ("detr", {"logits": "l", "boxes": "b"}, [(5, 4), (5, 4)], "logits is 5x4, .* Nx3"),
    ],
)
def test_tables_of_another_shape_are_refused(
    family: str, outputs: dict[str, Any], tables: list[tuple[int, int]], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        decoded(manifest(family, outputs), [np.zeros(shape, np.float32) for shape in tables], 0.5)
