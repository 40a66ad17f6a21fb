"""How well was counted: crossings and dwell against the truth.

A counted crossing and a true one are the same if they are of one line, group and direction and no further apart in
time than a tolerance; which belong together is decided for all at once (the assignment with the most pairs, and among
those the least total time difference). What is left over is named after what probably went wrong:

- missed: true, not counted;
- double: counted a second time, within the tolerance of a true crossing of the same direction that is matched already;
- opposite: counted within the tolerance of a true crossing of the other direction;
- false: counted where nothing crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.core.rules import Anchor, Point

Direction = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Crossing:
    """A crossing at ``t_s`` seconds of the clip; ``kind`` is a group, or a class outside the groups."""

    t_s: float
    direction: Direction
    kind: str


@dataclass(frozen=True, slots=True)
class Dwell:
    """Somebody was inside from ``entered_s`` to ``left_s`` (seconds of the clip)."""

    entered_s: float
    left_s: float
    kind: str


@dataclass(frozen=True, slots=True)
class LineTruth:
    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...]
    anchor: Anchor
    crossings: tuple[Crossing, ...]


@dataclass(frozen=True, slots=True)
class ZoneTruth:
    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...]
    anchor: Anchor
    dwells: tuple[Dwell, ...]


@dataclass(frozen=True, slots=True)
class VideoTruth:
    """What happens in one clip. file: as the truth names it."""

    file: str
    camera_id: str
    lines: tuple[LineTruth, ...] = ()
    zones: tuple[ZoneTruth, ...] = ()


@dataclass(frozen=True, slots=True)
class CountScore:
    """One line, direction and kind. ``error`` = counted - truth."""

    camera_id: str
    line: str
    direction: Direction
    kind: str
    truth: int
    counted: int
    missed: int
    double: int
    opposite: int
    false: int

    @property
    def error(self) -> int:
        return self.counted - self.truth


def score_crossings(
    camera_id: str, line: str, truth: Sequence[Crossing], counted: Sequence[Crossing], tolerance_s: float
) -> list[CountScore]:
    """Score one line: a row for each kind and direction that is true or was counted, in a fixed order. Pure."""
    raise NotImplementedError
