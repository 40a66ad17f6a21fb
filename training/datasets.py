"""Labelled pictures of several sets, each of which may label only some of the classes.

What a set does not label is unknown, not background: every picture carries ``known``, the classes about which its
labels are complete. Formats: YOLO text and COCO JSON, read by ``training.annotations``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.core.classes import GROUPS
from pipeline.errors import ConfigError
from training.annotations import Item, Labelled, read_coco, read_yolo

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
PERSON = CLASSES.index("person")
ANY_VEHICLE = len(CLASSES)
"""The label of a vehicle whose class was not noted."""
VEHICLES = tuple(i for i, name in enumerate(CLASSES) if name in GROUPS["vehicle"])
_LABELS = {**{name: i for i, name in enumerate(CLASSES)}, "vehicle": ANY_VEHICLE}

Boxes = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled picture.

    boxes: N x 4 float32 xyxy in 0..1 of the picture. labels: N int64, indices into ``CLASSES`` or ``ANY_VEHICLE``.
    ignored: N bool, no object but a region in which nobody says what of this class there is. known: bool a class,
    whether the labels of that class are complete elsewhere.
    """

    path: Path
    dataset: str
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def read(self) -> NDArray[np.uint8]:
        """H x W x 3 uint8 BGR. Raises ConfigError when it is no picture."""
        picture = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ConfigError(f"{self.path}: cannot be read as a picture", mend="remove it from the set or mend it")
        return np.asarray(picture, np.uint8)


@dataclass(frozen=True, slots=True)
class SetSpec:
    """One set of the data file.

    folder: of ``images`` and ``labels``, or coco: the JSON file (pictures lie in ``folder``). numbering: what the
    class numbers of YOLO labels mean (COCO files name their classes). labelled: the classes that are labelled
    completely; "vehicle" means every vehicle is, though perhaps not its class. weight: how often its pictures are
    drawn. likeness: above which two of its pictures show one scene. kind: sets of one kind are scored together.
    aspect: width / height before somebody stretched its pictures. validation: whether some of its scenes may be held
    out to choose by (drawn pictures may not: they say nothing about cameras; nor may what a model labelled).
    """

    name: str
    folder: Path
    labelled: tuple[str, ...]
    numbering: tuple[str, ...]
    coco: Path | None = None
    weight: float = 1.0
    likeness: float = 0.6
    kind: str = ""
    aspect: float | None = None
    licence: str = "not stated"
    validation: bool = True

    def known(self) -> NDArray[np.bool_]:
        """Which of ``CLASSES`` this set labels completely."""
        every_vehicle = "vehicle" in self.labelled
        return np.array(
            [name in self.labelled or (every_vehicle and i in VEHICLES) for i, name in enumerate(CLASSES)], np.bool_
        )


@dataclass(frozen=True, slots=True)
class DataSpec:
    """The data file, read."""

    path: Path
    sets: tuple[SetSpec, ...]
    by_name: dict[str, SetSpec] = field(default_factory=dict)


def read_data_spec(path: Path, root: Path | None = None) -> DataSpec:
    """Read a data file (YAML). root: in place of the file's own. Raises ConfigError naming file and key."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", mend="name a data file with --data") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("sets"), dict):
        raise ConfigError(f"{path}: sets: is missing", mend="see `passerby-train detector --help`")
    base = root or (path.parent / str(told.get("root", "."))).resolve()
    numbering = tuple(told.get("numbering", [*CLASSES, "vehicle"]))
    sets = tuple(_set_spec(path, base, numbering, name, dict(each or {})) for name, each in told["sets"].items())
    return DataSpec(path, sets, {each.name: each for each in sets})


def _set_spec(path: Path, base: Path, numbering: tuple[str, ...], name: str, told: dict[str, Any]) -> SetSpec:
    where = f"{path}: sets.{name}"
    known = {
        "labelled", "numbering", "folder", "coco", "weight", "likeness", "kind", "aspect", "licence", "scripted_street",
        "validation",
    }  # fmt: skip
    for key in told.keys() - known:
        raise ConfigError(f"{where}.{key}: unknown key", mend=f"known: {', '.join(sorted(known))}")
    labelled = tuple(told.get("labelled", ()))
    wrong = [each for each in labelled if each not in _LABELS]
    if not labelled or wrong:
        raise ConfigError(f"{where}.labelled: {wrong or 'is missing'}", mend=f"some of {', '.join(_LABELS)}")
    drawn = int(told.get("scripted_street", 0))
    if drawn:
        from training.street import street_pictures

        told |= {"coco": "street.json"}
        base = folder = street_pictures(drawn)
    else:
        folder = base / str(told.get("folder", name))
    if not folder.is_dir():
        raise ConfigError(f"{where}: {folder} is not a folder", mend="give its folder, or --root for all")
    return SetSpec(
        name,
        folder,
        labelled,
        tuple(told.get("numbering", numbering)),
        coco=base / str(told["coco"]) if "coco" in told else None,
        weight=float(told.get("weight", 1.0)),
        likeness=float(told.get("likeness", 0.6)),
        kind=str(told.get("kind", name)),
        aspect=float(told["aspect"]) if "aspect" in told else None,
        licence=str(told.get("licence", "not stated")),
        validation=bool(told.get("validation", not drawn)),
    )


def read_samples(spec: DataSpec) -> list[Sample]:
    """Every picture of every set, in the order of set name and path.

    Raises ConfigError naming file and line of the first label that cannot be trained on.
    """
    samples = [_sample(item, each) for each in spec.sets for item in labels_of(each).strict()]
    if not samples:
        raise ConfigError(f"{spec.path}: its sets hold no picture", mend="look at the folders that it names")
    return sorted(samples, key=lambda one: (one.dataset, str(one.path)))


def labels_of(spec: SetSpec) -> Labelled:
    """A set as it was written, with what is wrong with it."""
    return read_coco(spec.coco, spec.folder) if spec.coco is not None else read_yolo(spec.folder, spec.numbering)


def _sample(item: Item, spec: SetSpec) -> Sample:
    """The labels that mean something to a detector of ``CLASSES``, cut at the picture's edges."""
    mine = [each for each in item.boxes if each.label in _LABELS]
    sides = np.array([(each.x_min, each.y_min, each.x_max, each.y_max) for each in mine], np.float32).reshape(-1, 4)
    labels = np.array([_LABELS[each.label] for each in mine], np.int64)
    ignored = np.array([each.ignored for each in mine], np.bool_)
    return Sample(item.path, spec.name, np.clip(sides, 0, 1), labels, ignored, spec.known())
