"""Every key of ``passerby.yaml``: its type, its default and what it means.

The descriptions are the reference (docs/configuration.md) and what editors show (docs/passerby.schema.json).

A ``Config`` is resolved: every camera carries its own copy of what it did not override. What belongs to a camera can be
given at the top as a default for all and again inside a camera; ``inference``, ``kafka`` and ``output`` belong to the
process and stand at the top only.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from pipeline.config import shapes
from pipeline.config.document import Node, Place, dotted
from pipeline.config.problems import Problem, Severity, fault
from pipeline.config.secrets import MASK, SecretText, SecretUrl, redact
from pipeline.core.rules import DEFAULT_CLASSES, CameraRules, LineRule, ZoneRule

# A password written out; ${NAME} may stay, it says nothing.
_SECRET_LINE = re.compile(
    r"(?P<key>\bpassword['\"]?[ \t]*:[ \t]*)(?!\$\{[A-Za-z0-9_]*\}|[ \t]*$)[^\n,}]*", re.MULTILINE
)
CAMERA_ID_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
_NAME_PATTERN = r"^[^\x00-\x1f\x7f/\\]{1,64}$"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise fault("not-a-number", "must be a number, not true or false")
    return value


_Number = Annotated[float, BeforeValidator(_number)]
_Whole = Annotated[int, BeforeValidator(_number)]
_Seconds = Annotated[_Number, Field(gt=0)]
_Wait = Annotated[_Number, Field(ge=0, lt=10_000)]
_Overlap = Annotated[_Number, Field(ge=0, le=1)]
_Share = Annotated[_Number, Field(gt=0, lt=1)]
_Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
CameraId = Annotated[str, Field(pattern=CAMERA_ID_PATTERN)]
Classes = Annotated[tuple[_Name, ...], BeforeValidator(shapes.one_or_many), Field(min_length=1)]
AnchorName = Literal["bottom_center", "center", "top_center"]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )


class SourceConfig(_Section):
    """Where the pictures come from, and how a stream is kept. At the top of the file: defaults for all cameras."""

    url: SecretUrl | None = Field(
        None,
        description="rtsp://, http://, https:// (also HLS), a video file, a folder of clips, or /dev/video0. A "
        "relative path is looked for beside the configuration file.",
        examples=["rtsp://gate.example/stream", "clips/square.mp4", "/dev/video0"],
    )
    url_file: str | None = Field(None, description="A file that holds the URL (a Docker secret), instead of `url`.")
    username: str | None = Field(
        None, min_length=1, description="User of the camera, instead of writing it in the URL."
    )
    username_file: str | None = Field(None, description="A file that holds the user name.")
    password: SecretText | None = Field(
        None,
        description="Password of the camera, in any characters. Write `${GATE_PASSWORD}`, not the password.",
        examples=["${GATE_PASSWORD}"],
    )
    password_file: str | None = Field(
        None, description="A file that holds the password (a Docker secret).", examples=["/run/secrets/gate_password"]
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP carries the pictures. UDP loses some.")
    mode: Literal["auto", "every_frame", "realtime"] = Field(
        "auto",
        description="`every_frame` analyses each sampled frame and slows the reader; `realtime` drops the oldest "
        "rather than lag. `auto`: files every_frame, all else realtime.",
    )
    max_staleness_s: _Seconds = Field(
        2.0, description="A live frame older than this is dropped, oldest first, and counted."
    )
    open_timeout_s: _Seconds = Field(10.0, description="How long opening a stream may take until it counts as failed.")
    stall_timeout_s: _Seconds = Field(10.0, description="How long a live stream may be silent until it is opened anew.")
    retry_initial_s: _Seconds = Field(
        1.0, description="Wait before the first attempt to reconnect; doubles with each failure."
    )
    retry_max_s: _Seconds = Field(30.0, description="The longest wait between two attempts.")

    @model_validator(mode="after")
    def _fits_together(self) -> SourceConfig:
        if self.retry_initial_s > self.retry_max_s:
            raise fault(
                "retry-order", "retry_initial_s is above retry_max_s", "the wait grows from the one to the other"
            )
        if self.password is not None and self.username is None:
            raise fault("password-alone", "a password without a username", "add username")
        return self

    @property
    def location(self) -> SecretUrl:
        """What to open, by ``reveal()``: the URL with user and password in it, or the file, folder or device."""
        if self.url is None:
            raise ValueError("these are the defaults of all cameras: they have no url")
        if self.username is None or not self.url.is_url:
            return self.url
        return self.url.with_credentials(self.username, self.password.reveal() if self.password else None)

    @property
    def is_local_file(self) -> bool:
        """Whether it names a file or folder (not a URL, not a device)."""
        return self.url is not None and not self.url.is_url and not self.url.reveal().startswith("/dev/")


class WindowsConfig(_Section):
    """How sampled frames travel from ingest to inference."""

    encoding: Literal["raw", "jpeg"] | None = Field(
        None, description="`raw` pixels or `jpeg`. Default: raw in one process, jpeg on Kafka."
    )
    quality: Annotated[_Whole, Field(ge=1, le=100)] = Field(85, description="JPEG quality.")
    window_frames: Annotated[_Whole, Field(ge=1, le=64)] = Field(
        8, description="A window closes at this many frames ..."
    )
    window_s: Annotated[_Number, Field(gt=0, le=60)] = Field(
        1.0, description="... or after this much stream time, whichever is first."
    )


class CountsConfig(_Section):
    """The count windows: what was seen in each span of time."""

    window_s: Annotated[_Number, Field(gt=0, le=86_400)] = Field(10.0, description="Span of a count window in seconds.")


class ThresholdsConfig(_Section):
    """Scores of the detector; what is not given is taken from the model's manifest."""

    score: _Share | None = Field(None, description="From this score on a detection may start a track.")
    low: _Share | None = Field(None, description="The weakest detection that may still continue a track.")

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdsConfig:
        if self.score is not None and self.low is not None and self.low > self.score:
            raise fault("threshold-order", "low is above score", "low is for weak boxes of tracks that score started")
        return self


