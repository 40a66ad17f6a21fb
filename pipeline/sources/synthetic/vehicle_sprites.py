"""Vehicles as sprites: the faces of their solids that are seen, with windows, lights and wheels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.sources.synthetic.bodies import Vehicle
from pipeline.sources.synthetic.canvas import Canvas, Pose, Sprite, facing_camera
from pipeline.sources.synthetic.meshes import Part, Quad, Wheel, mesh_of
from pipeline.sources.synthetic.palette import Colour, Light, vehicle_paints
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats, Perspective


def draw_vehicle(camera: Perspective, body: Vehicle, pose: Pose, box: Floats, paint: int, light: Light) -> Sprite:
    """A vehicle's sprite. box: its whole box in pixels. paint: seed of its colours."""
    canvas = Canvas(box, camera)
    paints = vehicle_paints(body.class_name, paint)
    if body.kind in {"bicycle", "motorcycle"}:
        _two_wheels(canvas, camera, body, pose, paints, light)
    else:
        _four_wheels(canvas, camera, body.kind, pose, paints, light)
    return canvas.sprite()


@dataclass(frozen=True, slots=True)
class _Flat:
    """A mesh's corners in one array, so that they are projected in one go; polygons are slices of it."""

    points: Floats
    faces: dict[int, tuple[slice, Floats, tuple[slice, ...]]]  # by id of the face: corners, outward normal, details


@functools.cache
def _flat(kind: str) -> _Flat:
    rows: list[tuple[float, float, float]] = []

    def taken(corners: Quad) -> slice:
        rows.extend(corners)
        return slice(len(rows) - len(corners), len(rows))

    faces = {}
    for part in mesh_of(kind).parts:
        for face in part.faces:
            a, b, c = (np.array(corner) for corner in face.corners[:3])
            normal = np.cross(b - a, c - b)  # right-handed in (forward, left, up): our frame has right for left
            normal /= max(float(np.linalg.norm(normal)), 1e-9)
            faces[id(face)] = taken(face.corners), normal, tuple(taken(corners) for _, corners in face.details)
    return _Flat(np.array(rows), faces)


def _four_wheels(
    canvas: Canvas, camera: Perspective, kind: str, pose: Pose, paints: dict[str, Colour], light: Light
) -> None:
    mesh, flat = mesh_of(kind), _flat(kind)
    pixels, depth = camera.project(pose.world(flat.points))
    cos, sin = math.cos(pose.heading_rad), math.sin(pose.heading_rad)
    tyres = [_Tyre(canvas, camera, wheel, pose, light) for wheel in mesh.wheels]
    for tyre in tyres:
        tyre.tread()

    def distance(part: Part) -> float:
        return float(camera.project(pose.world(np.array([part.middle])))[1][0])

    for part in sorted(mesh.parts, key=lambda part: (part.layer, -distance(part))):
        for face in part.faces:
            corners, (forward, right, up), details = flat.faces[id(face)]
            if depth[corners].min() < NEAREST_M or _area(pixels[corners]) <= 0:
                continue
            tone = light.on((forward * cos + right * sin, forward * sin - right * cos, up))
            canvas.polygon(pixels[corners], light.lit(paints[face.paint], tone))
            for (paint, _), where in zip(face.details, details, strict=True):
                glows = paint in {"lamp", "tail", "board"}
                colour = light.glowing(paints[paint]) if glows else light.lit(paints[paint], tone)
                canvas.polygon(pixels[where], colour)
        if part is mesh.parts[0]:
            for tyre in tyres:
                tyre.wall(paints["rim"])


def _area(pixels: Floats) -> float:
    """Twice the signed area; positive where the corners run clockwise in the picture (y down)."""
    x, y = pixels.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


_RING = np.linspace(0.0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_RING), np.sin(_RING)], axis=-1)


def _ring(wheel: Wheel, right: float, share: float = 1.0) -> Floats:
    return np.stack(
        [
            wheel.forward + wheel.radius * share * _CIRCLE[:, 0],
            np.full(len(_CIRCLE), right),
            wheel.radius + wheel.radius * share * _CIRCLE[:, 1],
        ],
        axis=-1,
    )


