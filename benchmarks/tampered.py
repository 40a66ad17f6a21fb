"""Cameras that are tampered with, made from real pictures: what benchmarks.tampering shows to the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.core.frame import Picture

Change = Callable[[Picture, int], Picture]
"""A picture and its number since the onset, to the picture that the camera gives instead."""

_NOISE = np.random.default_rng(5).normal(0, 1, (1024, 1024)).astype(np.float32)


def _noise(picture: Picture, n: int, sigma: float) -> NDArray[np.float32]:
    """A sensor's noise: another part of one field for each picture."""
    top, left = (n * 37) % 400, (n * 91) % 500
    part: NDArray[np.float32] = _NOISE[top : top + picture.shape[0], left : left + picture.shape[1], None]
    return part * np.float32(sigma)


def _byte(values: NDArray[np.floating]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)


def _blurred(picture: Picture, share: float) -> Picture:
    """Out of focus by ``share`` of the width (standard deviation)."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(share * picture.shape[1])))


def cloth(picture: Picture, n: int, level: float, tint: tuple[float, float, float]) -> Picture:
    """Something even close before the lens, lit from one side."""
    across = np.linspace(0.7, 1.3, picture.shape[1], dtype=np.float32)[None, :, None]
    return _byte(level * across * np.array(tint, np.float32) + _noise(picture, n, 1.5))


def hand(picture: Picture, n: int, share: float) -> Picture:
    """A hand comes in from the left, within a quarter of a second, over ``share`` of the width."""
    height, width = picture.shape[:2]
    reach = share * min((n + 1) / 3, 1.0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    there = np.clip((reach * 1.05 * width - x + 0.1 * width * np.sin(5 * y / height)) / (0.06 * width) + 0.5, 0, 1)
    skin = np.array([150, 100, 80], np.float32) * (0.6 + 0.3 * np.cos(6 * x / width))[..., None]
    return _byte(picture * (1 - there[..., None]) + skin * there[..., None] + _noise(picture, n, 1.5))


def tape(picture: Picture, n: int) -> Picture:
    """A strip of milky tape: bright, and next to nothing to be seen through it."""
    return _byte(_blurred(picture, 0.05) * np.float32(0.2) + 152 + _noise(picture, n, 1.0))


def unfocused(picture: Picture, n: int, share: float, seconds: float = 0.0) -> Picture:
    """Out of focus, at once or more and more."""
    so_far = share * min((n + 1) / (8 * seconds), 1.0) if seconds else share
    return _byte(_blurred(picture, so_far) + _noise(picture, n, 1.0))


def turned(picture: Picture, n: int, to: tuple[float, float], scale: float = 0.7) -> Picture:
    """A part of the picture stands for what the camera sees; turned, it sees another part of the same size.

    to: shares of its own size, to the right and down; n below 0: not turned yet.
    """
    height, width = picture.shape[:2]
    wide, high = int(width * scale), int(height * scale)
    x, y = to if n >= 0 else (0.0, 0.0)
    left = min(max(int((width - wide) / 2 + x * wide), 0), width - wide)
    top = min(max(int((height - high) / 2 + y * high), 0), height - high)
    return _zoomed(picture, (left, top, left + wide, top + high))


def tilted(picture: Picture, n: int, degrees: float) -> Picture:
    """The inner 80 % of the picture, turned about its middle."""
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).rotate(degrees if n >= 0 else 0.0, Image.Resampling.BICUBIC)
    box = (width // 10, height // 10, width - width // 10, height - height // 10)
    return _zoomed(np.asarray(image), box)


def _zoomed(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    size = (picture.shape[1], picture.shape[0])
    return np.asarray(Image.fromarray(picture).crop(box).resize(size, Image.Resampling.BILINEAR))


def captioned(picture: Picture, n: int, change: Change) -> Picture:
    """A caption at the top and a clock at the bottom, as most cameras write them: over whatever the lens gives."""
    turns = isinstance(change, partial) and change.func is turned
    image = Image.fromarray(change(picture, n) if n >= 0 or turns else picture)
    width, height = image.size
    pen, size = ImageDraw.Draw(image), height // 14
    pen.text((width // 50, height // 40), "CAM 04  NORTH GATE", (255, 255, 255), font_size=size)
    clock = f"2026-11-21  14:03:{20 + (n + 80) // 8 % 40:02d}"
    pen.text((width * 0.5, height - 1.5 * size), clock, (255, 255, 255), font_size=size)
    return np.asarray(image)


def dark(picture: Picture, n: int, sigma: float) -> Picture:
    """No light, or no signal."""
    return _byte(sigma + _noise(picture, n, sigma) + np.zeros_like(picture, np.float32))


def lamp(picture: Picture, _n: int, radius: float, veil: float) -> Picture:
    """A light in the picture that saturates it over ``radius`` of the width, and a veil over the rest."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = ((x - 0.6 * width) ** 2 + (y - 0.4 * height) ** 2) / (radius * width) ** 2
    return _byte(picture * np.float32(0.9) + veil + 300 * np.exp(-away)[..., None])


