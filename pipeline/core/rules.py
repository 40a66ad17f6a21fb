"""What a camera is asked to watch for, as plain values. Points are 0..1 of the picture, x to the right, y down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["bottom_center", "center", "top_center"]

DEFAULT_CLASSES = ("person", "vehicle")

ConditionKind = Literal["black", "glare", "covered", "defocused", "moved", "frozen"]
CONDITION_KINDS: tuple[ConditionKind, ...] = ("black", "glare", "covered", "defocused", "moved", "frozen")
"""What can be wrong with a camera's pictures; what comes first hides what comes after."""


@dataclass(frozen=True, slots=True)
class LineRule:
    """A directed line from A to B (two or more points). Left and right are as one walks from A to B.

    classes: classes or groups that count. anchor: the point of the box that has to cross.
    """

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = DEFAULT_CLASSES
    anchor: Anchor = "bottom_center"
    wrong_way: Literal["left", "right"] | None = None  # a crossing to this side is also an event of its own


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """A polygon. Times in seconds; None or 0 switches that event off."""

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...] = DEFAULT_CLASSES
    anchor: Anchor = "bottom_center"
    dwell_s: float | None = None  # zone.dwelled once an object stayed this long (loitering)
    crowded_at: int | None = None  # zone.crowded when at least this many are inside
    stopped_s: float | None = None  # vehicle.stopped once a vehicle stood still this long
    direction: tuple[float, float] | None = None  # direction.wrong for moving against this vector
    falls: bool = False  # scene.event of the kind fall, where somebody fell inside and stays down


CropPlace = Literal["persons_motion", "motion", "whole"]
"""Where a scene model looks: at people that move, at what moves, or at the whole picture."""


@dataclass(frozen=True, slots=True)
class ClipRule:
    """What a clip is made of, and which part of its pictures is looked at.

    frames: of a clip. stride: frames from one clip to the next; 1..frames. interval_s: between two frames, as the model
    was trained. tolerance: frames further apart than ``interval_s * (1 + tolerance)`` are not of one clip.
    width, height: of the crop, 0..1 of the picture. keep: the crop stays where it is while it holds this share of
    what the best place holds.
    """

    frames: int
    stride: int
    interval_s: float
    tolerance: float
    place: CropPlace
    width: float
    height: float
    keep: float


@dataclass(frozen=True, slots=True)
class SceneKind:
    """When a kind of event begins and ends.

    It begins when ``clips`` in a row score ``start`` or more, and ends when as many score below ``end``. A clip only
    counts where at least ``persons_share`` of its frames show ``persons`` people or more, of a score of
    ``person_score`` and a box of ``person_width`` (0..1 of the picture) at least; else its score is 0.
    """

    kind: str
    start: float
    end: float
    clips: int = 2
    persons: int = 0
    person_score: float = 0.0
    persons_share: float = 0.0
    person_width: float = 0.0


@dataclass(frozen=True, slots=True)
class SceneRules:
    """What a scene model watches for in one camera.

    provenance: ``model``, ``model_version``, ``model_sha256`` of the scene model. low_score: the weakest detection of a
    person that counts for the crop.
    """

    clip: ClipRule
    kinds: tuple[SceneKind, ...]
    provenance: Mapping[str, str]
    low_score: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelRules:
    """When a class of a classifier counts as what a camera shows.

    kinds: the classes that are told of. every_s: from one judgement to the next, of stream time. score: from which
    probability on a judgement counts. votes: so many in a row begin a label, or end it when they give another.
    provenance: ``model``, ``model_version``, ``model_sha256`` of the classifier.
    """

    kinds: tuple[str, ...]
    every_s: float
    score: float
    votes: int
    provenance: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CameraRules:
    """All rules of one camera.

    count_window_s: span of a count window. sample_fps: the rate the camera is sampled at. sees_lying: whether its
    detector was taught people who lie. scene: None without a scene model. labels: None without a classifier.
    """

    camera_id: str
    lines: tuple[LineRule, ...] = ()
    zones: tuple[ZoneRule, ...] = ()
    count_window_s: float = 10.0
    sample_fps: float = 8.0
    tracker: dict[str, float] = field(default_factory=dict)  # overrides of the tracker's own defaults
    condition: tuple[str, ...] = ()  # of CONDITION_KINDS: what is told of when it is wrong with the pictures
    falls: bool = False  # falls are told of wherever they happen, not only in the zones that ask for it
    sees_lying: bool = False
    scene: SceneRules | None = None
    labels: LabelRules | None = None
