"""What the page shows of one camera: its picture with the heat maps, its charts, its lines and zones."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.core.classes import expand, group_of
from pipeline.core.ledger import LedgerLine
from pipeline.outputs import charts
from pipeline.outputs.camera_log import DWELL_EDGES_S, CameraLog
from pipeline.outputs.charts import Series, TimeAxis
from pipeline.outputs.drawing import middle_of
from pipeline.outputs.wording import GROUP_WORD, percent


def _data_uri(kind: str, content: bytes | None) -> str | None:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if content else None


def axis_of(log: CameraLog) -> TimeAxis:
    """The time axis of a camera, with the share of each bin in which it was seen."""
    return TimeAxis(log.timeline.starts_us, log.timeline.bin_us, log.observed())


def section(log: CameraLog, ledger: LedgerLine | None, failure: str | None, number: int) -> dict[str, Any]:
    """The camera's part of the page, as the template wants it."""
    axis = axis_of(log)
    timeline = log.timeline
    frames = timeline.sums("frames")
    means = {
        group: np.divide(timeline.sums(group), frames, out=np.zeros_like(frames), where=frames > 0)
        for group in ("person", "vehicle")
    }
    return {
        "id": log.camera_id,
        "anchor": f"camera-{number}",
        "state": "failed" if failure is not None else log.state or "no signal",
        "failure": failure,
        "coverage": log.coverage,
        "frames": log.frames,
        "ledger": ledger,
        "peaks": {group: int(timeline.maxima(group).max(initial=0)) for group in ("person", "vehicle")},
        "crossed": {
            group: sum(n for (_, kind, _), n in log.crossings.items() if kind == group)
            for group in ("person", "vehicle")
        },
        "picture": _picture(log) if log.size else None,
        "shown": _shown_groups(log),
        "occupancy": _occupancy_chart(log, axis, means) if len(axis.starts_us) else None,
        "lines": [_line(log, axis, name) for name in _line_names(log)],
        "zones": [_zone(log, name) for name in _zone_names(log)],
    }


def _shown_groups(log: CameraLog) -> list[str]:
    """The groups that were ever seen, or that a line or zone asks for."""
    classes = [rule.classes for rule in log.rules.lines] + [rule.classes for rule in log.rules.zones]
    asked = {group_of(name) for each in classes for name in expand(each)}
    groups = ("person", "vehicle")
    return [group for group in groups if group in asked or log.timeline.maxima(group).any()] or list(groups)


def _occupancy_chart(log: CameraLog, axis: TimeAxis, means: Mapping[str, charts.Values]) -> Markup:
    shown = _shown_groups(log)
    most = {group: log.timeline.maxima(group) for group in shown}
    frames = log.timeline.sums("frames")
    series = [
        Series(f"{GROUP_WORD[group]}, {what}", by_group[group], group, area=what == "mean", thin=what == "max")
        for what, by_group in (("max", most), ("mean", means))
        for group in shown
    ]

    def tip(i: int) -> str:
        begin = int(axis.starts_us[i])
        when = f"{axis.text(begin)} to {axis.text(begin + axis.bin_us)}"
        if not frames[i]:
            return f"{when}: not observed"
        told = ", ".join(
            f"{GROUP_WORD[group]} {means[group][i]:.2f} mean, {int(most[group][i])} max" for group in shown
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
    return kind if kind in GROUP_WORD else "other"


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
    def short(seconds: int) -> tuple[str, str]:
        if seconds < 60:
            return str(seconds), "s"
        return (str(seconds // 60), "min") if seconds < 3600 else (str(seconds // 3600), "h")

    value, unit = short(DWELL_EDGES_S[i])
    if i + 1 == len(DWELL_EDGES_S):
        return f"over {value} {unit}"
    until, until_unit = short(DWELL_EDGES_S[i + 1])
    if i == 0:
        return f"under {until} {until_unit}"
    return f"{value}–{until} {unit}" if unit == until_unit else f"{value} {unit}–{until} {until_unit}"


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
