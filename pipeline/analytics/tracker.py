"""Follows objects from frame to frame: two-stage association in the manner of ByteTrack, with real time steps.

Detections of high score are matched to the predicted boxes of all tracks by overlap, then those of low score to the
tracks that are left (Zhang et al. 2022). A last stage matches what did not overlap at all by distance, within what
the track's motion allows: at a few frames a second a car jumps more than its own length (the buffered overlap of
Yang et al. 2023 has the same aim; a gate in standard deviations fits itself to the time step). Objects of one group
only match their like: a person never becomes a vehicle, a car may become a truck.

A weak detection may begin a track too, but only a strong one lets it be confirmed: so the path of what comes into
sight slowly is known from its beginning, and weak clutter alone never counts.

Everything a track needs lies in parallel arrays, one row a track, in the order of the tracks' numbers; a row goes
when its track ends, so nothing grows with the number of tracks that ever were.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.association import assign
from pipeline.analytics.motion import Motion
from pipeline.analytics.settings import TrackerSettings
from pipeline.core.classes import Group, group_of
from pipeline.core.detections import Detections
from pipeline.core.geometry import Floats, box_iou, box_sizes

# Sizes a second: a third of what hardly any object exceeds (a runner, a car seen from the side).
SPEED_STD = {"person": 4.0, "vehicle": 4.0}
OTHER_SPEED_STD = 4.0
# The last stage never reaches further than this many sizes, plus this many a second since the track was seen.
REACH_SIZES, REACH_SIZES_PER_S = 0.5, 12.0
UNSEEN_COST = 0.15  # in terms of overlap
JUMP_SIZES = 0.9  # nor may an overlapping box lie so far from where the track should be, unless that is uncertain
REACH_LOST_S = 0.7  # tracks unseen for longer are not looked for without overlap
REACH_SIZE_RATIO = 1.6  # nor is a box so much larger or smaller (in size, not in area)
COMPANION_IOU, COMPANION_SPEED = 0.3, 1.0  # overlap, and sizes a second of difference, of two that walk together
HIDDEN_PATIENCE = 2.0  # who is known to be hidden is waited for this many times as long
LEFT_OVER_IOU = 0.15  # what is left of confirmed tracks and detections may go together with so little overlap
NESTED_IOU, NESTED_SHARE = 0.4, 0.85  # a box so deep in another of its group may be a part of the same object
DUPLICATE_IOU = 0.7  # two classes of one group on boxes so alike are one object


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks after a frame, one entry each in every field, in the order of their numbers.

    boxes, previous: N x 4 float64 xyxy pixels, as detected: the last one and the one before (the same for a new
    track). seen: N, whether the last one is of this frame. seen_us, seen_index: N, when and in which frame the last
    one was; previous_us, previous_index: the same of the one before. predicted: N x 4, where the track should be now.
    """

    numbers: list[int]
    class_names: list[str]
    groups: list[Group | None]
    confirmed: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    scores: Floats
    boxes: Floats
    previous: Floats
    predicted: Floats
    seen_us: NDArray[np.int64]
    seen_index: NDArray[np.int64]
    previous_us: NDArray[np.int64]
    previous_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)


