"""Falls, by rule, on the boxes of people over time.

Pure. Somebody who stood (an upright box, seen for a moment) may be falling when the top of his box drops fast by a good
part of his height, the box grows shorter and its bottom does not rise. He has fallen when something low goes on being
seen at that place for ``HOLD_S`` and nobody upright, or nothing at all: detectors lose people who lie. Whoever goes
behind a shelf loses the bottom of his box, not the top; whoever is hidden by somebody else, or taken for him, overlaps
him; whoever leaves is cut at the picture's edge: none of these falls. All lengths are in heights of the person as he
stood, so the rule means the same near and far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.scenes import UPDATE_S, Phase
from pipeline.analytics.stance import Sides, Stance
from pipeline.analytics.tracker import Tracks
from pipeline.core.classes import group_of
from pipeline.core.detections import Detections
from pipeline.core.geometry import Floats, box_iou, inside_polygon
from pipeline.core.rules import ZoneRule

RULES_MADE_IT: Final[Mapping[str, str]] = {
    "model": "fall-rule",
    "model_version": "1",
    "model_sha256": hashlib.sha256(b"fall-rule 1").hexdigest(),
}
"""The provenance of its events: a rule, whose version rises when it judges differently."""

LEAST_HEIGHT = 0.15
"""Who is smaller than this, in heights of the picture, is not judged: the box says too little."""
UPRIGHT_ASPECT = 0.75
"""Width by height: an upright box is narrower."""
RESETTLE_S = 1.0
"""Who has looked otherwise for so long is learned anew."""
DROP, SHORTER, DROP_S = 0.4, 0.8, 0.8
"""The top drops by this much, and the box is no higher than this, so soon after he last stood."""
RAISED, BESIDE = 0.15, 0.8
"""Meanwhile the bottom rises no more than this, and the box goes no further to the side."""
COVERED, COVERED_S, COVERS_S = 0.3, 0.5, 1.0
"""With so much of his box in that of somebody who has been there for COVERS_S, from COVERED_S before he last stood on,
nobody can tell whose box it is."""
EDGE, CUT = 0.01, 0.97
"""Boxes this close to the left or right edge (widths of the picture) are cut; so are those that reach this far down."""
LOW_DROP, LOW_HEIGHT, LOW_WIDTH, REACH = 0.45, 0.7, 0.25, 1.2
"""Something low: its top at least so far down, no higher, no narrower, its middle no further to the side."""
LOW_RAISED = 0.3
"""Nor is its bottom higher than this above where he stood."""
OTHERS_IOU = 0.7
"""A detection that is so much like the box of somebody else is his."""
LIES_DROP, LIES_ASPECT, CUT_ASPECT = 0.55, 1.2, 1.6
"""Somebody lies whose top is this far down, or whose box is this wide by its height; less may be a squat. Who was cut
at the picture's bottom as he stood may have walked out of it: only the width tells."""
HOLD_S, HOLD_SHARE, HOLD_LOOKS, RECENT_S = 1.5, 0.3, 4, 0.75
"""Something low must be seen until this long after the drop: in this share of the frames, this often, and lately."""
LOST_DROP, LOST_TOP, LOST_S, LOST_KNOWN_S = 0.45, 1.25, 0.7, 1.0
"""Who is not seen any more fell if he was seen to drop by between these, within LOST_S, and was known for so long."""
UP_DROP, UP_HEIGHT, UP_S = 0.25, 0.7, 0.4
"""Who is seen with the top no lower than this, at least this high, for so long, stands again."""
GONE_S = 10.0
"""Where nothing low has been seen for so long he is gone, or the detector lost him."""


@dataclass(frozen=True, slots=True)
class FallFact:
    """One phase of a fall.

    started_us: when he last stood; ended_us: when he stood again or was last seen, None while it goes on. score: how
    far the top was seen to drop at most, in heights, 0..1. frames: the last upright one, the lowest one. box: the
    lowest, xyxy pixels. number: of the track that fell. zone: that he lies in, if falls are watched for in it.
    """

    phase: Phase
    started_us: int
    ended_us: int | None
    score: float
    frames: tuple[int, int]
    box: Sides
    number: int
    zone: str | None


