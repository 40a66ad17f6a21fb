"""The whole of ``passerby.yaml``: the cameras and the defaults they share.

A ``Config`` is resolved: every camera carries its own copy of what it did not override. What belongs to a camera can be
given at the top as a default for all and again inside a camera; ``inference``, ``kafka`` and ``output`` belong to the
process and stand at the top only.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, Field, PrivateAttr, field_validator, model_validator

from pipeline.config import shapes
from pipeline.config.document import Node, Place, dotted
from pipeline.config.kafka import KafkaConfig
from pipeline.config.problems import Problem, Severity, fault
from pipeline.config.secrets import MASK, SecretUrl, redact, secrets_in
from pipeline.config.sections import (
    ConditionConfig,
    CountsConfig,
    InferenceConfig,
    LabelsConfig,
    LineConfig,
    Name,
    Number,
    OutputConfig,
    SceneConfig,
    Section,
    SourceConfig,
    ThresholdsConfig,
    TrackerConfig,
    WindowsConfig,
    ZoneConfig,
)
from pipeline.core.rules import CameraRules, LineRule, ZoneRule

# A password written out; ${NAME} may stay, it says nothing.
_SECRET_LINE = re.compile(
    r"(?P<key>\bpassword['\"]?[ \t]*:[ \t]*)(?!\$\{[A-Za-z0-9_]*\}|[ \t]*$)[^\n,}]*", re.MULTILINE
)
CAMERA_ID_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
CameraId = Annotated[str, Field(pattern=CAMERA_ID_PATTERN)]


class _CameraDefaults(Section):
    """What can be given at the top for all cameras, and again in each."""

    model: Annotated[str, Field(min_length=1)] = Field(
        "passerby-nano",
        description="A shipped or added model by name, or a folder holding model.onnx and manifest.yaml (relative to "
        "the configuration file).",
    )
    sample_fps: Annotated[Number, Field(gt=0, le=120)] = Field(8.0, description="Frames a second that are analysed.")
    falls: bool = Field(
        False,
        description="scene.event of the kind `fall` wherever somebody fell and stays down; a zone's `falls` asks for "
        "it there only. Wants `model: passerby-falls`.",
    )
    source: SourceConfig = SourceConfig()
    windows: WindowsConfig = WindowsConfig()
    counts: CountsConfig = CountsConfig()
    thresholds: ThresholdsConfig = ThresholdsConfig()
    tracker: TrackerConfig = TrackerConfig()
    scene: SceneConfig = SceneConfig()
    condition: ConditionConfig = ConditionConfig()
    labels: LabelsConfig = LabelsConfig()


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
    lines: dict[Name, LineConfig] = Field(default_factory=dict, description="Lines to count, by name.")
    zones: dict[Name, ZoneConfig] = Field(default_factory=dict, description="Areas to watch, by name.")
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
            ZoneRule(k, z.points, z.classes, z.anchor, z.dwell_s, z.crowded_at, z.stopped_s, z.direction, z.falls)
            for k, z in self.zones.items()
        ]
        return CameraRules(
            self.id, tuple(lines), tuple(zones), self.counts.window_s, self.sample_fps, self.tracker.overrides(),
            condition=self.condition.kinds, falls=self.falls,
        )  # fmt: skip


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

    def plain_secrets(self) -> list[tuple[str | int, ...]]:
        """The keys whose password is written out in the file, rather than put in from outside."""
        return [path for path, node in self._node.scalars() if _is_plain_secret(path, node)] if self._node else []

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


def _is_plain_secret(path: tuple[str | int, ...], node: Node) -> bool:
    if path[-1] == "password":
        return bool(node.written) and "${" not in node.written
    if path[-1] not in ("url", "source"):
        return False
    return any("${" not in secret for secret in secrets_in(node.written))
