"""JSON Schemas of the events' data and of the structured envelope, from the types in ``pipeline.core.events``.

They leave room: a property a schema does not name is allowed, since v1 grows by optional properties and consumers pass
over what they do not know.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from pipeline.core.events import DATA_TYPES, CameraId, Time

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE = "cloudevent"


def data_schema(type_: str) -> Schema:
    """The schema of the data of CloudEvents type ``type_``: the value of its Kafka record."""
    made: Schema = _plain(TypeAdapter(DATA_TYPES[type_]).json_schema(mode="serialization"))
    head: Schema = {"$schema": DIALECT, "title": type_, "description": made.pop("description")}
    definitions = made.pop("$defs", None)
    return head | made | ({"$defs": definitions} if definitions else {})


def envelope_schema() -> Schema:
    """The schema of a structured CloudEvent, as in events.jsonl, counts.jsonl and ``passerby tail --json``."""
    camera_id, time = (_plain(TypeAdapter(kind).json_schema()) for kind in (CameraId, Time))
    return {
        "$schema": DIALECT,
        "title": "CloudEvent",
        "description": "A CloudEvent 1.0 in structured mode: one line of events.jsonl and counts.jsonl. In Kafka the "
        "attributes are headers (ce_*) and `data` is the record's value.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {
                "description": "A hash of what happened: the same input gives the same id; unique with `source`.",
                "type": "string",
                "minLength": 1,
            },
            "source": {"description": "/passerby/<camera_id>", "type": "string", "format": "uri-reference"},
            "type": {
                "description": "Which schema the data have; pass over types you do not know.",
                "type": "string",
                "minLength": 1,
            },
            "subject": camera_id,
            "time": {"description": "When it happened; never goes back within a camera's topic.", **time},
            "datacontenttype": {"const": "application/json"},
            "data": {"type": "object"},
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"],
        "allOf": [
            {
                "if": {"properties": {"type": {"const": type_}}, "required": ["type"]},
                "then": {"properties": {"data": {"$ref": f"{type_}.schema.json"}}},
            }
            for type_ in DATA_TYPES
        ],
    }


def _plain(told: Any) -> Any:
    """pydantic's schema without the titles it invents."""
    if isinstance(told, list):
        return [_plain(item) for item in told]
    if isinstance(told, str):
        return told.replace("``", "`")
    if not isinstance(told, dict):
        return told
    schema: Schema = {}
    for key, value in told.items():
        if key in ("properties", "$defs"):
            schema[key] = {name: _plain(item) for name, item in value.items()}
        elif key != "title":
            schema[key] = value if key in ("examples", "enum", "required", "const") else _plain(value)
    return schema