def overexposed(picture: Picture, _n: int, gain: float) -> Picture:
    """So much light that most of it is white."""
    return _byte(picture * np.float32(gain) + 20)


_TURNED = partial(turned, to=(-0.12, 0.05))
_UNFOCUSED = partial(unfocused, share=6 / 416)
_NOISY = partial(dark, sigma=3.0)
_TORCH = partial(lamp, radius=0.6, veil=80.0)
_BAG = partial(cloth, level=90.0, tint=(1, 0.8, 0.5))
WITH_CAPTION = "with a caption"

TAMPERED: dict[str, dict[str, Change]] = {
    "black": {"no signal": partial(dark, sigma=0.0), "noisy": _NOISY, WITH_CAPTION: partial(captioned, change=_NOISY)},
    "glare": {
        "lamp": partial(lamp, radius=0.3, veil=40.0), "torch": _TORCH,
        "overexposed": partial(overexposed, gain=3.0), WITH_CAPTION: partial(captioned, change=_TORCH),
    },
    "covered": {
        "dark cloth": partial(cloth, level=30.0, tint=(1, 1, 1)),
        "bag": _BAG, WITH_CAPTION: partial(captioned, change=_BAG),
        "paper": partial(cloth, level=180.0, tint=(1, 1, 1)),
        "hand, 80 %": partial(hand, share=0.8), "milky tape": tape,
    },
    "defocused": {
        "slightly": partial(unfocused, share=2 / 416), "clearly": _UNFOCUSED,
        WITH_CAPTION: partial(captioned, change=_UNFOCUSED),
        "wholly": partial(unfocused, share=12 / 416), "within 1 s": partial(unfocused, share=5 / 416, seconds=1.0),
    },
    "moved": {
        "by 6 %": partial(turned, to=(0.06, 0.02)), "by 12 %": _TURNED,
        WITH_CAPTION: partial(captioned, change=_TURNED),
        "by 20 %": partial(turned, to=(0.2, 0.1)), "turned by 8 degrees": partial(tilted, degrees=8.0),
    },
    "frozen": {},  # the picture of the onset over and over, also through a codec: benchmarks.tampering
}  # fmt: skip


def dimmed(picture: Picture, n: int, gain: float) -> Picture:
    """Most lamps are switched off."""
    return _byte(picture * np.float32(gain) + _noise(picture, n, 1.5))


def dusk(picture: Picture, n: int) -> Picture:
    """Night falls within seven seconds."""
    return _byte(picture * np.float32(1 - 0.75 * min(n / 56, 1.0)) + _noise(picture, n, 1.5))


def infrared(picture: Picture, n: int) -> Picture:
    """The camera changes to gray pictures."""
    return _byte(np.repeat(picture.mean(axis=2, keepdims=True, dtype=np.float32), 3, axis=2) + _noise(picture, n, 2.0))


def rain(picture: Picture, n: int) -> Picture:
    """Bright streaks, others in every picture."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    rng = np.random.default_rng(n)
    for x, y, length in zip(*rng.uniform(0, (picture.shape[1], picture.shape[0], 25), (120, 3)).T, strict=True):
        pen.line((x, y, x + length / 4, y + length), fill=(200, 200, 210))
    return np.asarray(image)


def somebody(picture: Picture, n: int) -> Picture:
    """A dark coat goes by close to the camera, two fifths of the picture wide, in three seconds."""
    height, width = picture.shape[:2]
    left = int(-0.4 * width + n * 1.4 * width / 24)
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).rounded_rectangle((left, height // 8, left + 0.4 * width, height * 2), 40, fill=(45, 42, 50))
    return np.asarray(image)


def lorry(picture: Picture, n: int) -> Picture:
    """A lorry with slats fills most of the picture for a second."""
    height, width = picture.shape[:2]
    drawn = picture.copy()
    left = width - n * width // 5
    slats = np.roll((np.arange(width * 2) // 14 % 2 * 80 + 110).astype(np.uint8), left)
    wide = drawn[height // 10 :, max(left, 0) : max(left + int(1.3 * width), 0)]
    wide[:] = slats[None, : wide.shape[1], None]
    return drawn


def wind(picture: Picture, n: int) -> Picture:
    """The pole sways by one percent."""
    reach = 0.01 * picture.shape[1]
    return np.roll(picture, (round(reach * np.sin(2.1 * n) / 2), round(reach * np.sin(1.3 * n))), (0, 1))


ORDINARY: dict[str, Change] = {
    "lamps off (to 35 %)": partial(dimmed, gain=0.35), "lamps off (to 65 %)": partial(dimmed, gain=0.65),
    "lamps on (to 140 %)": partial(dimmed, gain=1.4), "dusk": dusk,
    "infrared": infrared, "rain": rain, "somebody close by": somebody, "a lorry": lorry, "wind": wind,
}  # fmt: skip
"""What happens before every camera, and must not be told of."""
