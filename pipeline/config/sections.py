"""The sections of ``passerby.yaml``: every key with its type, its default and what it means.

The descriptions are the reference (docs/configuration.md) and what editors show (docs/passerby.schema.json).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.config import shapes
from pipeline.config.problems import fault
from pipeline.config.secrets import SecretText, SecretUrl
from pipeline.core.rules import CONDITION_KINDS, DEFAULT_CLASSES, ConditionKind

NAME_PATTERN = r"^[^\x00-\x1f\x7f/\\]{1,64}$"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise fault("not-a-number", "must be a number, not true or false")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]
_Seconds = Annotated[Number, Field(gt=0)]
_Wait = Annotated[Number, Field(ge=0, lt=10_000)]
_Overlap = Annotated[Number, Field(ge=0, le=1)]
_Share = Annotated[Number, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Classes = Annotated[tuple[Name, ...], BeforeValidator(shapes.one_or_many), Field(min_length=1)]
AnchorName = Literal["bottom_center", "center", "top_center"]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )


class SourceConfig(Section):
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
    open_timeout_s: _Seconds = Field(15.0, description="How long opening a stream may take until it counts as failed.")
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


class WindowsConfig(Section):
    """How sampled frames travel from ingest to inference."""

    encoding: Literal["raw", "jpeg"] | None = Field(
        None, description="`raw` pixels or `jpeg`. Default: raw in one process, jpeg on Kafka."
    )
    quality: Annotated[Whole, Field(ge=1, le=100)] = Field(85, description="JPEG quality.")
    window_frames: Annotated[Whole, Field(ge=1, le=64)] = Field(
        8, description="A window closes at this many frames ..."
    )
    window_s: Annotated[Number, Field(gt=0, le=60)] = Field(
        1.0, description="... or after this much stream time, whichever is first."
    )


class CountsConfig(Section):
    """The count windows: what was seen in each span of time."""

    window_s: Annotated[Number, Field(gt=0, le=86_400)] = Field(10.0, description="Span of a count window in seconds.")


class ThresholdsConfig(Section):
    """Scores of the detector; what is not given is taken from the model's manifest."""

    score: _Share | None = Field(None, description="From this score on a detection may start a track.")
    low: _Share | None = Field(None, description="The weakest detection that may still continue a track.")

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdsConfig:
        if self.score is not None and self.low is not None and self.low > self.score:
            raise fault("threshold-order", "low is above score", "low is for weak boxes of tracks that score started")
        return self


