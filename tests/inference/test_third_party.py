"""The third-party models on real pictures, against a plain reference that shares no code with the pipeline.

The reference follows the published decoding of each model with its own ONNX Runtime session, OpenCV and loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from pipeline.cli.detect import read_picture, scaled
from pipeline.core.classes import group_of
from pipeline.inference.adding import Wanted, examine
from pipeline.inference.detector import Detector
from pipeline.inference.manifest import Family
from pipeline.inference.store import Model

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])
Found = list[tuple[float, float, float, float, float, int]]  # xyxy, score, column

FILES: dict[str, tuple[str, Family]] = {
    "yolox": ("yolox_nano_416_coco", "yolox"),
    "picodet": ("picodet_s_416_coco", "gfl"),
    "nanodet": ("nanodet_m_416_coco", "gfl"),
    "pvb2003": ("pvb2003_864x480", "boxes_scores"),
}


@pytest.fixture(scope="module")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    place = tmp_path_factory.mktemp("models")
    made: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in made:
            file, family = FILES[name]
            made[name] = examine(shared / "models" / f"{file}.onnx", Wanted(family, name)).keep(place)
        return made[name]

    return model


def pictures_of(shared: Path, name: str, count: int) -> list[Path]:
    files = sorted((shared / "detection" / name / "images").iterdir())
    return files[:: max(1, len(files) // count)][:count]


def letterboxed(picture: np.ndarray, width: int, height: int, pad: int) -> np.ndarray:
    canvas = np.full((height, width, 3), pad, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def reference_yolox(run: Callable[[np.ndarray], list[np.ndarray]], picture: np.ndarray, floor: float) -> Found:
    canvas = letterboxed(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), 416, 416, 114)
    rows = run(canvas.astype(np.float32).transpose(2, 0, 1)[None])[0][0]
    found: Found = []
    at = 0
    for stride in (8, 16, 32):
        for y in range(416 // stride):
            for x in range(416 // stride):
                row = rows[at]
                at += 1
                column = int(np.argmax(row[5:]))
                score = float(row[4] * row[5 + column])
                if score >= floor:
                    cx, cy = (row[0] + x) * stride, (row[1] + y) * stride
                    w, h = math.exp(row[2]) * stride, math.exp(row[3]) * stride
                    found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, column))
    assert at == len(rows)
    return found


def reference_gfl(outputs: list[np.ndarray], strides: tuple[int, ...], floor: float) -> Found:
    found: Found = []
    for level, stride in enumerate(strides):
        scores, sides = outputs[level][0], outputs[len(strides) + level][0]
        columns = math.ceil(416 / stride)
        for cell in np.flatnonzero(scores.max(axis=1) >= floor):
            column = int(np.argmax(scores[cell]))
            x = cell % columns * stride + 0.5 * (stride - 1)
            y = cell // columns * stride + 0.5 * (stride - 1)
            reach = []
            for side in range(4):
                powers = [math.exp(value) for value in sides[cell][side * 8 : side * 8 + 8]]
                reach.append(sum(i * power for i, power in enumerate(powers)) / sum(powers) * stride)
            box = (x - reach[0], y - reach[1], x + reach[2], y + reach[3])
            found.append((*box, float(scores[cell][column]), column))
    return found


def reference_picodet(run: Callable[[np.ndarray], list[np.ndarray]], picture: np.ndarray, floor: float) -> Found:
    tensor = ((picture - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    return reference_gfl(run(tensor), (8, 16, 32, 64), floor)


def reference_nanodet(run: Callable[[np.ndarray], list[np.ndarray]], picture: np.ndarray, floor: float) -> Found:
    canvas = letterboxed(picture, 416, 416, 0)[:, :, ::-1]
    tensor = ((canvas - MEAN[::-1]) / STD[::-1]).transpose(2, 0, 1)[None].astype(np.float32)
    return reference_gfl(run(tensor), (8, 16, 32), floor)


def reference_pvb2003(run: Callable[[np.ndarray], list[np.ndarray]], picture: np.ndarray, floor: float) -> Found:
    boxes, scores = run(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR).astype(np.float32).transpose(2, 0, 1)[None])
    found: Found = []
    for box, row in zip(boxes[0], scores[0], strict=True):
        if row.max() >= floor:
            found.append((*(float(side) for side in box), float(row.max()), int(row.argmax())))
    return found


REFERENCES = {
    "yolox": reference_yolox,
    "picodet": reference_picodet,
    "nanodet": reference_nanodet,
    "pvb2003": reference_pvb2003,
}


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def one_an_object(found: Found, names: tuple[str, ...], limit: float) -> Found:
    """Greedy suppression among boxes of one group."""
    kept: Found = []
    for box in sorted(found, key=lambda box: -box[4]):
        group = group_of(names[box[5]]) or names[box[5]]
        rivals = [other for other in kept if (group_of(names[other[5]]) or names[other[5]]) == group]
        if all(overlap(box, other) <= limit for other in rivals):
            kept.append(box)
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FILES))
def test_it_sees_what_the_published_decoding_sees(name: str, models: Callable[[str], Model], shared: Path) -> None:
    model = models(name)
    floor, limit = 0.15, model.manifest.thresholds.nms_iou
    detector = Detector(model, min_score=floor)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])

    def run(tensor: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {session.get_inputs()[0].name: tensor}))

    compared = 0
    for path in [*pictures_of(shared, "coco_six", 3), *pictures_of(shared, "atl_traffic", 2)]:
        image = read_picture(path)
        fit = detector.fit(*image.size)
        picture = scaled(image, fit.width, fit.height)
        reference = one_an_object(REFERENCES[name](run, picture, floor), detector.classes, limit)
        (found,) = detector.detect([picture], [image.size])
        ratio = np.array([image.width / fit.width, image.height / fit.height] * 2)
        wanted = np.array([np.array(box[:4]) * ratio for box in reference]).reshape(-1, 4)
        wanted[:, 0::2] = wanted[:, 0::2].clip(0, image.width)
        wanted[:, 1::2] = wanted[:, 1::2].clip(0, image.height)
        assert len(found) == len(reference), path.name
        np.testing.assert_allclose(found.scores, [box[4] for box in reference], atol=1e-4)
        np.testing.assert_allclose(found.boxes, wanted, atol=0.05)
        assert found.class_ids.tolist() == [box[5] for box in reference]
        compared += len(found)
    assert compared >= 20


def labels_of(path: Path, columns: set[int], width: int, height: int) -> Iterator[tuple[float, ...]]:
    label = path.parent.parent / "labels" / f"{path.stem}.txt"
    for line in label.read_text().splitlines() if label.exists() else []:
        column, x, y, w, h = (float(part) for part in line.split()[:5])
        if column in columns:
            yield ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)


def ap50(detector: Detector, paths: list[Path], group: str, columns: set[int]) -> float:
    """Average precision at IoU 0.5 over 101 recalls, as COCO takes it."""
    hits: list[tuple[float, bool]] = []
    objects = 0
    for path in paths:
        image = read_picture(path)
        fit = detector.fit(*image.size)
        (found,) = detector.detect([scaled(image, fit.width, fit.height)], [image.size])
        free = list(labels_of(path, columns, *image.size))
        objects += len(free)
        for box, score, column in zip(found.boxes.tolist(), found.scores, found.class_ids, strict=True):
            if group_of(found.classes[column]) != group:
                continue
            best = max(free, key=lambda other, box=box: overlap(tuple(box), other), default=None)  # type: ignore[misc]
            hit = best is not None and overlap(tuple(box), best) >= 0.5
            if hit:
                free.remove(best)  # type: ignore[arg-type]
            hits.append((float(score), hit))
    hits.sort(key=lambda hit: -hit[0])
    right = np.cumsum([hit for _, hit in hits])
    recall, precision = right / objects, right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.mean([envelope[i] if i < len(envelope) else 0 for i in at]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "group", "columns", "count", "bounds"),
    [
        ("yolox", "coco_person", "person", {0}, 60, (0.55, 0.75)),
        ("picodet", "coco_person", "person", {0}, 30, (0.5, 0.78)),
        ("nanodet", "coco_person", "person", {0}, 30, (0.45, 0.75)),
        ("yolox", "farzad_highway", "vehicle", {2, 3, 4, 5, 6}, 30, (0.62, 0.85)),
        ("pvb2003", "farzad_highway", "vehicle", {2, 3, 4, 5, 6}, 8, (0.75, 0.95)),
    ],
)
def test_its_average_precision_is_the_known_one(
    name: str, data: str, group: str, columns: set[int], count: int, bounds: tuple[float, float],
    models: Callable[[str], Model], shared: Path,
) -> None:  # fmt: skip
    detector = Detector(models(name), min_score=0.01)
    low, high = bounds
    got = ap50(detector, pictures_of(shared, data, count), group, columns)
    assert low < got < high


@pytest.mark.slow
def test_average_precision_tells_wrong_preprocessing(models: Callable[[str], Model], shared: Path) -> None:
    """The check above can fail: the same network fed 0..1 sees next to nothing."""
    model = models("yolox")
    spec: Any = model.manifest.input.model_copy(update={"scale": "0-1"})
    wrong = Model(model.manifest.model_copy(update={"input": spec}), model.folder, model.path)
    assert ap50(Detector(wrong, min_score=0.01), pictures_of(shared, "coco_person", 20), "person", {0}) < 0.2
