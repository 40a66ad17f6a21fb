"""Actors as small pictures: drawn larger by Pillow, then reduced, so that their edges are smooth.

Every corner is rounded to a whole pixel of the larger picture, so that the last bit of a sine, which may differ
between machines, does not reach the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipeline.sources.synthetic import bodies
from pipeline.sources.synthetic.bodies import Person, Vehicle, place
from pipeline.sources.synthetic.meshes import Face, Mesh, Wheel, mesh_of
from pipeline.sources.synthetic.palette import Colour, Light, person_paints, shaded, vehicle_paints
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats, Perspective

_SMALL_PX = 130.0


@dataclass(slots=True)
class Sprite:
    """An RGBA picture and where its top left corner goes."""

    image: Image.Image
    left: int
    top: int


class _Canvas:
    """Draws in picture coordinates on a part of the picture, some times larger."""

    def __init__(self, box: Floats, camera: Perspective) -> None:
        x0, y0, x1, y1 = (float(value) for value in box)
        self.left, self.top = max(0, math.floor(x0) - 2), max(0, math.floor(y0) - 2)
        width = min(camera.width, math.ceil(x1) + 2) - self.left
        height = min(camera.height, math.ceil(y1) + 2) - self.top
        self.times = 4 if max(x1 - x0, y1 - y0) < _SMALL_PX else 2
        self.image = Image.new("RGBA", (max(1, width) * self.times, max(1, height) * self.times))
        self._draw = ImageDraw.Draw(self.image)

    def _at(self, points: Floats) -> list[tuple[int, int]]:
        moved = np.rint((points - [self.left, self.top]) * self.times).clip(-30000, 30000)
        return [(int(x), int(y)) for x, y in moved]

    def polygon(self, points: Floats, colour: Colour) -> None:
        """A filled polygon of N x 2 pixels."""
        self._draw.polygon(self._at(points), fill=(*colour, 255))

    def disc(self, centre: Floats, radius: float, colour: Colour) -> None:
        """A filled circle; radius in pixels."""
        ((x, y),) = self._at(centre[None])
        r = max(1, round(radius * self.times))
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, 255))

    def stroke(self, points: Floats, width: float, colour: Colour) -> None:
        """A line through N x 2 pixels; width in pixels."""
        self._draw.line(self._at(points), fill=(*colour, 255), width=max(1, round(width * self.times)), joint="curve")

    def limb(self, a: Floats, b: Floats, radii: tuple[float, float], colour: Colour) -> None:
        """A tapered capsule from a to b, lighter on its left, where the light comes from; radii in pixels."""
        for share, shift, tone in ((1.0, 0.0, 0.8), (0.68, -0.25, 1.0), (0.3, -0.45, 1.12)):
            ra, rb = radii[0] * share, radii[1] * share
            if tone > 1 and ra * self.times < 2:
                continue
            pa, pb = a + [shift * radii[0], 0.0], b + [shift * radii[1], 0.0]
            along = pb - pa
            length = float(np.hypot(*along))
            toned = shaded(colour, tone)
            if length > 1e-6:
                normal = np.array([-along[1], along[0]]) / length
                self.polygon(np.array([pa + normal * ra, pb + normal * rb, pb - normal * rb, pa - normal * ra]), toned)
            self.disc(pa, ra, toned)
            self.disc(pb, rb, toned)

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
        return place(points[None], self.where[None], np.array([self.heading_rad]))[0]


def draw_vehicle(camera: Perspective, body: Vehicle, pose: Pose, box: Floats, paint: int, light: Light) -> Sprite:
    """A vehicle's sprite. box: its whole box in pixels. paint: seed of its colours."""
    canvas = _Canvas(box, camera)
    paints = vehicle_paints(body.class_name, paint)
    if body.kind in {"bicycle", "motorcycle"}:
        _two_wheels(canvas, camera, body, pose, paints, light)
    else:
        _four_wheels(canvas, camera, mesh_of(body.kind), pose, paints, light)
    return canvas.sprite()


