"""What an operator said of events and moments, as JSON Lines or CSV.

    {"event": "4f0c2a9be1d34c55a7a0c1f2d3e4b5a6", "verdict": "false"}
    {"camera": "gate", "time": "2026-01-01T08:00:12Z", "verdict": "missed: person"}
    {"event": "…", "verdict": "class: truck"}

The same keys are the columns of a CSV. ``false``: there is no such object: its box goes. ``class: X``: it is an X.
``missed`` (or ``missed: X``): something (an X) is there and was not found; with ``bbox`` (x_min, y_min, x_max, y_max,
0..1 of the picture) and X its label is written, else labels of that class count as incomplete. Where no event is named,
``camera`` and ``time`` say which frame, and ``false`` and ``class`` want a ``bbox``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.core.events import microseconds
from pipeline.errors import UsageError
from pipeline.outputs.jsonl import read_lines

Verdict = Literal["false", "missed", "class"]
Sides = tuple[float, float, float, float]
_KEYS = ("event", "camera", "time", "verdict", "bbox")


@dataclass(frozen=True, slots=True)
class Moment:
    """Which frame is meant: by epoch and index, or the first at or after ``at_us`` (UTC microseconds)."""

    camera_id: str
    at_us: int
    epoch: int | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """One line. bbox: xyxy in 0..1 of the picture. place: file and line."""

    moment: Moment
    verdict: Verdict
    class_name: str | None
    bbox: Sides | None
    place: str

    def words(self) -> str:
        """For the manifest."""
        return f"{self.verdict}: {self.class_name}" if self.class_name else self.verdict


FindEvent = Callable[[str], Mapping[str, Any]]
"""id -> the data of that event, with ``camera_id`` and ``time_us``. Raises UsageError when it is not there."""


def read_corrections(path: Path, find_event: FindEvent) -> list[Correction]:
    """All corrections of a file, in its order. Raises UsageError naming file, line and mend."""
    return [_correction(row, f"{path}:{number}", find_event) for number, row in _rows(path)]


def read_events(path: Path) -> FindEvent:
    """Finds events in what ``passerby run --out`` left: ``events.jsonl``. Raises OutputError."""
    events = {
        str(told["id"]): {**told["data"], "camera_id": told["subject"], "time_us": microseconds(told["time"])}
        for told in read_lines(path)
    }

    def find(event_id: str) -> Mapping[str, Any]:
        if event_id not in events:
            raise UsageError(f"no event {event_id} in {path}", mend="name the events.jsonl of that run with --events")
        return events[event_id]

    return find


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(text.splitlines())
        for row in rows:
            yield rows.line_num, {key: value.strip() for key, value in row.items() if key and value and value.strip()}
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise UsageError(
                f"{path}:{number}: is no JSON object", mend="one object a line; see passerby harvest --help"
            )
        yield number, told


def _correction(row: Mapping[str, Any], place: str, find_event: FindEvent) -> Correction:
    for key in row:
        if key not in _KEYS:
            raise UsageError(f"{place}: {key!r} is not known", mend=f"known: {', '.join(_KEYS)}")
    kind, _, told = (part.strip() for part in str(row.get("verdict", "")).partition(":"))
    verdict: Verdict | None = next((each for each in get_args(Verdict) if each == kind.lower()), None)
    class_name = told or None
    if verdict is None or (verdict == "class") != (class_name is not None and verdict != "missed"):
        raise UsageError(
            f"{place}: the verdict {row.get('verdict')!r} is not known", mend="false, missed, missed: X or class: X"
        )
    bbox = _sides(row["bbox"], place) if "bbox" in row else None
    if "event" in row:
        event = find_event(str(row["event"]))
        return Correction(_moment_of(event), verdict, class_name, bbox or _published_box(event), place)
    if "camera" not in row or "time" not in row:
        raise UsageError(f"{place}: which frame is meant?", mend="give event, or camera and time")
    if bbox is None and verdict != "missed":
        raise UsageError(f"{place}: which object is meant?", mend="give event, or bbox: x_min, y_min, x_max, y_max")
    try:
        at_us = microseconds(str(row["time"]))
    except (ValueError, TypeError):
        raise UsageError(f"{place}: {row['time']!r} is no time", mend="write 2026-01-01T08:00:12Z") from None
    return Correction(Moment(str(row["camera"]), at_us), verdict, class_name, bbox, place)


def _moment_of(event: Mapping[str, Any]) -> Moment:
    """The last frame that the event names: the one its box belongs to, or the nearest to it."""
    frames = event.get("provenance", {}).get("frames", [])
    return Moment(event["camera_id"], event["time_us"], event.get("epoch"), max(frames) if frames else None)


def _published_box(event: Mapping[str, Any]) -> Sides | None:
    box = event.get("bbox")
    return (box["x_min"], box["y_min"], box["x_max"], box["y_max"]) if box is not None else None


def _sides(told: object, place: str) -> Sides:
    parts = told.replace(",", " ").split() if isinstance(told, str) else told if isinstance(told, list) else []
    try:
        x_min, y_min, x_max, y_max = (float(part) for part in parts)
    except (TypeError, ValueError):
        x_min = y_min = x_max = y_max = -1.0
    if not (0 <= x_min < x_max <= 1 and 0 <= y_min < y_max <= 1):
        raise UsageError(f"{place}: {told!r} is no box", mend="x_min, y_min, x_max, y_max in 0..1 of the picture")
    return x_min, y_min, x_max, y_max
