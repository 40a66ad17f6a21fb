"""Boxes for a frame, and about which classes they are complete.

A kind is a group (person, vehicle) or, outside the groups, "other". The labels of a kind are complete as far as their
maker can tell: where it was in doubt (something scored below what is believed, a track was not seen, an operator says
that something was missed), the kind is left out, and training takes its absence as unknown, not as background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.core.classes import group_of
from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.core.geometry import box_iou
from pipeline.inference.detector import Detector
from pipeline.services.harvest.corrections import Correction, Sides
from pipeline.services.harvest.looking import Look, ModelFacts

OTHER = "other"
_SAME_OBJECT_IOU = 0.3


@dataclass(frozen=True, slots=True)
class Label:
    """A box, xyxy in 0..1 of the picture. score: its maker's; None where a person said so."""

    class_name: str
    box: Sides
    score: float | None = None


@dataclass(slots=True)
class Labels:
    """Of one picture. doubtful: nearly believed, for people to look at. removed: an operator said that they are not.

    by: the model that made them. known: kinds about which they are complete.
    """

    labels: list[Label]
    doubtful: list[Label]
    removed: list[Label]
    by: ModelFacts
    known: tuple[str, ...]


def kind_of(class_name: str) -> str:
    """person, vehicle or other."""
    return group_of(class_name) or OTHER


class Labeller:
    """Makes labels. teacher: labels in place of the model that was in doubt, of the classes that both know."""

    def __init__(self, teacher: Detector | None = None) -> None:
        self._teacher = teacher

    def labels(self, look: Look, corrections: Sequence[Correction] = (), *, lost: Sequence[str] = ()) -> Labels:
        """The labels of a frame. lost: classes of tracks that the model did not see in it."""
        classes = look.found.classes
        if self._teacher is None:
            made = _of(look.found, look.low, look.score, look)
            made_by, low_kinds = look.model, {kind_of(name) for name in lost}
            unknown: set[str] = set()
        else:
            teacher = self._teacher
            found = self._taught(look.picture, look, teacher)
            made = _of(found, teacher.min_score, teacher.score_threshold, look)
            told = teacher.provenance
            made_by, low_kinds = ModelFacts(told.model, told.model_version, told.model_sha256), set()
            unknown = {kind_of(name) for name in classes if name not in teacher.classes}
        believed = [each for each in made[0] if each.class_name in classes]
        doubtful = [each for each in made[1] if each.class_name in classes]
        removed: list[Label] = []
        missed: set[str] = set()
        for correction in corrections:
            missed |= _correct(correction, believed, doubtful, removed, classes)
        in_doubt = unknown | low_kinds | missed | {kind_of(each.class_name) for each in doubtful}
        kinds = dict.fromkeys(kind_of(name) for name in classes)
        known = tuple(kind for kind in kinds if kind not in in_doubt)
        return Labels(believed, doubtful, removed, made_by, known)

    def _taught(self, picture: Picture, look: Look, teacher: Detector) -> Detections:
        """What the teacher sees in the picture, in pixels of the original frame."""
        fit = teacher.fit(look.width, look.height)
        image = Image.fromarray(picture)
        if image.size != (fit.width, fit.height):
            shrinks = fit.width < image.width
            image = image.resize(
                (fit.width, fit.height), Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR
            )
        (found,) = teacher.detect([np.asarray(image)], [(look.width, look.height)])
        return found


def _of(found: Detections, low: float, score: float, look: Look) -> tuple[list[Label], list[Label]]:
    """Detections as labels: those that are believed, and those that nearly are."""
    scale = np.array([look.width, look.height, look.width, look.height], np.float64)
    boxes = np.clip(found.boxes / scale, 0.0, 1.0)
    told: tuple[list[Label], list[Label]] = ([], [])
    for box, value, number in zip(boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True):
        if value >= low:
            told[value < score].append(Label(found.classes[number], (box[0], box[1], box[2], box[3]), value))
    return told


def _correct(
    correction: Correction,
    believed: list[Label],
    doubtful: list[Label],
    removed: list[Label],
    classes: Sequence[str],
) -> set[str]:
    """Do as the operator said; the kinds whose labels are incomplete now."""
    if correction.verdict == "missed":
        if correction.bbox is not None and correction.class_name is not None:
            believed.append(Label(correction.class_name, correction.bbox))
            return set()
        named = (correction.class_name,) if correction.class_name is not None else tuple(classes)
        return {kind_of(name) for name in named}
    if correction.bbox is None:
        return {kind_of(name) for name in classes}  # an event about no single object: nobody says which
    taken = [_take(labels, correction.bbox) for labels in (believed, doubtful)]
    there = [label for label in taken if label is not None]
    if correction.verdict == "class" and correction.class_name is not None:
        believed.append(Label(correction.class_name, there[0].box if there else correction.bbox))
    else:
        removed += there
    return set()


def _take(labels: list[Label], box: Sides) -> Label | None:
    """Take the label that overlaps ``box`` most out of ``labels``; None where none does."""
    if not labels:
        return None
    overlaps = box_iou(np.array([box]), np.array([label.box for label in labels]))[0]
    best = int(overlaps.argmax())
    return labels.pop(best) if overlaps[best] >= _SAME_OBJECT_IOU else None