def _four_wheels(
    canvas: _Canvas, camera: Perspective, mesh: Mesh, pose: Pose, paints: dict[str, Colour], light: Light
) -> None:
    eye = np.array([camera.x_m, camera.y_m, camera.height_m])
    for wheel in mesh.wheels:
        _tyre(canvas, camera, wheel, pose, light, paints, outside=False)

    def distance(middle: tuple[float, float, float]) -> float:
        return float(np.linalg.norm(pose.world(np.array([middle]))[0] - eye))

    for part in sorted(mesh.parts, key=lambda part: (part.layer, -distance(part.middle))):
        for face in part.faces:
            _face(canvas, camera, face, pose, paints, light)
        if part is mesh.parts[0]:
            for wheel in mesh.wheels:
                _tyre(canvas, camera, wheel, pose, light, paints, outside=True)


def _face(
    canvas: _Canvas, camera: Perspective, face: Face, pose: Pose, paints: dict[str, Colour], light: Light
) -> None:
    world = pose.world(np.array(face.corners))
    pixels, depth = camera.project(world)
    if depth.min() < NEAREST_M or _area(pixels) <= 0:
        return
    normal = np.cross(world[1] - world[0], world[2] - world[1])
    tone = light.on(-normal / max(float(np.linalg.norm(normal)), 1e-9))
    canvas.polygon(pixels, light.lit(paints[face.paint], tone))
    for paint, corners in face.details:
        flat, _ = camera.project(pose.world(np.array(corners)))
        glowing = paint in {"lamp", "tail", "board"}
        canvas.polygon(flat, light.glowing(paints[paint]) if glowing else light.lit(paints[paint], tone))


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


def _tyre(
    canvas: _Canvas, camera: Perspective, wheel: Wheel, pose: Pose, light: Light, paints: dict[str, Colour], outside: bool
) -> None:
    """The tyre's tread under the body, or (``outside``) its wall on the side that is seen."""
    sign = 1.0 if wheel.right > 0 else -1.0
    outer = wheel.right + sign * (wheel.half_width + 0.012)
    if not outside:
        for right in (wheel.right - wheel.half_width, wheel.right + wheel.half_width):
            canvas.polygon(camera.project(pose.world(_ring(wheel, right)))[0], light.lit((22, 22, 24), 0.7))
        return
    wall, depth = camera.project(pose.world(_ring(wheel, outer)))
    # the wall's own winding flips with the side; it is seen if it faces the camera
    middle = pose.world(np.array([[wheel.forward, outer, wheel.radius], [wheel.forward, outer + sign, wheel.radius]]))
    towards = np.array([camera.x_m, camera.y_m, camera.height_m]) - middle[0]
    if depth.min() < NEAREST_M or float((middle[1] - middle[0]) @ towards) <= 0:
        return
    arch = camera.project(pose.world(_ring(wheel, outer - sign * 0.02, 1.18)))[0]
    canvas.polygon(arch, light.lit((18, 18, 20), 0.6))
    canvas.polygon(wall, light.lit((30, 30, 32), 0.9))
    canvas.polygon(camera.project(pose.world(_ring(wheel, outer, 0.62)))[0], light.lit(paints["rim"], 0.9))
    canvas.polygon(camera.project(pose.world(_ring(wheel, outer, 0.2)))[0], light.lit((50, 50, 54), 0.8))
    spin = pose.walked_m / wheel.radius
    for spoke in range(5):
        angle = -spin + spoke * 2 * math.pi / 5
        tips = np.array([[0.0, outer, 0.0], [0.0, outer, 0.0]])
        for k, share in enumerate((0.2, 0.6)):
            tips[k] = [
                wheel.forward + wheel.radius * share * math.cos(angle), outer,
                wheel.radius + wheel.radius * share * math.sin(angle),
            ]  # fmt: skip
        pixels, _ = camera.project(pose.world(tips))
        canvas.stroke(pixels, 0.05 * camera.focal_px / float(depth.mean()), light.lit((70, 70, 74), 0.9))


