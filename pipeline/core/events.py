"""What Passerby publishes: CloudEvents 1.0, their types and data.

The data are TypedDicts, so that JSON Schemas come from the very types the code fills.
Boxes and points are 0..1 of the picture; times in the JSON are RFC 3339 UTC with microseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

COUNT_WINDOW = "io.passerby.count.window.v1"
LINE_CROSSED = "io.passerby.line.crossed.v1"
ZONE_ENTERED = "io.passerby.zone.entered.v1"
ZONE_EXITED = "io.passerby.zone.exited.v1"
ZONE_DWELLED = "io.passerby.zone.dwelled.v1"
ZONE_CROWDED = "io.passerby.zone.crowded.v1"
VEHICLE_STOPPED = "io.passerby.vehicle.stopped.v1"
DIRECTION_WRONG = "io.passerby.direction.wrong.v1"
SCENE_EVENT = "io.passerby.scene.event.v1"
CAMERA_STATUS = "io.passerby.camera.status.v1"

EVENT_TYPES = (
    COUNT_WINDOW, LINE_CROSSED, ZONE_ENTERED, ZONE_EXITED, ZONE_DWELLED, ZONE_CROWDED,
    VEHICLE_STOPPED, DIRECTION_WRONG, SCENE_EVENT, CAMERA_STATUS,
)  # fmt: skip

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BBox(TypedDict):
    """0..1 of the picture."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


class FrameSize(TypedDict):
    width: int
    height: int


class Provenance(TypedDict):
    """What made the event: the model, the configuration, the frames (indices within the epoch)."""

    model: str
    model_version: str
    model_sha256: str
    config_sha256: str
    frames: list[int]


class Origin(TypedDict):
    """The window the event was seen in, in the windows topic."""

    topic: str
    partition: int
    offset: int


class _Observed(TypedDict):
    """Common to every event about one object."""

    camera_id: str
    epoch: int
    class_id: str
    group: Literal["person", "vehicle"] | None
    track_id: str
    bbox: BBox
    frame: FrameSize
    time_source: Literal["pts", "wall", "ntp"]
    provenance: Provenance
    origin: Origin


class LineCrossed(_Observed):
    """``direction``: the side the object went to, walking from A to B."""

    line: str
    direction: Literal["left", "right"]


class ZoneEntered(_Observed):
    zone: str


class ZoneExited(_Observed):
    """``dwell_s``: seconds between entering and leaving."""

    zone: str
    entered_at: str
    dwell_s: float


class ZoneDwelled(_Observed):
    """The object has been inside for ``dwell_s`` seconds or more."""

    zone: str
    entered_at: str
    dwell_s: float


class VehicleStopped(_Observed):
    zone: str
    stopped_at: str
    stopped_s: float


class DirectionWrong(_Observed):
    """Moved against the direction asked of a zone (``zone``), or crossed a line to its wrong side (``line``)."""

    zone: str | None
    line: str | None


class ZoneCrowded(TypedDict):
    camera_id: str
    epoch: int
    zone: str
    phase: Literal["start", "end"]
    occupancy: int
    frame: FrameSize
    time_source: Literal["pts", "wall", "ntp"]
    provenance: Provenance
    origin: Origin


class Occupancy(TypedDict):
    occupancy_mean: float
    occupancy_max: int


class Crossings(TypedDict):
    left: int
    right: int


class CountWindow(TypedDict):
    """Counts over ``[starts_at, ends_at)``; ``coverage`` is the fraction of the span that was really observed.

    lines: line -> group or class outside the groups -> crossings in this span.
    totals: the same since ``totals_since``.
    """

    camera_id: str
    epoch: int
    starts_at: str
    ends_at: str
    coverage: float
    groups: dict[str, Occupancy]
    classes: dict[str, Occupancy]
    zones: dict[str, dict[str, Occupancy]]
    lines: dict[str, dict[str, Crossings]]
    totals: dict[str, dict[str, Crossings]]
    totals_since: str
    time_source: Literal["pts", "wall", "ntp"]
    provenance: Provenance
    origin: Origin


class CameraStatus(TypedDict):
    camera_id: str
    epoch: int
    state: Literal["up", "down", "ended", "tampered"]
    reason: str


def rfc3339(at_us: int) -> str:
    """UTC text with microseconds: 1970-01-01T00:00:01.500000Z."""
    return (_UNIX_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def event_id(camera_id: str, epoch: int, frame_index: int, rule: str, track: str, type_: str) -> str:
    """The id of an event: a hash of what happened, so that the same input gives the same id."""
    told = "\x1f".join((camera_id, str(epoch), str(frame_index), rule, track, type_))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent. ``source`` is ``/passerby/<camera>``, ``subject`` the camera_id, ``time_us`` when it happened."""

    id: str
    type: str
    camera_id: str
    time_us: int
    data: Mapping[str, Any]

    @property
    def source(self) -> str:
        return f"/passerby/{self.camera_id}"

    def attributes(self) -> dict[str, str]:
        """The CloudEvents context attributes, without the data."""
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.camera_id,
            "time": rfc3339(self.time_us),
            "datacontenttype": "application/json",
        }

    def structured(self) -> dict[str, Any]:
        """The structured JSON form: attributes and ``data`` in one object."""
        return {**self.attributes(), "data": dict(self.data)}
