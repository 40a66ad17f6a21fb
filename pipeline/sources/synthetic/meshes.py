"""Vehicles as solids: lofted side profiles with windows, lights and wheels, in metres, body frame.

A part is convex and made of faces; a face may carry flat details (windows, lights) drawn on it when it is seen.
Body frame: forward, right, up; a face's corners run clockwise as seen from outside.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from pipeline.sources.synthetic.perspective import Floats

Corner = tuple[float, float, float]
Quad = tuple[Corner, ...]


@dataclass(frozen=True, slots=True)
class Face:
    """A flat polygon. paint: name of its colour. details: (paint, polygon) drawn on it, in order."""

    paint: str
    corners: Quad
    details: tuple[tuple[str, Quad], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A convex solid. Parts are drawn in order of ``layer``, and within a layer the farther first."""

    faces: tuple[Face, ...]
    layer: int = 0
    middle: Corner = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Wheel:
    """Of radius and half width in metres, its hub at (forward, right)."""

    forward: float
    right: float
    radius: float
    half_width: float = 0.11


@dataclass(frozen=True, slots=True)
class Mesh:
    """A vehicle. lamps: where its head (True) and tail lights are."""

    parts: tuple[Part, ...]
    wheels: tuple[Wheel, ...]
    lamps: tuple[tuple[bool, Corner], ...] = ()

    def hull(self) -> Floats:
        """N x 3 points that bound it."""
        points = {corner for part in self.parts for face in part.faces for corner in face.corners}
        points |= {(wheel.forward, wheel.right, 0.0) for wheel in self.wheels}
        return np.array(sorted(points))


def _on(face: Quad, u0: float, v0: float, u1: float, v1: float) -> Quad:
    """A rectangle on a four-cornered face, from its own coordinates: u along corner 0 to 1, v along corner 0 to 3."""
    a, b, c, d = (np.array(corner) for corner in face)

    def at(u: float, v: float) -> Corner:
        x, y, z = (a * (1 - u) + b * u) * (1 - v) + (d * (1 - u) + c * u) * v
        return float(x), float(y), float(z)

    return at(u0, v0), at(u1, v0), at(u1, v1), at(u0, v1)


def _loft(profile: list[tuple[float, float]], half: float, paints: dict[int, str], side: str) -> list[Face]:
    """A side profile (forward, up), clockwise seen from the right, drawn out to both sides."""
    faces = []
    for index, ((x0, z0), (x1, z1)) in enumerate(zip(profile, profile[1:] + profile[:1], strict=True)):
        corners = ((x0, half, z0), (x0, -half, z0), (x1, -half, z1), (x1, half, z1))
        faces.append(Face(paints.get(index, "body"), corners))
    faces.append(Face(side, tuple((x, half, z) for x, z in profile)))
    faces.append(Face(side, tuple((x, -half, z) for x, z in reversed(profile))))
    return faces


def _upright(y: float, x: tuple[float, float], z: tuple[float, float]) -> Quad:
    return (x[0], y, z[0]), (x[1], y, z[0]), (x[1], y, z[1]), (x[0], y, z[1])


def _box(x: tuple[float, float], half: float, z: tuple[float, float], paint: str) -> dict[str, Face]:
    (x0, x1), (z0, z1) = x, z
    return {
        "front": Face(paint, ((x1, half, z1), (x1, -half, z1), (x1, -half, z0), (x1, half, z0))),
        "rear": Face(paint, ((x0, -half, z1), (x0, half, z1), (x0, half, z0), (x0, -half, z0))),
        "right": Face(paint, ((x0, half, z1), (x1, half, z1), (x1, half, z0), (x0, half, z0))),
        "left": Face(paint, ((x1, -half, z1), (x0, -half, z1), (x0, -half, z0), (x1, -half, z0))),
        "top": Face(paint, ((x1, -half, z1), (x1, half, z1), (x0, half, z1), (x0, -half, z1))),
    }


def _detailed(face: Face, *details: tuple[str, tuple[float, float, float, float]]) -> Face:
    return Face(face.paint, face.corners, tuple((paint, _on(face.corners, *where)) for paint, where in details))


@dataclass(frozen=True, slots=True)
class _Car:
    """Numbers of a car: half length and width, heights of sill, bonnet, waist and roof, x of the cabin's edges."""

    half_m: float
    wide_m: float
    sill: float
    nose: float
    waist: float
    roof: float
    cowl_x: float  # foot of the windscreen
    roof_front_x: float
    roof_rear_x: float
    deck_x: float  # foot of the rear window
    deck: float  # height of the boot's lid
    wheel: float
    axles: tuple[float, float]


