"""The topics by name, each with its codec; and what is declared of them in ``topics.yaml``.

    Topics("passerby").windows     Topic[FrameWindow]    camera's pictures, to inference
    Topics("passerby").counts      Topic[Event]          count windows
    ...

``decode`` of each raises RecordMalformed, and nothing else, for whatever bytes there are.
"""

from __future__ import annotations

from pipeline.bus.base import Message, Topic
from pipeline.bus.cloudevents import decode_event, encode_event
from pipeline.bus.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from pipeline.bus.declared import KINDS, TopicSpec, declared
from pipeline.bus.documents import (
    CameraDocument,
    CameraState,
    Forgotten,
    IngestState,
    PartitionState,
    StateRecord,
    decode_camera,
    decode_state,
    encode_camera,
    encode_state,
    ingest_key,
    partition_key,
)
from pipeline.bus.images import Encoding
from pipeline.bus.windows import WindowHeaders, decode_window_message, encode_window_message, window_headers
from pipeline.core.events import COUNT_WINDOW, Event
from pipeline.core.frame import FrameWindow
from pipeline.errors import RecordMalformed

__all__ = [
    "KINDS",
    "CameraDocument",
    "CameraState",
    "DeadLetter",
    "Forgotten",
    "IngestState",
    "PartitionState",
    "StateRecord",
    "TopicSpec",
    "Topics",
    "WindowHeaders",
    "declared",
    "ingest_key",
    "partition_key",
    "window_headers",
]


class Topics:
    """All topics of one prefix."""

    def __init__(self, prefix: str = "passerby") -> None:
        self.prefix = prefix
        self.cameras: Topic[CameraDocument] = Topic(
            self.name("cameras"), lambda _, document: encode_camera(document), decode_camera
        )
        self.windows: Topic[FrameWindow] = self.windows_as("jpeg")
        self.windows_raw: Topic[bytes] = Topic(self.windows.name, Message, _value)
        self.counts: Topic[Event] = Topic(self.name("counts"), lambda _, event: encode_event(event), _count)
        self.events: Topic[Event] = Topic(self.name("events"), lambda _, event: encode_event(event), _no_count)
        self.state: Topic[StateRecord] = Topic(self.name("state"), lambda _, state: encode_state(state), decode_state)
        self.dead_letters: Topic[DeadLetter] = Topic(
            self.name("dead-letters"), lambda _, letter: encode_dead_letter(letter), decode_dead_letter
        )

    def name(self, kind: str) -> str:
        """The full name of a topic: ``windows`` -> ``passerby.windows``."""
        if kind not in KINDS:
            raise ValueError(f"there is no topic {kind!r}: {', '.join(KINDS)}")
        return f"{self.prefix}.{kind}"

    def windows_as(self, encoding: Encoding, quality: int = 85) -> Topic[FrameWindow]:
        """The windows topic, its pictures sent as ``encoding`` (a camera's ``windows.encoding`` and ``.quality``).

        What it reads does not depend on either: a record says how its pictures are encoded.
        """
        return Topic(
            self.name("windows"),
            lambda _, window: encode_window_message(window, encoding, quality),
            decode_window_message,
        )

    def of_event(self, event: Event) -> Topic[Event]:
        """Where an event goes: count windows to ``counts``, all else to ``events``."""
        return self.counts if event.type == COUNT_WINDOW else self.events


def _value(message: Message) -> bytes:
    if message.value is None:
        raise RecordMalformed("a record without a value")
    return message.value


def _count(message: Message) -> Event:
    event = decode_event(message)
    if event.type != COUNT_WINDOW:
        raise RecordMalformed(f"an event of type {event.type[:80]!r} among the counts")
    return event


def _no_count(message: Message) -> Event:
    event = decode_event(message)
    if event.type == COUNT_WINDOW:
        raise RecordMalformed("a count window among the events")
    return event
