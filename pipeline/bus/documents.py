"""Cameras and what is known of them, as records of the compacted topics ``cameras`` and ``state``.

``cameras``: key camera_id, value ``{"version": 1, "camera_id", "document"}``; no value: the camera was removed.

``state``: a value begins with its version; no value: forgotten. The key says which kind it is:

    <camera_id>           CameraState     inference: where the camera stands after the window before ``next_offset``
    partition/<n>         PartitionState  inference: up to where the states of this partition go
    ingest/<camera_id>    IngestState     ingest: the newest epoch, and where to look for its last frame

What is written reads back equal: numbers as Python writes them, bytes as base64. The header ``crc32`` (hexadecimal, of
the value) tells a record that was changed on its way; one without it, put in by hand, is read as well.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Message
from pipeline.bus.json_values import MAX_OFFSET, parse_object, shown, text, whole
from pipeline.core.event_json import encode_json
from pipeline.errors import RecordMalformed

VERSION = 1
"""Of the records below. A reader refuses what it does not know: a state that is half understood counts wrong."""

_CAMERA_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")  # as pipeline.config has it; a test compares
_PARTITION, _INGEST = "partition/", "ingest/"
_CHECKSUM = "crc32"
_CAMERA_KEYS = {"version", "next_offset", "epoch", "revision", "document", "analytics", "more"}


@dataclass(frozen=True, slots=True)
class CameraDocument:
    """A camera's whole configuration, with the secrets as ``${NAME}``; None: the camera was removed."""

    camera_id: str
    document: Mapping[str, Any] | None

    @property
    def key(self) -> str:
        return self.camera_id


@dataclass(frozen=True, slots=True)
class CameraState:
    """A camera after every window before ``next_offset``.

    next_offset: of the windows partition. epoch: of its last window. revision, document: of the configuration in
    use (-1 and None before the first). analytics: the snapshot of CameraAnalytics. more: JSON values that travel as
    they are (the writer that owns the epoch, features of the CNN-LSTM).
    """

    camera_id: str
    next_offset: int
    epoch: int
    revision: int
    document: Mapping[str, Any] | None
    analytics: bytes
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.camera_id


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The states of ``partition`` are those after every window before ``next_offset``."""

    partition: int
    next_offset: int

    @property
    def key(self) -> str:
        return f"{_PARTITION}{self.partition}"


@dataclass(frozen=True, slots=True)
class IngestState:
    """The newest epoch of a camera, and an offset of ``windows`` at or before the last window sent.

    writer: the worker that took the epoch. more: JSON values that travel as they are.
    """

    camera_id: str
    epoch: int
    windows_offset: int
    writer: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{_INGEST}{self.camera_id}"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The state under ``key`` was deleted."""

    key: str


StateRecord = CameraState | PartitionState | IngestState | Forgotten
"""What lies in the topic ``state``."""


def partition_key(partition: int) -> str:
    """The key of a partition's PartitionState."""
    return f"{_PARTITION}{partition}"


def ingest_key(camera_id: str) -> str:
    """The key of a camera's IngestState."""
    return f"{_INGEST}{camera_id}"


def encode_camera(document: CameraDocument) -> Message:
    """The record of a camera's configuration."""
    if document.document is None:
        return Message(document.key, None)
    told = {"version": VERSION, "camera_id": document.camera_id, "document": document.document}
    return _message(document.key, told)


def decode_camera(message: Message) -> CameraDocument:
    """The camera's configuration that a record holds. Raises RecordMalformed."""
    what = "a camera's document"
    _require_as_sent(message, what)
    _require_camera(message.key, what)
    if message.value is None:
        return CameraDocument(message.key, None)
    told = parse_object(message.value, what)
    _require_version(told, what)
    if told.get("camera_id") != message.key:
        raise RecordMalformed(f"{what}: the key is {message.key!r}, camera_id is {shown(told.get('camera_id'))}")
    document = told.get("document")
    if not isinstance(document, dict):
        raise RecordMalformed(f"{what}: document must be a JSON object, not {shown(document)}")
    return CameraDocument(message.key, document)


