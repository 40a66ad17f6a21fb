"""Every key of ``passerby.yaml``: its type, its default and what it means.

The descriptions are the reference (docs/configuration.md) and what editors show (docs/passerby.schema.json).

A ``Config`` is resolved: every camera carries its own copy of what it did not override. What belongs to a camera can be
given at the top as a default for all and again inside a camera; ``inference``, ``kafka`` and ``output`` belong to the
process and stand at the top only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipeline.config import shapes
from pipeline.config.document import Node
from pipeline.config.problems import Problem, Severity
from pipeline.config.secrets import SecretText, SecretUrl
from pipeline.core.rules import DEFAULT_CLASSES, CameraRules, LineRule, ZoneRule

CAMERA_ID_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
_NAME_PATTERN = r"^[^\x00-\x1f\x7f/\\]{1,64}$"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "must be a number, not true or false")
    return value


_Number = Annotated[float, BeforeValidator(_number)]
_Whole = Annotated[int, BeforeValidator(_number)]
_Seconds = Annotated[_Number, Field(gt=0)]
_Share = Annotated[_Number, Field(gt=0, lt=1)]
_Name = Annotated[str, Field(pattern=_NAME_PATTERN)]
CameraId = Annotated[str, Field(pattern=CAMERA_ID_PATTERN)]
Classes = Annotated[tuple[_Name, ...], BeforeValidator(shapes.one_or_many), Field(min_length=1)]
AnchorName = Literal["bottom_center", "center", "top_center"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False)


class SourceConfig(_Section):
    """Where the pictures come from, and how a stream is kept. At the top of the file: defaults for all cameras."""

    url: SecretUrl | None = Field(
        None,
        description="rtsp://, http://, https:// (also HLS), a video file, a folder of clips, or /dev/video0. A relative "
        "path is looked for beside the configuration file.",
        examples=["rtsp://gate.example/stream", "clips/square.mp4", "/dev/video0"],
    )
    url_file: str | None = Field(None, description="A file that holds the URL (a Docker secret), instead of `url`.")
    username: str | None = Field(None, min_length=1, description="User of the camera, instead of writing it in the URL.")
    username_file: str | None = Field(None, description="A file that holds the user name.")
    password: SecretText | None = Field(
        None,
        description="Password of the camera; any characters, no percent-encoding needed. Write `${GATE_PASSWORD}`, not the password.",
        examples=["${GATE_PASSWORD}"],
    )
    password_file: str | None = Field(
        None, description="A file that holds the password (a Docker secret).", examples=["/run/secrets/gate_password"]
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP carries the pictures. UDP loses some.")
    mode: Literal["auto", "every_frame", "realtime"] = Field(
        "auto",
        description="`every_frame` analyses each sampled frame and slows the reader; `realtime` drops the oldest rather than "
        "lag. `auto`: files every_frame, all else realtime.",
    )
    max_staleness_s: _Seconds = Field(2.0, description="A live frame older than this is dropped, oldest first, and counted.")
    open_timeout_s: _Seconds = Field(10.0, description="How long opening a stream may take until it counts as failed.")
    stall_timeout_s: _Seconds = Field(10.0, description="How long a live stream may be silent until it is opened anew.")
    retry_initial_s: _Seconds = Field(1.0, description="Wait before the first attempt to reconnect; doubles with each failure.")
    retry_max_s: _Seconds = Field(30.0, description="The longest wait between two attempts.")

    @model_validator(mode="after")
    def _fits_together(self) -> SourceConfig:
        if self.retry_initial_s > self.retry_max_s:
            raise PydanticCustomError(
                "retry_order", "retry_initial_s is above retry_max_s (|)the wait grows from the first to the second"
            )
        if self.password is not None and self.username is None:
            raise PydanticCustomError("password_alone", "a password without a username (|)add username")
        if self.username is not None and self.url is not None and not self.url.is_url:
            raise PydanticCustomError("credentials_of_a_file", "a file or device takes no username (|)remove username and password")
        return self

    @property
    def location(self) -> SecretUrl:
        """The URL with user and password in it, the file (absolute), the folder or the device; ``reveal()`` to open it."""
        if self.url is None:
            raise ValueError("these are the defaults of all cameras: they have no url")
        if self.username is None:
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
    window_frames: Annotated[_Whole, Field(ge=1, le=64)] = Field(8, description="A window closes at this many frames ...")
    window_s: Annotated[_Number, Field(gt=0, le=60)] = Field(1.0, description="... or after this much stream time, whichever is first.")


class CountsConfig(_Section):
    """The count windows: what was seen in each span of time."""

    window_s: Annotated[_Number, Field(gt=0, le=86_400)] = Field(10.0, description="Span of a count window in seconds.")


class ThresholdsConfig(_Section):
    """Scores of the detector; what is not given is taken from the model's manifest."""

    score: _Share | None = Field(None, description="From this score on a detection may start a track.")
    low: _Share | None = Field(None, description="The weakest detection that may still continue a track.")
    nms_iou: Annotated[_Number, Field(gt=0, le=1)] | None = Field(
        None, description="Boxes of one group that overlap by more than this are one object."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdsConfig:
        if self.score is not None and self.low is not None and self.low > self.score:
            raise PydanticCustomError("threshold_order", "low is above score (|)low finds weak boxes of tracks that score started")
        return self


class TrackerConfig(_Section):
    """Overrides of the tracker; what is not given keeps the tracker's own default."""

    def overrides(self) -> dict[str, float]:
        """Only what was given."""
        return {name: float(value) for name, value in self.model_dump(exclude_none=True).items()}


class LineConfig(_Section):
    """A line to count crossings of, walked from its first point A to its last B: left and right are as you walk."""

    points: shapes.LinePoints = Field(
        description="Two or more points [x, y], 0..1 of the picture, x to the right, y down.", examples=[[[0.0, 0.62], [1.0, 0.62]]]
    )
    classes: Classes = Field(DEFAULT_CLASSES, description="Classes (car) or groups (person, vehicle) that count.", examples=[["vehicle"]])
    anchor: AnchorName = Field("bottom_center", description="The point of an object's box that has to cross.")
    wrong_way: Literal["left", "right"] | None = Field(None, description="A crossing to this side is also a direction.wrong event.")


class ZoneConfig(_Section):
    """An area: who enters, leaves, stays."""

    points: shapes.PolygonPoints = Field(
        description="Three or more corners [x, y], 0..1 of the picture, in order round the area.",
        examples=[[[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]]],
    )
    classes: Classes = Field(DEFAULT_CLASSES, description="Classes (car) or groups (person, vehicle) that are watched.", examples=[["person"]])
    anchor: AnchorName = Field("bottom_center", description="The point of an object's box that has to be inside.")
    dwell_s: _Seconds | None = Field(None, description="zone.dwelled once an object stayed this long.", examples=[10])
    crowded_at: Annotated[_Whole, Field(ge=1)] | None = Field(None, description="zone.crowded when this many are inside.", examples=[8])
    stopped_s: _Seconds | None = Field(None, description="vehicle.stopped once a vehicle stood still this long.", examples=[20])
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
        description="A shipped or added model by name, or a folder holding model.onnx and manifest.yaml (relative to the "
        "configuration file).",
    )
    sample_fps: Annotated[_Number, Field(gt=0, le=120)] = Field(8.0, description="Frames a second that are analysed.")
    source: SourceConfig = SourceConfig()
    windows: WindowsConfig = WindowsConfig()
    counts: CountsConfig = CountsConfig()
    thresholds: ThresholdsConfig = ThresholdsConfig()
    tracker: TrackerConfig = TrackerConfig()