class TrackerConfig(_Section):
    """Overrides of the tracker; what is not given keeps the tracker's own default. Times are in seconds."""

    new_track_score: Annotated[_Number, Field(ge=0, lt=1)] | None = Field(
        None, description="From this score on a detection may start a track; 0: thresholds.score."
    )
    match_iou: _Overlap | None = Field(None, description="Least overlap of a predicted box with a sure detection.")
    low_match_iou: _Overlap | None = Field(None, description="The same with a weak detection.")
    reach_sigma: Annotated[_Number, Field(ge=0, le=100)] | None = Field(
        None, description="How many standard deviations of its predicted place a track reaches where nothing overlaps."
    )
    confirm_hits: Annotated[_Whole, Field(ge=1, le=1000)] | None = Field(
        None, description="An object counts once it was seen this often ..."
    )
    confirm_s: _Wait | None = Field(None, description="... and over this long.")
    tentative_lost_s: _Wait | None = Field(
        None, description="How long an unconfirmed track outlives its last detection."
    )
    max_lost_s: _Wait | None = Field(None, description="How long a confirmed track outlives its last detection.")
    coast_s: _Wait | None = Field(None, description="How long an unseen object still counts as present.")

    def overrides(self) -> dict[str, float]:
        """Only what was given."""
        return {name: float(value) for name, value in self.model_dump(exclude_none=True).items()}


class LineConfig(_Section):
    """A line to count crossings of, walked from its first point A to its last B: left and right are as you walk."""

    points: shapes.LinePoints = Field(
        description="Two or more points [x, y], 0..1 of the picture, x to the right, y down.",
        examples=[[[0.0, 0.62], [1.0, 0.62]]],
    )
    classes: Classes = Field(
        DEFAULT_CLASSES, description="Classes (car) or groups (person, vehicle) that count.", examples=[["vehicle"]]
    )
    anchor: AnchorName = Field("bottom_center", description="The point of an object's box that has to cross.")
    wrong_way: Literal["left", "right"] | None = Field(
        None, description="A crossing to this side is also a direction.wrong event."
    )


