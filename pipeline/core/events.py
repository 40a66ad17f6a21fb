"""What Passerby publishes: CloudEvents 1.0, their types and data.

The data are TypedDicts, so that JSON Schemas come from the very types the code fills.
Boxes and points are 0..1 of the picture; times in the JSON are RFC 3339 UTC with microseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic, which makes the schemas, needs this one before Python 3.12

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


@dataclass(frozen=True, slots=True)
class Says:
    """What the published schema tells of a value beside its type: words, and keywords of JSON Schema.

    ``Annotated[float, Says("...", minimum=0)]`` is a plain float to the code.
    """

    description: str
    keywords: Mapping[str, Any]

    def __init__(self, description: str = "", **keywords: Any) -> None:
        object.__setattr__(self, "description", description)
        object.__setattr__(self, "keywords", keywords)

    def __hash__(self) -> int:
        return hash((self.description, repr(self.keywords)))

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], dict[str, Any]]) -> Any:
        """Called by pydantic (which this module does not know) where the schemas are made."""
        schema = handler(core_schema)
        said = {"description": self.description} if self.description else {}
        return {**schema, **said, **self.keywords}


CameraId = Annotated[
    str, Says("The camera, as it is named in the configuration.", pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
]
Epoch = Annotated[int, Says("Rises with each (re)start of the camera's stream.", minimum=0)]
Time = Annotated[
    str,
    Says(
        format="date-time",
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        examples=["2026-01-01T08:00:00.000000Z"],
    ),
]
"""RFC 3339, UTC, six decimals."""
Share = Annotated[float, Says(minimum=0, maximum=1)]
Count = Annotated[int, Says(minimum=0)]
Seconds = Annotated[float, Says(minimum=0)]
RuleName = Annotated[str, Says(minLength=1, maxLength=64)]
FrameIndex = Annotated[int, Says(minimum=0)]
TimeSource = Annotated[
    Literal["pts", "wall", "ntp"],
    Says("The clock of the times: start + stream time (files), the ingest worker's clock, the camera's NTP."),
]


class BBox(TypedDict):
    """A box, 0..1 of the picture, x to the right, y down."""

    x_min: Share
    y_min: Share
    x_max: Share
    y_max: Share


class FrameSize(TypedDict):
    """Size in pixels of the camera's original pictures."""

    width: Annotated[int, Says(minimum=0)]
    height: Annotated[int, Says(minimum=0)]


class Provenance(TypedDict):
    """What made the event: the model, the configuration, the frames (indices within the epoch)."""

    model: Annotated[str, Says("The model's name.")]
    model_version: Annotated[str, Says("The model's version.")]
    model_sha256: Annotated[str, Says("Of the model's ONNX file.", pattern="^[0-9a-f]{64}$")]
    config_sha256: Annotated[str, Says("Of the camera's configuration, secrets aside.", pattern="^[0-9a-f]{64}$")]
    frames: Annotated[
        list[FrameIndex],
        Says("The frames that show it: numbers of the frames of the epoch, from 0, rising."),
    ]


class Origin(TypedDict):
    """The window the event was seen in: its place in the windows topic."""

    topic: str
    partition: Annotated[int, Says(minimum=0)]
    offset: Annotated[int, Says(minimum=0)]


class _Observed(TypedDict):
    """Common to every event about one object."""

    camera_id: CameraId
    epoch: Epoch
    class_id: Annotated[str, Says("The object's class.", examples=["person", "car", "bicycle"])]
    group: Annotated[Literal["person", "vehicle"] | None, Says("What it is counted as; null for other classes.")]
    track_id: Annotated[str, Says("The object as it was followed: camera/epoch/number, never used twice.")]
    bbox: BBox
    frame: FrameSize
    time_source: TimeSource
    provenance: Provenance
    origin: Origin


class LineCrossed(_Observed):
    """An object crossed a line; the event's time is when it did."""

    line: RuleName
    direction: Annotated[Literal["left", "right"], Says("The side the object went to, walking from A to B.")]


class ZoneEntered(_Observed):
    """An object came into a zone."""

    zone: RuleName


class ZoneExited(_Observed):
    """An object left a zone (or was last seen in it)."""

    zone: RuleName
    entered_at: Time
    dwell_s: Annotated[Seconds, Says("Seconds between entering and leaving.")]


class ZoneDwelled(_Observed):
    """The object has been inside for as long as the zone's rule asks."""

    zone: RuleName
    entered_at: Time
    dwell_s: Annotated[Seconds, Says("Seconds it has been inside.")]


class VehicleStopped(_Observed):
    """A vehicle in a zone has stood still for as long as the zone's rule asks."""

    zone: RuleName
    stopped_at: Time
    stopped_s: Annotated[Seconds, Says("Seconds it has stood still.")]