class _Tyre:
    """One wheel, drawn in two steps: what shows under the body, and the side of it that is seen."""

    def __init__(self, canvas: Canvas, camera: Perspective, wheel: Wheel, pose: Pose, light: Light) -> None:
        self._canvas, self._light = canvas, light
        sign = 1.0 if wheel.right > 0 else -1.0
        outer = wheel.right + sign * (wheel.half_width + 0.012)
        angles = [math.tau * k / 5 - pose.walked_m / wheel.radius for k in range(5)]
        spokes = [
            (wheel.forward + r * math.cos(angle), outer, wheel.radius + r * math.sin(angle))
            for angle in angles
            for r in (0.2 * wheel.radius, 0.6 * wheel.radius)
        ]
        rings = [_ring(wheel, wheel.right + side * wheel.half_width) for side in (-1, 1)]
        rings += [_ring(wheel, outer - sign * 0.02, 1.18), *(_ring(wheel, outer, share) for share in (1.0, 0.62, 0.2))]
        pixels, depth = camera.project(pose.world(np.vstack([*rings, spokes])))
        self._rings = pixels[: 6 * len(_CIRCLE)].reshape(6, -1, 2)
        self._spokes = pixels[6 * len(_CIRCLE) :].reshape(5, 2, 2)
        self._px_per_m = camera.focal_px / max(float(depth.mean()), NEAREST_M)
        middle = pose.world(np.array([[wheel.forward, right, wheel.radius] for right in (outer, outer + sign)]))
        towards = np.array([camera.x_m, camera.y_m, camera.height_m]) - middle[0]
        self._in_front = bool(depth.min() >= NEAREST_M)
        self._seen = self._in_front and float((middle[1] - middle[0]) @ towards) > 0

    def tread(self) -> None:
        """What shows under the body."""
        if self._in_front:
            for ring in self._rings[:2]:
                self._canvas.polygon(ring, self._light.lit((22, 22, 24), 0.7))

    def wall(self, rim: Colour) -> None:
        """The arch, the tyre's wall, the rim and its spokes, if this side is seen."""
        if not self._seen:
            return
        paints = (((18, 18, 20), 0.6), ((30, 30, 32), 0.9), (rim, 0.9), ((50, 50, 54), 0.8))
        for ring, (colour, tone) in zip(self._rings[2:], paints, strict=True):
            self._canvas.polygon(ring, self._light.lit(colour, tone))
        for spoke in self._spokes:
            self._canvas.stroke(spoke, 0.05 * self._px_per_m, self._light.lit((70, 70, 74), 0.9))