class ZoneConfig(_Section):
    """An area: who enters, leaves, stays."""

    points: shapes.PolygonPoints = Field(
        description="Three or more corners [x, y], 0..1 of the picture, in order round the area.",
        examples=[[[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]]],
    )
    classes: Classes = Field(
        DEFAULT_CLASSES,
        description="Classes (car) or groups (person, vehicle) that are watched.",
        examples=[["person"]],
    )
    anchor: AnchorName = Field("bottom_center", description="The point of an object's box that has to be inside.")
    dwell_s: _Seconds | None = Field(None, description="zone.dwelled once an object stayed this long.", examples=[10])
    crowded_at: Annotated[_Whole, Field(ge=1)] | None = Field(
        None, description="zone.crowded when this many are inside.", examples=[8]
    )
    stopped_s: _Seconds | None = Field(
        None, description="vehicle.stopped once a vehicle stood still this long.", examples=[20]
    )
    direction: shapes.Direction | None = Field(
        None,
        description="The direction that traffic must take: up, down, left, right of the picture, or a vector [dx, dy]; "
        "direction.wrong for the opposite.",
        examples=["up", [1.0, -0.2]],
    )


class _CameraDefaults(_Section):
    """What can be given at the top for all cameras, and again in each."""

    model: Annotated[str, Field(min_length=1)] = Field(
        "passerby-nano",
        description="A shipped or added model by name, or a folder holding model.onnx and manifest.yaml (relative to "
        "the configuration file).",
    )
    sample_fps: Annotated[_Number, Field(gt=0, le=120)] = Field(8.0, description="Frames a second that are analysed.")
    source: SourceConfig = SourceConfig()
    windows: WindowsConfig = WindowsConfig()
    counts: CountsConfig = CountsConfig()
    thresholds: ThresholdsConfig = ThresholdsConfig()
    tracker: TrackerConfig = TrackerConfig()


class CameraConfig(_CameraDefaults):
    """One camera, with the defaults of the file merged in."""

    source: SourceConfig = Field(
        description="A URL, file, folder or device as text, or a map with `url` and how to read it."
    )
    source_file: str | None = Field(
        None, description="A file that holds the source's URL (a Docker secret), instead of `source`."
    )
    start: AwareDatetime | None = Field(
        None, description="Files only: the time of the first frame, with its zone.", examples=["2026-01-01T08:00:00Z"]
    )
    lines: dict[_Name, LineConfig] = Field(default_factory=dict, description="Lines to count, by name.")
    zones: dict[_Name, ZoneConfig] = Field(default_factory=dict, description="Areas to watch, by name.")
    masks: tuple[shapes.PolygonPoints, ...] = Field(
        (),
        description="Polygons painted over at decode, before anything leaves the source (privacy).",
        examples=[[[[0, 0], [0.2, 0], [0.2, 0.1]]]],
    )
    _id: str = PrivateAttr("")
    _node: Node | None = PrivateAttr(None)

    @field_validator("source", mode="before")
    @classmethod
    def _source_as_text(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str | SecretUrl) else value

    @field_validator("start", mode="before")
    @classmethod
    def _start_as_text(cls, value: Any) -> Any:
        if isinstance(value, int | float):  # pydantic would take a number for seconds since 1970
            raise fault("not-a-time", f"{value} is not a time", "write it whole: 2026-01-01T08:00:00Z")
        return value

    @model_validator(mode="after")
    def _has_a_source(self) -> CameraConfig:
        if self.source.url is None:
            raise fault("no-url", "source has no url", "add url: a URL, a file, a folder or /dev/video0")
        return self

    @property
    def id(self) -> str:
        """The camera_id: its key in ``cameras``."""
        return self._id

    def rules(self) -> CameraRules:
        """What the analytics watch for."""
        lines = [LineRule(k, r.points, r.classes, r.anchor, r.wrong_way) for k, r in self.lines.items()]
        zones = [
            ZoneRule(k, z.points, z.classes, z.anchor, z.dwell_s, z.crowded_at, z.stopped_s, z.direction)
            for k, z in self.zones.items()
        ]
        return CameraRules(
            self.id, tuple(lines), tuple(zones), self.counts.window_s, self.sample_fps, self.tracker.overrides()
        )


