"""AP50 of the shipped detector on labelled pictures, as they are and after JPEG quality 85 at the model's input size.

The pictures are those of the folder of labelled sets, evenly taken over each; a set counts for the groups it labels.
They are not a held-out split: the difference between the two columns is what is told here, not the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.bus.images import decode, encode
from pipeline.core.classes import Group
from pipeline.core.detections import Detections
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from training.evaluate import Picture, ap50, fitted

_SETS: dict[str, tuple[Group, ...]] = {
    "coco_person": ("person",), "lobby_person": ("person",), "cctv_person_224px": ("person",),
    "atl_traffic": ("vehicle",), "farzad_highway": ("vehicle",), "coco_six": ("person", "vehicle"),
}  # fmt: skip


@dataclass
class _Found:
    pictures: list[Picture]
    raw: list[Detections]
    jpeg: list[Detections]


def ap50_table(folder: Path, count: int) -> None:
    """Print the table."""
    detector = Detector(load_model("passerby-nano"), min_score=0.01)
    print("\n| set | pictures | group | AP50 raw | AP50 JPEG q85 | difference |\n| --- | --- | --- | --- | --- | --- |")
    for name, groups in _SETS.items():
        found = _detected(detector, folder / name, max(1, count // len(_SETS)))
        for group in groups:
            raw, jpeg = (ap50(found.pictures, each, group) for each in (found.raw, found.jpeg))
            print(
                f"| {name} | {len(found.pictures)} | {group} | {raw:.4f} | {jpeg:.4f} | {jpeg - raw:+.4f} |", flush=True
            )


def _detected(detector: Detector, folder: Path, count: int) -> _Found:
    paths = sorted((folder / "images").iterdir())
    paths = paths[:: max(1, len(paths) // count)][:count]
    found = _Found([], [], [])
    for path in paths:
        picture = _picture(path, folder / "labels" / f"{path.stem}.txt")
        if picture is None:
            continue
        small = fitted(detector, picture.image)
        size = [(picture.image.shape[1], picture.image.shape[0])]
        coded = decode(encode(small, "jpeg", 85), "jpeg", small.shape[0], small.shape[1])
        found.pictures.append(picture)
        found.raw += detector.detect([small], size)
        found.jpeg += detector.detect([coded], size)
    return found


def _picture(path: Path, labels: Path) -> Picture | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = image.shape[:2]
    rows: list[list[float]] = []
    if labels.is_file():
        rows = [[float(word) for word in line.split()] for line in labels.read_text().splitlines() if line.strip()]
    table = np.array(rows, np.float64).reshape(-1, 5)
    centre, half = table[:, 1:3], table[:, 3:5] / 2
    boxes = (np.hstack([centre - half, centre + half]) * [width, height, width, height]).astype(np.float32)
    numbers = table[:, 0].astype(np.int64)
    ignored = np.zeros(len(table), bool)
    rgb: Any = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return Picture(rgb, boxes, numbers, ignored, np.ones(0, bool), path.parent.parent.name)
