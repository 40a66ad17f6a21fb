"""Directed lines: who went over, once, and to which side.

A track's anchor draws a path of straight steps between the places it was seen at. Every passage of that path through
the line (not through its extension) adds +1 to the right or -1 to the left: ``net``. An object has crossed when net is
not 0, it had been clear of the line before, it is clear of it now, and stays so. Then net starts again from 0. So

- what waits, jitters or turns back on the line leaves net at 0 or never gets clear of it: nothing, or one crossing
  once it has really gone over;
- what walks round the end of the line, or is first seen on the far side, has net 0: nothing;
- a box that flickers over the line for a moment does not stay: nothing, in neither direction;
- what jumps over the whole line between two frames still makes a passage: one crossing.

Distances are in sizes of the box (root of its area), so one rule serves near and far objects. Only confirmed tracks
count, but the path is kept from the first detection. A track that ends before it got clear counts when it was seen
beyond the line and had been clear on the near side shortly before; otherwise not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.analytics.tracker import Tracks
from pipeline.core.classes import expand
from pipeline.core.geometry import (
    Floats,
    anchor_points,
    box_sizes,
    distance_to_polyline,
    passage_fractions,
    signed_crossings,
)
from pipeline.core.rules import LineRule

CLEAR_SIZES = 0.15  # this far from the line an object is clear of it
ARMED_SIZES = 0.08  # an object first seen nearer than this has no near side
BEYOND_SIZES = 0.05  # at a track's end: this far over counts, and so does standing there for STAND_US
SETTLE_US = 180_000  # a box must stay clear this long: a flicker is shorter
STAND_US = 5_000_000  # just over the line and still there after this long: it has crossed
RECENT_US = 3_000_000  # at a track's end: clear on the near side within this time


@dataclass(frozen=True, slots=True)
class Crossing:
    """A track went over a line. ``at_us`` is interpolated between the two frames around it; ``bbox`` is of the latter.

    frames: the frame before the crossing, the one after it, and the one that decided.
    """

    line: str
    direction: Literal["left", "right"]
    at_us: int
    number: int
    class_name: str
    bbox: tuple[float, float, float, float]
    frames: tuple[int, ...]


@dataclass(slots=True)
class Passing:
    """What a line remembers of one track. Times in microseconds; -1 where it has not happened."""

    net: int = 0
    armed: bool = False  # was on the near side, away from the line
    near_us: int = -1  # last clear of the line on the near side
    clear_us: int = -1  # clear on the far side since then
    beyond_us: int = -1  # just over the line since then
    passed_us: int = -1  # the last passage, with its frames and box
    passed_frames: tuple[int, int] = (0, 0)
    passed_box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


class LineCounter:
    """One line over all tracks of a camera's epoch."""

    def __init__(self, rule: LineRule) -> None:
        self.rule = rule
        self._classes = expand(rule.classes)
        self.passing: dict[int, Passing] = {}

    def observe(self, tracks: Tracks, size: tuple[int, int]) -> list[Crossing]:
        """Take the tracks of one frame of a picture of ``size``; give the crossings that are now sure."""
        if not len(tracks):
            return []
        polyline = np.array(self.rule.points, np.float64) * size
        before, after = anchor_points(tracks.previous, self.rule.anchor), anchor_points(tracks.boxes, self.rule.anchor)
        moved = signed_crossings(before, after, polyline).tolist()
        apart = (distance_to_polyline(after, polyline) / box_sizes(tracks.boxes)).tolist()
        found = []
        for row in np.nonzero(tracks.seen)[0].tolist():
            state = self.passing.setdefault(tracks.numbers[row], Passing())
            if moved[row]:
                state.net += moved[row]
                _passed(state, tracks, row, _fraction(before[row], after[row], polyline))
            if self._gone_over(state, int(tracks.seen_us[row]), apart[row]) and tracks.confirmed[row]:
                found += self._count(state, tracks, row)
        return found

    def end(self, ended: Tracks, size: tuple[int, int]) -> list[Crossing]:
        """Forget the tracks that ended; give the crossings that their last place makes."""
        found = []
        polyline = np.array(self.rule.points, np.float64) * size
        for row, number in enumerate(ended.numbers):
            state = self.passing.pop(number, None)
            if state is None or not state.net or not state.armed or not ended.confirmed[row]:
                continue
            anchor = anchor_points(ended.boxes[row : row + 1], self.rule.anchor)
            apart = float((distance_to_polyline(anchor, polyline) / box_sizes(ended.boxes[row : row + 1]))[0])
            recent = state.near_us >= 0 and int(ended.seen_us[row]) - state.near_us <= RECENT_US
            if apart >= BEYOND_SIZES and recent:
                found += self._count(state, ended, row)
        return found

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``."""
        for state in self.passing.values():
            x_min, y_min, x_max, y_max = state.passed_box
            state.passed_box = (x_min * x, y_min * y, x_max * x, y_max * y)

    def _gone_over(self, state: Passing, at_us: int, apart: float) -> bool:
        """Whether an object at ``apart`` sizes from the line has now left its old side for good."""
        if not state.net:
            state.clear_us = state.beyond_us = -1
            state.armed = state.armed or apart >= ARMED_SIZES
            if apart >= CLEAR_SIZES:
                state.near_us = at_us
            return False
        if apart < BEYOND_SIZES:
            state.clear_us = state.beyond_us = -1
            return False
        if state.beyond_us < 0:
            state.beyond_us = at_us
        if apart < CLEAR_SIZES:
            state.clear_us = -1
        elif state.clear_us < 0:
            state.clear_us = at_us
        settled = state.clear_us >= 0 and at_us - state.clear_us >= SETTLE_US
        return settled or at_us - state.beyond_us >= STAND_US

    def _count(self, state: Passing, tracks: Tracks, row: int) -> list[Crossing]:
        """Turn a net passage into a crossing, if it is one of an object of this line, and begin again."""
        net, armed = state.net, state.armed
        state.net, state.armed, state.near_us = 0, True, int(tracks.seen_us[row])
        state.clear_us = state.beyond_us = -1
        if not armed or tracks.class_names[row] not in self._classes:
            return []
        return [
            Crossing(
                line=self.rule.name,
                direction="right" if net > 0 else "left",
                at_us=state.passed_us,
                number=tracks.numbers[row],
                class_name=tracks.class_names[row],
                bbox=state.passed_box,
                frames=(*state.passed_frames, int(tracks.seen_index[row])),
            )
        ]


def _passed(state: Passing, tracks: Tracks, row: int, fraction: float) -> None:
    before_us, after_us = int(tracks.previous_us[row]), int(tracks.seen_us[row])
    state.passed_us = before_us + round(fraction * (after_us - before_us))
    state.passed_frames = (int(tracks.previous_index[row]), int(tracks.seen_index[row]))
    x_min, y_min, x_max, y_max = tracks.boxes[row].tolist()
    state.passed_box = (x_min, y_min, x_max, y_max)


def _fraction(before: Floats, after: Floats, polyline: Floats) -> float:
    """Where in a step that passes through the line it does so; the last place if it does so several times."""
    found = passage_fractions(before, after, polyline)
    return found[-1] if found else 1.0
