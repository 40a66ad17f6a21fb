"""What was published of a camera: its records in ``counts`` and ``events``, and a replay compared with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Malformed, Message
from pipeline.bus.cloudevents import decode_event, encode_event
from pipeline.bus.topics import Topics
from pipeline.core.events import COUNT_WINDOW, Event
from pipeline.errors import RecordMalformed
from pipeline.services.log import Log, WindowPlace, untouched

_HOUR_MS = 3_600_000
_SKEW_MS = _HOUR_MS  # how far the clocks of ingest and inference may be apart


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event as it lies in a topic: ``message`` is the record, ``origin_offset`` that of its window."""

    topic: str
    partition: int
    offset: int
    message: Message
    event: Event
    origin_offset: int


def published_of(
    log: Log, topics: Topics, camera_id: str, *, since_ms: int | None = None, until_ms: int | None = None
) -> Iterator[PublishedEvent]:
    """Everything published of a camera, topic by topic in order; what cannot be read is passed over.

    since_ms, until_ms: only what was sent in [since_ms, until_ms), milliseconds since 1970. Raises BusError.
    """
    for topic in (topics.counts, topics.events):
        reader = log.reader(untouched(topic))
        try:
            partition = reader.partition_of(camera_id)
            begin = reader.beginning(partition) if since_ms is None else reader.at_time(partition, max(0, since_ms))
            end = reader.end(partition) if until_ms is None else reader.at_time(partition, max(0, until_ms))
            for record in reader.read(partition, begin, end):
                if record.key != camera_id or isinstance(record.value, Malformed):
                    continue
                try:
                    event = decode_event(record.value)
                    origin = event.data["origin"]["offset"]
                except (RecordMalformed, KeyError, TypeError):
                    continue
                yield PublishedEvent(record.topic, record.partition, record.offset, record.value, event, origin)
        finally:
            reader.close()


def last_published(log: Log, topics: Topics, camera_id: str, window: WindowPlace) -> list[PublishedEvent]:
    """What was published of the windows before ``window``, at least back to the newest count window; empty if nothing.

    Reads no more of the topics than it has to.
    """
    until_ms = window.timestamp_ms + 24 * _HOUR_MS
    for back_ms in (_HOUR_MS, 24 * _HOUR_MS, None):
        since_ms = None if back_ms is None else window.timestamp_ms - back_ms
        found = [
            event
            for event in published_of(log, topics, camera_id, since_ms=since_ms, until_ms=until_ms)
            if event.origin_offset < window.offset
        ]
        if any(event.event.type == COUNT_WINDOW for event in found):
            return found
    return found


def published_from(
    log: Log, topics: Topics, camera_id: str, windows: tuple[int, int], sent_ms: int
) -> list[PublishedEvent]:
    """What was published of the windows of the offsets [from, to); sent_ms: when the first of them was sent."""
    first, last = windows
    return [
        event
        for event in published_of(log, topics, camera_id, since_ms=sent_ms - _SKEW_MS)
        if first <= event.origin_offset < last
    ]


@dataclass(frozen=True, slots=True)
class Difference:
    """One event that is not the same. what: missing (replayed, never published), added (published, not replayed),
    doubled (published more than once) or differs, then ``field`` is the first field that does, with both values."""

    what: str
    camera_id: str
    event_id: str
    type: str
    field: str = ""
    published: Any = None
    replayed: Any = None

    def told(self) -> str:
        """One line for people."""
        head = f"{self.camera_id} {self.event_id} {self.type}: "
        if self.what == "differs":
            return head + f"{self.field} was published as {_shown(self.published)}, replayed as {_shown(self.replayed)}"
        words = {
            "missing": "replayed, but never published",
            "added": "published, but the replay does not give it",
            "doubled": f"published {self.published} times",
        }
        return head + words[self.what]


@dataclass(slots=True)
class Comparison:
    """published, replayed: how many of each. equal: how many are the same byte for byte, headers and all."""

    published: int = 0
    replayed: int = 0
    equal: int = 0
    differences: list[Difference] = field(default_factory=list)


def compare(published: Sequence[PublishedEvent], replayed: Iterable[Event]) -> Comparison:
    """Compare key, value and headers of every event, byte for byte."""
    found = Comparison(published=len(published))
    there: dict[str, list[PublishedEvent]] = {}
    for event in published:
        there.setdefault(event.event.id, []).append(event)
    for now in replayed:
        found.replayed += 1
        records = there.pop(now.id, [])
        if not records:
            found.differences.append(Difference("missing", now.camera_id, now.id, now.type))
            continue
        if len(records) > 1:
            found.differences.append(Difference("doubled", now.camera_id, now.id, now.type, published=len(records)))
        message = encode_event(now)
        if records[0].message == message:
            found.equal += 1
        else:
            place, *values = first_difference(records[0].message, message)
            found.differences.append(Difference("differs", now.camera_id, now.id, now.type, place, *values))
    for records in there.values():
        was = records[0].event
        found.differences.append(Difference("added", was.camera_id, was.id, was.type))
    return found


def first_difference(published: Message, replayed: Message) -> tuple[str, Any, Any]:
    """The first field (a header, ``data.…``, the bytes of the value) in which two records differ, and both values."""
    if published.key != replayed.key:
        return "key", published.key, replayed.key
    was, now = dict(published.headers), dict(replayed.headers)
    for name in [*was, *(name for name in now if name not in was)]:
        if was.get(name) != now.get(name):
            return name, _text(was.get(name)), _text(now.get(name))
    if published.value is not None and replayed.value is not None:
        found = _first_in("data", json.loads(published.value), json.loads(replayed.value))
        if found is not None:
            return found
    if published.headers != replayed.headers:
        return "order of the headers", list(was), list(now)
    return "bytes of the value", _text(published.value), _text(replayed.value)


def _first_in(place: str, was: Any, now: Any) -> tuple[str, Any, Any] | None:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if key not in was or key not in now:
                return f"{place}.{key}", was.get(key), now.get(key)
            found = _first_in(f"{place}.{key}", was[key], now[key])
            if found is not None:
                return found
        return None
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            found = _first_in(f"{place}[{number}]", one, other)
            if found is not None:
                return found
        return None
    return None if was == now and type(was) is type(now) else (place, was, now)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _shown(value: Any) -> str:
    told = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return told if len(told) <= 200 else told[:197] + "..."
