"""Constant-velocity Kalman filter over many boxes at once, in seconds.

A box is (centre x, centre y, width, height). Its four components are filtered independently, each with a position and
a velocity, so a covariance is three numbers a component and everything is elementwise. The process noise is white
acceleration (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2): two steps of dt/2 give what one step of dt gives, so the
filter means the same at 5 and at 30 frames a second. All noise is in units of the box's size (root of its area).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.geometry import Floats

MEASUREMENT_STD = np.array([0.07, 0.07, 0.1, 0.1])  # sizes: how far a detection's centre and sides are off
ACCELERATION_STD = np.array([0.7, 0.7, 0.3, 0.3])  # sizes / s^1.5
SIZE_SPEED_STD = 0.5  # sizes / s: how fast a new box may grow
TURN_SIGMA, TURN_SPEED_STD = 2.5, 1.5  # so far off its prediction it turned: its speed is open by so many sizes/s
SPEED_DECAY_S = 5.0  # an object out of sight is trusted to go on straight for about this long
SIZE_SPEED_DECAY_S = 0.3
_DECAY_S = np.array([SPEED_DECAY_S, SPEED_DECAY_S, SIZE_SPEED_DECAY_S, SIZE_SPEED_DECAY_S])


@dataclass(slots=True)
class Motion:
    """The state of N boxes; every array is N x 4 float64 (centre x, centre y, width, height).

    position in px, velocity in px/s; the covariance of the two is
    [[position_var, covariance], [covariance, velocity_var]].
    """

    position: Floats
    velocity: Floats
    position_var: Floats
    covariance: Floats
    velocity_var: Floats

    @classmethod
    def start(cls, boxes: Floats, speed_std: Floats) -> Motion:
        """New objects at ``boxes`` (N x 4 xyxy), at rest give or take ``speed_std`` (N, in sizes/s)."""
        position = center_size(boxes)
        size = _size(position)
        speed = np.empty_like(position)
        speed[:, :2] = (speed_std * size)[:, None]
        speed[:, 2:] = (SIZE_SPEED_STD * size)[:, None]
        noise = (MEASUREMENT_STD * size[:, None]) ** 2
        return cls(position, np.zeros_like(position), noise, np.zeros_like(position), speed * speed)

    def __len__(self) -> int:
        return len(self.position)

    def predict(self, dt_s: float, unseen: NDArray[np.bool_]) -> None:
        """Move everything on by ``dt_s``; the velocity of what is ``unseen`` (N) fades."""
        q = (ACCELERATION_STD * _size(self.position)[:, None]) ** 2
        if unseen.any():
            self.velocity = np.where(unseen[:, None], self.velocity * np.exp(-dt_s / _DECAY_S), self.velocity)
        self.position = self.position + dt_s * self.velocity
        np.maximum(self.position[:, 2:], 1.0, out=self.position[:, 2:])
        self.position_var = (
            self.position_var + 2 * dt_s * self.covariance + dt_s**2 * self.velocity_var + q * (dt_s**3 / 3)
        )
        self.covariance = self.covariance + dt_s * self.velocity_var + q * (dt_s**2 / 2)
        self.velocity_var = self.velocity_var + q * dt_s

    def update(self, rows: NDArray[np.int64], boxes: Floats) -> None:
        """Correct ``rows`` with what was seen: ``boxes``, len(rows) x 4 xyxy."""
        measured = center_size(boxes)
        noise = (MEASUREMENT_STD * _size(measured)[:, None]) ** 2
        variance = self.position_var[rows]
        covariance = self.covariance[rows]
        total = variance + noise
        gain, gain_speed = variance / total, covariance / total
        error = measured - self.position[rows]
        self.position[rows] += gain * error
        self.velocity[rows] += gain_speed * error
        self.velocity_var[rows] -= gain_speed * covariance
        surprise = (error[:, :2] ** 2 / total[:, :2]).max(axis=1) > TURN_SIGMA**2
        if surprise.any():
            turned = rows[surprise]
            area = measured[surprise, 2] * measured[surprise, 3]
            self.velocity_var[turned, :2] += (TURN_SPEED_STD**2 * area)[:, None]
        self.covariance[rows] = covariance * (1 - gain)
        self.position_var[rows] = variance * (1 - gain)

    def boxes(self) -> Floats:
        """N x 4 xyxy."""
        out = np.empty_like(self.position)
        half = self.position[:, 2:] / 2
        np.subtract(self.position[:, :2], half, out=out[:, :2])
        np.add(self.position[:, :2], half, out=out[:, 2:])
        return out

    def arrays(self) -> dict[str, Floats]:
        """Every array by its name."""
        return {
            "position": self.position,
            "velocity": self.velocity,
            "position_var": self.position_var,
            "covariance": self.covariance,
            "velocity_var": self.velocity_var,
        }

    def select(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Motion:
        """Only ``rows``."""
        return Motion(**{name: array[rows] for name, array in self.arrays().items()})

    def append(self, other: Motion) -> Motion:
        """These boxes and then the other's."""
        theirs = other.arrays()
        return Motion(**{name: np.concatenate([array, theirs[name]]) for name, array in self.arrays().items()})

    def rescale(self, x: float, y: float) -> None:
        """The picture's size changed by the factors ``x`` and ``y``."""
        factor = np.array([x, y, x, y])
        self.position, self.velocity = self.position * factor, self.velocity * factor
        self.position_var, self.covariance = self.position_var * factor**2, self.covariance * factor**2
        self.velocity_var = self.velocity_var * factor**2


def center_size(boxes: Floats) -> Floats:
    """xyxy -> centre x, centre y, width, height (at least 1 px)."""
    out = np.empty((len(boxes), 4))
    out[:, :2] = (boxes[:, :2] + boxes[:, 2:]) / 2
    np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0, out=out[:, 2:])
    return out


def _size(position: Floats) -> Floats:
    size: Floats = np.sqrt(position[:, 2] * position[:, 3])
    return size
