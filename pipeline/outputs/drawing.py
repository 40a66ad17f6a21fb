"""Brushes for pictures people look at: colours, fonts that scale, labels, and the layer of rules that never moves.

Everything is in pixels of the picture that is painted on; rules come in 0..1.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipeline.core.rules import CameraRules, LineRule, Point, ZoneRule

Colour = tuple[int, int, int]
XY = tuple[float, float]
Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Amber and sky blue stay apart for every common colour blindness, and on asphalt, grass and snow.
PERSON: Colour = (255, 176, 0)
VEHICLE: Colour = (64, 190, 255)
OTHER: Colour = (200, 150, 255)
LINE: Colour = (255, 84, 150)
ZONE: Colour = (84, 226, 166)
ALARM: Colour = (255, 70, 60)
MASK: Colour = (170, 170, 170)
INK: Colour = (18, 20, 24)
PAPER: Colour = (250, 250, 250)

_SUPERSAMPLING = 3


def colour_of(kind: str | None) -> Colour:
    """The colour of a group (or of a class outside the groups)."""
    return {"person": PERSON, "vehicle": VEHICLE}.get(kind or "", OTHER)


@functools.lru_cache(maxsize=64)
def _font(size_px: int, wide: bool) -> Font:
    if wide:
        for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "Arial Unicode.ttf"):
            try:
                return ImageFont.truetype(name, size_px)
            except OSError:
                continue
    return ImageFont.load_default(size_px)


def font_for(text: str, size_px: int) -> Font:
    """A font of that size that can write the text: Pillow's own for ASCII, else one of the system's if there is any."""
    return _font(size_px, not text.isascii())


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes that fit a picture, so that a label reads the same on 640 and on 1920 pixels."""

    width: int
    height: int

    @property
    def font_px(self) -> int:
        return max(12, min(40, round(math.sqrt(self.width * self.height) / 40)))

    @property
    def stroke_px(self) -> int:
        return max(1, round(self.font_px / 7))

    @property
    def pad_px(self) -> int:
        return max(2, round(self.font_px / 3))

    def at(self, point: Point) -> XY:
        """A point of 0..1 in pixels."""
        return point[0] * self.width, point[1] * self.height


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a label: an optional dot of a colour, then text."""

    text: str
    dot: Colour | None = None


def _part_width(part: Part, scale: Scale) -> float:
    dot = scale.font_px * 0.95 if part.dot else 0.0
    return dot + font_for(part.text, scale.font_px).getlength(part.text)


def label(
    draw: ImageDraw.ImageDraw,
    scale: Scale,
    at: XY,
    parts: Sequence[Part],
    *,
    align: tuple[float, float] = (0.0, 0.0),
    paper: tuple[int, int, int, int] = (*INK, 190),
    ink: Colour = PAPER,
    taken: list[Box] | None = None,
) -> None:
    """A pill of text; ``align`` 0..1 says which of its points lies ``at``. It is kept inside the picture.

    taken: boxes it must not cover, where that can be had by moving it down; its own box is added.
    """
    gap = scale.font_px * 0.55
    width = sum(_part_width(part, scale) for part in parts) + gap * (len(parts) - 1) + 2 * scale.pad_px
    height = scale.font_px + 1.3 * scale.pad_px
    left = round(min(max(at[0] - align[0] * width, 0), max(0, scale.width - width)))
    top = round(min(max(at[1] - align[1] * height, 0), max(0, scale.height - height)))
    box = (left, top, round(left + width), round(top + height))
    if taken is not None:
        box = _moved_below(box, taken, scale)
        top = box[1]
        taken.append(box)
    draw.rounded_rectangle(box, radius=scale.pad_px, fill=paper)
    x, middle = float(left + scale.pad_px), top + height / 2
    for part in parts:
        if part.dot:
            radius = scale.font_px * 0.3
            draw.ellipse((x, middle - radius, x + 2 * radius, middle + radius), fill=part.dot)
            x += scale.font_px * 0.95
        draw.text((x, middle), part.text, font=font_for(part.text, scale.font_px), fill=ink, anchor="lm")
        x += font_for(part.text, scale.font_px).getlength(part.text) + gap


def _moved_below(box: Box, taken: Sequence[Box], scale: Scale) -> Box:
    """The box itself, or moved down past those it would cover; the box itself if that leaves the picture."""
    left, top, right, bottom = box
    for other in sorted(taken, key=lambda other: other[1]):
        if left < other[2] and other[0] < right and top < other[3] and other[1] < bottom:
            top, bottom = other[3] + 2, other[3] + 2 + box[3] - box[1]
    return (left, top, right, bottom) if bottom <= scale.height else box


def middle_of(points: Sequence[XY]) -> tuple[XY, XY]:
    """The point halfway along a polyline, and the unit vector that points to its right side there (y runs down)."""
    lengths = [math.dist(a, b) for a, b in itertools.pairwise(points)]
    left = sum(lengths) / 2
    for (a, b), length in zip(itertools.pairwise(points), lengths, strict=True):
        if left <= length and length > 0:
            way = ((b[0] - a[0]) / length, (b[1] - a[1]) / length)
            return (a[0] + way[0] * left, a[1] + way[1] * left), (-way[1], way[0])
        left -= length
    return points[0], (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Layer:
    """What is laid on every frame: a picture with its alpha, and where."""

    picture: Image.Image
    left: int
    top: int

    def paste_on(self, image: Image.Image) -> None:
        image.paste(self.picture, (self.left, self.top), self.picture)


def rules_layer(rules: CameraRules, masks: Sequence[Sequence[Point]], scale: Scale) -> Layer | None:
    """Lines, zones and mask outlines, smooth (drawn large, then shrunk); None if there is nothing to draw."""
    big = Scale(scale.width * _SUPERSAMPLING, scale.height * _SUPERSAMPLING)
    image = Image.new("RGBA", (big.width, big.height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    stroke = scale.stroke_px * _SUPERSAMPLING
    for mask in masks:
        _outline(draw, [big.at(point) for point in mask], MASK, max(1, stroke // 2))
    for zone in rules.zones:
        _zone(image, draw, zone, big, stroke)
    for line in rules.lines:
        _line(draw, line, big, stroke, scale.font_px * _SUPERSAMPLING)
    box = image.getbbox()
    if box is None:
        return None
    small = image.resize((scale.width, scale.height), Image.Resampling.BOX)
    box = small.getbbox() or (0, 0, 1, 1)
    return Layer(small.crop(box), box[0], box[1])


def _outline(draw: ImageDraw.ImageDraw, points: Sequence[XY], colour: Colour, stroke: int) -> None:
    closed = [*points, points[0]]
    draw.line(closed, fill=(*INK, 150), width=stroke * 2, joint="curve")
    draw.line(closed, fill=(*colour, 255), width=stroke, joint="curve")


def _zone(image: Image.Image, draw: ImageDraw.ImageDraw, zone: ZoneRule, big: Scale, stroke: int) -> None:
    points = [big.at(point) for point in zone.points]
    wash = Image.new("RGBA", image.size, (0, 0, 0, 0))
    ImageDraw.Draw(wash).polygon(points, fill=(*ZONE, 34))
    image.alpha_composite(wash)
    _outline(draw, points, ZONE, max(1, round(stroke * 0.8)))


def _line(draw: ImageDraw.ImageDraw, line: LineRule, big: Scale, stroke: int, font_px: int) -> None:
    points = [big.at(point) for point in line.points]
    draw.line(points, fill=(*INK, 150), width=stroke * 2, joint="curve")
    draw.line(points, fill=(*LINE, 255), width=stroke, joint="curve")
    middle, right = middle_of(points)
    _arrow(draw, middle, right, font_px * 1.5, stroke)
    radius = font_px * 0.62
    for letter, (x, y) in (("A", points[0]), ("B", points[-1])):
        x, y = min(max(x, radius), big.width - radius), min(max(y, radius), big.height - radius)  # noqa: PLW2901
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(*LINE, 255), outline=(*INK, 200), width=2)
        draw.text((x, y), letter, font=font_for(letter, round(font_px * 0.8)), fill=(*INK, 255), anchor="mm")


def _arrow(draw: ImageDraw.ImageDraw, start: XY, way: XY, length: float, stroke: int) -> None:
    """An arrow that starts on the line and points to its right side."""
    across = (-way[1], way[0])
    tip = (start[0] + way[0] * length, start[1] + way[1] * length)
    neck = (start[0] + way[0] * length * 0.55, start[1] + way[1] * length * 0.55)
    wing = length * 0.32
    head = [
        tip,
        (neck[0] + across[0] * wing, neck[1] + across[1] * wing),
        (neck[0] - across[0] * wing, neck[1] - across[1] * wing),
    ]
    draw.line([start, neck], fill=(*INK, 150), width=stroke * 2)
    draw.polygon(head, fill=(*INK, 150), outline=(*INK, 150), width=stroke)
    draw.line([start, neck], fill=(*LINE, 255), width=stroke)
    draw.polygon(head, fill=(*LINE, 255))