@dataclass(slots=True)
class Down:
    """Somebody whose box dropped; he has fallen for sure once ``told_us`` is set (-1: not yet).

    top, bottom: as he stood, pixels; x: where he dropped. cut: whether he stood cut at the picture's bottom. quick:
    whether he would count as fallen if he were lost. first_new: tracks from this number on may be himself again.
    frames: since the drop. drops, aspects: of what was seen low, until it is told. low_us, up_us: when something low
    was seen last; since when somebody stands there (-1: nobody). told_us: when it was last told. drop, low_index, box:
    of the lowest. zone: he lies in.
    """

    number: int
    first_new: int
    top: float
    bottom: float
    x: float
    cut: bool
    quick: bool
    started_us: int
    started_index: int
    dropped_us: int
    drop: float
    low_index: int
    box: Sides
    frames: int = 0
    drops: list[float] = field(default_factory=list)
    aspects: list[float] = field(default_factory=list)
    low_us: int = -1
    up_us: int = -1
    told_us: int = -1
    zone: str | None = None

    @property
    def height(self) -> float:
        return max(self.bottom - self.top, 1.0)

    def is_he(self, number: int, x: float) -> bool:
        """Whether a track, its middle at ``x``, is his: the same, or one that began there since."""
        return number == self.number or (number >= self.first_new and abs(x - self.x) <= REACH * self.height)

    def lower(self, box: Sides, index: int) -> float:
        """Take a box of his; how far down its top is."""
        drop = (box[1] - self.top) / self.height
        if drop > self.drop:
            self.drop, self.low_index, self.box = drop, index, box
        return drop

    def has_fallen(self, at_us: int) -> bool:
        """What the time since the drop showed."""
        if len(self.drops) < max(HOLD_LOOKS, HOLD_SHARE * self.frames):
            return self.quick and LOST_DROP <= self.drop <= LOST_TOP
        if at_us - self.low_us > RECENT_S * 1e6:
            return False
        wide = float(np.median(self.aspects))
        if self.cut:
            return wide >= CUT_ASPECT
        return wide >= LIES_ASPECT or float(np.median(self.drops)) >= LIES_DROP


