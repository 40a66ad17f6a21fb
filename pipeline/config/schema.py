"""The JSON Schema of ``passerby.yaml``, so that editors complete, explain and check while one types.

Made from the models; what the models take in more than one form (text for a map, ``${NAME}`` for a number, a key
without a value) is added here. ``passerby check`` says more than a schema can: places, geometry, files, load.
"""

from __future__ import annotations

import json
from typing import Any

from pipeline.config.models import CAMERA_ID_PATTERN, Config
from pipeline.config.sections import NAME_PATTERN

Schema = dict[str, Any]

_LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_ENV: Schema = {"$ref": "#/$defs/FromEnvironment"}
_FROM_ENVIRONMENT: Schema = {
    "title": "FromEnvironment",
    "description": "${NAME} or ${NAME:-default}: filled in from the environment.",
    "type": "string",
    "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
}
_CREDENTIALS = ("url", "url_file")  # of a source: they belong to one camera
_EXAMPLE: Schema = {
    "model": "passerby-nano",
    "sample_fps": 8,
    "cameras": {
        "gate": {
            "source": "rtsp://user:${GATE_PASSWORD}@gate.example/stream",
            "lines": {"street": {"points": [[0.0, 0.62], [1.0, 0.62]], "classes": ["vehicle"], "anchor": "center"}},
        }
    },
}


def json_schema() -> Schema:
    """JSON Schema (2020-12) of a configuration file."""
    schema: Schema = _plain(Config.model_json_schema())
    definitions = schema["$defs"]
    definitions["FromEnvironment"] = _FROM_ENVIRONMENT
    _source(definitions)
    schema["properties"]["source"] = {"$ref": "#/$defs/SourceDefaults"}
    camera = definitions["CameraConfig"]
    del camera["required"]
    camera["anyOf"] = [{"required": ["source"]}, {"required": ["source_file"]}]
    camera["type"] = "object"
    for name in ("LineConfig", "ZoneConfig"):
        definitions[name]["type"] = "object"
        _rule(definitions[name]["properties"])
    cameras = schema["properties"]["cameras"]
    cameras["propertyNames"] = {"pattern": CAMERA_ID_PATTERN}
    cameras["additionalProperties"] = {"$ref": "#/$defs/CameraConfig"}
    cameras.pop("patternProperties", None)
    cameras["minProperties"] = 1
    schema["patternProperties"] = {"^x-": {"description": "Yours: for YAML anchors; not read."}}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "passerby.yaml"}
    return head | {key: schema[key] for key in schema if key != "title"} | {"examples": [_EXAMPLE]}


def _source(definitions: Schema) -> None:
    """A camera's source is text or a map with its url; at the top there are only the settings that all share."""
    source = definitions["SourceConfig"]
    definitions["SourceDefaults"] = {
        **source,
        "title": "SourceDefaults",
        "description": "How streams are kept, for all cameras.",
        "properties": {name: told for name, told in source["properties"].items() if name not in _CREDENTIALS},
    }
    definitions["CameraConfig"]["properties"]["source"] = {
        "description": definitions["CameraConfig"]["properties"]["source"]["description"],
        "anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/SourceConfig"}],
        "examples": ["rtsp://user:${GATE_PASSWORD}@gate.example/stream", "clips/square.mp4", "/dev/video0"],
    }


def _rule(properties: Schema) -> None:
    """The forms of lines and zones that the models turn into one."""
    classes = properties["classes"]
    words = {key: classes.pop(key) for key in ("type", "items") if key in classes}
    classes.pop("min_length", None)
    classes["anyOf"] = [words | {"minItems": 1}, {"type": "string", "pattern": NAME_PATTERN}]
    properties["points"]["minItems"] = 3 if "dwell_s" in properties else 2
    direction = properties.get("direction")
    if direction is not None:
        direction["anyOf"].insert(0, {"enum": ["up", "down", "left", "right"]})


def _plain(told: Any) -> Any:
    """pydantic's schema in the words of JSON Schema, without its noise, with ${NAME} for what is not text."""
    if isinstance(told, list):
        return [_plain(item) for item in told]
    if not isinstance(told, dict):
        return told
    schema: Schema = {}
    for key, value in told.items():
        if key == "title" and isinstance(value, str):
            continue
        if key in ("default", "examples", "enum", "required"):
            schema[key] = value
        elif key == "properties":
            schema[key] = {name: _plain(item) for name, item in value.items()}
        elif key == "patternProperties":
            (pattern, item), = value.items()  # fmt: skip
            schema["propertyNames"], schema["additionalProperties"] = {"pattern": pattern}, _plain(item)
        else:
            schema[_LIMITS.get(str(key), str(key))] = _plain(value)
    if schema.get("default", 0) is None or isinstance(schema.get("default"), dict):
        del schema["default"]  # nothing is not a value to complete; a section's defaults stand with its keys
    return _with_other_forms(schema)


def _with_other_forms(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind in ("number", "integer", "boolean") or "enum" in schema:
        outer = {key: schema.pop(key) for key in ("default", "description", "examples") if key in schema}
        return outer | {"anyOf": [schema, _ENV]}
    if kind == "object":
        return schema | {"type": ["object", "null"]}  # a key without a value: everything below it is commented out
    return schema


def schema_text() -> str:
    """The schema as docs/passerby.schema.json holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
