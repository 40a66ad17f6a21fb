"""Labels by models, for videos that nobody labelled: what teachers are sure of, and where they are in doubt.

What a teacher is sure of becomes an object. What it nearly believes becomes a region to be ignored, since taking doubt
for background teaches a network not to see (small and half-hidden objects first). What is left holds nothing as far as
all teachers can tell: ordinary streets and shops, and so the negatives that are hard to come by elsewhere.

Pseudo-labels: Lee, "Pseudo-Label", ICML workshop on challenges in representation learning, 2013.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.core.classes import GROUPS, Group, group_of
from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.core.geometry import box_iou
from pipeline.errors import SourceError, UsageError
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from pipeline.services.harvest.choosing import are_alike, thumbnail_of
from training.evaluate import detect_in
from training.videos import sampled_frames

LARGEST_PX = 960
"""Longer side of the pictures that are kept; training scales them down further."""
SAME_OBJECT_IOU = 0.5
PART = 0.7
"""A doubt of which so much lies within an object that is sure is a part of it, and no doubt about anything else."""
TWO_WHEELERS = frozenset({"bicycle", "bike", "motorcycle"})
"""Teachers confuse them with each other and miss many: where one is seen, nothing is said about vehicles."""
LABELS_FILE, DATA_FILE = "labels.json", "data.yaml"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is looked at and believed.

    every_s: of stream time, a frame. most: pictures of one video. sure, unsure: scores from which on something is an
    object, or a region to be ignored.
    """

    every_s: float = 2.0
    most: int = 12
    sure: float = 0.5
    unsure: float = 0.2


@dataclass(frozen=True, slots=True)
class PseudoLabel:
    """group: person or vehicle. box: xyxy in pixels of the picture. score: the surest teacher's. ignored: a doubt."""

    group: Group
    box: tuple[float, float, float, float]
    score: float
    ignored: bool


@dataclass(slots=True)
class Told:
    """What came of it. labels, ignored: of each group. skipped: reason -> frames. broken: videos that could not be read
    (to their end), and why."""

    pictures: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    broken: dict[Path, str] = field(default_factory=dict)


def merged(found: Sequence[Detections], rules: Rules) -> list[PseudoLabel]:
    """What several teachers say of one picture, by group: of boxes that overlap the surest speaks for all."""
    told: list[PseudoLabel] = []
    for group in GROUPS:
        taken: list[PseudoLabel] = []
        for each in sorted(_said(found, group, rules), key=lambda each: (each.ignored, -each.score)):
            box, others = np.array([each.box]), np.array([other.box for other in taken]).reshape(-1, 4)
            if box_iou(box, others).max(initial=0) >= SAME_OBJECT_IOU:
                continue
            sure = others[[not other.ignored for other in taken]]
            if each.ignored and _share_inside(box[0], sure).max(initial=0) >= PART:
                continue
            taken.append(each)
        told += taken
    return told


def _said(found: Sequence[Detections], group: Group, rules: Rules) -> Iterator[PseudoLabel]:
    for detections in found:
        for box, score, number in zip(detections.boxes, detections.scores, detections.class_ids, strict=True):
            name = detections.classes[int(number)]
            if score < rules.unsure:
                continue
            sides = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
            if name in TWO_WHEELERS and group == "vehicle":
                yield PseudoLabel(group, sides, float(score), ignored=True)
            elif group_of(name) == group:
                yield PseudoLabel(group, sides, float(score), ignored=bool(score < rules.sure))