class InferenceConfig(_Section):
    """How the network runs in this process."""

    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"] = Field(
        "cpu", description="The execution provider that must run; if another one would, start-up fails."
    )
    allow_cpu: bool = Field(False, description="Go on with the CPU when the provider does not run, instead of failing.")
    threads: Annotated[_Whole, Field(ge=1, le=1024)] | None = Field(
        None, description="Pictures the network works on at once. Default: the cores of the machine."
    )
    batch_sizes: Annotated[tuple[Annotated[_Whole, Field(ge=1, le=256)], ...], Field(min_length=1)] | None = Field(
        None,
        description="Fixed batch sizes; a batch is filled up to the next one. Default: the provider's best.",
    )
    batch_wait_s: Annotated[_Number, Field(ge=0, le=10)] = Field(
        0.01, description="How long a batch that is not full waits for more pictures."
    )


class KafkaConfig(_Section):
    """The log between the workers (`ingest`, `infer`); `run` needs none."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="host:port, comma-separated.")
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = Field(
        "passerby", description="First part of every topic's name."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As in Kafka's clients."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="As in Kafka's clients."
    )
    username: str | None = Field(None, min_length=1, description="SASL user.")
    username_file: str | None = Field(None, description="A file that holds the SASL user.")
    password: SecretText | None = Field(
        None, description="SASL password; write `${KAFKA_PASSWORD}`.", examples=["${KAFKA_PASSWORD}"]
    )
    password_file: str | None = Field(None, description="A file that holds the SASL password.")
    ca_file: str | None = Field(None, description="Certificate authority that signed the brokers' certificates (PEM).")

    @model_validator(mode="after")
    def _fits_together(self) -> KafkaConfig:
        sasl = (self.sasl_mechanism, self.username, self.password)
        if self.security_protocol.startswith("SASL") and None in sasl:
            raise fault("sasl-incomplete", f"{self.security_protocol} needs sasl_mechanism, username and password")
        return self


class OutputConfig(_Section):
    """What `run` writes beside events.jsonl, counts.jsonl and ledger.json."""

    report: bool = Field(True, description="Write report.html.")
    annotate: bool = Field(False, description="Write an annotated video of each camera.")


class Config(_CameraDefaults):
    """The whole file: defaults for all cameras, what belongs to the process, and the cameras."""

    inference: InferenceConfig = InferenceConfig()
    kafka: KafkaConfig = KafkaConfig()
    output: OutputConfig = OutputConfig()
    cameras: dict[CameraId, CameraConfig] = Field(
        description="The cameras by name; a name is the camera_id in every event."
    )
    _file: str = PrivateAttr("")
    _text: str = PrivateAttr("")
    _node: Node | None = PrivateAttr(None)

    @property
    def file(self) -> str:
        """The file it was read from, as given; "" when made from a command line."""
        return self._file

    def camera(self, camera_id: str) -> CameraConfig:
        """One camera, resolved. Raises KeyError."""
        return self.cameras[camera_id]

    def redacted_yaml(self) -> str:
        """The file as it was written, or the like of it for a command line, without secrets: to be shown."""
        if not self._text:
            told = self.model_dump(mode="json", exclude_defaults=True)
            return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
        return redact(_SECRET_LINE.sub(rf"\g<key>{MASK}", self._text))

    def problem(
        self,
        key: tuple[str | int, ...],
        message: str,
        mend: str = "",
        *,
        code: str,
        severity: Severity = "warning",
        at_key: bool = False,
    ) -> Problem:
        """A finding about the value at ``key`` (("cameras", "gate", "lines", "street")), with its place in the file."""
        line, column = self.place(key, at_key=at_key)
        return Problem(self._file, line, column, dotted(key), message, mend, code, severity)

    def place(self, key: tuple[str | int, ...], *, at_key: bool = False) -> Place:
        """Line and column of the value at ``key``, wherever a camera has it from; (0, 0) without a file."""
        camera = self.cameras.get(str(key[1])) if len(key) > 2 and key[0] == "cameras" else None
        if camera is not None and camera._node is not None:
            return camera._node.place(key[2:], at_key=at_key)
        return self._node.place(key, at_key=at_key) if self._node else (0, 0)
