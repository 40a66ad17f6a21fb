"""Charts as inline SVG: no script and no network needed to read them; colours come from the page's CSS classes.

Every value that is drawn is also in the chart as text (the ``<title>`` of its bin or bar), so that a screen reader,
a test or a curious person finds the number behind the shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from pipeline.core.events import utc

WIDTH, HEIGHT = 860, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 12, 26
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart. css: its colour class. area: filled down to zero. dashed: the line is."""

    name: str
    values: Values
    css: str
    area: bool = False
    dashed: bool = False
    thin: bool = False


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """Bins of equal width. observed: the share 0..1 of each bin in which the camera was really seen."""

    starts_us: NDArray[np.int64]
    bin_us: int
    observed: Values = field(default_factory=lambda: np.zeros(0))

    @property
    def relative(self) -> bool:
        """Whether times count from the beginning of a file (1970) and not from a real date."""
        return bool(len(self.starts_us)) and int(self.starts_us[-1]) < 365 * 86_400_000_000

    def text(self, at_us: int) -> str:
        """A moment as a person reads it."""
        if self.relative:
            whole = at_us / 1e6
            minutes, seconds = divmod(whole, 60)
            return f"{int(minutes)}:{seconds:04.1f}" if self.bin_us < 1_000_000 else f"{int(minutes)}:{int(seconds):02}"
        at = utc(at_us)
        return at.strftime("%Y-%m-%d %H:%M:%S")


def nice_top(value: float) -> float:
    """The least of 1, 2, 4, 5, 8, 10 times a power of ten that is not below ``value`` (at least 1)."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value - 1e-9)


def time_chart(
    axis: TimeAxis, series: Sequence[Series], *, label: str, tip: Callable[[int], str], stepped: bool = False
) -> Markup:
    """Lines and areas over time, with grey where the camera was blind. ``tip``: the text of a bin by its index.

    A line is broken over bins that were not observed at all, unless ``stepped`` (running totals hold).
    """
    top = nice_top(max((float(s.values.max()) for s in series if len(s.values)), default=0.0))
    count = len(axis.starts_us)
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    x = np.linspace(_LEFT, _LEFT + inner_w, count + 1, dtype=np.float64)
    parts = [_open(label), _grid(top, inner_h), _time_ticks(axis, x)]
    blind = axis.observed <= 0 if len(axis.observed) == count else np.zeros(count, bool)
    parts += _gaps(axis, x, inner_h)
    for each in series:
        y = _TOP + inner_h * (1 - np.minimum(each.values, top) / top)
        for first, last in [(0, count)] if stepped else _runs(~blind):
            if last > first:
                parts += _stroke(each, x, y, first, last, _TOP + inner_h, stepped)
    for i in range(count):
        parts.append(
            f'<rect class="hit" x="{x[i]:.2f}" y="{_TOP}" width="{x[i + 1] - x[i]:.2f}" height="{inner_h}">'
            f"<title>{escape(tip(i))}</title></rect>"
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  # every piece of text above went through escape


def _open(label: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'


def _grid(top: float, inner_h: int) -> str:
    lines = []
    steps = 4 if top % 4 == 0 else 5 if top % 5 == 0 else 2 if top % 2 == 0 else 1
    for i in range(steps + 1):
        y = _TOP + inner_h * (1 - i / steps)
        value = f"{top * i / steps:g}"
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{value}</text>')
    return "".join(lines)


def _time_ticks(axis: TimeAxis, x: Values) -> str:
    if not len(axis.starts_us):
        return ""
    start_us, end_us = int(axis.starts_us[0]), int(axis.starts_us[-1]) + axis.bin_us
    span_s = (end_us - start_us) / 1e6
    step_s = next((step for step in _STEPS_S if span_s / step <= 8), 86400 * math.ceil(span_s / 86400 / 8))
    ticks = []
    tick_us = -(-start_us // (step_s * 1_000_000)) * step_s * 1_000_000
    while tick_us <= end_us:
        at = float(x[0] + (x[-1] - x[0]) * (tick_us - start_us) / (end_us - start_us))
        text = _tick_text(axis, tick_us, step_s)
        anchor = "start" if at < _LEFT + 12 else "end" if at > WIDTH - _RIGHT - 12 else "middle"
        ticks.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{text}</text>')
        tick_us += step_s * 1_000_000
    return "".join(ticks)


def _tick_text(axis: TimeAxis, at_us: int, step_s: int) -> str:
    if axis.relative:
        minutes, seconds = divmod(at_us // 1_000_000, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    at = utc(at_us)
    return at.strftime("%d %b" if step_s >= 86400 else "%H:%M" if step_s >= 60 else "%H:%M:%S")


def _gaps(axis: TimeAxis, x: Values, inner_h: int) -> list[str]:
    """Grey where nothing, or not everything, was observed: the darker the less. Equal neighbours are one shape."""
    shares = np.round(axis.observed, 2)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(shares) != 0])) if len(shares) else np.zeros(0, np.intp)
    parts = []
    for first, end in zip(starts, [*starts[1:], len(shares)], strict=True):
        if shares[first] < 0.98:
            parts.append(
                f'<rect class="gap" x="{x[first]:.2f}" y="{_TOP}" width="{x[end] - x[first]:.2f}" '
                f'height="{inner_h}" style="opacity:{1 - shares[first]:.2f}"/>'
            )
    return parts


def _runs(kept: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The stretches of True, as (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    return list(zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True))


def _stroke(series: Series, x: Values, y: Values, first: int, last: int, floor: float, stepped: bool) -> list[str]:
    if stepped:
        points = [f"{x[i]:.2f},{y[i]:.2f} {x[i + 1]:.2f},{y[i]:.2f}" for i in range(first, last)]
    elif last - first == 1:
        points = [f"{x[first]:.2f},{y[first]:.2f} {x[last]:.2f},{y[first]:.2f}"]
    else:
        points = [f"{(x[i] + x[i + 1]) / 2:.2f},{y[i]:.2f}" for i in range(first, last)]
    line = " ".join(points)
    style = " dashed" if series.dashed else " thin" if series.thin else ""
    parts = []
    if series.area:
        begin, end = points[0].split(",")[0], points[-1].split(" ")[-1].split(",")[0]
        parts.append(f'<polygon class="area {series.css}" points="{begin},{floor:.2f} {line} {end},{floor:.2f}"/>')
    parts.append(f'<polyline class="line {series.css}{style}" points="{line}"/>')
    return parts


def bar_chart(names: Sequence[str], values: Sequence[int], *, css: str, label: str, unit: str) -> Markup:
    """Upright bars with their values on top."""
    height = 170
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM
    top = nice_top(max(values, default=0))
    step = inner_w / max(len(names), 1)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    parts.append(_grid(top, inner_h))
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        tall = inner_h * value / top
        x, wide = _LEFT + i * step + step * 0.14, step * 0.72
        parts.append(
            f'<rect class="bar {css}" x="{x:.1f}" y="{_TOP + inner_h - tall:.1f}" width="{wide:.1f}" '
            f'height="{tall:.1f}" rx="2"><title>{escape(name)}: {value} {escape(unit)}</title></rect>'
        )
        if value:
            at = f'x="{x + wide / 2:.1f}" y="{_TOP + inner_h - tall - 4:.1f}"'
            parts.append(f'<text class="value" {at} text-anchor="middle">{value}</text>')
        middle = f'x="{x + wide / 2:.1f}" y="{height - 8}"'
        parts.append(f'<text class="tick" {middle} text-anchor="middle">{escape(name)}</text>')
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  # names and labels went through escape, the rest is numbers