def _car(c: _Car) -> Mesh:
    half, wide = c.half_m, c.wide_m / 2
    bumper = c.sill + 0.24
    profile = [
        (-half + 0.05, c.sill), (-half, bumper), (-half + 0.04, c.deck - 0.05), (c.deck_x, c.deck),
        (c.cowl_x, c.waist), (half - 0.18, c.nose), (half, bumper), (half - 0.06, c.sill),
    ]  # fmt: skip
    faces = _loft(profile, wide, {0: "trim", 6: "trim", 7: "under"}, "side")
    tail, front = faces[1], faces[5]
    lamps_tail = (
        ("tail", (0.02, 0.45, 0.22, 0.9)), ("tail", (0.78, 0.45, 0.98, 0.9)), ("plate", (0.36, 0.2, 0.64, 0.5)),
    )  # fmt: skip
    lamps_front = (
        ("grille", (0.24, 0.3, 0.76, 0.85)), ("lamp", (0.03, 0.2, 0.24, 0.7)), ("lamp", (0.76, 0.2, 0.97, 0.7)),
    )  # fmt: skip
    faces[1], faces[5] = _detailed(tail, *lamps_tail), _detailed(front, *lamps_front)
    faces[6] = _detailed(faces[6], ("plate", (0.38, 0.1, 0.62, 0.5)))
    for index in (-2, -1):
        y = wide if index == -2 else -wide
        strip = _upright(y, (-half + 0.05, half - 0.06), (c.sill, c.sill + 0.13))
        doors = [
            _upright(y, (x, x + 0.025), (c.sill + 0.15, c.waist - 0.02))
            for x in (c.cowl_x - 0.12, (c.cowl_x + c.deck_x) / 2 + 0.12)
        ]
        faces[index] = Face("side", faces[index].corners, (("trim", strip), *(("seam", door) for door in doors)))
    return Mesh(
        (Part(tuple(faces)), _cabin(c, wide)),
        tuple(Wheel(x, y, c.wheel) for x in c.axles for y in (-wide + 0.11, wide - 0.11)),
        tuple((True, (half, y, c.nose - 0.12)) for y in (-0.75 * wide, 0.75 * wide))
        + tuple((False, (-half, y, c.deck - 0.2)) for y in (-0.8 * wide, 0.8 * wide)),
    )


def _cabin(c: _Car, wide: float) -> Part:
    foot, top = wide - 0.05, wide - 0.24
    low_f, low_r = (c.cowl_x, c.waist), (c.deck_x, c.deck)
    high_f, high_r = (c.roof_front_x, c.roof), (c.roof_rear_x, c.roof - 0.02)

    def ring(x: float, z: float, y: float) -> Corner:
        return (x, y, z)

    front = Face("body", (ring(*high_f, top), ring(*high_f, -top), ring(*low_f, -foot), ring(*low_f, foot)))
    rear = Face("body", (ring(*high_r, -top), ring(*high_r, top), ring(*low_r, foot), ring(*low_r, -foot)))
    right = Face("body", (ring(*high_r, top), ring(*high_f, top), ring(*low_f, foot), ring(*low_r, foot)))
    left = Face("body", (ring(*high_f, -top), ring(*high_r, -top), ring(*low_r, -foot), ring(*low_f, -foot)))
    roof = Face("roof", (ring(*high_f, -top), ring(*high_f, top), ring(*high_r, top), ring(*high_r, -top)))
    panes = (("glass", (0.07, 0.14, 0.47, 0.94)), ("glass", (0.52, 0.14, 0.92, 0.94)))
    return Part(
        (
            _detailed(front, ("screen", (0.06, 0.1, 0.94, 0.96)), ("shine", (0.1, 0.14, 0.42, 0.5))),
            _detailed(rear, ("glass", (0.08, 0.14, 0.92, 0.88))),
            _detailed(right, *panes),
            _detailed(left, *panes),
            roof,
        ),
        layer=1,
    )


