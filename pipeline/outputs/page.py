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

from pipeline.core.events import CAMERA_STATUS, SCENE_EVENT, Event
from pipeline.core.ledger import LedgerLine
from pipeline.outputs.camera_log import CameraLog
from pipeline.outputs.camera_section import axis_of, section
from pipeline.outputs.charts import TimeAxis
from pipeline.outputs.jsonl import total_of
from pipeline.outputs.wording import GROUP_WORD, duration, percent

_TEMPLATES = Path(__file__).parent / "templates"
_MANY_CAMERAS = 6


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
    cameras = [
        section(log, facts.ledger.get(log.camera_id), facts.failures.get(log.camera_id), number)
        for number, log in enumerate(facts.cameras)
    ]
    return (
        environment()
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
def environment() -> jinja2.Environment:
    """Our templates: escaping is on, an unknown name is an error."""
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


def _period(facts: Facts) -> str:
    """From when to when; only for how long, where a file's time counts from its own beginning."""
    seen = [
        (log.first_us, log.last_us) for log in facts.cameras if log.first_us is not None and log.last_us is not None
    ]
    if not seen:
        return "nothing was observed"
    first, last = min(begin for begin, _ in seen), max(end for _, end in seen)
    if TimeAxis(np.array([first]), 1_000_000).relative:
        return f"{duration(max(end - begin for begin, end in seen) / 1e6)} of video"
    axis = TimeAxis(np.array([first, last]), 1_000_000)
    return f"{axis.text(first)} to {axis.text(last)} UTC ({duration((last - first) / 1e6)})"


def _tiles(facts: Facts) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = []
    for group in ("person", "vehicle"):
        word = GROUP_WORD[group]
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
            {"name": f"{GROUP_WORD[group]} at once, at most", "value": most, "note": "in one picture", "css": group}
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
    axes = {log.camera_id: axis_of(log) for log in facts.cameras}
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
    if event.type == SCENE_EVENT:
        return f"{data['kind']}: {data['phase']} (score {data['score']:.2f})"
    words = [str(data[key]) for key in ("class_id", "line", "zone", "direction", "phase", "kind") if data.get(key)]
    if isinstance(data.get("dwell_s"), int | float):
        words.append(f"after {data['dwell_s']:.1f} s")
    if data.get("occupancy") is not None:
        words.append(f"{data['occupancy']} inside")
    return " · ".join(words)
