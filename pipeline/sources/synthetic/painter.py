"""One picture of a scene: the empty street, shadows and headlight on the ground, the actors from far to near, noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipeline.core.frame import Picture
from pipeline.sources.synthetic.backdrop import backdrop, softened
from pipeline.sources.synthetic.bodies import Person, Vehicle
from pipeline.sources.synthetic.meshes import mesh_of
from pipeline.sources.synthetic.palette import light_of
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats
from pipeline.sources.synthetic.sprites import Pose, Sprite, draw_person, draw_vehicle, facing_camera

if TYPE_CHECKING:
    from pipeline.sources.synthetic.scene import Actor, Scene

_SHADOW_TIMES = 2  # shadows are soft: drawn at half the picture's size
_NOISE_MARGIN = 64
_NOISE_ZERO = 128


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
        for actor, pose, box in seen:
            sprite = self._sprite(actor, pose, box)
            picture.paste(sprite.image, (sprite.left, sprite.top), sprite.image)
            if self._light.daylight < 0.4 and isinstance(actor.body, Vehicle):
                self._glare(picture, actor.body, pose)
        return self._sensor(picture, t_s)

    def _seen(self, t_s: float) -> list[tuple[Actor, Pose, Floats]]:
        """Who is in the picture, the farthest first; a rider after what is ridden."""
        at = np.array([t_s])
        found = []
        for actor in self._scene.actors:
            clipped, full = actor.boxes(self._camera, at)
            if np.isnan(clipped[0, 0]):
                continue
            where = actor.motion.positions(at)[0]
            pose = Pose(where, float(actor.motion.headings(at)[0]), float(actor.motion.walked(at)[0]))
            depth = float(self._camera.project(np.array([*where, 0.0]))[1])
            found.append(((-depth, isinstance(actor.body, Person), actor.track), (actor, pose, full[0])))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def _sprite(self, actor: Actor, pose: Pose, box: Floats) -> Sprite:
        if isinstance(actor.body, Person):
            return draw_person(self._camera, actor.body, pose, box, actor.paint, self._light)
        return draw_vehicle(self._camera, actor.body, pose, box, actor.paint, self._light)

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

    def _shadows(self, seen: list[tuple[Actor, Pose, Floats]]) -> Image.Image:
        mask, draw = self._mask()
        sun = np.array(self._light.sun)
        sunny = self._light.daylight > 0.4
        for actor, pose, _ in seen:
            high = actor.body.height_m
            if sunny:
                cast = -sun[:2] / sun[2] * min(high, 3.0)
                shape = _footprint(actor, pose, 1.0)
                if (outline := self._on_ground(_hull(np.vstack([shape, shape + cast])))) is not None:
                    draw.polygon(outline, fill=118)
        for actor, pose, _ in seen:
            if (outline := self._on_ground(_footprint(actor, pose, 1.1))) is not None:
                draw.polygon(outline, fill=205)
        return self._spread(mask, 1.6)

    def _headlight(self, seen: list[tuple[Actor, Pose, Floats]]) -> Image.Image:
        mask, draw = self._mask()
        for actor, pose, _ in seen:
            if not isinstance(actor.body, Vehicle) or actor.class_name == "bicycle":
                continue
            nose, wide = actor.body.length_m / 2, actor.body.width_m / 2
            for reach, level in ((9.0, 60), (6.0, 105), (3.5, 150)):
                beam = np.array([[nose, -wide * 0.8, 0], [nose + reach, -wide * 1.5, 0], [nose + reach * 1.1, 0, 0],
                                 [nose + reach, wide * 1.5, 0], [nose, wide * 0.8, 0]])  # fmt: skip
                if (outline := self._on_ground(pose.world(beam)[:, :2])) is not None:
                    draw.polygon(outline, fill=level)
        return self._spread(mask, 5.0)

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


def _footprint(actor: Actor, pose: Pose, swell: float) -> Floats:
    """N x 2: the outline of what touches the ground."""
    if isinstance(actor.body, Person):
        if actor.body.seated:
            return pose.where + np.array([[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [-0.1, 0.1]])
        joints = actor.body.joints(np.array([pose.walked_m]))[0]
        reach = max(0.14, float(np.abs(joints[-4:, 0]).max()))
        outline = np.array([[-reach, -0.16, 0], [reach, -0.16, 0], [reach, 0.16, 0], [-reach, 0.16, 0]])
    else:
        half, wide = actor.body.length_m / 2, actor.body.width_m / 2
        if actor.body.kind in {"bicycle", "motorcycle"}:
            wide = 0.12
        outline = np.array([[-half, -wide, 0], [half, -wide, 0], [half, wide, 0], [-half, wide, 0]])
    return pose.world(outline * swell)[:, :2]


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
