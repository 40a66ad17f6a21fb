"""One picture of a scene: the empty street, shadows and headlight on the ground, the actors from far to near, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipeline.core.frame import Picture
from pipeline.sources.synthetic.backdrop import backdrop, softened
from pipeline.sources.synthetic.bodies import Person, Vehicle, full_boxes
from pipeline.sources.synthetic.canvas import Pose, Sprite, facing_camera
from pipeline.sources.synthetic.meshes import mesh_of
from pipeline.sources.synthetic.palette import light_of
from pipeline.sources.synthetic.people_sprites import draw_person
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats
from pipeline.sources.synthetic.vehicle_sprites import draw_vehicle

if TYPE_CHECKING:
    from pipeline.sources.synthetic.scene import Actor, Scene

_SHADOW_TIMES = 3  # shadows are soft: drawn at a third of the picture's size
_NOISE_MARGIN = 64
_NOISE_ZERO = 128


@dataclass(slots=True)
class _Seen:
    """An actor in the picture. joints: a person's (17 x 3) or a vehicle's hull, body frame. box: whole, pixels."""

    actor: Actor
    pose: Pose
    joints: Floats
    box: Floats


class Painter:
    """Draws the pictures of one scene; keeps what does not change between them."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._camera = scene.camera
        self._light = light_of(scene.look.daylight, scene.seed)
        self._street = softened(backdrop(scene.camera, scene.seed, self._light))
        self._shaded = self._street.point([round(value * 0.42) for value in range(256)] * 3)
        self._bright = self._street.point([min(255, round(value * 2.6) + 24) for value in range(256)] * 3)
        rng = np.random.default_rng([scene.seed, 41])
        size = (scene.height + _NOISE_MARGIN, scene.width + _NOISE_MARGIN, 3)
        grain = rng.normal(0.0, scene.look.noise, size=size) + rng.normal(0.0, scene.look.noise, size=(*size[:2], 1))
        self._noise = Image.fromarray((grain * 0.7 + _NOISE_ZERO).round().clip(0, 255).astype(np.uint8))

    def picture(self, t_s: float) -> Picture:
        """The picture at ``t_s``, H x W x 3 uint8 RGB."""
        seen = self._seen(t_s)
        picture = Image.composite(self._shaded, self._street, self._shadows(seen))
        if self._light.daylight < 0.4:
            picture = Image.composite(self._bright, picture, self._headlight(seen))
        for one in seen:
            sprite = self._sprite(one)
            picture.paste(sprite.image, (sprite.left, sprite.top), sprite.image)
            if self._light.daylight < 0.4 and isinstance(one.actor.body, Vehicle):
                self._glare(picture, one.actor.body, one.pose)
        return self._sensor(picture, t_s)

    def _seen(self, t_s: float) -> list[_Seen]:
        """Who is in the picture, the farthest first; a rider after what is ridden, unless that comes straight at us."""
        at = np.array([t_s])
        found = []
        for actor in self._scene.actors:
            motion, body = actor.motion, actor.body
            if not motion.starts_s <= t_s <= motion.ends_s:
                continue
            where, walked = motion.positions(at), motion.walked(at)
            pose = Pose(where[0], float(motion.headings(at)[0]), float(walked[0]))
            joints = body.joints(walked)[0] if isinstance(body, Person) else body.hull()
            radii = body.radii() if isinstance(body, Person) else np.zeros(len(joints))
            full = full_boxes(self._camera, pose.world(joints)[None], radii)[0]
            if np.isnan(full[0]) or not (full[:2] < self._camera.size()).all() or not (full[2:] > 0).all():
                continue
            depth = float(self._camera.project(np.array([*where[0], 0.0]))[1])
            layer = 1 if isinstance(body, Person) else 2 * facing_camera(self._camera, pose, straight=0.7)
            found.append(((-depth, layer, actor.track), _Seen(actor, pose, joints, full)))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def _sprite(self, one: _Seen) -> Sprite:
        body, paint = one.actor.body, one.actor.paint
        if isinstance(body, Person):
            return draw_person(self._camera, body, one.pose, one.joints, one.box, paint, self._light)
        return draw_vehicle(self._camera, body, one.pose, one.box, paint, self._light)

    def _mask(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", (-(-self._scene.width // _SHADOW_TIMES), -(-self._scene.height // _SHADOW_TIMES)))
        return mask, ImageDraw.Draw(mask)

    def _spread(self, mask: Image.Image, radius: float) -> Image.Image:
        soft = mask.filter(ImageFilter.GaussianBlur(radius))
        return soft.resize((self._scene.width, self._scene.height), Image.Resampling.BILINEAR)

    def _on_ground(self, points: Floats) -> list[tuple[int, int]] | None:
        pixels, depth = self._camera.project(np.concatenate([points, np.zeros((len(points), 1))], axis=1))
        if depth.min() < NEAREST_M:
            return None
        return [(int(x), int(y)) for x, y in np.rint(pixels / _SHADOW_TIMES).clip(-20000, 20000)]

    def _shadows(self, seen: list[_Seen]) -> Image.Image:
        mask, draw = self._mask()
        sun = np.array(self._light.sun)
        sunny = self._light.daylight > 0.4
        for one in seen if sunny else ():
            cast = -sun[:2] / sun[2] * min(one.actor.body.height_m, 3.0)
            shape = _footprint(one, 1.0)
            if (outline := self._on_ground(_hull(np.vstack([shape, shape + cast])))) is not None:
                draw.polygon(outline, fill=118)
        for one in seen:
            if (outline := self._on_ground(_footprint(one, 1.1))) is not None:
                draw.polygon(outline, fill=205)
        return self._spread(mask, 1.1)

    def _headlight(self, seen: list[_Seen]) -> Image.Image:
        mask, draw = self._mask()
        for one in seen:
            body, pose = one.actor.body, one.pose
            if not isinstance(body, Vehicle) or body.kind == "bicycle":
                continue
            nose, wide = body.length_m / 2, body.width_m / 2
            for reach, level in ((9.0, 60), (6.0, 105), (3.5, 150)):
                beam = np.array([[nose, -wide * 0.8, 0], [nose + reach, -wide * 1.5, 0], [nose + reach * 1.1, 0, 0],
                                 [nose + reach, wide * 1.5, 0], [nose, wide * 0.8, 0]])  # fmt: skip
                if (outline := self._on_ground(pose.world(beam)[:, :2])) is not None:
                    draw.polygon(outline, fill=level)
        return self._spread(mask, 3.5)

    def _glare(self, picture: Image.Image, body: Vehicle, pose: Pose) -> None:
        """Lamps bloom at night."""
        if body.kind in {"bicycle", "motorcycle"}:
            lamps = [(True, (body.axles[0], 0.0, 0.85)), (False, (-body.length_m / 2, 0.0, 0.75))]
        else:
            lamps = list(mesh_of(body.kind).lamps)
        front = facing_camera(self._camera, pose)
        for is_head, where in lamps:
            if is_head != front:
                continue
            (pixel,), (depth,) = self._camera.project(pose.world(np.array([where])))
            if depth < NEAREST_M:
                continue
            size = int(min(160.0, (1.5 if is_head else 0.7) * self._camera.focal_px / depth)) | 1
            bloom = _bloom(size, (255, 240, 200) if is_head else (190, 24, 20))
            left, top = round(float(pixel[0])) - size // 2, round(float(pixel[1])) - size // 2
            area = (left, top, left + size, top + size)
            picture.paste(ImageChops.screen(picture.crop(area), bloom), (left, top))

    def _sensor(self, picture: Image.Image, t_s: float) -> Picture:
        look = self._scene.look
        if look.flicker:
            level = 1.0 - look.flicker * 0.5 * (1.0 + math.sin(2 * math.pi * 2.7 * t_s)) * (math.sin(1.1 * t_s) > 0)
            picture = picture.point([round(value * level) for value in range(256)] * 3)
        rng = np.random.default_rng([self._scene.seed, 42, round(max(t_s, 0.0) * 1e6)])
        left, top = (int(value) for value in rng.integers(0, _NOISE_MARGIN, 2))
        grain = self._noise.crop((left, top, left + self._scene.width, top + self._scene.height))
        return np.asarray(ImageChops.add(picture, grain, 1, -_NOISE_ZERO)).copy()


def _footprint(one: _Seen, swell: float) -> Floats:
    """4 x 2: the outline of what touches the ground."""
    body = one.actor.body
    if isinstance(body, Person):
        half, wide = (0.1, 0.1) if body.seated else (max(0.14, float(np.abs(one.joints[-4:, 0]).max())), 0.16)
    else:
        half = body.length_m / 2
        wide = 0.12 if body.kind in {"bicycle", "motorcycle"} else body.width_m / 2
    outline = np.array([[-half, -wide, 0], [half, -wide, 0], [half, wide, 0], [-half, wide, 0]])
    return one.pose.world(outline * swell)[:, :2]


def _hull(points: Floats) -> Floats:
    """The convex hull of N x 2 points, by Andrew's monotone chain."""

    def chain(ordered: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    ordered = sorted((float(x), float(y)) for x, y in points)
    return np.array(chain(ordered) + chain(ordered[::-1]))


def _bloom(size: int, colour: tuple[int, int, int]) -> Image.Image:
    centre = np.linspace(-1.0, 1.0, size)
    fall = np.maximum(0.0, 1.0 - np.hypot(centre[None], centre[:, None])) ** 2
    return Image.fromarray((fall[..., None] * np.array(colour)).astype(np.uint8))