class FallWatcher:
    """All falls of one camera.

    everywhere: whether falls are told of wherever they happen; else only in ``zones``. sure_score: from this score on a
    detection is taken for somebody who stands again. stances: by track. downs: who may have fallen, and who has.
    """

    def __init__(self, everywhere: bool, zones: Sequence[ZoneRule], sure_score: float) -> None:
        self.everywhere, self.zones, self.sure_score = everywhere, tuple(zones), sure_score
        self.stances: dict[int, Stance] = {}
        self.downs: list[Down] = []

    def observe(
        self, at_us: int, index: int, tracks: Tracks, seen: Detections, size: tuple[int, int]
    ) -> list[FallFact]:
        """Take one frame of a picture of ``size``: its tracks, and everything that was detected in it."""
        if not self.everywhere and not self.zones:
            return self.close()
        people = np.array([row for row, group in enumerate(tracks.groups) if group == "person"], np.int64)
        facts = self._follow(at_us, index, tracks, people, seen, size) if self.downs else []
        covered = self._covered(tracks, people, at_us)
        for row in people[tracks.confirmed[people] & tracks.seen[people]].tolist():
            self._look(at_us, index, tracks, row, bool(covered[row]), size)
        present = set(tracks.numbers)
        for number in [number for number in self.stances if number not in present]:
            del self.stances[number]
        return facts

    def close(self) -> list[FallFact]:
        """Nothing follows: end what is open."""
        facts = [_fact("end", down, max(down.low_us, down.dropped_us)) for down in self.downs if down.told_us >= 0]
        self.stances.clear()
        self.downs.clear()
        return facts

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``."""
        for stance in self.stances.values():
            stance.top, stance.bottom, stance.foot = stance.top * y, stance.bottom * y, stance.foot * y
            stance.x *= x
        for down in self.downs:
            down.top, down.bottom, down.x = down.top * y, down.bottom * y, down.x * x
            x_min, y_min, x_max, y_max = down.box
            down.box = (x_min * x, y_min * y, x_max * x, y_max * y)

    def _look(self, at_us: int, index: int, tracks: Tracks, row: int, covered: bool, size: tuple[int, int]) -> None:
        """Learn how somebody stands, or see him drop."""
        box = _sides(tracks.boxes[row])
        number = tracks.numbers[row]
        upright = box[2] - box[0] <= UPRIGHT_ASPECT * (box[3] - box[1])
        stance = self.stances.get(number)
        if stance is None:
            stance = self.stances[number] = Stance(at_us, 0, 0, 0, at_us, at_us, index)
            stance.settle(at_us, index, box, upright)
            return
        if covered:
            stance.covered_us = at_us
        if stance.learn(at_us, index, box, upright):
            return
        known = next((down for down in self.downs if down.is_he(number, stance.x)), None)
        if known is not None and known.told_us < 0:
            known.lower(box, index)
            known.quick &= not (known.cut and box[3] >= CUT * size[1])
        elif known is None and self._drops(stance, at_us, box, size):
            self.downs.append(_begin(stance, tracks, row, at_us, index, size))
        if at_us - stance.upright_us > RESETTLE_S * 1e6:
            stance.settle(at_us, index, box, upright)

    def _drops(self, stance: Stance, at_us: int, box: Sides, size: tuple[int, int]) -> bool:
        x_min, top, x_max, bottom = box
        h = stance.height
        return (
            stance.known_s > 0
            and h >= LEAST_HEIGHT * size[1]
            and at_us - stance.upright_us <= DROP_S * 1e6
            and top - stance.top >= DROP * h
            and bottom - top <= SHORTER * h
            and bottom >= stance.bottom - RAISED * h
            and abs((x_min + x_max) / 2 - stance.x) <= BESIDE * h
            and x_min > EDGE * size[0]
            and x_max < (1 - EDGE) * size[0]
            and stance.covered_us < stance.upright_us - COVERED_S * 1e6
        )

    def _covered(self, tracks: Tracks, people: NDArray[np.int64], at_us: int) -> NDArray[np.bool_]:
        """Of each track: whether a good part of its box lies in that of somebody else who was there before."""
        covered = np.zeros(len(tracks), bool)
        lately = people[tracks.confirmed[people] & (at_us - tracks.seen_us[people] <= COVERS_S * 1e6)]
        stances = [self.stances.get(tracks.numbers[row]) for row in lately]
        old = np.array([stance is not None and at_us - stance.first_us >= COVERS_S * 1e6 for stance in stances], bool)
        if not old.any() or len(lately) < 2:
            return covered
        boxes = tracks.boxes[lately]
        least = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        most = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        shared = np.prod(np.maximum(least - most, 0.0), axis=2)
        np.fill_diagonal(shared, 0.0)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        covered[lately] = shared[:, old].max(axis=1) >= COVERED * np.maximum(area, 1.0)
        return covered

    def _follow(
        self,
        at_us: int,
        index: int,
        tracks: Tracks,
        people: NDArray[np.int64],
        seen: Detections,
        size: tuple[int, int],
    ) -> list[FallFact]:
        """See what became of those who dropped."""
        facts: list[FallFact] = []
        boxes, scores = _detected(seen)
        shown = people[tracks.confirmed[people] & tracks.seen[people]]
        kept = []
        for down in self.downs:
            others = [row for row in shown.tolist() if down.number != tracks.numbers[row] < down.first_new]
            free = np.ones(len(boxes), bool)
            if others and len(boxes):
                free = box_iou(boxes, tracks.boxes[others]).max(axis=1) < OTHERS_IOU
            self._sight(down, at_us, index, boxes[free], scores[free])
            goes_on, told = self._judge(down, at_us, size)
            facts += told
            if goes_on:
                kept.append(down)
        self.downs = kept
        return facts

    def _sight(self, down: Down, at_us: int, index: int, boxes: Floats, scores: Floats) -> None:
        """Take what nobody else's is of a frame: is something low there, or somebody upright?"""
        h = down.height
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        drop = (boxes[:, 1] - down.top) / h
        near = np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - down.x) <= REACH * h
        near &= boxes[:, 3] >= down.bottom - LOW_RAISED * h
        low = near & (drop >= LOW_DROP) & (height <= LOW_HEIGHT * h) & (width >= LOW_WIDTH * h)
        up = near & (drop <= UP_DROP) & (height >= UP_HEIGHT * h) & (width <= UPRIGHT_ASPECT * height)
        up &= scores >= self.sure_score
        down.frames += 1
        if low.any():
            best = np.flatnonzero(low)[np.argmax(scores[low])]
            down.low_us, down.up_us = at_us, -1
            fell = down.lower(_sides(boxes[best]), index)
            if down.told_us < 0:
                down.drops.append(fell)
                down.aspects.append(float(width[best] / height[best]))
        elif not up.any():
            down.up_us = -1
        elif down.up_us < 0:
            down.up_us = at_us

    def _judge(self, down: Down, at_us: int, size: tuple[int, int]) -> tuple[bool, list[FallFact]]:
        """Whether to go on watching him, and what is to be told."""
        stands = down.up_us >= 0 and at_us - down.up_us >= UP_S * 1e6
        if down.told_us < 0:
            if stands or at_us - down.dropped_us < HOLD_S * 1e6:
                return not stands, []
            if not down.has_fallen(at_us) or not self._is_wanted(down, size):
                return False, []
            down.told_us = at_us
            return True, [_fact("start", down, None)]
        seen_us = max(down.low_us, down.dropped_us)
        if stands or at_us - seen_us > GONE_S * 1e6:
            return False, [_fact("end", down, down.up_us if stands else seen_us)]
        if down.low_us == at_us and at_us - down.told_us >= UPDATE_S * 1e6:
            down.told_us = at_us
            return True, [_fact("update", down, None)]
        return True, []

    def _is_wanted(self, down: Down, size: tuple[int, int]) -> bool:
        """Whether a fall is told of where he lies; sets the zone."""
        x_min, _, x_max, bottom = down.box
        foot = np.array([[(x_min + x_max) / 2, min(bottom, size[1] - 1.0)]])
        inside = (zone.name for zone in self.zones if inside_polygon(foot, np.array(zone.points) * size)[0])
        down.zone = next(inside, None)
        return self.everywhere or down.zone is not None