class DirectionWrong(_Observed):
    """Moved against the direction asked of a zone (``zone``), or crossed a line to its wrong side (``line``)."""

    zone: Annotated[str | None, Says("The zone, or null.")]
    line: Annotated[str | None, Says("The line, or null.")]


class ZoneCrowded(TypedDict):
    """A zone became crowded (``start``), or is no longer (``end``)."""

    camera_id: CameraId
    epoch: Epoch
    zone: RuleName
    phase: Literal["start", "end"]
    occupancy: Annotated[Count, Says("How many are inside.")]
    frame: FrameSize
    time_source: TimeSource
    provenance: Provenance
    origin: Origin


class Occupancy(TypedDict):
    """How many were there over the observed part of a span."""

    occupancy_mean: Annotated[float, Says("Weighted by observed time.", minimum=0)]
    occupancy_max: Count


class Crossings(TypedDict):
    """How many went to the line's left and right side, walking from A to B."""

    left: Count
    right: Count


class CountWindow(TypedDict):
    """Counts over ``[starts_at, ends_at)``; zero people and a blind camera differ by ``coverage``."""

    camera_id: CameraId
    epoch: Epoch
    starts_at: Time
    ends_at: Time
    coverage: Annotated[Share, Says("The fraction of the span that was really observed.")]
    groups: Annotated[dict[str, Occupancy], Says("By group: person, vehicle.")]
    classes: Annotated[dict[str, Occupancy], Says("By class.")]
    zones: Annotated[dict[str, dict[str, Occupancy]], Says("Zone -> group, or class outside the groups.")]
    lines: Annotated[
        dict[str, dict[str, Crossings]],
        Says("Line -> group, or class outside the groups -> crossings in this span."),
    ]
    totals: Annotated[dict[str, dict[str, Crossings]], Says("As lines, since totals_since.")]
    totals_since: Time
    time_source: TimeSource
    provenance: Annotated[Provenance, Says("Its frames are the first and the last of the span.")]
    origin: Origin


class CameraStatus(TypedDict):
    """A camera came up, went down, ended (a file), or was tampered with."""

    camera_id: CameraId
    epoch: Epoch
    state: Literal["up", "down", "ended", "tampered"]
    reason: Annotated[str, Says("One line for people, without secrets.")]
    origin: Origin


class SceneEvent(TypedDict):
    """Something that takes a while (a fight, a fall, a covered camera, night), as a network or a rule saw it."""

    camera_id: CameraId
    epoch: Epoch
    kind: Annotated[str, Says("What it is.", examples=["fight", "fall", "covered", "night"])]
    phase: Annotated[Literal["start", "update", "end"], Says("One start, any number of updates, one end.")]
    started_at: Time
    ended_at: Annotated[Time | None, Says("null while it goes on.")]
    score: Annotated[Share, Says("The highest score so far.")]
    attention: Annotated[
        list[Share],
        Says(
            "How much the network looked at each frame of provenance.frames, in the same order; they sum to 1 (a "
            "classifier looks at one). Empty for what a rule saw."
        ),
    ]
    region: NotRequired[
        Annotated[
            BBox,
            Says("The part of the picture that the model looked at, or the box of who fell; all of it if absent."),
        ]
    ]
    track_id: NotRequired[Annotated[str, Says("Of a fall: who fell, as he was followed: camera/epoch/number.")]]
    zone: NotRequired[
        Annotated[str | None, Says("Of a fall: the zone he lies in, if falls are watched for in it; else null.")]
    ]
    frame: FrameSize
    time_source: TimeSource
    provenance: Annotated[
        Provenance,
        Says(
            "Of the scene model; its model_sha256 is that of its manifest's text. Of a classifier: of its network. Of "
            "a rule: of its name and version."
        ),
    ]
    origin: Origin


DATA_TYPES: Mapping[str, type] = {
    COUNT_WINDOW: CountWindow,
    LINE_CROSSED: LineCrossed,
    ZONE_ENTERED: ZoneEntered,
    ZONE_EXITED: ZoneExited,
    ZONE_DWELLED: ZoneDwelled,
    ZONE_CROWDED: ZoneCrowded,
    VEHICLE_STOPPED: VehicleStopped,
    DIRECTION_WRONG: DirectionWrong,
    SCENE_EVENT: SceneEvent,
    CAMERA_STATUS: CameraStatus,
}
"""CloudEvents type -> the type of its data."""


def utc(at_us: int) -> datetime:
    """The moment ``at_us`` microseconds after 1970 began."""
    return _UNIX_EPOCH + timedelta(microseconds=at_us)


def rfc3339(at_us: int) -> str:
    """UTC text with microseconds: 1970-01-01T00:00:01.500000Z."""
    return utc(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def microseconds(time: str) -> int:
    """UTC microseconds since 1970 of a time in RFC 3339: the other way of ``rfc3339``. Raises ValueError."""
    passed = datetime.fromisoformat(time) - _UNIX_EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


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