def _share_inside(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of a box lies within each of the others, 0..1."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.asarray(sides.clip(min=0).prod(1) / max(1e-9, float((box[2:] - box[:2]).prod())), np.float64)


def taken_by_day(name: str = "passerby-daylight") -> Callable[[Picture], bool]:
    """A judge of pictures: whether one was taken by day, as the classifier that ships sees it."""
    classifier = Classifier(load_model(name))
    day = classifier.classes.index("day")
    return lambda picture: int(classifier.classify(picture).argmax()) == day


def write_pseudo_labels(
    videos: Sequence[Path],
    teachers: Sequence[Detector],
    out: Path,
    rules: Rules,
    *,
    by_day: Callable[[Picture], bool] | None = None,
    show: bool = False,
) -> Told:
    """Write a set that training reads: ``images``, ``labels.json`` (COCO) and ``data.yaml``; whole or not at all.

    by_day: whether a picture was taken by day; others are left out (None: none are). Near-duplicates of the last
    picture kept of a video are left out, too. Raises UsageError where ``out`` exists or no picture is left.
    """
    if out.exists():
        raise UsageError(f"{out}: exists", mend="name another --out, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    told = Told()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        partial = Path(scratch) / out.name
        (partial / "images").mkdir(parents=True)
        bar = tqdm(videos, desc="labelling", unit="video", disable=not show)
        for number, video in enumerate(bar):
            for at_ms, picture in _pictures(video, rules, by_day, told):
                labels = merged([detect_in(each, picture) for each in teachers], rules)
                file = f"{number:04d}-{video.stem}-{at_ms:07d}.jpg"
                shown = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(partial / "images" / file), shown, [cv2.IMWRITE_JPEG_QUALITY, 92])
                height, width = picture.shape[:2]
                images.append({"id": len(images), "file_name": file, "width": width, "height": height})
                annotations += [
                    _annotation(each, len(images) - 1, len(annotations) + k) for k, each in enumerate(labels)
                ]
                told.pictures += 1
                told.labels.update(each.group for each in labels if not each.ignored)
                told.ignored.update(each.group for each in labels if each.ignored)
            bar.set_postfix(pictures=told.pictures)
        if not images:
            raise UsageError("no picture was left to label", mend="--night if the videos are by night")
        categories = [{"id": i, "name": name} for i, name in enumerate(GROUPS)]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        (partial / LABELS_FILE).write_text(json.dumps(coco), encoding="utf-8")
        (partial / DATA_FILE).write_text(_data_file(out.name, teachers, rules), encoding="utf-8")
        partial.replace(out)
    return told


def _pictures(
    video: Path, rules: Rules, by_day: Callable[[Picture], bool] | None, told: Told
) -> Iterator[tuple[int, Picture]]:
    """The pictures of a video that are worth labelling, and when they were taken (milliseconds of its time)."""
    last: NDArray[np.int16] | None = None
    kept, first_us = 0, None
    try:
        for each in sampled_frames(video, _within(LARGEST_PX), 1 / rules.every_s):
            picture = each.frame.picture
            first_us = each.frame.captured_at_us if first_us is None else first_us
            thumbnail = thumbnail_of(picture)
            if last is not None and are_alike(thumbnail, last):
                told.skipped["like the one before"] += 1
            elif by_day is not None and not by_day(picture):
                told.skipped["by night"] += 1
            else:
                last, kept = thumbnail, kept + 1
                yield (each.frame.captured_at_us - first_us) // 1000, picture
            if kept == rules.most:
                return
    except SourceError as error:
        told.broken[video] = str(error)


def _within(largest_px: int) -> Callable[[int, int], tuple[int, int]]:
    def size(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, largest_px / max(width, height))
        return max(2, round(width * scale)), max(2, round(height * scale))

    return size


def _annotation(label: PseudoLabel, image: int, number: int) -> dict[str, Any]:
    x0, y0, x1, y1 = (round(each, 2) for each in label.box)
    return {
        "id": number, "image_id": image, "category_id": list(GROUPS).index(label.group),
        "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)], "area": round((x1 - x0) * (y1 - y0), 2),
        "iscrowd": int(label.ignored), "score": round(label.score, 4),
    }  # fmt: skip


def _data_file(name: str, teachers: Sequence[Detector], rules: Rules) -> str:
    made = ", ".join(f"{each.provenance.model} {each.provenance.model_version}" for each in teachers)
    one = {
        "coco": LABELS_FILE, "folder": "images", "labelled": list(GROUPS), "validation": False,
        "licence": "that of the videos",
    }  # fmt: skip
    head = f"# Labelled by {made}: sure from {rules.sure}, ignored from {rules.unsure}. Not fit to judge a model on.\n"
    return head + yaml.safe_dump({"root": ".", "sets": {name: one}}, sort_keys=False)
