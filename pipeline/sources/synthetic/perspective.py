"""The camera of a scripted street: a pinhole over flat ground.

World: metres, x to the right of the street, y along it, z up from the ground. Picture: pixels, x right, y down.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAREST_M = 0.3
"""What is nearer to the camera than this is projected as if it were this far."""


@functools.cache
def _axes(yaw_rad: float, pitch_rad: float) -> Floats:
    sin_yaw, cos_yaw = math.sin(yaw_rad), math.cos(yaw_rad)
    sin_pitch, cos_pitch = math.sin(pitch_rad), math.cos(pitch_rad)
    axes = np.array(
        [
            [cos_yaw, -sin_yaw, 0.0],
            [-sin_yaw * sin_pitch, -cos_yaw * sin_pitch, -cos_pitch],
            [sin_yaw * cos_pitch, cos_yaw * cos_pitch, -sin_pitch],
        ]
    )
    axes.setflags(write=False)
    return axes


@dataclass(frozen=True, slots=True)
class Perspective:
    """A pinhole camera without roll or distortion.

    x_m, y_m, height_m: where it hangs. yaw_rad: 0 looks along +y, positive turns to +x. pitch_rad: positive looks
    down. focal_px: focal length in pixels. width, height: of the picture, in pixels.
    """

    x_m: float
    y_m: float
    height_m: float
    yaw_rad: float
    pitch_rad: float
    focal_px: float
    width: int
    height: int

    def size(self) -> Floats:
        """Width and height in pixels."""
        return np.array([self.width, self.height], np.float64)

    def axes(self) -> Floats:
        """3 x 3: rows right, down, forward of the camera in world coordinates."""
        return _axes(self.yaw_rad, self.pitch_rad)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """... x 3 world points to (... x 2 pixels, ... depths in metres along the optical axis)."""
        seen = (points - np.array([self.x_m, self.y_m, self.height_m])) @ self.axes().T
        depth = seen[..., 2]
        scale = self.focal_px / np.maximum(depth, NEAREST_M)
        pixels = seen[..., :2] * scale[..., None] + (self.width / 2, self.height / 2)
        return pixels, depth

    def ground(self, x_px: float, y_px: float) -> tuple[float, float]:
        """The ground point (x, y in metres) seen at a pixel, which must lie below the horizon."""
        ray = np.array([(x_px - self.width / 2) / self.focal_px, (y_px - self.height / 2) / self.focal_px, 1.0])
        towards = ray @ self.axes()
        if towards[2] >= 0:
            raise ValueError("a pixel above the horizon sees no ground")
        reach = -self.height_m / towards[2]
        return self.x_m + reach * float(towards[0]), self.y_m + reach * float(towards[1])
