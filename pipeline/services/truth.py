"""Reads what really happened, and what was published, into the values ``evaluation`` compares.

Two formats of truth are read. Ours, times in seconds of the clip:

    {"videos": [{"file": "street.mp4", "camera": "street", "start": "2026-01-01T08:00:00Z",
      "lines": {"kerb": {"points": [[0, 0.6], [1, 0.6]], "classes": ["person"], "anchor": "bottom_center",
                         "crossings": [{"t_s": 3.2, "direction": "left", "class": "person"}]}},
      "zones": {"plaza": {"points": [[0, 0], [1, 0], [1, 1]],
                          "dwells": [{"entered_s": 1, "left_s": 9, "class": "person"}]}}}]}

and a list of clips with the numbers of the frames, as by-eye counts are written down:

    [{"file": "videos/street.mp4", "classes": "vehicle", "line_x0y0x1y1": [0, 0.6, 1, 0.6], "anchor": "box centre",
      "count_positive": 2, "count_negative": 1, "crossing_frames": [22, 80, 131]},
     {"file": "videos/room.mp4", "classes": "person", "presence_frames": [[61, 193]], "fps": 10}]

where ``positive`` is downwards (towards +y), or to the left for a vertical line. Which of its frames are the positive
ones is not told when there are both; see ``evaluation.directed``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.core.events import CAMERA_STATUS, LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED
from pipeline.core.rules import Anchor, Point
from pipeline.errors import UsageError
from pipeline.outputs.jsonl import EVENTS, read_lines
from pipeline.services.evaluation import (
    Counted,
    Crossing,
    Direction,
    Dwell,
    LineTruth,
    Undirected,
    VideoTruth,
    ZoneTruth,
)

_ANCHORS: dict[str, Anchor] = {
    "bottom_center": "bottom_center",
    "center": "center",
    "top_center": "top_center",
    "box centre": "center",
    "box center": "center",
    "bottom centre": "bottom_center",
}
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE_PICTURE: tuple[Point, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
_LONGEST_FILE_US = 365 * 86_400_000_000
_READ = frozenset({CAMERA_STATUS, LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED})
_FRAMES_LINE, _FRAMES_ZONE = "line", "picture"

FrameRate = Callable[[str], float]
"""A clip, as the truth names it -> its real frames a second."""


def read_truth(path: Path, frame_rate: FrameRate | None = None) -> list[VideoTruth]:
    """The truth in a file of either format. Raises UsageError naming the file and what is wrong in it.

    frame_rate: asked where the truth tells frame numbers but no ``fps``.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    try:
        if isinstance(told, list):
            return [_video_of_frames(entry, frame_rate) for entry in told]
        return [_video(entry) for entry in told["videos"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path} is not a truth file: {what}") from error


def _camera(entry: Mapping[str, Any]) -> str:
    """The camera's id: as told, or as ``passerby run FILE`` would call it."""
    if entry.get("camera"):
        return str(entry["camera"])
    return re.sub(r"[^a-z0-9_.-]+", "-", Path(entry["file"]).stem.lower()).strip("-._")[:56] or "camera"


def _video(entry: Mapping[str, Any]) -> VideoTruth:
    lines = tuple(_line(name, line) for name, line in entry.get("lines", {}).items())
    zones = tuple(_zone(name, zone) for name, zone in entry.get("zones", {}).items())
    return VideoTruth(str(entry.get("file", "")), _camera(entry), lines, zones, _start_us(entry))


def _start_us(entry: Mapping[str, Any]) -> int | None:
    return _us(entry["start"]) if "start" in entry else None


def _line(name: str, line: Mapping[str, Any]) -> LineTruth:
    crossings = tuple(
        Crossing(float(each["t_s"]), _direction(each["direction"]), str(each["class"])) for each in line["crossings"]
    )
    classes = _classes(line.get("classes")) or tuple(sorted({crossing.class_name for crossing in crossings}))
    return LineTruth(name, _points(line["points"]), classes, _anchor(line.get("anchor", "bottom_center")), crossings)


def _zone(name: str, zone: Mapping[str, Any]) -> ZoneTruth:
    dwells = tuple(Dwell(float(d["entered_s"]), float(d["left_s"]), str(d["class"])) for d in zone["dwells"])
    classes = _classes(zone.get("classes")) or tuple(sorted({dwell.class_name for dwell in dwells}))
    return ZoneTruth(name, _points(zone["points"]), classes, _anchor(zone.get("anchor", "bottom_center")), dwells)


def _video_of_frames(entry: Mapping[str, Any], frame_rate: FrameRate | None) -> VideoTruth:
    file = str(entry["file"])
    fps = float(entry["fps"]) if "fps" in entry else frame_rate(file) if frame_rate else None
    if fps is None or not fps > 0:
        raise ValueError(f"{file} is told in frame numbers, and its frames a second are not known")
    classes = _classes(entry["classes"])
    anchor = _anchor(entry.get("anchor", "center"))
    lines: tuple[LineTruth, ...] = ()
    zones: tuple[ZoneTruth, ...] = ()
    if "line_x0y0x1y1" in entry:
        lines = (_line_of_frames(entry, classes, anchor, fps),)
    if "presence_frames" in entry:
        dwells = tuple(Dwell(first / fps, last / fps, classes[0]) for first, last in entry["presence_frames"])
        zones = (ZoneTruth(_FRAMES_ZONE, _WHOLE_PICTURE, classes, anchor, dwells),)
    return VideoTruth(file, _camera(entry), lines, zones, _start_us(entry))


def _line_of_frames(entry: Mapping[str, Any], classes: tuple[str, ...], anchor: Anchor, fps: float) -> LineTruth:
    x0, y0, x1, y1 = (float(value) for value in entry["line_x0y0x1y1"])
    positive, negative = int(entry["count_positive"]), int(entry["count_negative"])
    times = tuple(sorted(frame / fps for frame in entry["crossing_frames"]))
    if len(times) != positive + negative:
        raise ValueError(f"{entry['file']}: {positive} + {negative} crossings, but {len(times)} frames")
    way = positive_direction((x0, y0), (x1, y1))
    left, right = (positive, negative) if way == "left" else (negative, positive)
    undirected = Undirected(times, left, right, classes[0])
    return LineTruth(_FRAMES_LINE, ((x0, y0), (x1, y1)), classes, anchor, (), undirected)


def positive_direction(a: Point, b: Point) -> Direction:
    """Which side of A -> B lies towards +y (y runs down), or towards -x for a vertical line."""
    along_x, along_y = b[0] - a[0], b[1] - a[1]
    if along_x == 0 and along_y == 0:
        raise ValueError("a line needs two different points")
    # Walking A -> B with y running down, the right hand points along (-along_y, along_x).
    if along_x == 0:
        return "right" if along_y > 0 else "left"
    return "right" if along_x > 0 else "left"


def _classes(told: Any) -> tuple[str, ...]:
    return (told,) if isinstance(told, str) else tuple(str(name) for name in told or ())


def _points(told: Iterable[Any]) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in told)