def _sides(box: Floats) -> Sides:
    x_min, y_min, x_max, y_max = box.tolist()
    return x_min, y_min, x_max, y_max


def _begin(stance: Stance, tracks: Tracks, row: int, at_us: int, index: int, size: tuple[int, int]) -> Down:
    box = _sides(tracks.boxes[row])
    cut = stance.foot >= CUT * size[1]
    quick = stance.known_s >= LOST_KNOWN_S and at_us - stance.upright_us <= LOST_S * 1e6
    return Down(
        number=tracks.numbers[row],
        first_new=max(tracks.numbers) + 1,
        top=stance.top,
        bottom=stance.bottom,
        x=(box[0] + box[2]) / 2,
        cut=cut,
        quick=quick,
        started_us=stance.upright_us,
        started_index=stance.upright_index,
        dropped_us=at_us,
        drop=(box[1] - stance.top) / stance.height,
        low_index=index,
        box=box,
    )


def _fact(phase: Phase, down: Down, ended_us: int | None) -> FallFact:
    frames = (down.started_index, down.low_index)
    return FallFact(phase, down.started_us, ended_us, min(down.drop, 1.0), frames, down.box, down.number, down.zone)


def _detected(seen: Detections) -> tuple[Floats, Floats]:
    """Boxes and scores of the people among what was detected."""
    person = np.array([group_of(name) == "person" for name in seen.classes], bool)
    chosen = person[seen.class_ids] if len(person) else np.zeros(len(seen), bool)
    return seen.boxes[chosen].astype(np.float64), seen.scores[chosen].astype(np.float64)