class CameraConfig(_CameraDefaults):
    """One camera, with the defaults of the file merged in."""

    source: SourceConfig = Field(description="A URL, file, folder or device as text, or a map with `url` and how to read it.")
    source_file: str | None = Field(None, description="A file that holds the source's URL (a Docker secret), instead of `source`.")
    start: AwareDatetime | None = Field(
        None, description="Files only: the time of the first frame, with its zone.", examples=["2026-01-01T08:00:00Z"]
    )
    lines: dict[_Name, LineConfig] = Field(default_factory=dict, description="Lines to count, by name.")
    zones: dict[_Name, ZoneConfig] = Field(default_factory=dict, description="Areas to watch, by name.")
    masks: tuple[shapes.PolygonPoints, ...] = Field(
        (), description="Polygons painted over at decode, before anything leaves the source (privacy).", examples=[[[[0, 0], [0.2, 0], [0.2, 0.1]]]]
    )
    _id: str = PrivateAttr("")
    _node: Node | None = PrivateAttr(None)

    @field_validator("source", mode="before")
    @classmethod
    def _source_as_text(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str | SecretUrl) else value

    @model_validator(mode="after")
    def _has_a_source(self) -> CameraConfig:
        if self.source.url is None:
            raise PydanticCustomError("no_url", "source has no url (|)add url: a URL, a file, a folder or /dev/video0")
        return self

    @property
    def id(self) -> str:
        """The camera_id: its key in ``cameras``."""
        return self._id

    def rules(self) -> CameraRules:
        """What the analytics watch for."""
        return CameraRules(
            camera_id=self.id,
            lines=tuple(
                LineRule(name, line.points, line.classes, line.anchor, line.wrong_way) for name, line in self.lines.items()
            ),
            zones=tuple(
                ZoneRule(
                    name, z.points, z.classes, z.anchor, dwell_s=z.dwell_s, crowded_at=z.crowded_at, stopped_s=z.stopped_s,
                    direction=z.direction,
                )
                for name, z in self.zones.items()
            ),
            count_window_s=self.counts.window_s,
            sample_fps=self.sample_fps,
            tracker=self.tracker.overrides(),
        )  # fmt: skip


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
        None, description="Fixed batch sizes; a batch is filled up to the next one. Default: [1] on CPU, [1, 2, 4, 8, 16] elsewhere."
    )
    batch_wait_s: Annotated[_Number, Field(ge=0, le=10)] = Field(
        0.01, description="How long a batch that is not full waits for more pictures."
    )


