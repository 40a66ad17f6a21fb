"""The street without anybody in it: every pixel's ray is followed to the ground, a house front or the sky.

Drawn once a scene, at twice the picture's size. Nothing in it stands between the camera and where actors go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.sources.synthetic.palette import Light
from pipeline.sources.synthetic.perspective import Floats, Perspective

KERB_M = 5.0
FRONT_M = 9.5
END_M = 130.0
_LAMP_EVERY_M = 20.0
_TIMES = 2

Plane = NDArray[np.float32]


@dataclass(slots=True)
class _Noise:
    """Smooth noise over a plane, 0..1, the same for the same seed."""

    seed: int
    _lattice: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._lattice = np.random.default_rng([self.seed, 21]).random((256, 256)).astype(np.float32)

    def at(self, x: Plane, y: Plane, cell_m: float) -> Plane:
        """Bilinear in a lattice of this cell size."""
        u, v = x / np.float32(cell_m), y / np.float32(cell_m)
        i, j = np.floor(u), np.floor(v)
        fu, fv = u - i, v - j
        i, j = i.astype(np.int32) & 255, j.astype(np.int32) & 255
        i1, j1, table = (i + 1) & 255, (j + 1) & 255, self._lattice
        low = table[j, i] * (1 - fu) + table[j, i1] * fu
        high = table[j1, i] * (1 - fu) + table[j1, i1] * fu
        return np.asarray(low * (1 - fv) + high * fv, np.float32)

    def cells(self, i: NDArray[np.int32], j: NDArray[np.int32]) -> Plane:
        """One number a cell."""
        return np.asarray(self._lattice[j & 255, i & 255])


def backdrop(camera: Perspective, seed: int, light: Light) -> Image.Image:
    """The empty street as an RGB image of the picture's size."""
    rng = np.random.default_rng([seed, 31])
    noise = _Noise(seed)
    wide = Perspective(
        camera.x_m, camera.y_m, camera.height_m, camera.yaw_rad, camera.pitch_rad,
        camera.focal_px * _TIMES, camera.width * _TIMES, camera.height * _TIMES,
    )  # fmt: skip
    rows = 64 * _TIMES  # in strips: a 1080p picture at twice its size is a lot of float
    strips = [
        _strip(wide, top, min(rows, wide.height - top), noise, light, seed) for top in range(0, wide.height, rows)
    ]
    picture = Image.fromarray(np.concatenate(strips))
    _furniture(picture, wide, rng, light)
    return picture.reduce(_TIMES)


