"""What becomes of somebody who may have fallen: what is seen where he dropped, or was seen last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.analytics.stance import UPRIGHT_ASPECT, Sides, sides_of
from pipeline.core.geometry import Floats, box_iou

REACH = 1.2
"""What is his has its middle no further to the side than this, in heights of him as he stood."""
LOW_RAISED = 0.3
"""Its bottom is no higher than this above where he stood."""
LOW_DROP, LOW_HEIGHT, LOW_WIDTH = 0.45, 0.7, 0.25
"""Something low: its top at least so far down, no higher, no narrower."""
LIES_DROP, LIES_ASPECT, CUT_ASPECT = 0.55, 1.2, 1.6
"""Somebody lies whose top is this far down, or whose box is this wide by its height; less may be a squat. Who was cut
at the picture's bottom as he stood may have walked out of it: only the width tells."""
HOLD_S, HOLD_SHARE, HOLD_LOOKS, RECENT_S = 1.5, 0.3, 4, 0.75
"""Something low must be seen until this long after the drop: in this share of the frames, this often, and lately."""
LOST_DROP, LOST_TOP = 0.45, 1.25
"""Who is not seen any more fell if he was seen to drop by between these."""
FLAT_ASPECT, FLAT_DROP, FLAT_S, FLAT_SHARE, FLAT_LOOKS = 1.6, 0.35, 3.0, 0.4, 5
"""Somebody lies flat whose box is this wide by its height and its top this far down, first so soon after he last stood;
then in this share of the frames of HOLD_S, this often."""
UP_DROP, UP_HEIGHT, UP_S = 0.25, 0.7, 0.4
"""Who is seen with the top no lower than this, at least this high, for so long, stands again."""
WATCH_S = 5.0
"""So long after he last stood it is decided."""
SAME_IOU = 0.5
"""A box that is so much like one that was there before he fell is that again: a bed, a bag."""


@dataclass(slots=True)
class Down:
    """Somebody who may have fallen; he has for sure once ``told_us`` is set (-1: not yet).

    top, bottom: as he stood, pixels; x: where he dropped. cut: whether he stood cut at the picture's bottom. dropped:
    whether he was seen to drop, not only to be gone, and that has not been judged yet. quick: whether he would count as
    fallen if he were lost. first_new: tracks from this number on may be himself again. there: what was flat before.
    frames: since the drop. drops, aspects: of what was seen low, until HOLD_S are over. looks_us, flat_us: when there
    was a frame, and when somebody lay flat in it, of the last HOLD_S, where what is flat counts; first_flat_us: -1 for
    never. low_us, up_us: when something low was seen last; since when somebody stands there (-1: nobody). told_us: when
    it was last told. drop, low_index, box: of the lowest. zone: he lies in.
    """

    number: int
    first_new: int
    top: float
    bottom: float
    x: float
    cut: bool
    dropped: bool
    quick: bool
    started_us: int
    started_index: int
    dropped_us: int
    drop: float
    low_index: int
    box: Sides
    there: list[Sides] = field(default_factory=list)
    frames: int = 0
    drops: list[float] = field(default_factory=list)
    aspects: list[float] = field(default_factory=list)
    looks_us: list[int] = field(default_factory=list)
    flat_us: list[int] = field(default_factory=list)
    first_flat_us: int = -1
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

    def sight(self, at_us: int, index: int, boxes: Floats, scores: Floats, sure_score: float, *, lying: bool) -> None:
        """Take what of a frame is nobody else's: is something low there, or flat, or somebody upright?

        boxes: n x 4 xyxy pixels, scores: n, of the people detected. sure_score: from it on one stands. lying: whether
        what is flat counts.
        """
        h = self.height
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        drop = (boxes[:, 1] - self.top) / h
        near = np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - self.x) <= REACH * h
        near &= boxes[:, 3] >= self.bottom - LOW_RAISED * h
        low = near & (drop >= LOW_DROP) & (height <= LOW_HEIGHT * h) & (width >= LOW_WIDTH * h)
        flat = near & (drop >= FLAT_DROP) & (height <= LOW_HEIGHT * h) & (width >= FLAT_ASPECT * height)
        flat &= lying
        if self.there and flat.any():
            flat &= box_iou(boxes, np.array(self.there)).max(axis=1) < SAME_IOU
        up = near & (drop <= UP_DROP) & (height >= UP_HEIGHT * h) & (width <= UPRIGHT_ASPECT * height)
        up &= scores >= sure_score
        if lying:
            self._note(at_us, flat=bool(flat.any()))
        low |= flat
        self.frames += 1
        if low.any():
            best = np.flatnonzero(low)[np.argmax(scores[low])]
            self.low_us, self.up_us = at_us, -1
            fell = self.lower(sides_of(boxes[best].tolist()), index)
            if at_us - self.dropped_us <= HOLD_S * 1e6:
                self.drops.append(fell)
                self.aspects.append(float(width[best] / height[best]))
        elif not up.any():
            self.up_us = -1
        elif self.up_us < 0:
            self.up_us = at_us

    def stands(self, at_us: int) -> bool:
        """Whether somebody has been standing there for long enough."""
        return self.up_us >= 0 and at_us - self.up_us >= UP_S * 1e6

    def has_fallen(self, at_us: int) -> bool:
        """What the time since the drop showed, once HOLD_S of it are over."""
        if len(self.drops) < max(HOLD_LOOKS, HOLD_SHARE * self.frames):
            return self.quick and LOST_DROP <= self.drop <= LOST_TOP
        if at_us - self.low_us > RECENT_S * 1e6:
            return False
        wide = float(np.median(self.aspects))
        if self.cut:
            return wide >= CUT_ASPECT
        return wide >= LIES_ASPECT or float(np.median(self.drops)) >= LIES_DROP

    def lies_flat(self, at_us: int) -> bool:
        """Whether somebody has been lying there for HOLD_S who stood FLAT_S before, whatever was seen in between."""
        return (
            0 <= self.first_flat_us <= self.started_us + FLAT_S * 1e6
            and at_us - self.first_flat_us >= HOLD_S * 1e6
            and len(self.flat_us) >= max(FLAT_LOOKS, FLAT_SHARE * len(self.looks_us))
            and at_us - self.flat_us[-1] <= RECENT_S * 1e6
        )

    def _note(self, at_us: int, *, flat: bool) -> None:
        since_us = at_us - HOLD_S * 1e6
        self.looks_us = [*(each for each in self.looks_us if each > since_us), at_us]
        self.flat_us = [each for each in self.flat_us if each > since_us]
        if flat:
            self.flat_us.append(at_us)
            if self.first_flat_us < 0:
                self.first_flat_us = at_us
