"""How somebody stands or walks, learned from the boxes of his track: what a fall is told against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UPRIGHT_ASPECT, STOOD_ASPECT = 0.75, 0.5
"""Width by height: an upright box is narrower than the one; who stands, and does not sit or crouch, than the other."""
STANCE_LOOKS, STANCE_S = 4, 0.5
"""How often, and over how long, somebody must be seen upright to be known."""
SAME_TOP, SAME_BOTTOM, LEARN_S = 0.15, 0.3, 0.25
"""Top and bottom of who stands or walks stay within this of what is known, which follows them in this time: who goes
down by less than the one in the other (0.6 heights a second) sits or lies down, and is followed."""

Sides = tuple[float, float, float, float]
"""A box, xyxy pixels."""


def sides_of(box: Sequence[float]) -> Sides:
    """The four sides of a box, as a tuple."""
    x_min, y_min, x_max, y_max = box
    return x_min, y_min, x_max, y_max


@dataclass(slots=True)
class Stance:
    """How somebody stands. top, bottom, x (the middle), width: pixels.

    first_us: when his track was seen first. since_us, upright_us, upright_index: since and until when he was seen
    upright. foot: the bottom then. looks: how often. covered_us: when somebody else's box last lay over his; -1 for
    never.
    """

    first_us: int
    top: float
    bottom: float
    x: float
    since_us: int
    upright_us: int
    upright_index: int
    foot: float = 0.0
    looks: int = 0
    covered_us: int = -1
    width: float = 0.0

    @property
    def height(self) -> float:
        return max(self.bottom - self.top, 1.0)

    @property
    def known_s(self) -> float:
        """For how long he was seen upright; 0 where that was too short to tell a fall from a box that flickers."""
        known_s = (self.upright_us - self.since_us) / 1e6
        return known_s if self.looks >= STANCE_LOOKS and known_s >= STANCE_S else 0.0

    @property
    def stood_s(self) -> float:
        """For how long he was seen to stand; 0 where he may have sat or crouched."""
        return self.known_s if 0 < self.width <= STOOD_ASPECT * self.height else 0.0

    def learn(self, at_us: int, index: int, box: Sides, upright: bool) -> bool:
        """Follow who stands or walks as before; False for a box that is otherwise, which teaches nothing yet."""
        x_min, top, x_max, bottom = box
        h = self.height
        alike = abs(top - self.top) <= SAME_TOP * h and abs(bottom - self.bottom) <= SAME_BOTTOM * h
        if not upright or (self.looks and not alike):
            return False
        if not self.looks:
            self.since_us = at_us
        gain = max(1 / (self.looks + 1), min((at_us - self.upright_us) / (LEARN_S * 1e6), 1.0))
        self.top += gain * (top - self.top)
        self.bottom += gain * (bottom - self.bottom)
        self.width += gain * (x_max - x_min - self.width)
        self.x, self.foot, self.upright_us, self.upright_index = (x_min + x_max) / 2, bottom, at_us, index
        self.looks += 1
        return True

    def settle(self, at_us: int, index: int, box: Sides, upright: bool) -> None:
        """Learn him anew."""
        self.top, self.bottom, self.x, self.width = box[1], box[3], (box[0] + box[2]) / 2, box[2] - box[0]
        self.since_us, self.upright_us, self.upright_index, self.looks = at_us, at_us, index, int(upright)
