"""Falls, by rule, on the boxes of people over time.

Pure. Somebody who stood (an upright box, seen for a moment) may be falling when the top of his box drops fast by a good
part of his height, the box grows shorter and its bottom does not rise. He has fallen when something low goes on being
seen at that place for ``HOLD_S`` and nobody upright, or nothing at all: detectors lose people who lie. One that was
taught them sees him flat, and then it is enough that he stood there shortly before. Whoever goes
behind a shelf loses the bottom of his box, not the top; whoever is hidden by somebody else, or taken for him, overlaps
him; whoever leaves is cut at the picture's edge: none of these falls. All lengths are in heights of the person as he
stood, so the rule means the same near and far.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.down import FLAT_ASPECT, HOLD_S, SAME_IOU, WATCH_S, Down
from pipeline.analytics.scenes import UPDATE_S, Phase
from pipeline.analytics.stance import UPRIGHT_ASPECT, Sides, Stance, sides_of
from pipeline.analytics.tracker import Tracks
from pipeline.core.classes import group_of
from pipeline.core.detections import Detections
from pipeline.core.geometry import Floats, box_iou, inside_polygon
from pipeline.core.rules import ZoneRule

RULES_MADE_IT: Final[Mapping[str, str]] = {
    "model": "fall-rule",
    "model_version": "2",
    "model_sha256": hashlib.sha256(b"fall-rule 2").hexdigest(),
}
"""The provenance of its events: a rule, whose version rises when it judges differently."""

LEAST_HEIGHT = 0.15
"""Who is smaller than this, in heights of the picture, is not judged: the box says too little."""
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
OTHERS_IOU = 0.7
"""A detection that is so much like the box of somebody else is his."""
LOST_S, LOST_KNOWN_S = 0.7, 1.0
"""Who is not seen any more after a drop may have fallen if he dropped within LOST_S and was known for so long."""
GONE_FROM_S, GONE_TO_S, STOOD_S = 0.4, 0.8, 1.0
"""Who stood for STOOD_S, and has not been seen upright for between these, may have fallen unseen."""
FLAT_BEFORE_S, MOST_FLATS = 60.0, 64
"""What was flat within so long before somebody was last seen upright is nobody who fell; the last so many are kept."""
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
class Flat:
    """Something flat that the detector takes for a person, and since and until when it was seen."""

    box: Sides
    first_us: int
    last_us: int


class FallWatcher:
    """All falls of one camera.

    everywhere: whether falls are told of wherever they happen; else only in ``zones``. sure_score: from this score on a
    detection is taken for somebody who stands again. sees_lying: whether the detector was taught people who lie; what
    others find flat is no sign. stances: by track. downs: who may have fallen, and who has. flats: what was flat
    lately.
    """

    def __init__(
        self, everywhere: bool, zones: Sequence[ZoneRule], sure_score: float, *, sees_lying: bool = False
    ) -> None:
        self.everywhere, self.zones, self.sure_score = everywhere, tuple(zones), sure_score
        self.sees_lying = sees_lying
        self.stances: dict[int, Stance] = {}
        self.downs: list[Down] = []
        self.flats: list[Flat] = []

    def observe(
        self, at_us: int, index: int, tracks: Tracks, seen: Detections, size: tuple[int, int]
    ) -> list[FallFact]:
        """Take one frame of a picture of ``size``: its tracks, and everything that was detected in it."""
        if not self.everywhere and not self.zones:
            return self.close()
        people = np.array([row for row, group in enumerate(tracks.groups) if group == "person"], np.int64)
        facts: list[FallFact] = []
        if self.downs or self.sees_lying:
            boxes, scores = _detected(seen)
            facts = self._follow(at_us, index, tracks, people, (boxes, scores), size)
            if self.sees_lying:
                self._remember(at_us, boxes)
        covered = self._covered(tracks, people, at_us)
        for row in people[tracks.confirmed[people] & tracks.seen[people]].tolist():
            self._look(at_us, index, tracks, row, bool(covered[row]), size)
        if self.sees_lying:
            self._miss(at_us, tracks, size)
        present = set(tracks.numbers)
        for number in [number for number in self.stances if number not in present]:
            del self.stances[number]
        return facts

    def close(self) -> list[FallFact]:
        """Nothing follows: end what is open."""
        facts = [_fact("end", down, max(down.low_us, down.dropped_us)) for down in self.downs if down.told_us >= 0]
        self.stances.clear()
        self.downs.clear()
        self.flats.clear()
        return facts

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``."""
        for stance in self.stances.values():
            stance.top, stance.bottom, stance.foot = stance.top * y, stance.bottom * y, stance.foot * y
            stance.x, stance.width = stance.x * x, stance.width * x
        for flat in self.flats:
            flat.box = _scaled(flat.box, x, y)
        for down in self.downs:
            down.top, down.bottom, down.x = down.top * y, down.bottom * y, down.x * x
            down.box, down.there = _scaled(down.box, x, y), [_scaled(each, x, y) for each in down.there]

    def _look(self, at_us: int, index: int, tracks: Tracks, row: int, covered: bool, size: tuple[int, int]) -> None:
        """Learn how somebody stands, or see him drop."""
        box = sides_of(tracks.boxes[row].tolist())
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
            if box[3] - box[1] > SHORTER * known.height:  # as tall as ever: whoever that is, he was not lost lying
                known.quick = False
            else:
                known.lower(box, index)
            known.quick &= not (known.cut and box[3] >= CUT * size[1])
        if (known is None or not (known.dropped or known.told_us >= 0)) and self._drops(stance, at_us, box, size):
            self.downs = [down for down in self.downs if down is not known]
            self.downs.append(self._begin(stance, number, tracks, at_us, (box, index), size))
        if at_us - stance.upright_us > RESETTLE_S * 1e6:
            stance.settle(at_us, index, box, upright)

    def _miss(self, at_us: int, tracks: Tracks, size: tuple[int, int]) -> None:
        """Who stood and is not seen to stand any more may have fallen faster than the detector follows."""
        for number, stance in self.stances.items():
            box = (stance.x - stance.width / 2, stance.top, stance.x + stance.width / 2, stance.foot)
            if (
                GONE_FROM_S * 1e6 <= at_us - stance.upright_us <= GONE_TO_S * 1e6
                and stance.stood_s >= STOOD_S
                and stance.height >= LEAST_HEIGHT * size[1]
                and stance.foot < CUT * size[1]
                and self._is_himself(stance, box, size)
                and not any(down.is_he(number, stance.x) for down in self.downs)
            ):
                seen = (box, stance.upright_index)
                self.downs.append(self._begin(stance, number, tracks, at_us, seen, size, dropped=False))

    def _remember(self, at_us: int, boxes: Floats) -> None:
        """Note what is flat: it is somebody who fell only if it was not there before."""
        self.flats = [flat for flat in self.flats if at_us - flat.last_us <= FLAT_BEFORE_S * 1e6]
        wide = boxes[boxes[:, 2] - boxes[:, 0] >= FLAT_ASPECT * (boxes[:, 3] - boxes[:, 1])]
        for row in wide:
            alike = box_iou(row[None], np.array([flat.box for flat in self.flats]))[0] if self.flats else np.zeros(1)
            if alike.max() >= SAME_IOU:
                same = self.flats[int(alike.argmax())]
                same.box, same.last_us = sides_of(row.tolist()), at_us
            else:
                self.flats.append(Flat(sides_of(row.tolist()), at_us, at_us))
        if len(self.flats) > MOST_FLATS:
            self.flats = sorted(self.flats, key=lambda flat: flat.last_us)[-MOST_FLATS:]

    def _is_himself(self, stance: Stance, box: Sides, size: tuple[int, int]) -> bool:
        """Whether a box is neither cut at a side nor perhaps somebody else's."""
        return (
            box[0] > EDGE * size[0]
            and box[2] < (1 - EDGE) * size[0]
            and stance.covered_us < stance.upright_us - COVERED_S * 1e6
        )

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
            and self._is_himself(stance, box, size)
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
        detected: tuple[Floats, Floats],
        size: tuple[int, int],
    ) -> list[FallFact]:
        """See what became of those who dropped."""
        facts: list[FallFact] = []
        boxes, scores = detected
        shown = people[tracks.confirmed[people] & tracks.seen[people]]
        kept = []
        for down in self.downs:
            others = [row for row in shown.tolist() if down.number != tracks.numbers[row] < down.first_new]
            free = np.ones(len(boxes), bool)
            if others and len(boxes):
                free = box_iou(boxes, tracks.boxes[others]).max(axis=1) < OTHERS_IOU
            down.sight(at_us, index, boxes[free], scores[free], self.sure_score, lying=self.sees_lying)
            goes_on, told = self._judge(down, at_us, size)
            facts += told
            if goes_on:
                kept.append(down)
        self.downs = kept
        return facts

    def _judge(self, down: Down, at_us: int, size: tuple[int, int]) -> tuple[bool, list[FallFact]]:
        """Whether to go on watching him, and what is to be told."""
        stands = down.stands(at_us)
        if down.told_us < 0:
            fell = down.lies_flat(at_us)
            watched = self.sees_lying and at_us - down.started_us < WATCH_S * 1e6
            if down.dropped and at_us - down.dropped_us >= HOLD_S * 1e6:
                fell |= down.has_fallen(at_us)
                down.dropped = False
            if stands or not fell:
                return not stands and (down.dropped or watched), []
            if not self._is_wanted(down, size):
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

    def _begin(
        self,
        stance: Stance,
        number: int,
        tracks: Tracks,
        at_us: int,
        seen: tuple[Sides, int],
        size: tuple[int, int],
        *,
        dropped: bool = True,
    ) -> Down:
        """Watch somebody from now on. seen: his box, and the frame it was seen in."""
        box, index = seen
        return Down(
            number=number,
            first_new=max(tracks.numbers) + 1,
            top=stance.top,
            bottom=stance.bottom,
            x=(box[0] + box[2]) / 2,
            cut=stance.foot >= CUT * size[1],
            dropped=dropped,
            quick=stance.known_s >= LOST_KNOWN_S and at_us - stance.upright_us <= LOST_S * 1e6,
            started_us=stance.upright_us,
            started_index=stance.upright_index,
            dropped_us=at_us,
            drop=(box[1] - stance.top) / stance.height,
            low_index=index,
            box=box,
            there=[flat.box for flat in self.flats if flat.first_us <= stance.upright_us],
        )

    def _is_wanted(self, down: Down, size: tuple[int, int]) -> bool:
        """Whether a fall is told of where he lies; sets the zone."""
        x_min, _, x_max, bottom = down.box
        foot = np.array([[(x_min + x_max) / 2, min(bottom, size[1] - 1.0)]])
        inside = (zone.name for zone in self.zones if inside_polygon(foot, np.array(zone.points) * size)[0])
        down.zone = next(inside, None)
        return self.everywhere or down.zone is not None


def _scaled(box: Sides, x: float, y: float) -> Sides:
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _fact(phase: Phase, down: Down, ended_us: int | None) -> FallFact:
    frames = (down.started_index, down.low_index)
    return FallFact(phase, down.started_us, ended_us, min(down.drop, 1.0), frames, down.box, down.number, down.zone)


def _detected(seen: Detections) -> tuple[Floats, Floats]:
    """Boxes and scores of the people among what was detected."""
    person = np.array([group_of(name) == "person" for name in seen.classes], bool)
    chosen = person[seen.class_ids] if len(person) else np.zeros(len(seen), bool)
    return seen.boxes[chosen].astype(np.float64), seen.scores[chosen].astype(np.float64)
