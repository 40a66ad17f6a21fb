"""docs/configuration.md: the page that lists every key, made from the models."""

from __future__ import annotations

import functools
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.kafka import KafkaConfig, SpoolConfig
from pipeline.config.models import CameraConfig, Config
from pipeline.config.schema import json_schema
from pipeline.config.sections import (
    ConditionConfig,
    CountsConfig,
    InferenceConfig,
    LabelsConfig,
    LineConfig,
    OutputConfig,
    SceneConfig,
    SceneScoresConfig,
    SourceConfig,
    ThresholdsConfig,
    TrackerConfig,
    WindowsConfig,
    ZoneConfig,
)

_INTRODUCTION = """\
# Configuration

<!-- Made by `passerby schema --markdown` from pipeline/config/sections.py and models.py; a test compares. -->

One YAML file describes the cameras. `passerby init SOURCE...` writes one to start from, `passerby check -c FILE` says
everything that is wrong with it, by line and column, and what cannot work though it is well written.

```yaml
# yaml-language-server: $schema=passerby.schema.json
model: passerby-nano          # defaults for all cameras ...
sample_fps: 8
cameras:
  gate:                       # the camera_id in every event
    source: rtsp://user:${GATE_PASSWORD}@gate.example/stream
    sample_fps: 5             # ... any of which a camera may override
    lines:
      street: {points: [[0.0, 0.62], [1.0, 0.62]], classes: [vehicle]}
    zones:
      plaza: {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]], classes: [person], dwell_s: 10}
```

**Defaults and overrides.** `model`, `sample_fps`, `falls`, `source`, `windows`, `counts`, `thresholds`, `tracker`,
`scene`, `condition` and `labels` may stand at the top, for all cameras, and again in a camera. Maps are merged key by
key; a list replaces the list above it. A key without a value counts as not given.

**Coordinates** are 0..1 of the picture, x to the right, y down. Walking a line from its first point A to its last B,
a crossing goes to the `left` or to the `right`; for a line drawn left to right, `right` is downwards in the picture.

**Secrets.** `${NAME}` in any text is filled in from the environment, `${NAME:-default}` has a default, `$${` stands for
`${` itself. Inside the `user:password@` of a URL the value is percent-encoded. `password_file`, `username_file`,
`url_file` and `source_file` read a file (a Docker secret) instead. Secrets are not shown in errors, logs, events or
reports, and are not part of `config_sha256`.

**Paths** are relative to the configuration file. Keys that begin with `x-` are yours, for YAML anchors. Values are
typed as in YAML 1.2: only `true` and `false` are booleans.

**config_sha256**, in every event, is a hash of what can change results: a camera's resolved configuration without
credentials, folders of the machine, and the settings of the process (`inference`, `kafka`, `output`).

For completion and checks in an editor that speaks the YAML language server, keep `passerby.schema.json`
(`passerby schema > passerby.schema.json`) beside the file; `passerby init` does.
"""

_SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("source", SourceConfig, "A text (`source: URL`) is short for `source: {url: URL}`. At the top: defaults, no url."),
    ("windows", WindowsConfig, ""),
    ("counts", CountsConfig, ""),
    ("thresholds", ThresholdsConfig, ""),
    ("tracker", TrackerConfig, ""),
    ("scene", SceneConfig, ""),
    ("scene.thresholds.NAME", SceneScoresConfig, ""),
    ("condition", ConditionConfig, ""),
    ("labels", LabelsConfig, ""),
    ("lines.NAME", LineConfig, ""),
    ("zones.NAME", ZoneConfig, ""),
    ("inference", InferenceConfig, "At the top only: it belongs to the process."),
    ("kafka", KafkaConfig, "At the top only: it belongs to the process."),
    ("kafka.spool", SpoolConfig, ""),
    ("output", OutputConfig, "At the top only: it belongs to the process."),
)


def reference_markdown() -> str:
    """The whole page."""
    shared = [name for name in CameraConfig.model_fields if name in Config.model_fields]
    own = [name for name in CameraConfig.model_fields if name not in shared]
    parts = [
        _INTRODUCTION,
        "## At the top, or in a camera\n",
        _table(Config, shared),
        "## In a camera only: `cameras.NAME`\n",
        _table(CameraConfig, own),
    ]
    for name, model, note in _SECTIONS:
        text = " ".join(filter(None, ((model.__doc__ or "").split("\n\n", maxsplit=1)[0].strip(), note)))
        parts += [f"## `{name}`\n", f"{text}\n", _table(model, list(model.model_fields))]
    return "\n".join(parts)


def _table(model: type[BaseModel], names: list[str]) -> str:
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name in names:
        field = model.model_fields[name]
        cells = (f"`{name}`", _kind(model, name, field), _default(field), _meaning(field))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _meaning(field: FieldInfo) -> str:
    if field.description:
        return field.description
    return f"See [`{_section_of(field)}`](#{_section_of(field)})."


def _section_of(field: FieldInfo) -> str:
    return next(name for name, model, _ in _SECTIONS if field.annotation is model)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or isinstance(value, BaseModel) or value in ((), {}):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@functools.cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _kind(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """The type in words, with its bounds from the schema that editors get."""
    choices = _choices(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    whole = _schema()
    schema = whole if model is Config else whole["$defs"][model.__name__]
    return _words(schema["properties"][name])


def _words(schema: dict[str, Any]) -> str:
    kinds: list[str] = []
    for form in schema.get("anyOf", [schema]):
        kind = form.get("type")
        if kind in ("number", "integer"):
            kinds.append(("whole " if kind == "integer" else "") + "number" + _bounds(form))
        elif kind == "boolean":
            kinds.append("`true`, `false`")
        elif kind == "string":
            kinds.append("time" if form.get("format") == "date-time" else "text")
        elif kind == "array":
            kinds.append("list")
        elif "$ref" in form or "object" in (kind or ()):
            kinds.append("" if form.get("$ref", "").endswith("FromEnvironment") else "map")
        elif "anyOf" in form:
            kinds.append(_words(form))
        elif "enum" in form:
            kinds.append(", ".join(f"`{word}`" for word in form["enum"]))
    return " or ".join(dict.fromkeys(filter(None, kinds)))


def _bounds(form: dict[str, Any]) -> str:
    words = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    told = [f"{sign} {form[key]:g}" for key, sign in words.items() if key in form]
    return f" {', '.join(told)}" if told else ""


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        inner = [item for item in get_args(annotation) if item is not NoneType]
        return _choices(inner[0]) if len(inner) == 1 else ()
    return ()
