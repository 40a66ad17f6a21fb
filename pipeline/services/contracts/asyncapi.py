"""The AsyncAPI 3.0 document: every topic with its key, headers and messages, as the code writes them."""

from __future__ import annotations

from typing import Any

from pipeline.bus.topics import TopicSpec, declared
from pipeline.config import KafkaConfig
from pipeline.core.events import COUNT_WINDOW, DATA_TYPES
from pipeline.services.contracts.schemas import Schema, data_schema, envelope_schema

_BINDING = "0.5.0"
_WHOLE = {"type": "string", "pattern": "^-?[0-9]+$"}
_MICROSECONDS = {"type": "string", "pattern": "^[0-9]+$", "description": "UTC, microseconds since 1970."}
_KEY: Schema = {"type": "string", "description": "The camera_id: a camera's records lie in one partition, in order."}

_ABOUT = {
    "cameras": "The configuration of each camera, secrets as ${NAME}. Written by `passerby apply`.",
    "windows": "Frames on their way from ingest to inference: up to 8 a record.",
    "counts": "One count window a camera every few seconds, also when nobody was there.",
    "events": "What happened in front of the cameras.",
    "state": "Where inference and ingest stand, so that another worker can go on. Not for others: it changes freely.",
    "dead-letters": "Records that could not be used, as they came, with the reason and where they lay.",
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the default topics."""
    specs = {spec.kind: spec for spec in declared(KafkaConfig())}
    messages = _messages()
    channels = {_name(kind): _channel(spec, _messages_of(kind)) for kind, spec in specs.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Passerby",
            "version": "1",
            "description": "Camera streams in; counts of people and vehicles and scene events out. Everything lies in "
            "Kafka topics; `counts` and `events` are the contract for consumers. Read them with "
            "isolation.level=read_committed, and each result comes once. The names' first part (passerby) is "
            "configurable. Version 1 only grows: optional properties, values of an enumeration and message types may "
            "be added, nothing is taken away.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "localhost:9092", "protocol": "kafka", "description": "As configured."}},
        "channels": channels,
        "operations": _operations(),
        "components": {"messages": messages},
    }


def message_name(type_: str) -> str:
    """``io.passerby.line.crossed.v1`` -> ``lineCrossed``."""
    first, *rest = type_.removeprefix("io.passerby.").rpartition(".")[0].split(".")
    return first + "".join(word.capitalize() for word in rest)


def _name(kind: str) -> str:
    first, *rest = kind.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _messages_of(kind: str) -> list[str]:
    if kind == "counts":
        return [message_name(COUNT_WINDOW)]
    if kind == "events":
        return [message_name(type_) for type_ in DATA_TYPES if type_ != COUNT_WINDOW]
    return [{"cameras": "camera", "windows": "frameWindow", "state": "state", "dead-letters": "deadLetter"}[kind]]


def _channel(spec: TopicSpec, messages: list[str]) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": ["compact" if spec.compacted else "delete"]}
    if spec.retention_ms is not None:
        configuration["retention.ms"] = spec.retention_ms
    configuration["max.message.bytes"] = spec.max_message_bytes
    return {
        "address": spec.name,
        "description": _ABOUT[spec.kind],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations() -> dict[str, Any]:
    def operation(action: str, channel: str, summary: str) -> dict[str, Any]:
        return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}

    return {
        "publishCounts": operation("send", "counts", "Inference tells what was counted."),
        "publishEvents": operation("send", "events", "Inference tells what happened."),
        "sendWindows": operation("send", "windows", "Ingest sends frames."),
        "receiveWindows": operation("receive", "windows", "Inference takes frames."),
        "receiveCameras": operation("receive", "cameras", "Ingest and inference hear of a changed configuration."),
        "sendState": operation("send", "state", "Inference and ingest remember where they stand."),
        "receiveState": operation("receive", "state", "A worker that takes over goes on from there."),
        "sendDeadLetters": operation("send", "deadLetters", "What could not be used is put aside."),
    }


def _messages() -> dict[str, Any]:
    told = {message_name(type_): _event(type_) for type_ in DATA_TYPES}
    told["camera"] = _message(
        "A camera's configuration; a record without a value removes the camera.",
        _checked_headers(),
        {
            "type": "object",
            "properties": {
                "version": {"const": 1},
                "camera_id": {"type": "string"},
                "document": {
                    "type": "object",
                    "description": "As CameraConfig in docs/passerby.schema.json.",
                },
            },
            "required": ["version", "camera_id", "document"],
        },
    )
    told["frameWindow"] = _message("Frames of one camera.", _window_headers(), None, "application/vnd.passerby.window")
    told["state"] = _message(
        "Internal.",
        _checked_headers(),
        {"type": "object"},
        key="camera_id, partition/<n> or ingest/*",
    )
    told["deadLetter"] = _message(
        "The bytes of the bad record; its own headers behind `header.`.", _dead_headers(), None,
        "application/octet-stream", key="As the bad record's.",
    )  # fmt: skip
    return told


def _event(type_: str) -> dict[str, Any]:
    attributes = envelope_schema()["properties"]
    headers = {f"ce_{name}": attributes[name] for name in ("specversion", "id", "source")}
    headers |= {"ce_type": {"const": type_}, "ce_subject": attributes["subject"], "ce_time": attributes["time"]}
    headers["content-type"] = {"const": "application/json"}
    return {
        "name": type_,
        "summary": data_schema(type_)["description"],
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{type_}.schema.json"},
        },
        "bindings": {"kafka": {"key": _KEY, "bindingVersion": _BINDING}},
    }


def _message(
    summary: str,
    headers: Schema,
    payload: Schema | None,
    content_type: str = "application/json",
    *,
    key: str = "",
) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": summary, "contentType": content_type, "headers": headers}
    told["payload"] = payload or {"type": "string", "format": "binary"}
    of_key = {"type": "string", "description": key} if key else _KEY
    return told | {"bindings": {"kafka": {"key": of_key, "bindingVersion": _BINDING}}}


def _window_headers() -> Schema:
    properties = dict.fromkeys(("epoch", "sequence", "revision", "frames"), _WHOLE)
    told: Schema = {**properties, "writer": {"type": "string"}}
    told |= {"captured_from": _MICROSECONDS, "captured_to": _MICROSECONDS}
    return {"type": "object", "properties": told, "required": [*properties, "writer"]}


def _checked_headers() -> Schema:
    crc32 = {"type": "string", "pattern": "^[0-9a-f]{8}$", "description": "CRC-32 of the value (as zlib's)."}
    return {"type": "object", "properties": {"content-type": {"const": "application/json"}, "crc32": crc32}}


def _dead_headers() -> Schema:
    text = {name: {"type": "string"} for name in ("dead_reason", "dead_error", "dead_by", "origin_topic")}
    whole = dict.fromkeys(("dead_size", "origin_partition", "origin_offset", "origin_timestamp_ms"), _WHOLE)
    return {"type": "object", "properties": text | whole, "required": [*text, *whole]}