def _two_wheels(
    canvas: _Canvas, camera: Perspective, body: Vehicle, pose: Pose, paints: dict[str, Colour], light: Light
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
    for lamp, where in ((True, (front - 0.05, 0.0, 0.85)), (False, (-0.93 if engine else rear - 0.2, 0.0, 0.72))):
        if lamp == facing_camera(camera, pose):
            pixel, _ = camera.project(pose.world(np.array([where])))
            colour = (255, 250, 225) if lamp else (190, 20, 20)
            canvas.disc(pixel[0], (0.09 if engine else 0.05) * scale, light.glowing(colour))


def facing_camera(camera: Perspective, pose: Pose) -> bool:
    """Whether its front is seen."""
    towards = np.array([camera.x_m, camera.y_m]) - pose.where
    return float(towards @ np.array([math.cos(pose.heading_rad), math.sin(pose.heading_rad)])) > 0


def draw_person(camera: Perspective, body: Person, pose: Pose, box: Floats, paint: int, light: Light) -> Sprite:
    """A person's sprite. box: the whole box in pixels. paint: seed of the clothes."""
    canvas = _Canvas(box, camera)
    wears = person_paints(paint, body.seated)
    joints = body.joints(np.array([pose.walked_m]))[0]
    pixels, depth = camera.project(pose.world(joints))
    radii = body.radii() * camera.focal_px / np.maximum(depth, NEAREST_M)
    side = pose.world(np.array([[0.0, -0.2, 1.0], [0.0, 0.2, 1.0]]))
    reach = np.hypot(*(side[:, :2] - [camera.x_m, camera.y_m]).T)
    left = (bodies.L_SHOULDER, bodies.L_ELBOW, bodies.L_HAND, bodies.L_HIP, bodies.L_KNEE, bodies.L_ANKLE, bodies.L_TOE)
    right = tuple(joint + 1 for joint in left)
    far, near = (left, right) if reach[0] > reach[1] else (right, left)
    front = facing_camera(camera, pose)

    def tone(colour: Colour, share: float = 1.0) -> Colour:
        return light.lit(colour, 0.95 * share)

    def limb(a: int, b: int, colour: Colour, swell: float = 1.0) -> None:
        canvas.limb(pixels[a], pixels[b], (float(radii[a]) * swell, float(radii[b]) * swell), colour)

    def leg(of: tuple[int, ...], share: float) -> None:
        limb(of[5], of[6], tone(wears.shoes, share))
        bare = wears.skirt_m > 0 or wears.shorts
        limb(of[4], of[5], tone(wears.skin if bare else wears.legs, share))
        limb(of[3], of[4], tone(wears.legs if not wears.skirt_m else wears.skin, share), 1.18)

    def arm(of: tuple[int, ...], share: float) -> None:
        limb(of[1], of[2], tone(wears.skin if wears.short_sleeves else wears.top, share))
        limb(of[0], of[1], tone(wears.top, share), 0.95)
        canvas.disc(pixels[of[2]], float(radii[of[2]]) * 0.95, tone(wears.skin, share))

    arm(far, 0.78)
    leg(far, 0.8)
    if wears.pack and front:
        _pack(canvas, pixels, radii, tone(wears.pack_colour, 0.9), pose, camera, joints)
    leg(near, 1.0)
    _torso(canvas, pixels, radii, tone(wears.top), tone(wears.legs), wears.skirt_m, wears.coat)
    if wears.pack and not front:
        _pack(canvas, pixels, radii, tone(wears.pack_colour), pose, camera, joints)
    arm(near, 1.0)
    _head(canvas, camera, pose, joints, float(radii[bodies.HEAD]), wears.skin, wears.hair, wears.hat, light)
    return canvas.sprite()


def _torso(
    canvas: _Canvas, pixels: Floats, radii: Floats, top: Colour, below: Colour, skirt_m: float, coat: bool
) -> None:
    b = bodies
    hips, chest = pixels[b.HIPS], pixels[b.NECK] * 0.8 + pixels[b.HIPS] * 0.2
    thick = float(radii[b.HIPS])
    if skirt_m or coat:
        knees = (pixels[b.L_KNEE] + pixels[b.R_KNEE]) / 2
        hem = hips + (knees - hips) * (skirt_m or 0.55)
        canvas.limb(hips, hem, (thick * 1.25, thick * 1.6), top if coat else below)
    else:
        canvas.limb(hips, hips, (thick * 1.2, thick * 1.2), below)
    canvas.limb(chest, hips, (thick * 1.32, thick * 1.22), top)
    shoulders, pelvis = pixels[[b.L_SHOULDER, b.R_SHOULDER]], pixels[[b.R_HIP, b.L_HIP]]
    if abs(float(shoulders[0, 0] - shoulders[1, 0])) > thick:
        waist = np.vstack([shoulders, pelvis])
        canvas.polygon(waist, top)
        dark, bright = (0, 1) if shoulders[0, 0] > shoulders[1, 0] else (1, 0)
        canvas.limb(shoulders[dark], pelvis[1 - dark], (thick * 0.75, thick * 0.8), shaded(top, 0.9))
        canvas.limb(shoulders[bright], pelvis[1 - bright], (thick * 0.75, thick * 0.8), top)
        canvas.limb(chest, hips, (thick * 1.05, thick), top)


def _pack(
    canvas: _Canvas, pixels: Floats, radii: Floats, colour: Colour, pose: Pose, camera: Perspective, joints: Floats
) -> None:
    neck, hips = joints[bodies.NECK], joints[bodies.HIPS]
    ends = np.array([neck * 0.8 + hips * 0.2, neck * 0.3 + hips * 0.7]) - [0.15, 0.0, 0.0]
    spots, _ = camera.project(pose.world(ends))
    thick = float(radii[bodies.HIPS]) * 1.15
    canvas.limb(spots[0], spots[1], (thick, thick * 1.1), colour)


def _head(
    canvas: _Canvas, camera: Perspective, pose: Pose, joints: Floats, radius: float,
    skin: Colour, hair: Colour, hat: bool, light: Light,
) -> None:  # fmt: skip
    size = joints[bodies.HEAD, 2] - joints[bodies.NECK, 2]
    head, face, crown = joints[bodies.HEAD], joints[bodies.HEAD] + [size, 0, -0.25 * size], joints[bodies.HEAD].copy()
    spots, _ = camera.project(pose.world(np.array([head, face, crown, joints[bodies.NECK]])))
    turned = spots[1] - spots[0]
    skin, hair = light.lit(skin, 0.98), light.lit(hair, 0.9)
    canvas.limb(spots[3], spots[0], (radius * 0.62, radius * 0.6), shaded(skin, 0.85))
    canvas.disc(spots[0], radius, hair)
    seen = facing_camera(camera, pose)
    shift = np.array([np.clip(turned[0] * 0.35, -0.45 * radius, 0.45 * radius), radius * (0.18 if seen else 0.5)])
    if seen:
        canvas.disc(spots[0] + shift, radius * 0.8, skin)
        canvas.disc(spots[0] + shift * [1.0, 1.0] + [-0.2 * radius, -0.1 * radius], radius * 0.5, shaded(skin, 1.08))
        if radius > 5:
            for eye in (-0.28, 0.28):
                canvas.disc(spots[0] + shift + [eye * radius, -0.05 * radius], radius * 0.1, shaded(skin, 0.35))
    else:
        canvas.disc(spots[0] + [-0.25 * radius, -0.25 * radius], radius * 0.55, shaded(hair, 1.15))
        side = np.array([np.clip(turned[0] * 0.5, -0.6 * radius, 0.6 * radius), radius * 0.35])
        if abs(float(turned[0])) > 0.5 * radius:
            canvas.disc(spots[0] + side, radius * 0.5, skin)
    if hat:
        canvas.disc(spots[0] + [0.0, -0.25 * radius], radius * 0.86, shaded(hair, 1.3))
