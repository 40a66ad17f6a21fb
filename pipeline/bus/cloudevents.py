"""Events as Kafka records: CloudEvents 1.0, Kafka protocol binding, binary content mode.

    key      the camera_id (all of a camera's events lie in one partition, in order)
    headers  ce_specversion, ce_id, ce_source, ce_type, ce_subject, ce_time, content-type
    value    the event's data as JSON

The bytes depend on the event alone: headers in this order, keys of the data as the types declare them, no spaces.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.bus.base import Message
from pipeline.bus.json_values import parse_object
from pipeline.core.event_json import encode_json, ordered
from pipeline.core.events import Event, rfc3339
from pipeline.errors import RecordMalformed

CONTENT_TYPE = "application/json"
_UNIX_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")


def encode_event(event: Event) -> Message:
    """The record of ``event``. Raises ValueError for a number JSON cannot hold (NaN, infinity)."""
    told = event.attributes()
    headers = [(f"ce_{name}", told[name].encode()) for name in _ATTRIBUTES]
    headers.append(("content-type", CONTENT_TYPE.encode()))
    return Message(event.camera_id, encode_json(ordered(event.data)), tuple(headers))


def decode_event(message: Message) -> Event:
    """The event that a record holds, equal to the one that was encoded. RecordMalformed, with the reason, if none.

    Attributes it does not know (``ce_traceparent``) are left alone, and so are keys of the data: a newer writer may
    add both.
    """
    told = attributes(message)
    for name in _ATTRIBUTES:
        if not told.get(name):
            raise RecordMalformed(f"not a CloudEvent: the header ce_{name} is missing")
    if told["specversion"] != "1.0":
        raise RecordMalformed(f"a CloudEvent of version {told['specversion'][:20]!r}; this reads 1.0")
    camera_id = told["subject"]
    if message.key != camera_id:
        raise RecordMalformed(f"the key {message.key[:80]!r} and ce_subject {camera_id[:80]!r} differ")
    event = Event(told["id"], told["type"], camera_id, _time_us(told["time"]), data_of(message))
    if told["source"] != event.source:
        raise RecordMalformed(f"ce_source is {told['source'][:80]!r}, not {event.source!r}")
    if "camera_id" in event.data and event.data["camera_id"] != camera_id:
        raise RecordMalformed(f"ce_subject is {camera_id!r}, but the data are of another camera")
    return event


def attributes(message: Message) -> dict[str, str]:
    """The context attributes of a record in binary mode, by name without ``ce_``. Raises RecordMalformed."""
    found: dict[str, str] = {}
    content_type = b""
    for name, value in message.headers:
        if name == "content-type":
            content_type = value
        if not name.startswith("ce_"):
            continue
        if name[3:] in found:
            raise RecordMalformed(f"not a CloudEvent: the header {name[:80]} is there twice")
        try:
            found[name[3:]] = value.decode()
        except UnicodeDecodeError:
            raise RecordMalformed(f"not a CloudEvent: the header {name[:80]} is not UTF-8") from None
    if content_type.split(b";")[0].strip().lower() != CONTENT_TYPE.encode():
        raise RecordMalformed(f"not a CloudEvent in binary mode with JSON: content-type is {content_type[:80]!r}")
    return found


def data_of(message: Message) -> dict[str, Any]:
    """The data of a record in binary mode. Raises RecordMalformed."""
    return parse_object(message.value, "an event's data")


def _time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time in UTC with six decimals, as we write it."""
    try:
        passed = datetime.fromisoformat(text) - _UNIX_EPOCH
        time_us = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
        if rfc3339(time_us) == text:
            return time_us
    except (ValueError, TypeError, OverflowError):  # TypeError: a time without its zone
        pass
    raise RecordMalformed(f"ce_time {text[:80]!r} is not a time in UTC like 2026-01-01T08:00:00.000000Z")
