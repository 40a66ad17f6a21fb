"""Events in words, one line each, for people who watch them come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from pipeline.core.events import (
    CAMERA_STATUS,
    COUNT_WINDOW,
    DIRECTION_WRONG,
    LINE_CROSSED,
    SCENE_EVENT,
    VEHICLE_STOPPED,
    ZONE_CROWDED,
    ZONE_DWELLED,
    ZONE_ENTERED,
    ZONE_EXITED,
    Event,
    rfc3339,
)
from pipeline.outputs.wording import GROUP_WORD, duration, percent

_STATUS_STYLE = {"up": "green", "down": "bold red", "tampered": "bold yellow", "ended": "dim"}
_TYPE_STYLE = {
    LINE_CROSSED: "bold",
    DIRECTION_WRONG: "bold red",
    VEHICLE_STOPPED: "yellow",
    ZONE_DWELLED: "yellow",
    ZONE_CROWDED: "bold yellow",
    SCENE_EVENT: "bold red",
    COUNT_WINDOW: "dim",
}
_GROUP_STYLE = {"person": "bright_yellow", "vehicle": "bright_cyan"}
_CAMERA_STYLES = ("cyan", "magenta", "blue", "green", "yellow", "bright_magenta", "bright_blue", "bright_green")
_MOST_CROSSINGS = 10_000


def in_words(event: Event) -> str:
    """What happened: ``person 17 crossed street to the left``; without time and camera."""
    told = _WORDS.get(event.type)
    return told(event.data) if told is not None else f"{event.type} (this version has no words for it)"


def _who(data: Mapping[str, Any]) -> str:
    return f"{data['class_id']} {data['track_id'].rpartition('/')[2]}"


def _wrong_in_words(data: Mapping[str, Any]) -> str:
    where = f"in {data['zone']}" if data["zone"] is not None else f"over {data['line']}"
    return f"{_who(data)} went the wrong way {where}"


def _crowd_in_words(data: Mapping[str, Any]) -> str:
    state = "is crowded" if data["phase"] == "start" else "is no longer crowded"
    return f"{data['zone']} {state}: {data['occupancy']} inside"


def _count_in_words(data: Mapping[str, Any]) -> str:
    """``1.2 people (at most 3), 0.4 vehicles (at most 2); crossed street person 1L 0R; seen 97 %``."""
    present = [
        f"{told['occupancy_mean']:.1f} {GROUP_WORD.get(group, group)} (at most {told['occupancy_max']})"
        for group, told in data["groups"].items()
    ]
    crossed = _crossed(data["lines"])
    parts = [", ".join(present), f"crossed {crossed}" if crossed else "", f"seen {percent(data['coverage'])}"]
    return "; ".join(part for part in parts if part)


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    LINE_CROSSED: lambda data: f"{_who(data)} crossed {data['line']} to the {data['direction']}",
    ZONE_ENTERED: lambda data: f"{_who(data)} entered {data['zone']}",
    ZONE_EXITED: lambda data: f"{_who(data)} left {data['zone']} after {duration(data['dwell_s'])}",
    ZONE_DWELLED: lambda data: f"{_who(data)} has stayed in {data['zone']} for {duration(data['dwell_s'])}",
    VEHICLE_STOPPED: lambda data: f"{_who(data)} has stood still in {data['zone']} for {duration(data['stopped_s'])}",
    DIRECTION_WRONG: _wrong_in_words,
    ZONE_CROWDED: _crowd_in_words,
    SCENE_EVENT: lambda data: f"{data['kind']} {data['phase']} (score {data['score']:.2f})",
    CAMERA_STATUS: lambda data: f"camera {data['state']}: {data['reason']}",
    COUNT_WINDOW: _count_in_words,
}


def _crossed(lines: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """``street person 1L 0R, vehicle 0L 2R``, without the kinds that nobody of crossed."""
    told = []
    for line, kinds in lines.items():
        some = [f"{kind} {sides['left']}L {sides['right']}R" for kind, sides in kinds.items() if any(sides.values())]
        if some:
            told.append(f"{line} {', '.join(some)}")
    return "; ".join(told)


@dataclass(slots=True)
class _Line:
    """The totals of one camera as of its newest count window, and what crossed since."""

    totals: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    until: str = ""
    since: deque[tuple[str, str, str, str]] = field(default_factory=lambda: deque(maxlen=_MOST_CROSSINGS))


class RunningTotals:
    """The totals a line stands at, from count windows and the crossings since; the order of the two does not matter."""

    def __init__(self) -> None:
        self._cameras: dict[str, _Line] = {}

    def take(self, event: Event) -> None:
        """Account for any event."""
        camera = self._cameras.setdefault(event.camera_id, _Line())
        time = rfc3339(event.time_us)
        if event.type == COUNT_WINDOW and time >= camera.until:
            camera.until = time
            camera.totals = {
                line: {kind: {"left": sides["left"], "right": sides["right"]} for kind, sides in kinds.items()}
                for line, kinds in event.data["totals"].items()
            }
            kept = [crossing for crossing in camera.since if crossing[0] >= time]
            camera.since.clear()
            for crossing in kept:
                self._crossed(camera, crossing)
        elif event.type == LINE_CROSSED and time >= camera.until:
            kind = event.data["group"] or event.data["class_id"]
            self._crossed(camera, (time, event.data["line"], kind, event.data["direction"]))

    @staticmethod
    def _crossed(camera: _Line, crossing: tuple[str, str, str, str]) -> None:
        camera.since.append(crossing)
        _, line, kind, direction = crossing
        if camera.until:
            sides = camera.totals.setdefault(line, {}).setdefault(kind, {"left": 0, "right": 0})
            sides[direction] += 1

    def of(self, camera_id: str, line: str) -> Mapping[str, Mapping[str, int]] | None:
        """kind -> sides of a line; None before the camera's first count window."""
        camera = self._cameras.get(camera_id)
        return camera.totals.get(line) if camera is not None and camera.until else None


