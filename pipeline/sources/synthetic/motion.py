"""How an actor moves: a continuous path over the ground, any instant of which can be asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.sources.synthetic.perspective import Floats

_TURN_S = 0.25
_STRIDE_TABLE_HZ = 50


@dataclass(frozen=True, slots=True)
class Knot:
    """Be at (x_m, y_m) at t_s."""

    t_s: float
    x_m: float
    y_m: float


@dataclass(frozen=True, slots=True)
class Sway:
    """Restless standing: the position swings by ``amplitude_m`` along (x, y) between two instants."""

    starts_s: float
    ends_s: float
    amplitude_m: float
    hz: float
    direction: tuple[float, float]


def _slopes(times: Floats, values: Floats) -> Floats:
    """Tangents of the monotone cubic through the knots (Fritsch and Butland, 1984): it never overshoots a knot."""
    steps = np.diff(times)
    secants = np.diff(values) / steps
    if len(secants) == 1:
        return np.array([secants[0], secants[0]])
    tangents = np.zeros(len(times))
    tangents[0], tangents[-1] = secants[0], secants[-1]
    before, after = secants[:-1], secants[1:]
    weight_before, weight_after = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    same = before * after > 0
    mean = (weight_before + weight_after) / (
        weight_before / np.where(same, before, 1.0) + weight_after / np.where(same, after, 1.0)
    )
    tangents[1:-1] = np.where(same, mean, 0.0)
    return tangents


def _hermite(times: Floats, values: Floats, tangents: Floats, at: Floats) -> Floats:
    index = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    span = times[index + 1] - times[index]
    u = np.clip((at - times[index]) / span, 0.0, 1.0)
    u2, u3 = u * u, u * u * u
    return np.asarray(
        (2 * u3 - 3 * u2 + 1) * values[index]
        + (u3 - 2 * u2 + u) * span * tangents[index]
        + (3 * u2 - 2 * u3) * values[index + 1]
        + (u3 - u2) * span * tangents[index + 1]
    )


@dataclass(slots=True)
class Motion:
    """A smooth path through knots (times strictly rising, two or more).

    reverses: moving back does not turn the body (a car that reverses). facing_rad: the body's heading where the
    path does not tell one; 0 faces +x, pi/2 faces +y.
    """

    knots: tuple[Knot, ...]
    sways: tuple[Sway, ...] = ()
    reverses: bool = False
    facing_rad: float = 0.0
    _times: Floats = field(init=False, repr=False)
    _xs: Floats = field(init=False, repr=False)
    _ys: Floats = field(init=False, repr=False)
    _slope_x: Floats = field(init=False, repr=False)
    _slope_y: Floats = field(init=False, repr=False)
    _turn_times: Floats = field(init=False, repr=False)
    _turn_angles: Floats = field(init=False, repr=False)
    _walked_times: Floats = field(init=False, repr=False)
    _walked: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._times = np.array([knot.t_s for knot in self.knots])
        self._xs = np.array([knot.x_m for knot in self.knots])
        self._ys = np.array([knot.y_m for knot in self.knots])
        self._slope_x = _slopes(self._times, self._xs)
        self._slope_y = _slopes(self._times, self._ys)
        self._turn_times, self._turn_angles = self._turns()
        self._walked_times = np.linspace(
            self.starts_s, self.ends_s, 2 + int((self.ends_s - self.starts_s) * _STRIDE_TABLE_HZ)
        )
        way = self._smooth(self._walked_times)
        self._walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(way, axis=0).T))])

    @property
    def starts_s(self) -> float:
        """When the actor first exists."""
        return self.knots[0].t_s

    @property
    def ends_s(self) -> float:
        """When it is gone."""
        return self.knots[-1].t_s

    def _turns(self) -> tuple[Floats, Floats]:
        headings: list[float] = []
        for a, b in zip(self.knots, self.knots[1:], strict=False):
            dx, dy = b.x_m - a.x_m, b.y_m - a.y_m
            known = headings[-1] if headings else None
            if math.hypot(dx, dy) < 0.05:
                heading = self.facing_rad if known is None else known
            else:
                heading = math.atan2(dy, dx)
                if known is not None:
                    heading = known + math.remainder(heading - known, 2 * math.pi)
                    if self.reverses and abs(heading - known) > math.pi / 2:
                        heading = known
            headings.append(heading)
        times, angles = [self.starts_s], [headings[0]]
        for index in range(1, len(headings)):
            before, at, after = (self.knots[index + k].t_s for k in (-1, 0, 1))
            turn = min(_TURN_S, (at - before) / 2 - 1e-6, (after - at) / 2 - 1e-6)
            times += [at - turn, at + turn]
            angles += [headings[index - 1], headings[index]]
        return np.array(times), np.array(angles)

    def _smooth(self, at: Floats) -> Floats:
        return np.stack(
            [
                _hermite(self._times, self._xs, self._slope_x, at),
                _hermite(self._times, self._ys, self._slope_y, at),
            ],
            axis=-1,
        )

    def positions(self, at: Floats) -> Floats:
        """T x 2: x and y in metres at T instants; held at the ends outside the path's time."""
        where = self._smooth(at)
        for sway in self.sways:
            u = np.clip((at - sway.starts_s) / (sway.ends_s - sway.starts_s), 0.0, 1.0)
            swing = sway.amplitude_m * np.sin(math.pi * u) ** 0.5 * np.sin(2 * math.pi * sway.hz * (at - sway.starts_s))
            where = where + swing[:, None] * np.array(sway.direction)
        return where

    def headings(self, at: Floats) -> Floats:
        """T angles in radians: 0 faces +x, pi/2 faces +y."""
        return np.asarray(np.interp(at, self._turn_times, self._turn_angles))

    def walked(self, at: Floats) -> Floats:
        """T lengths in metres of the way so far (without sway): what turns wheels and moves legs."""
        return np.asarray(np.interp(at, self._walked_times, self._walked))

    def speeds(self, at: Floats) -> Floats:
        """T speeds along the way, metres a second."""
        return (self.walked(at + 0.05) - self.walked(at - 0.05)) / 0.1


def stroll(points: Sequence[tuple[float, float, float]], **more: object) -> Motion:
    """A motion through (t_s, x_m, y_m) triples."""
    return Motion(tuple(Knot(*point) for point in points), **more)  # type: ignore[arg-type]