def _bus() -> Mesh:
    length, half, low, high = 10.8, 1.26, 0.32, 3.05
    faces = _box((-length / 2, length / 2), half, (low, high), "body")
    panes = [("glass", (0.03 + 0.097 * k, 0.16, 0.03 + 0.097 * k + 0.085, 0.5)) for k in range(10)]
    skirt = ("trim", (0.0, 0.88, 1.0, 1.0))
    stripe = ("stripe", (0.0, 0.6, 1.0, 0.68))
    doors = [("glass", (u, 0.18, u + 0.09, 0.86)) for u in (0.87, 0.49)]
    shell = (
        _detailed(faces["front"], ("screen", (0.05, 0.2, 0.95, 0.66)), ("board", (0.15, 0.05, 0.85, 0.16)), stripe,
                  ("lamp", (0.06, 0.8, 0.22, 0.88)), ("lamp", (0.78, 0.8, 0.94, 0.88)),
                  ("grille", (0.3, 0.86, 0.7, 0.96))),
        _detailed(faces["rear"], ("glass", (0.15, 0.16, 0.85, 0.42)), stripe, ("tail", (0.03, 0.68, 0.12, 0.84)),
                  ("tail", (0.88, 0.68, 0.97, 0.84)), ("grille", (0.2, 0.72, 0.8, 0.9))),
        _detailed(faces["right"], *panes, stripe, skirt, *doors),
        _detailed(faces["left"], *panes, stripe, skirt),
        _detailed(faces["top"], ("trim", (0.2, 0.15, 0.8, 0.3)), ("trim", (0.25, 0.6, 0.75, 0.8))),
    )  # fmt: skip
    return Mesh(
        (Part(shell),),
        tuple(Wheel(x, y, 0.48, 0.14) for x in (3.3, -2.9) for y in (-half + 0.14, half - 0.14)),
        tuple((True, (length / 2, y, 0.75)) for y in (-0.95, 0.95))
        + tuple((False, (-length / 2, y, 1.0)) for y in (-1.1, 1.1)),
    )


def _truck() -> Mesh:
    half = 1.18
    cab = _box((1.75, 3.7), half - 0.03, (0.45, 2.55), "cab")
    cargo = _box((-3.7, 1.6), half, (1.0, 3.1), "cargo")
    chassis = _box((-3.6, 3.4), half - 0.25, (0.5, 1.0), "under")
    seams = [("seam", (0.19 * k, 0.0, 0.19 * k + 0.006, 1.0)) for k in range(1, 5)]
    sign = ("stripe", (0.2, 0.3, 0.8, 0.62))
    front = Part(
        (
            _detailed(cab["front"], ("screen", (0.06, 0.1, 0.94, 0.46)), ("grille", (0.2, 0.56, 0.8, 0.8)),
                      ("lamp", (0.04, 0.76, 0.2, 0.88)), ("lamp", (0.8, 0.76, 0.96, 0.88)), ("trim", (0, 0.9, 1, 1))),
            _detailed(cab["right"], ("glass", (0.3, 0.12, 0.88, 0.46)), ("trim", (0, 0.86, 1, 1))),
            _detailed(cab["left"], ("glass", (0.12, 0.12, 0.7, 0.46)), ("trim", (0, 0.86, 1, 1))),
            cab["rear"],
            cab["top"],
        ),
        layer=1,
        middle=(2.7, 0.0, 1.5),
    )  # fmt: skip
    back = Part(
        (
            _detailed(cargo["front"]),
            _detailed(cargo["rear"], ("seam", (0.49, 0, 0.51, 1)), ("tail", (0.03, 0.9, 0.14, 0.99)),
                      ("tail", (0.86, 0.9, 0.97, 0.99)), *(("seam", (u, 0.1, u + 0.02, 0.9)) for u in (0.1, 0.88))),
            _detailed(cargo["right"], *seams, sign),
            _detailed(cargo["left"], *seams, sign),
            cargo["top"],
        ),
        layer=1,
        middle=(-1.0, 0.0, 2.0),
    )  # fmt: skip
    return Mesh(
        (Part(tuple(chassis.values())), front, back),
        tuple(Wheel(x, y, 0.46, 0.16) for x in (2.5, -1.6, -2.5) for y in (-half + 0.16, half - 0.16)),
        tuple((True, (3.7, y, 0.85)) for y in (-0.95, 0.95)) + tuple((False, (-3.7, y, 1.05)) for y in (-1.0, 1.0)),
    )


_CARS = {
    "sedan": _Car(2.30, 1.82, 0.24, 0.74, 0.94, 1.46, 0.92, 0.22, -0.95, -1.55, 0.96, 0.33, (1.38, -1.36)),
    "hatch": _Car(1.95, 1.74, 0.24, 0.78, 0.96, 1.50, 0.98, 0.30, -1.45, -1.86, 0.98, 0.31, (1.22, -1.20)),
    "suv": _Car(2.30, 1.90, 0.32, 0.98, 1.12, 1.72, 0.98, 0.40, -1.80, -2.20, 1.12, 0.37, (1.38, -1.36)),
    "van": _Car(2.45, 1.95, 0.28, 1.00, 1.18, 2.05, 1.62, 0.85, -2.25, -2.40, 1.18, 0.34, (1.55, -1.50)),
}


@functools.cache
def mesh_of(kind: str) -> Mesh:
    """The solid of a four-wheeled vehicle by its kind."""
    if kind in _CARS:
        return _car(_CARS[kind])
    return {"bus": _bus, "truck": _truck}[kind]()