def _strip(camera: Perspective, top: int, rows: int, noise: _Noise, light: Light, seed: int) -> NDArray[np.uint8]:
    u = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.focal_px
    v = (np.arange(top, top + rows, dtype=np.float32) + 0.5 - camera.height / 2) / camera.focal_px
    axes = camera.axes().astype(np.float32)
    ray = u[None, :, None] * axes[0] + v[:, None, None] * axes[1] + axes[2]
    dx, dy, dz = ray[..., 0], ray[..., 1], ray[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(dz < -1e-4, -camera.height_m / dz, np.inf).astype(np.float32)
        reach, kind = ground.copy(), np.where(np.isfinite(ground), 1, 0)
        for side, mark in ((1.0, 2), (-1.0, 3)):
            if camera.x_m * side < FRONT_M:
                front = (side * FRONT_M - camera.x_m) / dx
                hit = (front > 0) & (front < reach)
                reach, kind = np.where(hit, front, reach), np.where(hit, mark, kind)
        end = (END_M - camera.y_m) / dy
        hit = (end > 0) & (end < reach)
        reach, kind = np.where(hit, end, reach), np.where(hit, 4, kind)
    reach = np.where(np.isfinite(reach), reach, 0).astype(np.float32)
    x, y, z = camera.x_m + reach * dx, camera.y_m + reach * dy, camera.height_m + reach * dz
    rgb = _sky(dx, dy, dz, noise, light)
    for mark in (1, 2, 3, 4):
        where = kind == mark
        if not where.any():
            continue
        if mark == 1:
            colour = _ground(x[where], y[where], noise, light)
        else:
            along, up = (x if mark == 4 else y)[where], z[where]
            colour = _front(along, up, noise, light, seed * 7 + mark)
            open_sky = up > _roof_height(along, noise, seed * 7 + mark)
            colour[open_sky] = rgb[where][open_sky]
        haze = (1 - np.exp(-reach[where] / 260))[:, None]
        rgb[where] = colour * (1 - haze) + np.array([176, 186, 196], np.float32) * light.level * haze
    return np.clip(rgb, 0, 255).astype(np.uint8)


def _f32(values: NDArray[np.floating[Any]]) -> Plane:
    return np.asarray(values, np.float32)


def _sky(dx: Plane, dy: Plane, dz: Plane, noise: _Noise, light: Light) -> Plane:
    up = np.clip(dz, 0.0, 0.6)[..., None]
    day = np.array([206, 218, 230], np.float32) * (1 - up) + np.array([120, 164, 214], np.float32) * up
    spread = 1.0 / np.maximum(dz, 0.04)
    coarse = noise.at(_f32(dx * spread * 3 + 40), _f32(dy * spread * 3 + 40), 2.0)
    cloud = coarse * 0.6 + noise.at(_f32(dx * spread * 9), _f32(dy * spread * 9), 2.0) * 0.4
    day += (np.clip(cloud - 0.45, 0, 1) * 120)[..., None]
    night = np.array([26, 30, 44], np.float32)
    share = np.float32(light.daylight)
    return np.asarray(day * share + night * (1 - share), np.float32)


def _ground(x: Plane, y: Plane, noise: _Noise, light: Light) -> Plane:
    grain = noise.at(x, y, 0.05) * 0.5 + noise.at(x, y, 0.23) * 0.5
    patches = noise.at(x + 9, y, 1.7) * 0.6 + noise.at(x, y + 5, 6.0) * 0.4
    asphalt = 84 + 20 * (grain - 0.5) + 22 * (patches - 0.5)
    tracks = np.minimum(np.abs(np.abs(x) - 0.95), np.abs(np.abs(x) - 2.45))
    asphalt = asphalt - 9 * np.exp(-((tracks / 0.3) ** 2))
    asphalt = asphalt - 12 * (np.abs(noise.at(x, y, 3.1) - 0.5) < 0.006)  # cracks
    white = (np.abs(x) < 0.075) & (np.mod(y, 9.0) < 3.0)
    white |= np.abs(np.abs(x) - 4.55) < 0.06
    asphalt = np.where(white, 176 + 40 * (grain - 0.5) - 30 * (patches > 0.62), asphalt)
    slab_i, slab_j = np.floor(x / 0.6).astype(np.int32), np.floor(y / 0.6).astype(np.int32)
    in_x, in_y = np.mod(x, 0.6), np.mod(y, 0.6)
    joint = np.minimum(np.minimum(in_x, 0.6 - in_x), np.minimum(in_y, 0.6 - in_y))
    slabs = 138 + 22 * (noise.cells(slab_i, slab_j) - 0.5) + 16 * (grain - 0.5) + 18 * (patches - 0.5)
    slabs = np.where(joint < 0.015, slabs * 0.78, slabs)
    off = np.abs(x)
    kerb = 156 + 14 * (grain - 0.5) - 40 * (np.mod(y, 1.0) < 0.02)
    tone = np.where(off < KERB_M, asphalt, np.where(off < KERB_M + 0.25, kerb, slabs))
    tone = np.where(np.abs(off - KERB_M) < 0.05, tone * 0.6, tone)
    cold, warm = np.array([0.98, 1.0, 1.03], np.float32), np.array([1.03, 1.0, 0.95], np.float32)
    colour = tone[:, None] * np.where((off < KERB_M)[:, None], cold, warm)
    return np.asarray(colour * _lamplight(x, y, light)[:, None], np.float32)


def _lamplight(x: Plane, y: Plane, light: Light) -> Plane:
    """How bright the ground is: even by day, pools under the lamps by night."""
    along = np.mod(y + _LAMP_EVERY_M / 2, _LAMP_EVERY_M) - _LAMP_EVERY_M / 2
    pool = np.exp(-((np.abs(x) - 6.5) ** 2) / 18 - along**2 / 40)
    return np.asarray(light.level * (1 + (1 - light.daylight) * 1.1 * pool), np.float32)


def _house(along: Plane, noise: _Noise, seed: int) -> tuple[NDArray[np.int32], Plane]:
    """Which house, and how far into it (m): houses are 9 to 15 m wide."""
    stretched = along + 2.5 * (noise.at(along, np.full_like(along, 0.5), 17.0) - 0.5)
    index = np.floor(stretched / 12.0)
    return index.astype(np.int32) + seed * 13, np.asarray(stretched - index * 12.0)


def _roof_height(along: Plane, noise: _Noise, seed: int) -> Plane:
    house, _ = _house(along, noise, seed)
    return np.asarray(8.0 + 3.1 * np.floor(noise.cells(house, house * 5 + 1) * 4))


_WALLS = np.array(
    [[168, 96, 76], [196, 186, 168], [150, 144, 136], [184, 158, 122], [122, 112, 106], [206, 198, 188], [142, 84, 70]],
    np.float32,
)


def _front(along: Plane, up: Plane, noise: _Noise, light: Light, seed: int) -> Plane:
    house, inside = _house(along, noise, seed)
    wall = _WALLS[(noise.cells(house, house * 3 + 7) * len(_WALLS)).astype(np.int32) % len(_WALLS)]
    rough = noise.at(along, up, 0.12) * 0.5 + noise.at(along, up, 1.4) * 0.5
    course = np.mod(up, 0.24) < 0.03
    colour = wall * (0.86 + 0.24 * rough - 0.07 * course)[:, None]
    floor, bay = np.floor((up - 4.0) / 3.1).astype(np.int32), np.floor(inside / 2.0).astype(np.int32)
    in_floor, in_bay = np.mod(up - 4.0, 3.1), np.mod(inside, 2.0)
    frame = (up > 4.0) & (in_floor > 0.7) & (in_floor < 2.4) & (in_bay > 0.4) & (in_bay < 1.6)
    pane = frame & (in_floor > 0.8) & (in_floor < 2.3) & (in_bay > 0.5) & (in_bay < 1.5) & (np.abs(in_bay - 1.0) > 0.04)
    colour[frame] = np.array([214, 210, 204], np.float32)
    lucky = noise.cells(house * 31 + bay, floor + 3)
    sky_in_glass = (70 + 46 * noise.at(along, up, 2.6))[:, None] * np.array([0.8, 0.95, 1.1], np.float32)
    colour[pane] = sky_in_glass[pane]
    shop = (up > 0.5) & (up < 3.0) & (np.mod(inside, 4.0) > 0.35) & (np.mod(inside, 4.0) < 3.6)
    goods = noise.at(along, up, 0.35)
    colour[shop] = (np.array([52, 58, 64], np.float32) + 74 * ((goods > 0.55) * goods)[:, None])[shop]
    sign = (up > 3.05) & (up < 3.7)
    hue = noise.cells(house, house + 9)[:, None]
    colour[sign] = (np.array([60, 70, 90], np.float32) * (1 - hue) + np.array([170, 60, 50], np.float32) * hue)[sign]
    colour[(up < 0.5)] *= 0.8
    colour *= np.float32(light.level)
    if light.daylight < 0.5:
        lit = (pane & (lucky > 0.6)) | (shop & (noise.cells(house, np.floor(inside / 4.0).astype(np.int32)) > 0.45))
        colour[lit] = (np.array([230, 196, 130], np.float32) * (0.55 + 0.5 * goods)[:, None])[lit]
    return np.asarray(colour, np.float32)


def _furniture(picture: Image.Image, camera: Perspective, rng: np.random.Generator, light: Light) -> None:
    """Trees and lamp posts along the house fronts, behind everybody."""
    draw = ImageDraw.Draw(picture)
    sides = [side for side in (-1, 1) if camera.x_m * side < FRONT_M]
    spots = [(side, y) for side in sides for y in np.arange(-40.0, 110.0, _LAMP_EVERY_M / 2)]
    spots.sort(key=lambda spot: -float(camera.project(np.array([spot[0] * 9.1, spot[1], 0.0]))[1]))
    for number, (side, y) in enumerate(spots):
        x = side * 9.15
        base, depth = camera.project(np.array([[x, y, 0.0], [x, y, 5.0]]))
        luck = rng.random(40)
        if depth.min() < 1.0:
            continue
        scale = camera.focal_px / float(depth[0])
        if round(y / (_LAMP_EVERY_M / 2)) % 2:
            _tree(draw, base, scale, luck, light)
        elif number:
            post = light.lit((62, 66, 70), 0.9)
            draw.line([tuple(np.rint(point)) for point in base], fill=post, width=max(1, round(0.14 * scale)))
            head = camera.project(np.array([x - side * 1.2, y, 5.1]))[0]
            draw.line([tuple(np.rint(base[1])), tuple(np.rint(head))], fill=post, width=max(1, round(0.1 * scale)))
            r = max(1, round(0.16 * scale))
            glow = (255, 236, 190) if light.daylight < 0.5 else light.lit((200, 200, 196), 1.0)
            cx, cy = (round(float(value)) for value in head)
            draw.ellipse((cx - 2 * r, cy - r, cx + 2 * r, cy + r), fill=glow)


def _tree(draw: ImageDraw.ImageDraw, base: Floats, scale: float, luck: Floats, light: Light) -> None:
    (x, y), (_, high) = base
    trunk = [(round(x), round(y)), (round(x), round(high + 0.3 * (y - high)))]
    draw.line(trunk, fill=light.lit((74, 58, 46), 0.9), width=max(1, round(0.22 * scale)))
    for k in range(20):
        angle, out = float(luck[k]) * 2 * math.pi, 0.9 * float(luck[k + 20])
        cx = x + math.cos(angle) * out * 1.4 * scale
        cy = high + (0.25 + math.sin(angle) * out * 1.1) * scale
        r = (0.45 + 0.35 * float(luck[39 - k])) * scale
        tone = 0.62 + 0.05 * (k % 9) - 0.12 * math.sin(angle)
        box = tuple(round(value) for value in (cx - r, cy - r, cx + r, cy + r))
        draw.ellipse(box, fill=light.lit((78, 104, 58), tone))


def softened(picture: Image.Image) -> Image.Image:
    """As a lens would show it."""
    return picture.filter(ImageFilter.GaussianBlur(0.6))