class TrackerConfig(Section):
    """Overrides of the tracker; what is not given keeps the tracker's own default. Times are in seconds."""

    new_track_score: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        None, description="From this score on a detection may start a track; 0: thresholds.score."
    )
    match_iou: _Overlap | None = Field(None, description="Least overlap of a predicted box with a sure detection.")
    low_match_iou: _Overlap | None = Field(None, description="The same with a weak detection.")
    reach_sigma: Annotated[Number, Field(ge=0, le=100)] | None = Field(
        None, description="How many standard deviations of its predicted place a track reaches where nothing overlaps."
    )
    confirm_hits: Annotated[Whole, Field(ge=1, le=1000)] | None = Field(
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


class LineConfig(Section):
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


class ZoneConfig(Section):
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
    crowded_at: Annotated[Whole, Field(ge=1)] | None = Field(
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
    falls: bool = Field(
        False,
        description="scene.event of the kind `fall` when somebody fell inside and stays down. Wants "
        "`model: passerby-falls`.",
    )


class SceneScoresConfig(Section):
    """Scores at which a kind of scene event begins and ends; what is not given is taken from the model's manifest."""

    start: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None, description="Clips of this score or more begin an event."
    )
    end: Annotated[Number, Field(gt=0, le=1)] | None = Field(None, description="Clips of a lower score end it.")

    @model_validator(mode="after")
    def _ordered(self) -> SceneScoresConfig:
        if self.start is not None and self.end is not None and self.end > self.start:
            raise fault("threshold-order", "end is above start", "an event ends at a lower score than it began at")
        return self


class SceneConfig(Section):
    """Events that take a while (a fight, a fall): a network that looks at clips of two seconds (CNN-LSTM)."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A scene model by name, or its folder (relative to the configuration file). Without one no clip is "
        "looked at.",
        examples=["passerby-scene"],
    )
    kinds: Annotated[tuple[Name, ...], BeforeValidator(shapes.one_or_many)] | None = Field(
        None,
        description="The kinds to watch for; default: all that the model knows; `[]` switches it off.",
        examples=[["fight"]],
    )
    thresholds: dict[Name, SceneScoresConfig] = Field(
        default_factory=dict,
        description="Scores by kind, instead of the model's.",
        examples=[{"fight": {"start": 0.8, "end": 0.6}}],
    )

    @property
    def is_on(self) -> bool:
        """Whether clips are looked at."""
        return self.model is not None and self.kinds != ()


class LabelsConfig(Section):
    """What the whole picture shows (day or night): a classifier looks at a picture now and then."""

    model: str | None = Field(
        None,
        min_length=1,
        description="A classifier by name, or its folder (relative to the configuration file). Without one no picture "
        "is judged.",
        examples=["passerby-daylight"],
    )
    kinds: Annotated[tuple[Name, ...], BeforeValidator(shapes.one_or_many)] | None = Field(
        None,
        description="The classes to tell of; default: all that the model knows; `[]` switches it off.",
        examples=[["night"]],
    )
    every_s: Annotated[Number, Field(gt=0, le=86_400)] = Field(
        5.0, description="Stream time from one judgement to the next, in seconds."
    )
    score: _Share | None = Field(
        None, description="From this probability on a judgement counts. Default: the model's `thresholds.score`."
    )
    votes: Annotated[Whole, Field(ge=1, le=1000)] = Field(
        3, description="So many judgements in a row begin a label; so many in a row that give another end it."
    )

    @property
    def is_on(self) -> bool:
        """Whether pictures are judged."""
        return self.model is not None and self.kinds != ()


def _in_order(kinds: tuple[ConditionKind, ...]) -> tuple[ConditionKind, ...]:
    """Each once and in one order: however they are written, the meaning (and its hash) is the same."""
    return tuple(kind for kind in CONDITION_KINDS if kind in kinds)


class ConditionConfig(Section):
    """What is told of when a camera's pictures are not what they should be: scene events, and the status `tampered`."""

    kinds: Annotated[tuple[ConditionKind, ...], BeforeValidator(shapes.one_or_many), AfterValidator(_in_order)] = Field(
        CONDITION_KINDS,
        description="Which: `black`, `glare` (a light blinds it), `covered`, `defocused`, `moved` (a camera that turns "
        "on purpose needs a list without it), `frozen` (the same picture over and over). `[]` switches it off.",
        examples=[["black", "covered", "frozen"]],
    )


class InferenceConfig(Section):
    """How the network runs in this process."""

    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"] = Field(
        "cpu", description="The execution provider that must run; if another one would, start-up fails."
    )
    allow_cpu: bool = Field(False, description="Go on with the CPU when the provider does not run, instead of failing.")
    threads: Annotated[Whole, Field(ge=1, le=1024)] | None = Field(
        None, description="Pictures the network works on at once. Default: the cores of the machine."
    )
    batch_sizes: Annotated[tuple[Annotated[Whole, Field(ge=1, le=256)], ...], Field(min_length=1)] | None = Field(
        None,
        description="Fixed batch sizes; a batch is filled up to the next one. Default: the provider's best.",
    )
    batch_wait_s: Annotated[Number, Field(ge=0, le=10)] = Field(
        0.01, description="How long a batch that is not full waits for more pictures."
    )


class OutputConfig(Section):
    """What `run` writes beside events.jsonl, counts.jsonl and ledger.json."""

    report: bool = Field(True, description="Write report.html.")
    annotate: bool = Field(False, description="Write an annotated video of each camera.")
