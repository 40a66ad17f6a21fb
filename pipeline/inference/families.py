"""What is known of each family: its preprocessing by default, and how its outputs are told from their shapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.inference.decoders import cell_count
from pipeline.inference.manifest import FAMILIES, Color, Family, Nms, Options, Resize, Scale

Samples = Mapping[str, NDArray[Any]]
"""The outputs of one run on a test picture, by name, in the network's order, without the batch axis."""

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO_80 = tuple(_COCO.split(","))
# COCO numbers its 80 classes 1..90; networks with a column a number have unused ones, among them 0.
_UNUSED_OF_91 = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _coco_91() -> tuple[str, ...]:
    names = iter(COCO_80)
    return tuple(f"unused {i}" if i in _UNUSED_OF_91 else next(names) for i in range(91))


COCO_91 = _coco_91()
PASSERBY_6 = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
CLASS_SETS: dict[str, tuple[str, ...]] = {"coco80": COCO_80, "coco91": COCO_91}

_STRIDE_SETS = ([8, 16, 32], [8, 16, 32, 64], [4, 8, 16, 32], [16, 32, 64], [16, 32])
_STRIDES = (4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Recognised:
    """How the outputs of a network are to be read.

    outputs: role -> names. columns: class columns (detr: with a possible column of "no object").
    found: lines for a person.
    """

    outputs: dict[str, str | list[str]]
    columns: int
    options: Options
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a family's published networks want, where the user does not say.

    score, low: as ``Thresholds``; chosen where YOLOX-nano, PicoDet, NanoDet and pvb2003 reach a precision of about 0.8
    (score) and 0.3 to 0.5 (low) on labelled pictures, since each kind has its own scale of scores.
    """

    resize: Resize
    color: Color
    scale: Scale
    pad: int = 114
    nms: Nms = "group"
    nms_iou: float = 0.6
    score: float = 0.3
    low: float = 0.1


def defaults_of(family: Family, told: Recognised) -> Defaults:
    """The defaults of a family; within a family the outputs tell kinds apart (PicoDet, NanoDet; DETR, RT-DETR)."""
    if family == "yolox":
        return Defaults("letterbox", "bgr", "0-255", nms_iou=0.5)
    if family == "gfl":
        if len(told.outputs["cls"]) == 4:  # PicoDet
            return Defaults("stretch", "rgb", "imagenet", score=0.4, low=0.2)
        return Defaults("letterbox", "bgr", "imagenet", pad=0, score=0.4, low=0.2)  # NanoDet
    if family == "boxes_scores":
        return Defaults("stretch", "bgr", "0-255")
    if family == "ultralytics":
        return Defaults("letterbox", "rgb", "0-1")
    if family == "detr":
        scale: Scale = "imagenet" if told.options.activation == "softmax" else "0-1"  # DETR, or RT-DETR
        return Defaults("stretch", "rgb", scale, nms="none", score=0.5, low=0.2)
    return Defaults("letterbox", "rgb", "0-255")


def classes_of(family: Family, columns: int) -> tuple[str, ...] | None:
    """The class names that a number of columns stands for in a family's published networks, or None."""
    if columns == len(COCO_80):
        return COCO_80
    if family == "boxes_scores" and columns == 3:
        return ("vehicle", "person", "bicycle")
    if family == "passerby" and columns == len(PASSERBY_6):
        return PASSERBY_6
    if family == "detr":
        return {81: COCO_80, 91: COCO_91, 92: COCO_91}.get(columns)
    return None


def recognise(family: Family, samples: Samples, width: int, height: int) -> Recognised:
    """Tell the outputs of a network of this family apart, for an input of ``width`` x ``height``.

    Raises ModelError saying what the family has and what is there.
    """
    told = _BY_FAMILY[family](samples, width, height)
    if isinstance(told, Recognised):
        return told
    there = few(tuple(f"{name} {'x'.join(map(str, array.shape))}" for name, array in samples.items()), most=3)
    raise ModelError(f"its outputs are not those of family {family}: {told}; a picture gives {there}")


def likely_families(family: Family, samples: Samples, width: int, height: int) -> list[Family]:
    """Other families that the outputs fit, with a number of classes that their published networks have."""
    likely: list[Family] = []
    for other in FAMILIES:
        told = _BY_FAMILY[other](samples, width, height)
        fits = isinstance(told, Recognised) and classes_of(other, told.columns) is not None
        if fits and other not in {family, "passerby"}:
            likely.append(other)
    return likely


def _yolox(samples: Samples, width: int, height: int) -> Recognised | str:
    wants = f"one table of cells x (5 + classes) for {width}x{height} is wanted"
    if len(samples) != 1:
        return wants
    ((name, table),) = samples.items()
    if table.ndim != 2 or table.shape[1] < 6:
        return wants
    strides = next((each for each in _STRIDE_SETS if _cells(each, width, height) == len(table)), None)
    if strides is None:
        return f"{wants}, with {_cells([8, 16, 32], width, height)} cells of strides 8, 16, 32"
    decoded = bool(np.abs(table[:, :2]).max() > 64)  # offsets are a few cells; centres are pixels
    logits = _outside_0_1(table[:, 4])
    if logits != _outside_0_1(table[:, 5:]):
        return f"{wants}, objectness and classes both as probabilities or both as logits"
    options = Options(strides=strides, activation="sigmoid" if logits else None, decoded=decoded or None)
    kind = "decoded boxes" if decoded else "offsets a cell"
    return Recognised(
        {"output": name}, table.shape[1] - 5, options, (f"{len(table)} cells of strides {strides}, {kind}",)
    )


def _gfl(samples: Samples, width: int, height: int) -> Recognised | str:
    wants = "a pair of tables (cells x classes, cells x 4*bins) a level is wanted"
    if len(samples) < 4 or any(table.ndim != 2 for table in samples.values()):
        return wants
    by_cells: dict[int, list[str]] = {}
    for name, table in samples.items():
        by_cells.setdefault(len(table), []).append(name)
    strides = {cells: _stride_of(cells, width, height) for cells in by_cells}
    widths = {tuple(samples[name].shape[1] for name in names) for names in by_cells.values()}
    if any(len(names) != 2 for names in by_cells.values()) or None in strides.values() or len(widths) != 1:
        return wants
    ((first, second),) = widths
    pairs = list(by_cells.values())
    scores_first = _scores_first(samples, pairs, first, second)
    cls = [pair[0 if scores_first else 1] for pair in pairs]
    reg = [pair[1 if scores_first else 0] for pair in pairs]
    sides = samples[reg[0]].shape[1]
    if sides % 4 or sides < 8:
        return wants
    levels = [stride for stride in strides.values() if stride is not None]
    logits = any(_outside_0_1(samples[name]) for name in cls)
    options = Options(strides=levels, bins=sides // 4, activation="sigmoid" if logits else None, center="pixel_half")
    found = f"{len(levels)} levels of strides {levels}, {sides // 4} bins a side"
    return Recognised({"cls": cls, "reg": reg}, samples[cls[0]].shape[1], options, (found,))


def _scores_first(samples: Samples, pairs: list[list[str]], first: int, second: int) -> bool:
    """Whether of each pair the first table holds the scores: probabilities, or what is not 4 x 8 or 4 x 16 logits."""
    first_logits = any(_outside_0_1(samples[pair[0]]) for pair in pairs)
    second_logits = any(_outside_0_1(samples[pair[1]]) for pair in pairs)
    if first_logits != second_logits:
        return second_logits
    usual = (32, 64, 68)
    if (first in usual) != (second in usual):
        return second in usual
    return True


def _boxes_scores(samples: Samples, _width: int, _height: int) -> Recognised | str:
    wants = "two tables of the same length, N x 4 boxes and N x classes scores, are wanted"
    pair = _boxes_and_other(samples)
    if pair is None:
        return wants
    boxes, scores = pair
    small = samples[boxes].size and float(np.abs(samples[boxes]).max()) <= 4
    logits = _outside_0_1(samples[scores])
    options = Options(box_units="normalized" if small else None, activation="sigmoid" if logits else None)
    units = "0..1 of the input" if small else "pixels of the input"
    found = (f"{len(samples[boxes])} boxes in {units}",)
    return Recognised({"boxes": boxes, "scores": scores}, samples[scores].shape[1], options, found)


def _ultralytics(samples: Samples, _width: int, _height: int) -> Recognised | str:
    wants = "one table of (4 + classes) x N is wanted"
    if len(samples) != 1:
        return f"{wants} (a network for masks or poses has more)"
    ((name, table),) = samples.items()
    if table.ndim != 2 or min(table.shape) < 5:
        return wants
    if table.shape[1] == 6 and len(table) <= 1000:
        return f"{wants}; this one ends with its own suppression: export it with nms=False, end2end=False"
    transposed = bool(table.shape[1] < table.shape[0])
    rowwise = table if transposed else table.T
    logits = _outside_0_1(rowwise[:, 4:])
    small = float(np.abs(rowwise[:, :4]).max()) <= 4
    options = Options(
        transposed=transposed or None,
        activation="sigmoid" if logits else None,
        box_units="normalized" if small else None,
    )
    return Recognised({"output": name}, rowwise.shape[1] - 4, options, (f"{len(rowwise)} candidates",))


def _detr(samples: Samples, _width: int, _height: int) -> Recognised | str:
    wants = "two tables, Q x classes logits and Q x 4 boxes in 0..1, are wanted"
    pair = _boxes_and_other(samples)
    if pair is None:
        return wants
    boxes, logits = pair
    if _outside_0_1(samples[boxes]):
        return wants
    columns = samples[logits].shape[1]
    softmax = columns in {81, 92}
    options = Options(activation="softmax" if softmax else "sigmoid", background=-1 if softmax else None)
    found = (f"{len(samples[logits])} queries",)
    return Recognised({"logits": logits, "boxes": boxes}, columns, options, found)


def _boxes_and_other(samples: Samples) -> tuple[str, str] | None:
    """Of two tables the one with four columns, and the other; the name decides where both have four."""
    if len(samples) != 2 or any(table.ndim != 2 for table in samples.values()):
        return None
    names = list(samples)
    if len(samples[names[0]]) != len(samples[names[1]]):
        return None
    with_four = [name for name in names if samples[name].shape[1] == 4]
    if not with_four:
        return None
    boxes = next((name for name in with_four if "box" in name.lower()), with_four[0])
    return boxes, next(name for name in names if name != boxes)


_BY_FAMILY: dict[Family, Callable[[Samples, int, int], Recognised | str]] = {
    "passerby": _boxes_scores,
    "boxes_scores": _boxes_scores,
    "yolox": _yolox,
    "gfl": _gfl,
    "ultralytics": _ultralytics,
    "detr": _detr,
}


def _cells(strides: list[int], width: int, height: int) -> int:
    return sum(cell_count(stride, width, height) for stride in strides)


def _stride_of(cells: int, width: int, height: int) -> int | None:
    return next((stride for stride in _STRIDES if cell_count(stride, width, height) == cells), None)


def _outside_0_1(array: NDArray[Any]) -> bool:
    """Whether these cannot be probabilities; half precision may overshoot by a little."""
    return bool(array.size and (float(array.min()) < -1e-3 or float(array.max()) > 1 + 1e-3))


def few(names: tuple[str, ...], most: int = 8) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(itertools.islice(names, most))
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
