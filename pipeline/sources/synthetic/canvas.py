"""What actors are drawn on: a part of the picture, some times larger, then reduced, so that edges are smooth.

Every corner is rounded to a whole pixel of the larger picture, so that the last bit of a sine, which may differ
between machines, does not reach the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sources.synthetic.palette import Colour, shaded
from pipeline.sources.synthetic.perspective import Floats, Perspective

_SMALL_PX = 130.0
_FAR_PX = 30_000
_ROUNDING = ((1.0, 0.0, 0.8), (0.68, -0.25, 1.0), (0.3, -0.45, 1.12))  # share of the radius, shift, brightness

Spot = tuple[float, float]


@dataclass(slots=True)
class Sprite:
    """An RGBA picture and where its top left corner goes."""

    image: Image.Image
    left: int
    top: int


class Canvas:
    """Draws in picture coordinates on a part of the picture, some times larger."""

    def __init__(self, box: Floats, camera: Perspective) -> None:
        x0, y0, x1, y1 = (float(value) for value in box)
        self.left, self.top = max(0, math.floor(x0) - 2), max(0, math.floor(y0) - 2)
        width = min(camera.width, math.ceil(x1) + 2) - self.left
        height = min(camera.height, math.ceil(y1) + 2) - self.top
        self.times = 4 if max(x1 - x0, y1 - y0) < _SMALL_PX else 2
        self.image = Image.new("RGBA", (max(1, width) * self.times, max(1, height) * self.times))
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Floats, colour: Colour) -> None:
        """A filled polygon of N x 2 pixels."""
        self._draw.polygon(self._at(points), fill=(*colour, 255))

    def stroke(self, points: Floats, width: float, colour: Colour) -> None:
        """A line through N x 2 pixels; width in pixels."""
        self._draw.line(self._at(points), fill=(*colour, 255), width=max(1, round(width * self.times)), joint="curve")

    def _at(self, points: Floats) -> list[tuple[int, int]]:
        moved = np.rint((points - [self.left, self.top]) * self.times).clip(-_FAR_PX, _FAR_PX)
        return [(x, y) for x, y in moved.astype(int).tolist()]

    # People are made of hundreds of discs and capsules a picture: these take plain numbers, not arrays.

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle, in pixels."""
        k, r = self.times, max(1, round(radius * self.times))
        cx, cy = round((x - self.left) * k), round((y - self.top) * k)
        self._draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(*colour, 255))

    def limb(self, a: Spot, b: Spot, radii: tuple[float, float], colour: Colour) -> None:
        """A tapered capsule from a to b, lighter on its left; radii in pixels."""
        (ra, rb), k = radii, self.times
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        for share, shift, tone in _ROUNDING if ra * k > 5 else _ROUNDING[:2]:
            toned = shaded(colour, tone)
            ax, bx, wa, wb = a[0] + shift * ra, b[0] + shift * rb, ra * share, rb * share
            corners = (
                (ax + nx * wa, a[1] + ny * wa), (bx + nx * wb, b[1] + ny * wb),
                (bx - nx * wb, b[1] - ny * wb), (ax - nx * wa, a[1] - ny * wa),
            )  # fmt: skip
            told = [(round((x - self.left) * k), round((y - self.top) * k)) for x, y in corners]
            self._draw.polygon(told, fill=(*toned, 255))
            self.disc(ax, a[1], wa, toned)
            self.disc(bx, b[1], wb, toned)

    def sprite(self) -> Sprite:
        """What was drawn, at the picture's size."""
        return Sprite(self.image.reduce(self.times), self.left, self.top)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how an actor is at one instant: x, y in metres, heading in radians, way walked in metres."""

    where: Floats
    heading_rad: float
    walked_m: float

    def world(self, points: Floats) -> Floats:
        """N x 3 points of the body frame in the world."""
        cos, sin = math.cos(self.heading_rad), math.sin(self.heading_rad)
        turn = np.array([[cos, sin, 0.0], [sin, -cos, 0.0], [0.0, 0.0, 1.0]])  # forward, right, up to x, y, z
        return np.asarray(points @ turn + (self.where[0], self.where[1], 0.0))


def facing_camera(camera: Perspective, pose: Pose, *, straight: float = 0.0) -> bool:
    """Whether its front is seen; ``straight``: the cosine it must come towards the camera with, at least."""
    towards = np.array([camera.x_m, camera.y_m]) - pose.where
    ahead = np.array([math.cos(pose.heading_rad), math.sin(pose.heading_rad)])
    return float(towards @ ahead) > straight * float(np.hypot(*towards))
