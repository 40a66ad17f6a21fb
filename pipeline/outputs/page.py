"""From what a report gathered to its HTML: every text from outside goes through jinja's escaping.

The page asks for nothing: styles, script and pictures are in it, and its content security policy forbids the rest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markdown_it import MarkdownIt
from markupsafe import Markup

from pipeline.core.classes import expand, group_of
from pipeline.core.events import CAMERA_STATUS, Event
from pipeline.core.ledger import LedgerLine
from pipeline.outputs import charts
from pipeline.outputs.camera_log import DWELL_EDGES_S, CameraLog
from pipeline.outputs.charts import Series, TimeAxis
from pipeline.outputs.drawing import middle_of
from pipeline.outputs.jsonl import total_of

_TEMPLATES = Path(__file__).parent / "templates"
_MANY_CAMERAS = 6
_GROUP_WORD = {"person": "people", "vehicle": "vehicles"}


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the page tells. events: the newest first."""

    cameras: Sequence[CameraLog]
    events: Sequence[Event]
    ledger: Mapping[str, LedgerLine]
    failures: Mapping[str, str]
    model_card_markdown: str | None
    model_facts: Mapping[str, Any]
    config_yaml: str | None
    versions: Mapping[str, str]


def render(facts: Facts) -> str:
    """The whole page."""
    style, script = (_TEMPLATES / "report.css").read_text(), (_TEMPLATES / "report.js").read_text()
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cameras = [_camera(log, facts, number) for number, log in enumerate(facts.cameras)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            style=Markup(style),  # noqa: S704  # our own files
            script=Markup(script),  # noqa: S704
            script_hash=script_hash,
            cameras=cameras,
            many=len(cameras) > _MANY_CAMERAS,
            tiles=_tiles(facts),
            failures=facts.failures,
            events=_event_rows(facts),
            event_kinds=sorted({_short_type(event.type) for event in facts.events}),
            ledger=_ledger(facts.ledger),
            card=_markdown(facts.model_card_markdown),
            model_facts=facts.model_facts,
            config_yaml=facts.config_yaml,
            versions=facts.versions,
            period=_period(facts),
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", "\u202f")
    environment.filters["percent"] = percent
    environment.filters["duration"] = duration
    return environment


def _markdown(text: str | None) -> Markup | None:
    """Markdown without raw HTML, without pictures, and with links only to where a browser may safely go."""
    if text is None:
        return None
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    return Markup(renderer.render(text))  # noqa: S704  # html is off: the renderer escapes


def percent(share: float | None) -> str:
    """``97 %``; never 100 % or 0 % for what is only nearly so."""
    if share is None:
        return "–"
    if 0.995 <= share < 1 or 0 < share < 0.005:
        return (
            f"{share:.2%}".replace("%", "\u202f%")
            if 0.0001 < share < 0.9999
            else "> 99.99 %"
            if share > 0.5
            else "< 0.01 %"
        )
    return f"{share:.0%}".replace("%", "\u202f%")


def duration(seconds: float) -> str:
    """``8.4 s``, ``2 min 19 s``, ``3 h 05 min``, ``4 d 02 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def _data_uri(kind: str, content: bytes | None) -> str | None:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if content else None


def _axis_of(log: CameraLog) -> TimeAxis:
    """The time axis of a camera: a bin is observed as the count windows say, or by whether it has frames."""
    timeline = log.timeline
    frames, span = timeline.sums("frames"), timeline.sums("span_s")
    told = np.divide(timeline.sums("observed_s"), span, out=np.zeros_like(span), where=span > 0)
    observed = np.where(span > 0, np.clip(told, 0, 1), (frames > 0).astype(float))
    # A bin without a frame has nothing to show, whatever the window around it says.
    return TimeAxis(timeline.starts_us, timeline.bin_us, np.where(frames > 0, observed, 0.0))


def _period(facts: Facts) -> str:
    seen = [(log.first_us, log.last_us, log) for log in facts.cameras if log.first_us is not None and log.last_us]
    if not seen:
        return "nothing was observed"
    first, last = min(item[0] for item in seen), max(item[1] for item in seen if item[1] is not None)
    axis = TimeAxis(np.array([first, last]), 1_000_000)
    if axis.relative:
        return f"{duration((last - first) / 1e6)} of video"
    return f"{axis.text(first)} to {axis.text(last)} UTC ({duration((last - first) / 1e6)})"


def _tiles(facts: Facts) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []
    for group in ("person", "vehicle"):
        word = _GROUP_WORD[group]
        sides = {
            side: sum(
                n
                for log in facts.cameras
                for (_, kind, way), n in log.crossings.items()
                if (kind, way) == (group, side)
            )
            for side in ("left", "right")
        }
        note = f"{sides['left']} to the left, {sides['right']} to the right"
        tiles.append({"name": f"{word} crossed a line", "value": sum(sides.values()), "note": note, "css": group})
    for group in ("person", "vehicle"):
        most = max((int(log.timeline.maxima(group).max(initial=0)) for log in facts.cameras), default=0)
        tiles.append(
            {"name": f"{_GROUP_WORD[group]} at once, at most", "value": most, "note": "in one picture", "css": group}
        )
    observed, span = (sum(getattr(log, name) for log in facts.cameras) for name in ("observed_s", "span_s"))
    share = min(1.0, observed / span) if span else None
    tiles.append({"name": "of the time observed", "value": percent(share), "note": duration(observed), "css": "plain"})
    total = total_of(facts.ledger.values())
    note = (
        "every frame accounted for" if all(line.balanced for line in facts.ledger.values()) else "ledger not balanced"
    )
    tiles.append({"name": "frames analysed", "value": total.analysed, "note": note, "css": "plain"})
    return tiles


def _camera(log: CameraLog, facts: Facts, number: int) -> dict[str, Any]:
    axis = _axis_of(log)
    timeline = log.timeline
    frames = timeline.sums("frames")
    means = {
        group: np.divide(timeline.sums(group), frames, out=np.zeros_like(frames), where=frames > 0)
        for group in ("person", "vehicle")
    }
    ledger = facts.ledger.get(log.camera_id)
    return {
        "id": log.camera_id,
        "anchor": f"camera-{number}",
        "state": "failed" if log.camera_id in facts.failures else log.state or "no signal",
        "failure": facts.failures.get(log.camera_id),
        "coverage": log.coverage,
        "frames": log.frames,
        "ledger": ledger,
        "peaks": {group: int(timeline.maxima(group).max(initial=0)) for group in ("person", "vehicle")},
        "crossed": {
            group: sum(n for (_, kind, _), n in log.crossings.items() if kind == group)
            for group in ("person", "vehicle")
        },
        "picture": _picture(log),
        "occupancy": _occupancy_chart(log, axis, means) if len(axis.starts_us) else None,
        "lines": [_line(log, axis, name) for name in _line_names(log)],
        "zones": [_zone(log, name) for name in _zone_names(log)],
    }


def _occupancy_chart(log: CameraLog, axis: TimeAxis, means: Mapping[str, charts.Values]) -> Markup:
    most = {group: log.timeline.maxima(group) for group in ("person", "vehicle")}
    frames = log.timeline.sums("frames")
    series = [
        Series(f"{_GROUP_WORD[group]}, {what}", values, group, area=what == "mean", thin=what == "max")
        for what, by_group in (("max", most), ("mean", means))
        for group, values in by_group.items()
    ]

    def tip(i: int) -> str:
        begin = int(axis.starts_us[i])
        when = f"{axis.text(begin)} to {axis.text(begin + axis.bin_us)}"
        if not frames[i]:
            return f"{when}: not observed"
        told = ", ".join(
            f"{_GROUP_WORD[group]} {means[group][i]:.2f} mean, {int(most[group][i])} max"
            for group in ("person", "vehicle")
        )
        return f"{when}: {told}, observed {percent(float(axis.observed[i]))}"

    label = f"People and vehicles in the picture of {log.camera_id} over time"
    return charts.time_chart(axis, series, label=label, tip=tip)


def _line_names(log: CameraLog) -> list[str]:
    return list(dict.fromkeys([line.name for line in log.rules.lines] + sorted({key[0] for key in log.crossings})))


def _kinds(log: CameraLog, name: str) -> list[str]:
    """What a line counts apart, whether or not anything came."""
    wanted = {group_of(c) or c for line in log.rules.lines if line.name == name for c in expand(line.classes)}
    seen = {kind for line, kind, _ in log.crossings if line == name}
    return sorted(wanted | seen, key=lambda kind: ({"person": 0, "vehicle": 1}.get(kind, 2), kind))


def _line(log: CameraLog, axis: TimeAxis, name: str) -> dict[str, Any]:
    kinds = _kinds(log, name)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "left": log.crossings[name, kind, "left"], "right": log.crossings[name, kind, "right"]}
        for kind in kinds
    ]
    most = max((max(row["left"], row["right"]) for row in rows), default=0)
    totals = {
        (kind, side): np.cumsum(log.timeline.sums(f"{name}\x1f{kind}\x1f{side}"))
        for kind in kinds
        for side in ("left", "right")
    }
    series = [
        Series(f"{kind} to the {side}", values, _css(kind), dashed=side == "left")
        for (kind, side), values in totals.items()
        if len(values) and values[-1] > 0
    ]

    def tip(i: int) -> str:
        told = ", ".join(
            f"{kind} {int(totals[kind, 'left'][i])} left {int(totals[kind, 'right'][i])} right" for kind in kinds
        )
        return f"until {axis.text(int(axis.starts_us[i]) + axis.bin_us)}: {told}"

    label = f"Crossings of {name} so far"
    chart = charts.time_chart(axis, series, label=label, tip=tip, stepped=True) if series else None
    return {"name": name, "rows": rows, "most": most, "chart": chart, "series": series}


def _css(kind: str) -> str:
    return kind if kind in _GROUP_WORD else "other"


def _zone_names(log: CameraLog) -> list[str]:
    return list(dict.fromkeys([zone.name for zone in log.rules.zones] + sorted(log.zones)))


def _zone(log: CameraLog, name: str) -> dict[str, Any]:
    zone = log.zones.get(name)
    if zone is None or not zone.stays:
        return {"name": name, "stays": 0, "chart": None, "mean_s": 0.0, "longest_s": 0.0}
    last = max(i for i, count in enumerate(zone.histogram) if count)
    shown = range(min(len(DWELL_EDGES_S), max(last + 1, 4)))
    names = [_edge_name(i) for i in shown]
    chart = charts.bar_chart(
        names, [zone.histogram[i] for i in shown], css="zone", label=f"Time spent in {name}", unit="stays"
    )
    return {"name": name, "stays": zone.stays, "chart": chart, "mean_s": zone.mean_s, "longest_s": zone.longest_s}


def _edge_name(i: int) -> str:
    def short(seconds: int) -> str:
        return f"{seconds} s" if seconds < 60 else f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"

    if i + 1 == len(DWELL_EDGES_S):
        return f"over {short(DWELL_EDGES_S[i])}"
    if i == 0:
        return f"under {short(DWELL_EDGES_S[1])}"
    return f"{short(DWELL_EDGES_S[i]).removesuffix(' s').removesuffix(' min')}–{short(DWELL_EDGES_S[i + 1])}"


def _picture(log: CameraLog) -> dict[str, Any]:
    """The still, the heat maps over it, and the rules as the numbers an SVG wants."""
    width, height = log.size or (960, 540)
    heats = {
        group: _data_uri("png", log.heat.png(group) if log.heat else None) for group in ("person", "vehicle", "other")
    }

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return round(point[0] * width, 1), round(point[1] * height, 1)

    lines = []
    for line in log.rules.lines:
        points = [at(point) for point in line.points]
        middle, right = middle_of(points)
        reach = width * 0.035
        lines.append(
            {
                "name": line.name,
                "points": " ".join(f"{x},{y}" for x, y in points),
                "a": points[0],
                "b": points[-1],
                "middle": middle,
                "tip": (round(middle[0] + right[0] * reach, 1), round(middle[1] + right[1] * reach, 1)),
            }
        )
    zones = [
        {
            "name": zone.name,
            "points": " ".join(f"{x},{y}" for x, y in map(at, zone.points)),
            "label": at(min(zone.points, key=lambda p: (p[1], p[0]))),
        }
        for zone in log.rules.zones
    ]
    still = _data_uri("jpeg", log.still_jpeg)
    return {"width": width, "height": height, "still": still, "heats": heats, "lines": lines, "zones": zones}


def _ledger(ledger: Mapping[str, LedgerLine]) -> dict[str, Any]:
    causes = sorted({cause for line in ledger.values() for cause in line.dropped})
    rows = [_ledger_row(camera_id, line) for camera_id, line in ledger.items()]
    total = _ledger_row("all cameras", total_of(ledger.values())) if len(ledger) > 1 else None
    return {"causes": causes, "rows": rows, "total": total}


def _ledger_row(name: str, line: LedgerLine) -> dict[str, Any]:
    whole = max(line.captured, 1)
    shares = [("analysed", line.analysed), ("sampled out", line.sampled_out)]
    shares += [(f"dropped: {cause}", frames) for cause, frames in sorted(line.dropped.items())]
    shares += [("in flight", line.in_flight)]
    parts = [
        {"name": part, "frames": frames, "share": 100 * frames / whole, "css": part.split(":")[0].replace(" ", "-")}
        for part, frames in shares
        if frames
    ]
    return {"name": name, "line": line, "parts": parts}


def _short_type(type_: str) -> str:
    return type_.removeprefix("io.passerby.").removesuffix(".v1")


def _event_rows(facts: Facts) -> list[dict[str, Any]]:
    axes = {log.camera_id: _axis_of(log) for log in facts.cameras}
    rows = []
    for event in facts.events:
        axis = axes.get(event.camera_id)
        if axis is None or not len(axis.starts_us):
            axis = TimeAxis(np.array([event.time_us]), 1_000_000)
        rows.append(
            {
                "when": axis.text(event.time_us),
                "camera": event.camera_id,
                "type": _short_type(event.type),
                "what": _told(event),
                "track": str(event.data.get("track_id") or ""),
            }
        )
    return rows


def _told(event: Event) -> str:
    """The event's data in a few words."""
    data = event.data
    if event.type == CAMERA_STATUS:
        return f"{data.get('state')}: {data.get('reason')}" if data.get("reason") else str(data.get("state"))
    words = [str(data[key]) for key in ("class_id", "line", "zone", "direction", "phase", "kind") if data.get(key)]
    if isinstance(data.get("dwell_s"), int | float):
        words.append(f"after {data['dwell_s']:.1f} s")
    if data.get("occupancy") is not None:
        words.append(f"{data['occupancy']} inside")
    return " · ".join(words)
