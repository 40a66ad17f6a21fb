"""Colours and light: what actors wear, how cars are painted, and how the hour of the day changes both."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

_SKINS: tuple[Colour, ...] = ((236, 196, 170), (222, 176, 146), (196, 148, 116), (150, 104, 76), (104, 70, 52))
_HAIRS: tuple[Colour, ...] = ((34, 28, 26), (62, 44, 32), (104, 74, 46), (176, 142, 92), (120, 118, 116), (24, 24, 28))
_TOPS: tuple[Colour, ...] = (
    (34, 36, 44), (58, 62, 72), (28, 44, 84), (126, 30, 34), (44, 84, 58), (196, 192, 184), (222, 220, 216),
    (150, 122, 84), (92, 100, 116), (206, 160, 44), (88, 54, 96), (64, 116, 152), (196, 96, 60), (24, 24, 28),
)  # fmt: skip
_LEGS: tuple[Colour, ...] = (
    (30, 34, 46), (44, 56, 86), (62, 80, 116), (24, 24, 28), (92, 84, 70), (128, 120, 104), (70, 70, 74),
)  # fmt: skip
_CARS: tuple[Colour, ...] = (
    (226, 228, 230), (188, 192, 196), (122, 126, 132), (58, 62, 68), (26, 27, 30), (148, 28, 30), (30, 58, 118),
    (36, 74, 62), (206, 198, 178), (96, 124, 156), (212, 212, 214), (70, 72, 78),
)  # fmt: skip
_BUSES: tuple[Colour, ...] = ((186, 32, 36), (232, 232, 228), (40, 88, 150), (216, 164, 40), (54, 120, 84))
_CARGOS: tuple[Colour, ...] = ((228, 228, 226), (196, 200, 204), (60, 92, 140), (176, 60, 44), (210, 180, 80))


@functools.lru_cache(maxsize=1 << 14)
def shaded(colour: Colour, tone: float) -> Colour:
    """The colour made lighter or darker."""
    red, green, blue = (min(255, max(0, round(value * tone))) for value in colour)
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Light:
    """daylight 0..1. sun: unit vector towards it. Colours come out for a camera that has set its exposure by day."""

    daylight: float
    sun: tuple[float, float, float]

    @property
    def level(self) -> float:
        """How bright a surface is that by day is 1; streets at night are lit by lamps and the camera's gain."""
        return 0.26 + 0.74 * self.daylight

    def on(self, normal: tuple[float, float, float]) -> float:
        """Brightness of a surface with this outward unit normal (world): sky from above, sun from its side."""
        facing = max(0.0, sum(float(a) * b for a, b in zip(normal, self.sun, strict=True)))
        return 0.56 + 0.16 * float(normal[2]) + 0.44 * facing

    def lit(self, colour: Colour, tone: float) -> Colour:
        """How a surface of this colour looks at brightness ``tone``."""
        warm = (1.0 + 0.12 * (1 - self.daylight), 1.0, 1.0 - 0.14 * (1 - self.daylight))
        level = self.level * tone
        red, green, blue = (min(255, max(0, round(value * level * by))) for value, by in zip(colour, warm, strict=True))
        return red, green, blue

    def glowing(self, colour: Colour) -> Colour:
        """A lamp: bright at night, a mere part by day."""
        return shaded(colour, 1.0 if self.daylight < 0.4 else 0.82)


def light_of(daylight: float, seed: int) -> Light:
    """The light of a scene; the sun's direction is drawn from ``seed``."""
    rng = np.random.default_rng([seed, 11])
    azimuth, height = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.6, 1.1))
    sun = (math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height), math.sin(height))
    return Light(daylight, sun)


@dataclass(frozen=True, slots=True)
class Wear:
    """What somebody wears. skirt: how far it reaches, of hip to knee; 0 for none."""

    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    pack_colour: Colour
    skirt: float
    coat: bool
    shorts: bool
    short_sleeves: bool
    pack: bool
    hat: bool


def person_paints(paint: int, seated: bool) -> Wear:
    """The clothes drawn from a seed; riders wear no skirt and no coat."""
    rng = np.random.default_rng([paint, 1])

    def pick(colours: tuple[Colour, ...]) -> Colour:
        return shaded(colours[int(rng.integers(len(colours)))], float(rng.uniform(0.85, 1.12)))

    luck = rng.random(6)
    return Wear(
        skin=pick(_SKINS),
        hair=pick(_HAIRS),
        top=pick(_TOPS),
        legs=pick(_LEGS),
        shoes=pick(((28, 28, 30), (90, 70, 52), (214, 212, 208))),
        pack_colour=pick(_TOPS),
        skirt=float(luck[0] < 0.15 and not seated) * (0.75 + 0.4 * float(luck[1])),
        coat=bool(luck[2] < 0.2 and not seated),
        shorts=bool(luck[3] < 0.15),
        short_sleeves=bool(luck[4] < 0.35),
        pack=bool(luck[5] < 0.22),
        hat=bool(luck[1] < 0.18),
    )


def vehicle_paints(class_name: str, paint: int) -> dict[str, Colour]:
    """Colours of a vehicle's faces by the names its mesh uses, drawn from a seed."""
    rng = np.random.default_rng([paint, 2])
    shells = {"bus": _BUSES}.get(class_name, _CARS)
    body = shaded(shells[int(rng.integers(len(shells)))], float(rng.uniform(0.9, 1.08)))
    cargo = _CARGOS[int(rng.integers(len(_CARGOS)))]
    return {
        "body": body,
        "side": shaded(body, 0.96),
        "roof": shaded(body, 1.02),
        "cab": shaded(_CARS[int(rng.integers(len(_CARS)))], 1.0),
        "cargo": cargo,
        "stripe": shaded(_TOPS[int(rng.integers(len(_TOPS)))], 1.1),
        "trim": (40, 41, 44),
        "under": (26, 26, 28),
        "seam": shaded(body if class_name != "truck" else cargo, 0.62),
        "glass": (44, 54, 64),
        "screen": (62, 76, 90),
        "shine": (120, 138, 152),
        "grille": (30, 31, 34),
        "plate": (226, 222, 190),
        "lamp": (255, 250, 226),
        "tail": (196, 22, 26),
        "board": (240, 170, 40),
        "rim": shaded((168, 170, 174), float(rng.uniform(0.6, 1.1))),
    }