def encode_state(state: StateRecord) -> Message:
    """The record of a state."""
    told: dict[str, Any] = {"version": VERSION}
    match state:
        case Forgotten():
            return Message(state.key, None)
        case PartitionState():
            told |= {"next_offset": state.next_offset}
        case IngestState():
            told |= {"epoch": state.epoch, "windows_offset": state.windows_offset, "writer": state.writer}
            told |= {"more": state.more}
        case CameraState():
            told |= {"next_offset": state.next_offset, "epoch": state.epoch, "revision": state.revision}
            told |= {"document": state.document, "analytics": base64.b64encode(state.analytics).decode("ascii")}
            told |= {"more": state.more}
    return _message(state.key, told)


def decode_state(message: Message) -> StateRecord:
    """The state that a record holds. Raises RecordMalformed."""
    key = message.key
    _require_as_sent(message, "a state")
    if key.startswith(_PARTITION):
        return _partition_state(message)
    if key.startswith(_INGEST):
        return _ingest_state(message)
    return _camera_state(message)


def _partition_state(message: Message) -> StateRecord:
    what = "a partition's state"
    number = message.key.removeprefix(_PARTITION)
    if not re.fullmatch(r"0|[1-9][0-9]{0,8}", number, re.ASCII):
        raise RecordMalformed(f"{what}: the key {shown(message.key)} is not partition/<n>")
    if message.value is None:
        return Forgotten(message.key)
    told = _told(message.value, {"version", "next_offset"}, what)
    return PartitionState(int(number), whole(told, "next_offset", what))


def _ingest_state(message: Message) -> StateRecord:
    what = "a camera's ingest state"
    camera_id = message.key.removeprefix(_INGEST)
    _require_camera(camera_id, what)
    if message.value is None:
        return Forgotten(message.key)
    told = _told(message.value, {"version", "epoch", "windows_offset", "writer", "more"}, what)
    return IngestState(
        camera_id, whole(told, "epoch", what, 1), whole(told, "windows_offset", what), text(told, "writer", what),
        _more(told, what),
    )  # fmt: skip


def _camera_state(message: Message) -> StateRecord:
    what = "a camera's state"
    _require_camera(message.key, what)
    if message.value is None:
        return Forgotten(message.key)
    told = _told(message.value, _CAMERA_KEYS, what)
    document = told.get("document")
    if document is not None and not isinstance(document, dict):
        raise RecordMalformed(f"{what}: document must be a JSON object or null, not {shown(document)}")
    try:
        analytics = base64.b64decode(text(told, "analytics", what), validate=True)
    except ValueError:
        raise RecordMalformed(f"{what}: analytics is not base64") from None
    return CameraState(
        message.key, whole(told, "next_offset", what), whole(told, "epoch", what),
        whole(told, "revision", what, -1), document, analytics, _more(told, what),
    )  # fmt: skip


def _message(key: str, told: Mapping[str, Any]) -> Message:
    value = encode_json(told)
    return Message(key, value, (("content-type", b"application/json"), (_CHECKSUM, b"%08x" % zlib.crc32(value))))


def _require_as_sent(message: Message, what: str) -> None:
    for name, checksum in message.headers:
        if name == _CHECKSUM and checksum != b"%08x" % zlib.crc32(message.value or b""):
            raise RecordMalformed(f"{what} is not as it was sent: checksum {shown(checksum)} is not that of its value")


def _told(value: bytes, keys: set[str], what: str) -> dict[str, Any]:
    told = parse_object(value, what)
    _require_version(told, what)
    if told.keys() != keys:
        odd = sorted(told.keys() ^ keys)
        raise RecordMalformed(f"{what}: missing or unknown: {', '.join(odd)[:200]}")
    return told


def _more(told: dict[str, Any], what: str) -> dict[str, Any]:
    more = told["more"]
    if not isinstance(more, dict):
        raise RecordMalformed(f"{what}: more must be a JSON object, not {shown(more)}")
    return more


def _require_version(told: dict[str, Any], what: str) -> None:
    version = whole(told, "version", what, 1, MAX_OFFSET)
    if version != VERSION:
        raise RecordMalformed(f"{what} of version {version}; this reads version {VERSION}")


def _require_camera(camera_id: str, what: str) -> None:
    if not _CAMERA_ID.fullmatch(camera_id):
        raise RecordMalformed(f"{what}: {shown(camera_id)} is not a camera_id")
