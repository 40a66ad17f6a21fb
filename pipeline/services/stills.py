"""A still of a camera with a grid of its coordinates, to read lines and areas off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.core.frame import Picture
from pipeline.core.rules import Point

_LEAST_WIDTH, _MOST_WIDTH = 1200, 1920
_LINE_COLOUR, _ZONE_COLOUR = (255, 70, 70), (70, 200, 255)


def still_with_grid(
    picture: Picture,
    *,
    title: str = "",
    lines: Sequence[tuple[str, Sequence[Point]]] = (),
    zones: Sequence[tuple[str, Sequence[Point]]] = (),
) -> Image.Image:
    """``picture`` (H x W x 3 uint8 RGB) with 0..1 rulers round it, a grid line every 0.1 and a fine one every 0.05.

    Small pictures are enlarged, so that the figures can be read. lines and zones: name and points in 0..1, drawn over.
    """
    still = _enlarged(Image.fromarray(np.ascontiguousarray(picture)))
    width, height = still.size
    unit = max(16, width // 75)  # height of the figures in pixels
    margin = round(unit * 2.2)
    sheet = Image.new("RGB", (width + 2 * margin, height + 2 * margin + unit), (24, 26, 30))
    sheet.paste(still, (margin, margin))
    draw = ImageDraw.Draw(sheet, "RGBA")
    _grid(draw, (margin, margin), (width, height), unit)

    def at(point: Point) -> tuple[float, float]:
        return margin + point[0] * (width - 1), margin + point[1] * (height - 1)

    for name, points in zones:
        corners = [at(point) for point in points]
        draw.polygon(corners, fill=(*_ZONE_COLOUR, 40))
        draw.line([*corners, corners[0]], fill=_ZONE_COLOUR, width=max(2, unit // 6), joint="curve")
        _label(draw, _middle(corners), name, unit, _ZONE_COLOUR)
    for name, points in lines:
        _directed(draw, name, [at(point) for point in points], unit)
    font = ImageFont.load_default(size=round(unit * 0.85))
    caption = f"{title}   x to the right, y down: [0.3, 0.7] is 30 % from the left, 70 % from the top".strip()
    draw.text((margin, height + 2 * margin + unit * 0.6), caption, fill=(170, 175, 185), font=font, anchor="ls")
    return sheet


def _enlarged(still: Image.Image) -> Image.Image:
    width = min(max(still.width, _LEAST_WIDTH), _MOST_WIDTH)
    if width == still.width:
        return still
    return still.resize((width, round(still.height * width / still.width)), Image.Resampling.LANCZOS)


def _grid(draw: ImageDraw.ImageDraw, origin: tuple[int, int], size: tuple[int, int], unit: int) -> None:
    font = ImageFont.load_default(size=unit)
    (left, top), (width, height) = origin, size
    for step in range(21):
        x, y = left + round(step / 20 * (width - 1)), top + round(step / 20 * (height - 1))
        strong = step % 2 == 0
        # A dark line beside the light one keeps the grid visible on any picture.
        for shift, colour in ((1, (0, 0, 0, 110 if strong else 45)), (0, (255, 255, 255, 150 if strong else 60))):
            draw.line([(x + shift, top), (x + shift, top + height - 1)], fill=colour)
            draw.line([(left, y + shift), (left + width - 1, y + shift)], fill=colour)
        if strong:
            told = f"{step / 20:.1f}"
            for row in (top - unit * 0.75, top + height + unit * 0.7):
                draw.text((x, row), told, fill=(255, 255, 255), font=font, anchor="mm")
            for column, anchor in ((left - unit * 0.3, "rm"), (left + width + unit * 0.3, "lm")):
                draw.text((column, y), told, fill=(255, 255, 255), font=font, anchor=anchor)


def _directed(draw: ImageDraw.ImageDraw, name: str, points: list[tuple[float, float]], unit: int) -> None:
    """A line with its ends A and B, and what is called left and right of it."""
    draw.line(points, fill=(0, 0, 0), width=max(4, unit // 3), joint="curve")
    draw.line(points, fill=_LINE_COLOUR, width=max(2, unit // 6), joint="curve")
    (x0, y0), (x1, y1) = points[0], points[-1]
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1.0)
    along = (x1 - x0) / length, (y1 - y0) / length
    to_right = -along[1], along[0]
    inset = min(unit * 1.4, length / 4)
    _label(draw, (x0 + along[0] * inset, y0 + along[1] * inset), "A", unit, _LINE_COLOUR)
    _label(draw, (x1 - along[0] * inset, y1 - along[1] * inset), "B", unit, _LINE_COLOUR)
    middle = (x0 + x1) / 2, (y0 + y1) / 2
    for side, told in ((1, f"{name}: right"), (-1, f"{name}: left")):
        away = side * unit * 1.6
        _label(draw, (middle[0] + to_right[0] * away, middle[1] + to_right[1] * away), told, unit, _LINE_COLOUR)


def _label(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], told: str, unit: int, colour: tuple[int, int, int]
) -> None:
    font = ImageFont.load_default(size=unit)
    box = draw.textbbox(at, told, font=font, anchor="mm")
    pad = unit * 0.25
    draw.rounded_rectangle((box[0] - pad, box[1] - pad, box[2] + pad, box[3] + pad), pad, fill=(0, 0, 0, 170))
    draw.text(at, told, fill=colour, font=font, anchor="mm")


def _middle(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return float(np.mean([x for x, _ in points])), float(np.mean([y for _, y in points]))