class EventLines:
    """Writes events as coloured lines: time, camera, what happened, totals of the line that was crossed."""

    def __init__(self) -> None:
        self.totals = RunningTotals()
        self._styles: dict[str, str] = {}
        self._width = 0
        self._day = ""

    def day(self, event: Event) -> Text | None:
        """A line that names the day, when it is another than that of the last event."""
        day = rfc3339(event.time_us)[:10]
        if day == self._day:
            return None
        self._day = day
        return Text(f"── {day} (UTC) ──", style="dim")

    def line(self, event: Event) -> Text:
        """The event's line; ``totals`` must have taken the event before."""
        style = self._styles.setdefault(event.camera_id, _CAMERA_STYLES[len(self._styles) % len(_CAMERA_STYLES)])
        self._width = max(self._width, len(event.camera_id))
        text = Text(no_wrap=True)
        text.append(rfc3339(event.time_us)[11:23], style="dim")
        text.append(f"  {event.camera_id:<{self._width}}  ", style=style)
        words = in_words(event)
        if event.type == CAMERA_STATUS:
            return text.append(words, style=_STATUS_STYLE.get(event.data["state"], ""))
        text.append("● ", style=_GROUP_STYLE.get(event.data.get("group") or "", "dim"))
        text.append(words, style=_TYPE_STYLE.get(event.type, ""))
        if event.type == LINE_CROSSED:
            totals = self.totals.of(event.camera_id, event.data["line"])
            if totals is not None:
                told = ", ".join(f"{kind} {sides['left']}L {sides['right']}R" for kind, sides in _some(totals))
                text.append(f"   total {told}", style="dim")
        return text


def _some(totals: Mapping[str, Mapping[str, int]]) -> Iterable[tuple[str, Mapping[str, int]]]:
    return ((kind, sides) for kind, sides in totals.items() if any(sides.values()))