class KafkaConfig(_Section):
    """The log between the workers (`ingest`, `infer`); `run` needs none."""

    bootstrap_servers: str = Field("localhost:9092", min_length=1, description="host:port, comma-separated.")
    prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")] = Field("passerby", description="First part of every topic's name.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field("PLAINTEXT", description="As in Kafka's clients.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(None, description="As in Kafka's clients.")
    username: str | None = Field(None, min_length=1, description="SASL user.")
    username_file: str | None = Field(None, description="A file that holds the SASL user.")
    password: SecretText | None = Field(None, description="SASL password; write `${KAFKA_PASSWORD}`.", examples=["${KAFKA_PASSWORD}"])
    password_file: str | None = Field(None, description="A file that holds the SASL password.")
    ca_file: str | None = Field(None, description="Certificate authority that signed the brokers' certificates (PEM).")

    @model_validator(mode="after")
    def _fits_together(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL") and (self.sasl_mechanism is None or self.password is None or self.username is None):
            raise PydanticCustomError(
                "sasl_incomplete", "{protocol} needs sasl_mechanism, username and password (|)add what is missing",
                {"protocol": self.security_protocol},
            )  # fmt: skip
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
    cameras: dict[CameraId, CameraConfig] = Field(description="The cameras by name; a name is the camera_id in every event.")
    _file: str = PrivateAttr("")
    _node: Node | None = PrivateAttr(None)

    @property
    def file(self) -> str:
        """The file it was read from, as given; "" when made from a command line."""
        return self._file

    def camera(self, camera_id: str) -> CameraConfig:
        """One camera, resolved. Raises KeyError."""
        return self.cameras[camera_id]

    def problem(
        self, key: tuple[str | int, ...], message: str, mend: str = "", *, code: str, severity: Severity = "warning", at_key: bool = False
    ) -> Problem:
        """A finding about the value at ``key`` (("cameras", "gate", "lines", "street")), with its place in the file."""
        node = self._node
        if len(key) > 1 and key[0] == "cameras" and key[1] in self.cameras:
            camera = self.cameras[str(key[1])]
            line, column = camera._node.place(key[2:], at_key=at_key) if camera._node else (0, 0)
            if len(key) == 2 and node:
                line, column = node.place(key, at_key=True)
        else:
            line, column = node.place(key, at_key=at_key) if node else (0, 0)
        dotted = ".".join(str(part) for part in key)
        return Problem(self._file, line, column, dotted, message, mend, code, severity)