def _anchor(told: str) -> Anchor:
    if told not in _ANCHORS:
        raise ValueError(f"anchor {told!r} is none of {', '.join(sorted(set(_ANCHORS.values())))}")
    return _ANCHORS[told]


def _direction(told: str) -> Direction:
    if told == "left":
        return "left"
    if told == "right":
        return "right"
    raise ValueError(f"direction {told!r} is neither left nor right")


def read_events(path: Path) -> Iterable[dict[str, Any]]:
    """The events of a run: its folder, or its events.jsonl. Raises UsageError, OutputError."""
    file = path / EVENTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file} does not exist", mend="give the folder that `passerby run --out` wrote")
    return read_lines(file)


def counted_of(events: Iterable[Mapping[str, Any]], start_us: Mapping[str, int] | None = None) -> dict[str, Counted]:
    """What was published about each camera, in seconds since its first frame.

    The first frame is what ``start_us`` tells (UTC microseconds), else the camera's first ``up`` (live sources), else
    1970, where the times of a file without a ``start`` begin. Whoever was still inside a zone when the camera ended is
    taken to have left then. Raises UsageError for a camera whose start cannot be known.
    """
    by_camera: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event["type"] not in _READ:
            continue
        by_camera.setdefault(str(event["subject"]), []).append(event)
    known = start_us or {}
    return {
        camera_id: _counted(mine, known[camera_id] if camera_id in known else _begin_us(camera_id, mine))
        for camera_id, mine in by_camera.items()
    }


def _begin_us(camera_id: str, events: Sequence[Mapping[str, Any]]) -> int:
    for event in events:
        if event["type"] == CAMERA_STATUS and event["data"]["state"] == "up":
            return _us(event["time"])
    if all(_us(event["time"]) < _LONGEST_FILE_US for event in events):
        return 0
    raise UsageError(
        f"the events of camera {camera_id} do not tell when its first frame was",
        mend='add "start" to its truth, the same as in the configuration',
    )


def _counted(events: Iterable[Mapping[str, Any]], start_us: int) -> Counted:
    counted = Counted(ended=False)
    inside: dict[tuple[str, str], tuple[float, str]] = {}
    t_s = 0.0
    for event in events:
        data, t_s = event["data"], (_us(event["time"]) - start_us) / 1e6
        if event["type"] == LINE_CROSSED:
            crossing = Crossing(t_s, _direction(data["direction"]), data["class_id"])
            counted.crossings.setdefault(data["line"], []).append(crossing)
        elif event["type"] == CAMERA_STATUS:
            counted.ended = data["state"] == "ended"
        elif event["type"] == ZONE_ENTERED:
            inside[data["zone"], data["track_id"]] = (t_s, data["class_id"])
        elif event["type"] == ZONE_EXITED:
            inside.pop((data["zone"], data["track_id"]), None)
            entered_s = (_us(data["entered_at"]) - start_us) / 1e6
            stay = Dwell(entered_s, entered_s + float(data["dwell_s"]), data["class_id"])
            counted.dwells.setdefault(data["zone"], []).append(stay)
    for (zone, _), (entered_s, class_name) in inside.items():
        counted.dwells.setdefault(zone, []).append(Dwell(entered_s, t_s, class_name))
    return counted


def _us(told: str) -> int:
    at = datetime.fromisoformat(told)
    if at.tzinfo is None:
        raise ValueError(f"{told!r} has no time zone (write 2026-01-01T08:00:00Z)")
    return round((at - _UNIX_EPOCH) / timedelta(microseconds=1))
