"""People as sprites: limbs, clothes and heads around the joints of their pose."""

from __future__ import annotations

import numpy as np

from pipeline.sources.synthetic import bodies
from pipeline.sources.synthetic.bodies import Person
from pipeline.sources.synthetic.canvas import Canvas, Pose, Spot, Sprite, facing_camera
from pipeline.sources.synthetic.palette import Colour, Light, Wear, person_paints, shaded
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats, Perspective

_LEFT = (
    bodies.L_SHOULDER, bodies.L_ELBOW, bodies.L_HAND, bodies.L_HIP, bodies.L_KNEE, bodies.L_ANKLE, bodies.L_TOE,
)  # fmt: skip
_RIGHT = tuple(joint + 1 for joint in _LEFT)


def draw_person(
    camera: Perspective, body: Person, pose: Pose, joints: Floats, box: Floats, paint: int, light: Light
) -> Sprite:
    """A person's sprite. joints: 17 x 3 in the body frame. box: the whole box in pixels. paint: seed of the clothes."""
    canvas = Canvas(box, camera)
    # beside the joints: both sides (which is nearer?), and where the face and a backpack are
    size = joints[bodies.HEAD, 2] - joints[bodies.NECK, 2]
    neck, hips = joints[bodies.NECK], joints[bodies.HIPS]
    extra = np.array([
        [0.0, -0.2, 1.0], [0.0, 0.2, 1.0], joints[bodies.HEAD] + [size, 0.0, -0.25 * size],
        neck * 0.8 + hips * 0.2 - [0.15, 0.0, 0.0], neck * 0.3 + hips * 0.7 - [0.15, 0.0, 0.0],
    ])  # fmt: skip
    pixels, depth = camera.project(pose.world(np.vstack([joints, extra])))
    radii = body.radii() * camera.focal_px / np.maximum(depth[:17], NEAREST_M)
    figure = _Figure(
        canvas, [(x, y) for x, y in pixels.tolist()], radii.tolist(), person_paints(paint, body.seated), light,
        facing_camera(camera, pose),
    )  # fmt: skip
    figure.draw(*((_LEFT, _RIGHT) if depth[17] > depth[18] else (_RIGHT, _LEFT)))
    return canvas.sprite()


class _Figure:
    """One person being drawn: joints as pixels (and the extra spots after them), radii in pixels."""

    def __init__(
        self, canvas: Canvas, spots: list[Spot], radii: list[float], wears: Wear, light: Light, front: bool
    ) -> None:
        self._canvas, self._spots, self._radii = canvas, spots, radii
        self._wears, self._light, self._front = wears, light, front

    def draw(self, far: tuple[int, ...], near: tuple[int, ...]) -> None:
        """Everything, from the far side to the near."""
        self._arm(far, 0.78)
        self._leg(far, 0.8)
        if self._wears.pack and self._front:
            self._pack(0.85)
        self._leg(near, 1.0)
        self._torso()
        if self._wears.pack and not self._front:
            self._pack(1.0)
        self._arm(near, 1.0)
        self._head()

    def _tone(self, colour: Colour, share: float = 1.0) -> Colour:
        return self._light.lit(colour, 0.95 * share)

    def _limb(self, a: int, b: int, colour: Colour, swell: float = 1.0) -> None:
        radii = (self._radii[a] * swell, self._radii[b] * swell)
        self._canvas.limb(self._spots[a], self._spots[b], radii, colour)

    def _leg(self, of: tuple[int, ...], share: float) -> None:
        wears = self._wears
        self._limb(of[5], of[6], self._tone(wears.shoes, share))
        bare = wears.skirt > 0 or wears.shorts
        self._limb(of[4], of[5], self._tone(wears.skin if bare else wears.legs, share))
        self._limb(of[3], of[4], self._tone(wears.skin if wears.skirt else wears.legs, share), 1.18)

    def _arm(self, of: tuple[int, ...], share: float) -> None:
        wears = self._wears
        self._limb(of[1], of[2], self._tone(wears.skin if wears.short_sleeves else wears.top, share))
        self._limb(of[0], of[1], self._tone(wears.top, share), 0.95)
        self._canvas.disc(*self._spots[of[2]], self._radii[of[2]] * 0.95, self._tone(wears.skin, share))

    def _pack(self, share: float) -> None:
        thick = self._radii[bodies.HIPS] * 1.15
        colour = self._tone(self._wears.pack_colour, share)
        self._canvas.limb(self._spots[20], self._spots[21], (thick, thick * 1.1), colour)

    def _torso(self) -> None:
        b, spots, wears, limb = bodies, self._spots, self._wears, self._canvas.limb
        top, below = self._tone(wears.top), self._tone(wears.legs)
        hips, chest = spots[b.HIPS], _mix(spots[b.NECK], spots[b.HIPS], 0.2)
        thick = self._radii[b.HIPS]
        if wears.skirt or wears.coat:
            knees = _mix(spots[b.L_KNEE], spots[b.R_KNEE], 0.5)
            hem = _mix(hips, knees, wears.skirt or 0.55)
            limb(hips, hem, (thick * 1.25, thick * 1.6), top if wears.coat else below)
        else:
            self._canvas.disc(*hips, thick * 1.2, below)
        limb(chest, hips, (thick * 1.32, thick * 1.22), top)
        one, other = (b.L_SHOULDER, b.L_HIP), (b.R_SHOULDER, b.R_HIP)
        if abs(spots[b.L_SHOULDER][0] - spots[b.R_SHOULDER][0]) > thick:  # not from the side
            dark, bright = (one, other) if spots[one[0]][0] > spots[other[0]][0] else (other, one)
            for (shoulder, hip), tone in ((dark, 0.88), (bright, 1.0)):
                limb(spots[shoulder], spots[hip], (thick * 0.75, thick * 0.85), shaded(top, tone))
            limb(chest, hips, (thick * 1.05, thick), top)

    def _head(self) -> None:
        canvas, radius = self._canvas, self._radii[bodies.HEAD]
        (x, y), (face_x, _) = self._spots[bodies.HEAD], self._spots[19]
        skin, hair = self._light.lit(self._wears.skin, 0.98), self._light.lit(self._wears.hair, 0.9)
        neck = shaded(skin, 0.85)
        canvas.limb(self._spots[bodies.NECK], (x, y), (radius * 0.62, radius * 0.6), neck)
        canvas.disc(x, y, radius, hair)
        turned = face_x - x
        if self._front:
            dx, dy = max(-0.45, min(0.45, turned / max(radius, 0.1) * 0.35)) * radius, 0.18 * radius
            canvas.disc(x + dx, y + dy, radius * 0.8, skin)
            canvas.disc(x + dx - 0.2 * radius, y + dy - 0.1 * radius, radius * 0.5, shaded(skin, 1.08))
            if radius > 5:
                for eye in (-0.28, 0.28):
                    canvas.disc(x + dx + eye * radius, y + dy - 0.05 * radius, radius * 0.1, shaded(skin, 0.35))
        else:
            canvas.disc(x - 0.25 * radius, y - 0.25 * radius, radius * 0.55, shaded(hair, 1.15))
            if abs(turned) > 0.5 * radius:
                cheek = max(-0.6, min(0.6, turned / radius * 0.5)) * radius
                canvas.disc(x + cheek, y + 0.35 * radius, radius * 0.5, skin)
        if self._wears.hat:
            canvas.disc(x, y - 0.25 * radius, radius * 0.86, shaded(hair, 1.3))


def _mix(a: Spot, b: Spot, share: float) -> Spot:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