class Tracker:
    """The tracks of one camera and epoch.

    classes: the class names that are followed; detections of others are passed over.
    """

    def __init__(self, settings: TrackerSettings, classes: Iterable[str]) -> None:
        self._settings = settings
        self.classes = sorted(classes)
        self._column = {name: i for i, name in enumerate(self.classes)}
        kinds = [group_of(name) or name for name in self.classes]
        self.kinds = sorted(set(kinds))
        self._kind = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        self._speed_std = np.array([SPEED_STD.get(kind, OTHER_SPEED_STD) for kind in kinds])
        self.next_number = 1
        self.at_us: int | None = None
        self.motion = Motion.start(np.zeros((0, 4)), np.zeros(0))
        self.rows = _empty_rows(len(self.classes))

    def __len__(self) -> int:
        return len(self.motion)

    def step(self, at_us: int, index: int, detections: Detections, size: tuple[int, int]) -> tuple[Tracks, Tracks]:
        """Take the detections of the frame ``index`` at ``at_us`` of a picture ``size`` (width, height).

        Gives the tracks there are now, and those that ended: unseen for too long, or gone out of the picture. The
        order of the detections does not matter.
        """
        boxes, scores, columns, nested = self._chosen(detections)
        unseen = self.rows["seen_us"] != self.at_us
        dt_s = 0.0 if self.at_us is None else (at_us - self.at_us) / 1e6
        self.at_us = at_us
        self.rows["hidden"][:] = False
        if unseen.any():
            self._accompany(unseen)
        self.motion.predict(dt_s, unseen)
        matched_rows, matched = self._associate(boxes, scores, columns, nested)
        self._correct(matched_rows, matched, boxes, scores, columns)
        free = ~nested
        free[matched] = False
        self._start(np.nonzero(free & (scores >= self._settings.weak_score))[0], boxes, scores, columns, index)
        self._mark_seen(index)
        over = self._over(size)
        ended = self._view(over)
        self._keep(~over)
        return self._view(np.ones(len(self), bool)), ended

    def end(self) -> Tracks:
        """End every track and give them."""
        everything = np.ones(len(self), bool)
        ended = self._view(everything)
        self._keep(~everything)
        return ended

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``: carry the tracks over."""
        factor = np.array([x, y, x, y])
        self.motion.rescale(x, y)
        self.rows["box"] = self.rows["box"] * factor
        self.rows["previous"] = self.rows["previous"] * factor

    def _chosen(self, detections: Detections) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.bool_]]:
        """Boxes, scores and class columns of what is followed, in an order of their own, and which are nested."""
        column_of = np.array([self._column.get(name, -1) for name in detections.classes] or [-1], np.int64)
        columns = column_of[detections.class_ids]
        chosen = (columns >= 0) & (detections.scores >= self._settings.low_score)
        boxes = detections.boxes[chosen].astype(np.float64)
        scores = detections.scores[chosen].astype(np.float64)
        columns = columns[chosen]
        order = np.lexsort((columns, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))
        boxes, scores, columns = boxes[order], scores[order], columns[order]
        single, nested = self._doubles(boxes, columns)
        return boxes[single], scores[single], columns[single], nested[single]

    def _doubles(self, boxes: Floats, columns: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which boxes to keep, and which of them lie in a box of their group with a higher score.

        Detectors suppress overlapping boxes within a class only, so a van may come as a car and as a truck: the
        lower score goes. And one person may come whole and as an upper body, too unlike to be suppressed: the inner
        one may continue a confirmed track (somebody behind somebody), but not begin one.
        """
        nested, keep = np.zeros(len(columns), bool), np.ones(len(columns), bool)
        if len(columns) < 2:
            return keep, nested
        iou = np.triu(box_iou(boxes, boxes), 1)
        if not (iou >= min(NESTED_IOU, DUPLICATE_IOU)).any():
            return keep, nested
        iou[self._kind[columns][:, None] != self._kind[columns][None, :]] = 0.0
        twins = (iou >= DUPLICATE_IOU) & (columns[:, None] != columns[None, :])
        for first, second in zip(*np.nonzero(twins), strict=True):
            if keep[first]:
                keep[second] = False
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        shared = iou * (area[:, None] + area[None, :]) / (1.0 + iou)
        smaller = np.maximum(np.minimum(area[:, None], area[None, :]), 1e-9)
        inner = keep[:, None] & (iou >= NESTED_IOU) & (shared / smaller >= NESTED_SHARE)
        nested |= inner.any(axis=0)
        return keep, nested

    def _accompany(self, unseen: NDArray[np.bool_]) -> None:
        """A track hidden behind another of its kind that moves much like it is taken to move with it.

        Two people side by side hide one another for seconds; the speed of the hidden one, measured on a box that was
        already cut, would carry it off.
        """
        hidden = np.nonzero(unseen & self.rows["confirmed"])[0]
        others = np.nonzero(~unseen)[0]
        if not len(hidden) or not len(others):
            return
        boxes = self.motion.boxes()
        overlap = box_iou(boxes[hidden], boxes[others])
        overlap[self.rows["kind"][hidden][:, None] != self.rows["kind"][others][None, :]] = 0.0
        nearest = overlap.argmax(axis=1)
        velocity = self.motion.velocity
        apart = velocity[hidden, :2] - velocity[others[nearest], :2]
        speed = np.sqrt((apart**2).sum(axis=1)) / box_sizes(boxes[hidden])
        along = (overlap[np.arange(len(hidden)), nearest] >= COMPANION_IOU) & (speed <= COMPANION_SPEED)
        velocity[hidden[along], :2] = velocity[others[nearest[along]], :2]
        velocity[hidden[along], 2:] = 0.0
        self.rows["hidden"][hidden[along]] = True

    def _associate(
        self, boxes: Floats, scores: Floats, columns: NDArray[np.int64], nested: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], ...]:
        """Rows of tracks and the detections that continue them."""
        none = np.zeros(0, np.int64)
        if not len(self) or not len(boxes):
            return none, none
        settings = self._settings
        other_kind = self.rows["kind"][:, None] != self._kind[columns][None, :]
        apart = 1.0 - box_iou(self.motion.boxes(), boxes)
        distance, sigmas = self._distances(boxes)
        jumped = (distance > JUMP_SIZES * box_sizes(self.rows["box"])[:, None]) & (sigmas > settings.reach_sigma)
        apart[other_kind | jumped] = np.inf
        # A track that was not seen in the last frame comes second: else two tracks could take turns on one object.
        apart[self.rows["seen_us"] < self.rows["seen_us"].max()] += UNSEEN_COST
        high, low = (scores >= settings.high_score) & ~nested, (scores < settings.high_score) & ~nested
        confirmed = self.rows["confirmed"]
        strong = self.rows["best"] >= settings.birth_score  # clutter must not reach for what passes by
        free_rows, free = np.ones(len(self), bool), np.ones(len(boxes), bool)
        pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

        def stage(cost: Floats, gate: float, rows: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> None:
            r, c = np.nonzero(rows & free_rows)[0], np.nonzero(chosen & free)[0]
            if len(r) and len(c):
                at_r, at_c = assign(cost[r[:, None], c], gate)
                pairs.append((r[at_r], c[at_c]))
                free_rows[r[at_r]] = False
                free[c[at_c]] = False

        stage(apart, 1.0 - settings.match_iou, confirmed, high)
        stage(apart, 1.0 - settings.low_match_iou, confirmed, ~high)  # nested ones too
        stage(apart, 1.0 - LEFT_OVER_IOU + UNSEEN_COST, confirmed, scores > 0)
        stage(apart, 1.0 - settings.match_iou, ~confirmed, high)
        if (free_rows & strong).any() and (free & high).any():
            reach = self._reach(boxes, distance, sigmas)
            stage(np.where(other_kind, np.inf, reach), settings.reach_sigma, strong, high)
        stage(apart, 1.0 - settings.low_match_iou, ~confirmed, low)
        if not pairs:
            return none, none
        return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])

    def _distances(self, boxes: Floats) -> tuple[Floats, Floats]:
        """How far every detection's centre is from where every track should be: in pixels, and in what the track's
        prediction is uncertain by (standard deviations).
        """
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        x = centres[None, :, 0] - self.motion.position[:, None, 0]
        y = centres[None, :, 1] - self.motion.position[:, None, 1]
        distance = np.sqrt(x * x + y * y)
        variance = self.motion.position_var[:, :2].mean(axis=1) + (0.1 * box_sizes(self.rows["box"])) ** 2
        return distance, distance / np.sqrt(variance)[:, None]

    def _reach(self, boxes: Floats, distance: Floats, sigmas: Floats) -> Floats:
        """``sigmas``, infinite where a track cannot have gone or does not look like it."""
        assert self.at_us is not None
        sizes, seen_sizes = box_sizes(boxes), box_sizes(self.rows["box"])
        unseen_s = (self.at_us - self.rows["seen_us"]) / 1e6
        far = distance > (seen_sizes * (REACH_SIZES + REACH_SIZES_PER_S * unseen_s))[:, None]
        ratio = sizes[None, :] / seen_sizes[:, None]
        unlike = (ratio > REACH_SIZE_RATIO) | (ratio < 1 / REACH_SIZE_RATIO)
        return np.where(far | unlike | (unseen_s > REACH_LOST_S)[:, None], np.inf, sigmas)

    def _correct(
        self,
        rows: NDArray[np.int64],
        matched: NDArray[np.int64],
        boxes: Floats,
        scores: Floats,
        columns: NDArray[np.int64],
    ) -> None:
        """Take the matched detections into their tracks."""
        if not len(rows):
            return
        held = self.rows
        self.motion.update(rows, boxes[matched])
        held["previous"][rows], held["box"][rows] = held["box"][rows], boxes[matched]
        held["previous_us"][rows], held["seen_us"][rows] = held["seen_us"][rows], self.at_us
        held["previous_index"][rows] = held["seen_index"][rows]
        held["score"][rows] = scores[matched]
        held["hits"][rows] += 1
        held["votes"][rows, columns[matched]] += scores[matched]
        lasted_s = (held["seen_us"] - held["born_us"]) / 1e6
        held["best"][rows] = np.maximum(held["best"][rows], scores[matched])
        held["confirmed"] |= (
            (held["hits"] >= self._settings.confirm_hits)
            & (lasted_s >= self._settings.confirm_s)
            & (held["best"] >= self._settings.birth_score)
        )

    def _start(
        self, new: NDArray[np.int64], boxes: Floats, scores: Floats, columns: NDArray[np.int64], index: int
    ) -> None:
        """Begin a track for each of the detections ``new``."""
        if not len(new):
            return
        n = len(new)
        fresh = _empty_rows(len(self.classes), n)
        fresh["number"][:] = np.arange(self.next_number, self.next_number + n)
        fresh["kind"][:] = self._kind[columns[new]]
        for name in ("born_us", "seen_us", "previous_us"):
            fresh[name][:] = self.at_us
        for name in ("seen_index", "previous_index"):
            fresh[name][:] = index
        fresh["hits"][:] = 1
        fresh["score"][:] = fresh["best"][:] = scores[new]
        fresh["votes"][np.arange(n), columns[new]] = scores[new]
        fresh["box"][:] = fresh["previous"][:] = boxes[new]
        self.next_number += n
        self.rows = {name: np.concatenate([array, fresh[name]]) for name, array in self.rows.items()}
        self.motion = self.motion.append(Motion.start(boxes[new], self._speed_std[columns[new]]))

    def _mark_seen(self, index: int) -> None:
        self.rows["seen_index"][self.rows["seen_us"] == self.at_us] = index

    def _over(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Which tracks have ended."""
        assert self.at_us is not None
        unseen_s = (self.at_us - self.rows["seen_us"]) / 1e6
        patience = np.where(self.rows["confirmed"], self._settings.max_lost_s, self._settings.tentative_lost_s)
        patience = np.where(self.rows["hidden"], HIDDEN_PATIENCE * patience, patience)
        x_min, y_min, x_max, y_max = self.motion.boxes().T
        outside = (x_max < 0) | (y_max < 0) | (x_min > size[0]) | (y_min > size[1])
        over: NDArray[np.bool_] = (unseen_s > patience) | (outside & (unseen_s > 0))
        return over

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        if not kept.all():
            self.rows = {name: array[kept] for name, array in self.rows.items()}
            self.motion = self.motion.select(kept)

    def _view(self, chosen: NDArray[np.bool_]) -> Tracks:
        which = np.flatnonzero(chosen)
        rows = {name: array.take(which, axis=0) for name, array in self.rows.items() if name in _SHOWN}
        # argmax takes the first of equals: the class that comes first in the alphabet.
        names = [self.classes[i] for i in rows["votes"].argmax(axis=1)] if len(which) else []
        return Tracks(
            numbers=rows["number"].tolist(),
            class_names=names,
            groups=[group_of(name) for name in names],
            confirmed=rows["confirmed"],
            seen=rows["seen_us"] == self.at_us,
            scores=rows["score"],
            boxes=rows["box"],
            previous=rows["previous"],
            predicted=self.motion.boxes()[which],
            seen_us=rows["seen_us"],
            seen_index=rows["seen_index"],
            previous_us=rows["previous_us"],
            previous_index=rows["previous_index"],
        )


_SHOWN = frozenset(
    (
        "number",
        "votes",
        "confirmed",
        "seen_us",
        "score",
        "box",
        "previous",
        "seen_index",
        "previous_us",
        "previous_index",
    )
)


def _empty_rows(classes: int, n: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of ``n`` tracks, zeroed."""
    whole = ("number", "kind", "born_us", "seen_us", "previous_us", "seen_index", "previous_index", "hits")
    rows: dict[str, NDArray[Any]] = {name: np.zeros(n, np.int64) for name in whole}
    rows["confirmed"], rows["hidden"] = np.zeros(n, bool), np.zeros(n, bool)
    rows["score"], rows["best"] = np.zeros(n), np.zeros(n)
    rows["votes"] = np.zeros((n, classes))
    rows["box"] = np.zeros((n, 4))
    rows["previous"] = np.zeros((n, 4))
    return rows
