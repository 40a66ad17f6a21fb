"""Labelled pictures and clips in four formats, behind one interface.

    YOLO text          ``images/x.jpg`` beside ``labels/x.txt``: class number, centre x, centre y, width, height in 0..1
    COCO JSON          one file: boxes x, y, width, height in pixels
    folder per class   ``day/…``, ``night/…``; a folder within a class is a scene (``night/gate/1.jpg``)
    list (CSV)         ``file,label`` and, if known, ``scene``: pictures or clips; ``file`` may be a pattern

Reading never stops at a mistake: what is wrong comes as a ``Finding`` with its place, so that all of it can be shown
(``passerby-train data``). Who trains raises the first (``Labelled.strict``).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import ConfigError

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
CLIPS = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
_EDGE = 1e-3
"""Annotation tools round: a box may lie outside by so much of the picture."""

Kind = Literal[
    "not a label", "unknown class", "outside the picture", "no area", "no labels", "missing file", "unreadable picture"
]
BROKEN: frozenset[Kind] = frozenset({"not a label", "unknown class", "missing file"})
"""What training cannot go on with; the rest is clipped, or left to the eye."""


@dataclass(frozen=True, slots=True)
class Box:
    """An object: its class, and xyxy in 0..1 of the picture as it was written (it may lie outside).

    ignored: not one object but a region in which nobody says what of this class there is (a crowd, a doubt).
    """

    label: str
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    ignored: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or clip. label: of the whole of it, if it has one. scene: who filmed it, if known. place: where it is
    written.
    """

    path: Path
    place: str
    label: str | None = None
    boxes: tuple[Box, ...] = ()
    scene: str = ""

    @property
    def is_clip(self) -> bool:
        """Whether it is a video."""
        return self.path.suffix.lower() in CLIPS


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong. place: file, or file:line."""

    kind: Kind
    place: str
    detail: str
    path: Path | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.detail}"


@dataclass(slots=True)
class Labelled:
    """What was read, and what is wrong with it."""

    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def strict(self, mend: str = "look at all of them with `passerby-train data`") -> list[Item]:
        """The items. Raises ConfigError with the first finding that training cannot go on with."""
        for each in self.findings:
            if each.kind in BROKEN:
                raise ConfigError(str(each), mend=mend)
        return self.items


def read_labelled(path: Path, root: Path | None = None, names: Sequence[str] = ()) -> Labelled:
    """Read a set of any format, told by what ``path`` is. root: where a list's or COCO file's pictures lie.

    names: what the class numbers of YOLO text mean. Raises ConfigError when ``path`` is none of the formats.
    """
    if path.is_dir():
        return read_yolo(path, names) if (path / "images").is_dir() else read_folders(path)
    if path.suffix.lower() == ".json":
        return read_coco(path, root or path.parent)
    if path.suffix.lower() == ".csv":
        return read_list(path, root or path.parent)
    raise ConfigError(
        f"{path}: is no set of labelled pictures",
        mend="a folder per class, a folder with images and labels, a COCO .json or a list .csv",
    )


def read_yolo(folder: Path, names: Sequence[str]) -> Labelled:
    """``folder``/images and ``folder``/labels, in the order of the names of the pictures.

    Raises ConfigError where there is no such folder of pictures.
    """
    read = Labelled()
    if not (folder / "images").is_dir():
        raise ConfigError(f"{folder}: holds no folder images", mend="put the pictures there, the labels into labels")
    for picture in sorted((folder / "images").iterdir()):
        if picture.suffix.lower() not in PICTURES:
            continue
        labels = folder / "labels" / f"{picture.stem}.txt"
        if not labels.exists():
            read.findings.append(Finding("no labels", str(picture), "there is no file of labels for it", picture))
            read.items.append(Item(picture, str(picture)))
            continue
        boxes: list[Box] = []
        for number, line in enumerate(labels.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if line.strip():
                boxes += _yolo_box(line, f"{labels}:{number}", names, picture, read.findings)
        if not boxes:
            read.findings.append(Finding("no labels", str(labels), "shows nothing, if that is meant", picture))
        read.items.append(Item(picture, str(labels), boxes=tuple(boxes)))
    return read


def _yolo_box(line: str, place: str, names: Sequence[str], picture: Path, findings: list[Finding]) -> Iterator[Box]:
    parts = line.split()
    try:
        number, (x, y, w, h) = int(float(parts[0])), (float(part) for part in parts[1:5])
    except (ValueError, IndexError, OverflowError):
        detail = f"{line!r} is not: class, centre x, centre y, width, height in 0..1"
        findings.append(Finding("not a label", place, detail, picture))
        return
    if not 0 <= number < len(names):
        findings.append(Finding("unknown class", place, f"{number}, where 0..{len(names) - 1} are known", picture))
        return
    box = Box(names[number], x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    _look_at(box, place, picture, findings)
    yield box


def read_coco(path: Path, folder: Path) -> Labelled:
    """A COCO file whose pictures lie in ``folder``. Boxes of crowds (``iscrowd``) are regions to be ignored."""
    read = Labelled()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names = {each["id"]: str(each["name"]) for each in told["categories"]}
        images = {each["id"]: each for each in told["images"]}
        annotations = list(told["annotations"])
        files = {key: folder / each["file_name"] for key, each in images.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not COCO JSON: {type(error).__name__} {error}") from None
    boxes: dict[Any, list[Box]] = {key: [] for key in images}
    for i, one in enumerate(annotations):
        place = f"{path}: annotations[{i}]"
        try:
            image, (x, y, w, h) = images[one["image_id"]], one["bbox"]
            width, height = image["width"], image["height"]
            where = files[one["image_id"]]
            if one["category_id"] not in names:
                read.findings.append(Finding("unknown class", place, f"category_id {one['category_id']}", where))
                continue
            sides = (x / width, y / height, (x + w) / width, (y + h) / height)
            box = Box(names[one["category_id"]], *sides, ignored=bool(one.get("iscrowd")))
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            read.findings.append(Finding("not a label", place, f"{type(error).__name__} {error}"))
            continue
        _look_at(box, place, where, read.findings)
        boxes[one["image_id"]].append(box)
    for key, file in files.items():
        if not file.is_file():
            read.findings.append(Finding("missing file", f"{path}: images", str(file)))
            continue
        read.items.append(Item(file, str(path), boxes=tuple(boxes[key])))
    return read


def read_folders(root: Path) -> Labelled:
    """A folder per class. Raises ConfigError where there are not two of them."""
    classes = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if len(classes) < 2:
        raise ConfigError(f"{root}: holds {len(classes)} folders", mend="make one for each class, day and night say")
    read = Labelled()
    for folder in classes:
        files = [each for each in sorted(folder.rglob("*")) if each.suffix.lower() in PICTURES | CLIPS]
        if not files:
            read.findings.append(Finding("no labels", str(folder), "holds neither pictures nor clips"))
        for file in files:
            below = file.relative_to(folder).parts
            scene = "/".join((folder.name, *below[:-1])) if len(below) > 1 else ""
            read.items.append(Item(file, str(file), folder.name, scene=scene))
    return read


def read_list(path: Path, root: Path) -> Labelled:
    """A CSV list. ``file`` is relative to ``root``; a pattern stands for all files that it fits."""
    read = Labelled()
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not rows or not {"file", "label"} <= set(rows[0]):
        raise ConfigError(f"{path}: wants the columns file and label", mend="its first line names them")
    for number, row in enumerate(rows, 2):
        place, told = f"{path}:{number}", (row["file"] or "").strip()
        label = (row["label"] or "").strip()
        if not told or not label:
            read.findings.append(Finding("not a label", place, "file or label is empty"))
            continue
        one = root / told
        there = [one] if one.is_file() else sorted(each for each in root.glob(told) if each.is_file())
        if not there:
            read.findings.append(Finding("missing file", place, str(one)))
        scene = (row.get("scene") or row.get("scene_group") or "").strip()
        read.items += [Item(each, place, label, scene=scene) for each in there]
    return read


def _look_at(box: Box, place: str, picture: Path, findings: list[Finding]) -> None:
    sides = (box.x_min, box.y_min, box.x_max, box.y_max)
    if not all(math.isfinite(each) for each in sides) or min(sides) < -_EDGE or max(sides) > 1 + _EDGE:
        shown = ", ".join(f"{each:.3f}" for each in sides)
        findings.append(Finding("outside the picture", place, f"{box.label} at {shown} (0..1)", picture))
    if box.x_max <= box.x_min or box.y_max <= box.y_min:
        findings.append(Finding("no area", place, f"{box.label} is {box.x_max - box.x_min:.3g} wide", picture))
