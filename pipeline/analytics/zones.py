"""Zones: who is inside, since when, for how long; who stands still in it, who moves against its direction.

A stay begins at the moment the anchor came in and ends at the moment it went out (both interpolated between frames),
but is only told once it is sure: in or out by a margin, or for a while. So a box that flickers over the border, or a
short loss of the track, neither ends a stay nor begins another. A track that ends inside ends its stay where it was
last seen. Distances are in sizes of the box (root of its area).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.tracker import Tracks
from pipeline.core.classes import expand, group_of
from pipeline.core.geometry import (
    Floats,
    anchor_points,
    box_sizes,
    closed,
    distance_to_polyline,
    inside_polygon,
    passage_fractions,
)
from pipeline.core.rules import ZoneRule

CLEAR_SIZES = 0.15  # this far over the border an object is in or out by a margin
SETTLE_US = 250_000  # and has to be so for this long
LINGER_US = 1_500_000  # without the margin it has to be in or out for this long
BORDER_PX = 0.5  # boxes end at the picture's edge; so may zones
STILL_SIZES = 0.2  # what stays within this distance of where it stood, stands
UNSTILL_US = 600_000  # and a box off that place for less than this has only jittered
PLACE_US = 1_000_000  # the place it stands at is the mean over this first time
WRONG_SIZES = 1.0  # so far against the direction is wrong
CROWDED_US = 500_000  # crowded, or no longer so, for this long before it is told

Told = Literal["entered", "exited", "dwelled", "stopped", "wrong"]


@dataclass(frozen=True, slots=True)
class ZoneFact:
    """Something about one track and one zone. ``since_us``: entered, or stopped, at; ``at_us``: when it was so."""

    zone: str
    told: Told
    at_us: int
    since_us: int
    number: int
    class_name: str
    bbox: tuple[float, float, float, float]
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CrowdFact:
    """A zone became crowded, or is no longer."""

    zone: str
    phase: Literal["start", "end"]
    at_us: int
    occupancy: int


@dataclass(slots=True)
class Stay:
    """What a zone remembers of one track. Times in microseconds; -1 where it has not happened."""

    present: bool = False  # the stay is told
    inside: bool = False  # the anchor is inside now
    since_us: int = -1  # came in at
    left_us: int = -1  # went out at
    clear_us: int = -1  # on this side of the border by a margin since
    seen_us: int = -1
    entered_index: int = 0
    dwelled: bool = False
    still_us: int = -1  # stands at (still_x, still_y) since; the place is the mean of the first still_n
    still_n: int = 0
    still_x: float = 0.0
    still_y: float = 0.0
    unstill_us: int = -1  # away from there since
    stopped: bool = False
    front_x: float = 0.0  # the furthest place along the direction
    front_y: float = 0.0
    front: bool = False
    wrong_us: int = -1
    wrong: bool = False


class ZoneWatcher:
    """One zone over all tracks of a camera's epoch."""

    def __init__(self, rule: ZoneRule) -> None:
        self.rule = rule
        self._classes = expand(rule.classes)
        self.stays: dict[int, Stay] = {}
        self.crowded = False
        self.crowd_us = -1  # at or over the limit (while not crowded), or under it (while crowded), since

    def observe(self, tracks: Tracks, size: tuple[int, int]) -> list[ZoneFact]:
        """Take the tracks of one frame of a picture of ``size``; give what is now sure."""
        if not len(tracks):
            return []
        polygon = np.array(self.rule.points, np.float64) * size
        outline = closed(polygon)
        anchors = self._anchors(tracks.boxes, size)
        apart_px = distance_to_polyline(anchors, outline)
        inside = (inside_polygon(anchors, polygon) | (apart_px <= BORDER_PX)).tolist()
        apart = (apart_px / box_sizes(tracks.boxes)).tolist()
        facts: list[ZoneFact] = []
        for row in np.nonzero(tracks.seen)[0].tolist():
            stay = self.stays.get(tracks.numbers[row])
            if stay is None:
                stay = self.stays[tracks.numbers[row]] = Stay()
            if inside[row] != stay.inside:
                self._turned(stay, tracks, row, outline, size)
            told = self._settle(stay, int(tracks.seen_us[row]), apart[row], bool(tracks.confirmed[row]))
            if tracks.class_names[row] in self._classes:
                facts += self._facts(stay, told, tracks, row)
                if stay.present and stay.inside:
                    facts += self._moving(stay, tracks, row, size)
        return facts

    def end(self, ended: Tracks) -> list[ZoneFact]:
        """Forget the tracks that ended; the stays that were open end where the track was last seen."""
        facts = []
        for row, number in enumerate(ended.numbers):
            stay = self.stays.pop(number, None)
            if stay is None or not stay.present or ended.class_names[row] not in self._classes:
                continue
            left_us = int(ended.seen_us[row]) if stay.inside else stay.left_us
            facts += self._dwelled(stay, ended, row, left_us)
            facts.append(self._fact("exited", left_us, stay, ended, row))
        return facts

    def occupants(self, tracks: Tracks, present: NDArray[np.bool_]) -> dict[str, int]:
        """How many of the tracks ``present`` are inside, by group or class outside the groups, and by class."""
        counted: dict[str, int] = {}
        for row in np.nonzero(present)[0].tolist():
            stay = self.stays.get(tracks.numbers[row])
            name = tracks.class_names[row]
            if stay is not None and stay.present and name in self._classes:
                key = group_of(name) or name
                counted[key] = counted.get(key, 0) + 1
        return counted

    def crowd(self, at_us: int, occupancy: int) -> list[CrowdFact]:
        """Take how many are inside; crowded starts and ends once it has been so for a moment."""
        limit = self.rule.crowded_at
        if not limit:
            return []
        if (occupancy >= limit) == self.crowded:
            self.crowd_us = -1
            return []
        if self.crowd_us < 0:
            self.crowd_us = at_us
        if at_us - self.crowd_us < CROWDED_US:
            return []
        since_us, self.crowd_us, self.crowded = self.crowd_us, -1, not self.crowded
        return [CrowdFact(self.rule.name, "start" if self.crowded else "end", since_us, occupancy)]

    def disperse(self, at_us: int) -> list[CrowdFact]:
        """Nobody is watched any more: what was crowded is over."""
        crowded, self.crowded, self.crowd_us = self.crowded, False, -1
        return [CrowdFact(self.rule.name, "end", at_us, 0)] if crowded else []

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``."""
        for stay in self.stays.values():
            stay.still_x, stay.front_x = stay.still_x * x, stay.front_x * x
            stay.still_y, stay.front_y = stay.still_y * y, stay.front_y * y

    def _anchors(self, boxes: Floats, size: tuple[int, int]) -> Floats:
        """The anchors, kept within the picture: a zone that reaches its edge holds what is cut off there."""
        anchors = anchor_points(boxes, self.rule.anchor)
        clipped: Floats = np.clip(anchors, 0.0, np.array(size, np.float64))
        return clipped

    def _turned(self, stay: Stay, tracks: Tracks, row: int, outline: Floats, size: tuple[int, int]) -> None:
        """The anchor went in or out in this step."""
        stay.inside = not stay.inside
        stay.clear_us = -1
        now_us = int(tracks.seen_us[row])
        at_us = now_us
        if stay.seen_us >= 0:
            before, after = self._anchors(np.stack([tracks.previous[row], tracks.boxes[row]]), size)
            found = passage_fractions(before, after, outline)
            if found:
                at_us = stay.seen_us + round((found[0] if stay.inside else found[-1]) * (now_us - stay.seen_us))
        if not stay.inside:
            stay.left_us = at_us
        elif not stay.present:
            stay.since_us = at_us
            stay.entered_index = int(tracks.seen_index[row])
            stay.dwelled = stay.stopped = stay.wrong = stay.front = False
            stay.still_us = stay.wrong_us = stay.unstill_us = -1

    def _settle(self, stay: Stay, at_us: int, apart: float, confirmed: bool) -> Told | None:
        """Whether the stay is now told to have begun or ended."""
        stay.seen_us = at_us
        if stay.inside == stay.present or not confirmed:
            return None
        if apart < CLEAR_SIZES:
            stay.clear_us = -1
        elif stay.clear_us < 0:
            stay.clear_us = at_us
        turned_us = stay.since_us if stay.inside else stay.left_us
        settled = stay.clear_us >= 0 and at_us - stay.clear_us >= SETTLE_US
        if not settled and at_us - turned_us < LINGER_US:
            return None
        stay.present = stay.inside
        return "entered" if stay.present else "exited"

    def _facts(self, stay: Stay, told: Told | None, tracks: Tracks, row: int) -> list[ZoneFact]:
        """Entered, dwelled, exited: in that order."""
        facts = []
        if told == "entered":
            facts.append(self._fact("entered", stay.since_us, stay, tracks, row))
        if stay.present or told == "exited":
            facts += self._dwelled(stay, tracks, row, stay.seen_us if stay.inside else stay.left_us)
        if told == "exited":
            facts.append(self._fact("exited", stay.left_us, stay, tracks, row))
        return facts

    def _dwelled(self, stay: Stay, tracks: Tracks, row: int, until_us: int) -> list[ZoneFact]:
        limit_us = round((self.rule.dwell_s or 0.0) * 1e6)
        if not limit_us or stay.dwelled or until_us - stay.since_us < limit_us:
            return []
        stay.dwelled = True
        return [self._fact("dwelled", stay.since_us + limit_us, stay, tracks, row)]

    def _fact(self, told: Told, at_us: int, stay: Stay, tracks: Tracks, row: int) -> ZoneFact:
        x_min, y_min, x_max, y_max = tracks.boxes[row].tolist()
        return ZoneFact(
            zone=self.rule.name,
            told=told,
            at_us=at_us,
            since_us=stay.still_us if told == "stopped" else stay.since_us,
            number=tracks.numbers[row],
            class_name=tracks.class_names[row],
            bbox=(x_min, y_min, x_max, y_max),
            frames=tuple(sorted({stay.entered_index, int(tracks.seen_index[row])})),
        )

    def _moving(self, stay: Stay, tracks: Tracks, row: int, size: tuple[int, int]) -> list[ZoneFact]:
        """Standing still and moving against the direction."""
        facts = []
        x_min, y_min, x_max, y_max = tracks.boxes[row].tolist()
        x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
        length = max(((x_max - x_min) * (y_max - y_min)) ** 0.5, 1.0)
        if self.rule.stopped_s and tracks.groups[row] == "vehicle" and self._stopped(stay, x, y, length):
            facts.append(self._fact("stopped", stay.still_us + round(self.rule.stopped_s * 1e6), stay, tracks, row))
        if self.rule.direction is not None:
            dx, dy = self.rule.direction[0] * size[0], self.rule.direction[1] * size[1]
            if self._against(stay, (x, y), length, (dx, dy)):
                facts.append(self._fact("wrong", stay.wrong_us, stay, tracks, row))
        return facts

    def _stopped(self, stay: Stay, x: float, y: float, length: float) -> bool:
        """Whether it has now stood still for long enough; true once a stop."""
        assert self.rule.stopped_s is not None
        if stay.still_us < 0:
            stay.still_us, stay.still_x, stay.still_y, stay.still_n = stay.seen_us, x, y, 1
        if ((x - stay.still_x) ** 2 + (y - stay.still_y) ** 2) ** 0.5 > STILL_SIZES * length:
            if stay.unstill_us < 0:
                stay.unstill_us = stay.seen_us
            # What has stood for a while gets the benefit of the doubt; what was moving anyway does not.
            stood_us = stay.unstill_us - stay.still_us
            if stood_us < UNSTILL_US or stay.seen_us - stay.unstill_us >= UNSTILL_US:
                stay.still_us, stay.still_x, stay.still_y, stay.still_n = stay.seen_us, x, y, 1
                stay.unstill_us, stay.stopped = -1, False
            return False
        stay.unstill_us = -1
        if 0 < stay.seen_us - stay.still_us <= PLACE_US:
            stay.still_n += 1
            stay.still_x += (x - stay.still_x) / stay.still_n
            stay.still_y += (y - stay.still_y) / stay.still_n
        if stay.stopped or stay.seen_us - stay.still_us < self.rule.stopped_s * 1e6:
            return False
        stay.stopped = True
        return True

    def _against(self, stay: Stay, at: tuple[float, float], length: float, direction: tuple[float, float]) -> bool:
        """Whether it has now moved far enough against ``direction``; true once a stay."""
        x, y = at
        dx, dy = direction
        along = (x - stay.front_x) * dx + (y - stay.front_y) * dy
        if not stay.front or along > 0:
            stay.front, stay.front_x, stay.front_y = True, x, y
            stay.wrong_us = -1
            return False
        back = -along / ((dx * dx + dy * dy) ** 0.5)
        away = ((x - stay.front_x) ** 2 + (y - stay.front_y) ** 2) ** 0.5
        if back < WRONG_SIZES * length or back < 0.5 * away:
            stay.wrong_us = -1
            return False
        if stay.wrong_us < 0:
            stay.wrong_us = stay.seen_us
            return False
        if stay.wrong or stay.seen_us - stay.wrong_us < SETTLE_US:
            return False
        stay.wrong = True
        return True
