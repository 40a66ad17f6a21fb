"""What one camera is used to see, learned from its pictures, and how a picture differs from it.

The view is three things by cell of the picture: mean brightness (a running mean over some seconds), the usual amount of
fine detail (a running median, so that what passes does not count) and how steady that detail is. It follows what
changes slowly (daylight, a parked car, a hand-held camera's drift) and is not taught while something is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.picture_facts import GRAY_ONE, PictureFacts

FOLLOW_S = 5.0
"""How quickly the view follows: what stays for some seconds becomes part of it."""
READY_FRAMES = 8
READY_S = 1.5
"""It is known after this many pictures and this long."""

PROVEN_LOOKS = 4
"""It is known to stand still after so many pictures that agreed with it one after the other."""

_BLOCK = 6  # cells a side of a block whose edges are compared: an eighth of the width
_STRONG = 3.0  # mean square difference of neighbouring cells, in gray levels, from which a block has edges
_LEAST_BLOCKS = 6
_ALIKE = 0.5  # correlation of a block's edges from which it shows what it used to show
_LOST = 0.2  # share of a block's edge energy below which nothing is left of it
_LOOSE = 0.8  # share of blocks alike below which a shift by one cell (wind, a lorry) is tried
_COARSE = 4
_BRIGHT, _NOT_BRIGHT = 235 * GRAY_ONE, 215 * GRAY_ONE
_DETAIL_FLOOR = 4.0  # gray levels squared: below is noise
_STEADY = 0.7  # mean absolute log of the detail's ratio to its median
_STEP_FIRST, _STEP_LAST = 0.6, 0.02


@dataclass(frozen=True, slots=True)
class Difference:
    """How a picture differs from the view.

    alike: 0..1, share of the blocks with edges that still show them, of the best shift by at most one cell.
    lost: 0..1, share of those blocks of whose edges next to nothing is left.
    layout: -1..1, correlation of the brightness of large parts. contrast: its slope; 1: as bright and dark as ever.
    brightness: the mean, as a ratio to the usual.
    detail: the amount of fine detail wherever it is, as a ratio to the usual; 1 for a view without any. held_detail:
    the same in the places where there always is some (their median); None when there are too few. dazzled: 0..1, share
    of the cells that became white.
    """

    alike: float
    lost: float
    layout: float
    contrast: float
    brightness: float
    detail: float
    held_detail: float | None
    dazzled: float


@dataclass(slots=True)
class View:
    """The view of a camera. ``gray`` and ``detail`` are empty until the first picture.

    gray: R x C uint16, in 1/256 gray levels. detail: float32, log of the median. spread: float32, mean absolute
    difference of the log from it. frames, since_us: how much it was taught. alike: the share of blocks that usually
    are. proven: how many pictures in a row agreed with it, up to PROVEN_LOOKS, which then stays.
    """

    gray: NDArray[np.uint16] = field(default_factory=lambda: np.zeros((0, 0), np.uint16))
    detail: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    spread: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    frames: int = 0
    since_us: int = 0
    last_us: int = 0
    alike: float = 1.0
    proven: int = 0

    def fits(self, facts: PictureFacts) -> bool:
        """Whether a picture is of the size the view was learned at."""
        return self.frames == 0 or self.gray.shape == facts.gray.shape

    def ready(self, at_us: int) -> bool:
        """Whether it is known well enough to judge by."""
        return self.frames >= READY_FRAMES and at_us - self.since_us >= READY_S * 1e6

    def learn(self, facts: PictureFacts, at_us: int, alike: float | None) -> None:
        """Take a picture in which nothing is wrong. alike: as ``difference`` said, None before it was ready."""
        amount = np.log(facts.detail + np.float32(1.0))
        self.frames += 1
        if self.frames == 1:
            self.gray, self.detail = facts.gray.copy(), amount
            self.spread = np.full(amount.shape, 1.0, np.float32)
            self.since_us = self.last_us = at_us
            return
        passed_s = min((at_us - self.last_us) / 1e6, 1.0)
        weight = np.float32(max(1 / self.frames, 1 - np.exp(-passed_s / FOLLOW_S)))
        gray = self.gray + (facts.gray.astype(np.float32) - self.gray) * weight
        self.gray = (gray + np.float32(0.5)).astype(np.uint16)
        off = amount - self.detail
        step = np.float32(max(_STEP_FIRST / self.frames, _STEP_LAST))
        self.detail = self.detail + np.clip(off, -step, step)
        self.spread = self.spread + (np.abs(off) - self.spread) * weight
        if alike is not None:
            self.alike += (alike - self.alike) * float(weight)
            if self.proven < PROVEN_LOOKS:
                self.proven = self.proven + 1 if alike >= _ALIKE else 0
        self.last_us = at_us

    def difference(self, facts: PictureFacts) -> Difference:
        """Compare a picture of the same size; the view must have been taught."""
        known = self.gray.astype(np.float32) / np.float32(GRAY_ONE)
        now = facts.gray.astype(np.float32) / np.float32(GRAY_ONE)
        alike, lost = _edges(now, known)
        layout, contrast = _layout(now, known)
        detail, held = self._detail(facts.detail)
        dazzled = float(np.mean((facts.gray >= _BRIGHT) & (self.gray < _NOT_BRIGHT)))
        brightness = float(now.mean()) / max(float(known.mean()), 1.0)
        return Difference(alike, lost, layout, contrast, brightness, detail, held, dazzled)

    def _detail(self, detail: NDArray[np.float32]) -> tuple[float, float | None]:
        """Ratio of the amounts of detail: sorted against sorted, and place by place where it is steady."""
        usual = np.exp(self.detail) - np.float32(1.0)
        half = usual.size // 2  # the half that has more of it
        ordered, ordered_usual = np.sort(detail, axis=None)[half:], np.sort(usual, axis=None)[half:]
        counted = ordered_usual >= _DETAIL_FLOOR
        if int(counted.sum()) < _LEAST_BLOCKS:
            return 1.0, None
        anywhere = quantile((ordered[counted] + 0.5) / (ordered_usual[counted] + 0.5), 0.5)
        held = (usual >= _DETAIL_FLOOR) & (self.spread < _STEADY)
        if int(held.sum()) < _LEAST_BLOCKS:
            return anywhere, None
        return anywhere, quantile((detail[held] + 0.5) / (usual[held] + 0.5), 0.5)


def is_alike(gray: NDArray[np.uint16], before: NDArray[np.uint16]) -> bool:
    """Whether two pictures (``PictureFacts.gray``, of one size) show the same, but for a part of it."""
    one, other = (each.astype(np.float32) / np.float32(GRAY_ONE) for each in (gray, before))
    return _edges(one, other)[0] >= _ALIKE


def quantile(values: NDArray[Any], share: float) -> float:
    """The value that ``share`` of the values do not exceed; without the price of ``np.quantile``."""
    at = min(int(values.size * share), values.size - 1)
    return float(np.partition(values, at, axis=None)[at])


def _edges(now: NDArray[np.float32], known: NDArray[np.float32]) -> tuple[float, float]:
    """Share of the blocks with edges that show them still; share that lost them."""
    known_x, known_y = _slopes(known)
    now_x, now_y = _slopes(now)
    energy = _blocks(known_x * known_x + known_y * known_y)
    strong = energy >= _STRONG * _BLOCK**2
    if int(strong.sum()) < _LEAST_BLOCKS:
        return 1.0, 0.0
    left = _blocks(now_x * now_x + now_y * now_y)[strong]
    lost = float(np.mean(left < _LOST * energy[strong]))
    alike = _share_alike(now_x, now_y, known_x, known_y, strong)
    if alike < _LOOSE:
        around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
        shifted = [(np.roll(now_x, by, (0, 1)), np.roll(now_y, by, (0, 1))) for by in around]
        alike = max(alike, *(_share_alike(x, y, known_x, known_y, strong) for x, y in shifted))
    return alike, lost


def _share_alike(
    now_x: NDArray[np.float32],
    now_y: NDArray[np.float32],
    known_x: NDArray[np.float32],
    known_y: NDArray[np.float32],
    strong: NDArray[np.bool_],
) -> float:
    """Share of the ``strong`` blocks whose edges correlate by at least ``_ALIKE``."""
    both = _blocks(now_x * known_x + now_y * known_y)[strong]
    energy = (_blocks(now_x * now_x + now_y * now_y) * _blocks(known_x * known_x + known_y * known_y))[strong]
    return float(np.mean(both >= _ALIKE * np.sqrt(energy) + 1e-3))


def _layout(now: NDArray[np.float32], known: NDArray[np.float32]) -> tuple[float, float]:
    """Correlation and slope of the brightness of parts of four by four cells."""
    parts, usual = _means(now), _means(known)
    parts, usual = parts - parts.mean(), usual - usual.mean()
    own, common, theirs = float((parts * parts).sum()), float((parts * usual).sum()), float((usual * usual).sum())
    return common / max(float(np.sqrt(own * theirs)), 1e-3), common / max(theirs, 1e-3)


def _slopes(gray: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return gray[:-1, 1:] - gray[:-1, :-1], gray[1:, :-1] - gray[:-1, :-1]


def _blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return _tiles(values, _BLOCK)


def _means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return _tiles(values, _COARSE) / np.float32(_COARSE**2)


def _tiles(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    rows, columns = values.shape[0] // side, values.shape[1] // side
    whole = values[: rows * side, : columns * side].reshape(rows, side, columns, side)
    sums: NDArray[np.float32] = whole.sum(axis=(1, 3))
    return sums
