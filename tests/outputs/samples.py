"""Events and tracks as the pipeline makes them, for the tests of the outputs."""

from __future__ import annotations

from typing import Any

from pipeline.core.events import (
    CAMERA_STATUS,
    COUNT_WINDOW,
    LINE_CROSSED,
    ZONE_EXITED,
    Event,
    event_id,
    rfc3339,
)
from pipeline.core.tracks import TrackView

PROVENANCE = {
    "model": "test",
    "model_version": "1",
    "model_sha256": "0" * 64,
    "config_sha256": "1" * 64,
    "frames": [1, 2],
}
ORIGIN = {"topic": "passerby.windows", "partition": 0, "offset": 3}


def crossing(
    at_us: int,
    camera_id: str = "gate",
    *,
    line: str = "kerb",
    direction: str = "left",
    class_id: str = "person",
    n: int = 1,
) -> Event:
    track = f"{camera_id}/1/{n}"
    data: dict[str, Any] = {
        "camera_id": camera_id,
        "epoch": 1,
        "line": line,
        "direction": direction,
        "class_id": class_id,
        "group": {"person": "person", "car": "vehicle"}.get(class_id),
        "track_id": track,
        "bbox": {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4},
        "frame": {"width": 640, "height": 360},
        "time_source": "pts",
        "provenance": PROVENANCE,
        "origin": ORIGIN,
    }
    return Event(event_id(camera_id, 1, n, line, track, LINE_CROSSED), LINE_CROSSED, camera_id, at_us, data)


def window(from_us: int, to_us: int, camera_id: str = "gate", *, coverage: float = 1.0) -> Event:
    data: dict[str, Any] = {
        "camera_id": camera_id,
        "epoch": 1,
        "starts_at": rfc3339(from_us),
        "ends_at": rfc3339(to_us),
        "coverage": coverage,
        "groups": {"person": {"occupancy_mean": 0.5, "occupancy_max": 2}},
    }
    return Event(f"w{from_us}", COUNT_WINDOW, camera_id, to_us, data)


def exit_of(at_us: int, dwell_s: float, camera_id: str = "gate", *, zone: str = "plaza", n: int = 1) -> Event:
    data: dict[str, Any] = {
        "camera_id": camera_id,
        "epoch": 1,
        "zone": zone,
        "class_id": "person",
        "group": "person",
        "track_id": f"{camera_id}/1/{n}",
        "entered_at": rfc3339(at_us - round(dwell_s * 1e6)),
        "dwell_s": dwell_s,
    }
    return Event(f"z{at_us}", ZONE_EXITED, camera_id, at_us, data)


def status(at_us: int, state: str, camera_id: str = "gate", *, reason: str = "") -> Event:
    data: dict[str, Any] = {"camera_id": camera_id, "epoch": 1, "state": state, "reason": reason}
    return Event(f"s{at_us}{state}", CAMERA_STATUS, camera_id, at_us, data)


def track(
    n: int,
    bbox: tuple[float, float, float, float],
    class_name: str = "person",
    *,
    camera_id: str = "gate",
    seen: bool = True,
) -> TrackView:
    group: Any = {"person": "person", "car": "vehicle"}.get(class_name)
    return TrackView(f"{camera_id}/1/{n}", class_name, group, bbox, 0.9, seen)