def _two_wheels(
    canvas: Canvas, camera: Perspective, body: Vehicle, pose: Pose, paints: dict[str, Colour], light: Light
) -> None:
    scale = camera.focal_px / max(float(camera.project(pose.world(np.zeros((1, 3))))[1][0]), NEAREST_M)

    def stroke(points: Sequence[tuple[float, float, float]], width_m: float, colour: Colour, tone: float = 0.9) -> None:
        canvas.stroke(camera.project(pose.world(np.array(points)))[0], width_m * scale, light.lit(colour, tone))

    front, rear = body.axles
    r, engine = body.wheel_m, body.kind == "motorcycle"
    for axle in (rear, front):
        ring = _ring(Wheel(axle, 0.0, r), 0.0, 0.94 if engine else 0.97)
        stroke([*map(tuple, ring), tuple(ring[0])], 0.13 if engine else 0.045, (24, 24, 26))
        if not engine:
            spin = pose.walked_m / r
            for k in range(4):
                dx, dz = r * 0.9 * math.cos(spin + k * math.pi / 4), r * 0.9 * math.sin(spin + k * math.pi / 4)
                stroke([(axle - dx, 0, r - dz), (axle + dx, 0, r + dz)], 0.008, (120, 120, 120))
    bar_x, bar_z, half_bar = front - 0.22, body.height_m, body.width_m / 2
    if engine:
        stroke([(front, 0, r), (bar_x, 0, 0.95)], 0.09, (60, 60, 64))
        stroke([(rear, 0, r), (0.0, 0, 0.45), (0.35, 0, 0.4)], 0.16, (46, 46, 50))
        stroke([(-0.1, 0, 0.42), (0.35, 0, 0.42)], 0.34, (58, 58, 62), 1.0)
        stroke([(-0.05, 0, 0.72), (0.4, 0, 0.82)], 0.26, paints["body"], 1.1)
        stroke([(0.38, 0, 0.8), (0.62, 0, 0.85)], 0.3, paints["body"], 1.0)
        stroke([(-0.75, 0, 0.82), (-0.1, 0, 0.76)], 0.14, (26, 26, 28), 1.0)
        stroke([(-0.9, 0, 0.72), (-0.55, 0, 0.72)], 0.16, paints["body"], 0.9)
        stroke([(-0.85, 0.14, 0.35), (0.1, 0.14, 0.3)], 0.08, (150, 150, 152))
    else:
        crank, saddle, head = (0.0, 0.0, 0.29), (-0.22, 0.0, 0.88), (bar_x + 0.02, 0.0, 0.85)
        for line in ([crank, saddle], [crank, head], [(-0.19, 0.0, 0.78), head], [(rear, 0, r), crank],
                     [(rear, 0, r), (-0.2, 0.0, 0.8)], [(front, 0, r), head]):  # fmt: skip
            stroke(line, 0.045, paints["body"], 1.0)
        stroke([(-0.34, 0, 0.92), (-0.12, 0, 0.9)], 0.07, (30, 30, 30))
        stroke([head, (bar_x, 0, bar_z)], 0.03, (60, 60, 62))
    stroke([(bar_x, -half_bar, bar_z), (bar_x + 0.06, 0, bar_z), (bar_x, half_bar, bar_z)], 0.045, (50, 50, 52))
    if engine:

        def plate(x: float, corners: Sequence[tuple[float, float]], colour: Colour) -> None:
            points = np.array([(x, y, z) for y, z in corners])
            canvas.polygon(camera.project(pose.world(points))[0], light.lit(colour, 1.0))

        if facing_camera(camera, pose):
            for y in (-0.1, 0.1):
                stroke([(front, y, r), (front - 0.15, y, 0.8)], 0.06, (150, 150, 154))
            stroke([(front + 0.12, -0.06, 2.1 * r), (front + 0.12, 0.06, 2.1 * r)], 0.07, paints["body"])
            plate(front - 0.1, [(-0.2, 0.62), (0.2, 0.62), (0.26, 0.88), (0.13, 1.1), (-0.13, 1.1), (-0.26, 0.88)],
                  paints["body"])  # fmt: skip
            plate(front - 0.1, [(-0.11, 0.96), (0.11, 0.96), (0.09, 1.12), (-0.09, 1.12)], paints["screen"])
        else:
            plate(-0.9, [(-0.16, 0.6), (0.16, 0.6), (0.13, 0.86), (-0.13, 0.86)], paints["body"])
            plate(-0.92, [(-0.09, 0.44), (0.09, 0.44), (0.09, 0.56), (-0.09, 0.56)], paints["plate"])
        for y in (-half_bar + 0.06, half_bar - 0.06):
            stroke([(bar_x, y * 0.8, bar_z - 0.08), (bar_x, y, bar_z - 0.05)], 0.09, (40, 40, 42))
    for lamp, where in ((True, (front - 0.05, 0.0, 0.85)), (False, (-0.93 if engine else rear - 0.2, 0.0, 0.72))):
        if lamp == facing_camera(camera, pose):
            pixel, _ = camera.project(pose.world(np.array([where])))
            colour = (255, 250, 225) if lamp else (190, 20, 20)
            x, y = pixel[0].tolist()
            canvas.disc(x, y, (0.11 if engine else 0.05) * scale, light.glowing(colour))
