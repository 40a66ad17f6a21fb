"""Pictures of the scripted street, labelled exactly: a small share of what a detector is trained on.

Drawn people keep a detector honest where real sets are thin: whole bodies behind others, all six classes at once, and
night. Seeds start where nobody else's do, so that demo, tests and benchmarks show scenes that no training saw.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline import __version__
from pipeline.sources.synthetic import CLASSES as DRAWN
from pipeline.sources.synthetic import SITUATIONS, Scene, street
from training.datasets import CLASSES

FIRST_SEED = 100_000
LEAST_VISIBLE = 0.25
"""Of an actor, to be labelled; less of it is not an object that anybody could find."""
PER_SCENE = 10
SIZES = ((960, 540), (960, 540), (640, 480))
NIGHT_EVERY = 5


def cache_folder() -> Path:
    """Where drawn pictures are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "passerby"


def street_pictures(pictures: int, folder: Path | None = None) -> Path:
    """A folder with ``pictures`` JPEGs and ``street.json`` (COCO), drawn unless they are there already.

    The same number gives the same pictures. It is written whole or not at all.
    """
    folder = folder or cache_folder() / f"street-{__version__}-{pictures}"
    if (folder / "street.json").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        partial = Path(scratch) / "street"
        partial.mkdir()
        told = _draw(pictures, partial)
        (partial / "street.json").write_text(json.dumps(told), encoding="utf-8")
        partial.replace(folder)
    return folder


def _draw(pictures: int, folder: Path) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with tqdm(total=pictures, desc="drawing the street", unit="picture") as bar:
        number = 0
        while len(images) < pictures:
            scene = _scene(number)
            times = np.random.default_rng(FIRST_SEED + number).uniform(2.0, scene.duration_s - 2.0, PER_SCENE)
            for t_s in sorted(times.tolist())[: pictures - len(images)]:
                file = f"{len(images):05d}.jpg"
                Image.fromarray(scene.render(t_s)).save(folder / file, quality=92)
                images.append({"id": len(images), "file_name": file, "width": scene.width, "height": scene.height})
                annotations += _labels(scene, t_s, len(images) - 1, len(annotations))
                bar.update()
            number += 1
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _scene(number: int) -> Scene:
    width, height = SIZES[number % len(SIZES)]
    return street(
        FIRST_SEED + number,
        situation=SITUATIONS[number % len(SITUATIONS)],
        width=width,
        height=height,
        duration_s=30.0,
        night=number % NIGHT_EVERY == 0,
        fair=False,  # what is hard to count may still be seen
    )


def _labels(scene: Scene, t_s: float, image: int, first: int) -> list[dict[str, Any]]:
    """The actors that can be seen, each whole: what is behind somebody else is labelled to its feet."""
    truth = scene.truth(t_s)
    rows: list[dict[str, Any]] = []
    for box, label, visible in zip(truth.boxes.tolist(), truth.class_ids.tolist(), truth.visible.tolist(), strict=True):
        x_min, y_min, x_max, y_max = box
        if visible < LEAST_VISIBLE or DRAWN[label] not in CLASSES or min(x_max - x_min, y_max - y_min) < 3:
            continue
        bbox = [round(each, 2) for each in (x_min, y_min, x_max - x_min, y_max - y_min)]
        rows.append(
            {"id": first + len(rows), "image_id": image, "category_id": CLASSES.index(DRAWN[label]), "bbox": bbox}
        )
    return rows
