"""The topics ``state`` and ``windows`` as ingest reads and writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.bus.base import Message, Record, Topic
from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.documents import decode_state, encode_state
from pipeline.bus.topics import IngestState, Topics, ingest_key
from pipeline.bus.windows import encode_window_message
from pipeline.core.frame import FrameWindow
from pipeline.errors import RecordMalformed
from pipeline.services.epochs import NEWEST, newest

READ_S = 10.0
_LOOK_BACK_S = 60.0
_MAX_KEPT = 200_000


class RangeReader(Protocol):
    """What is needed of ``KafkaReader``."""

    def end(self, partition: int) -> int: ...
    def at_time(self, partition: int, timestamp_ms: int) -> int: ...
    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[object]]: ...


class StateProducer(Protocol):
    """What is needed of ``KafkaProducer``."""

    def send_message(self, message: Message, partition: int | None = None) -> None: ...
    def try_send_message(self, message: Message, partition: int | None = None) -> bool: ...
    def flush(self, timeout_s: float = 60) -> None: ...


def ingest_states(topics: Topics) -> Topic[IngestState | None]:
    """The topic ``state``, of which only ingest's own records are decoded; None is everything else."""

    def decode(message: Message) -> IngestState | None:
        if not message.key.startswith(ingest_key("")):
            return None
        state = decode_state(message)
        return state if isinstance(state, IngestState) else None

    def encode(_key: str, state: IngestState | None) -> Message:
        assert state is not None
        return encode_state(state)

    return Topic(topics.state.name, encode, decode)


def windows_as_facts(topics: Topics) -> Topic[WindowFacts]:
    """The topic ``windows``, read without decoding its pictures."""

    def decode(message: Message) -> WindowFacts:
        return window_facts(message.value or b"")

    def encode(_key: str, _facts: WindowFacts) -> Message:
        raise RecordMalformed("facts are not a window")

    return Topic(topics.windows.name, encode, decode)


@dataclass(slots=True)
class _States:
    next_offset: int = 0
    by_camera: dict[str, IngestState] = field(default_factory=dict)


@dataclass(slots=True)
class _Windows:
    begin: int
    next_offset: int
    found: list[tuple[int, WindowFacts]] = field(default_factory=list)


class IngestLog:
    """``epochs.StateLog`` over Kafka. Not thread-safe: whoever claims holds a lock.

    mark: sends a marker to a partition and waits until the log has it. utc_s: the machine's clock.
    """

    def __init__(
        self,
        states: RangeReader,
        windows: RangeReader,
        producer: StateProducer,
        mark: Callable[[Message, int], None],
        *,
        utc_s: Callable[[], float] = time.time,
    ) -> None:
        self._state_reader = states
        self._window_reader = windows
        self._producer = producer
        self._mark = mark
        self._utc_s = utc_s
        self._states: dict[int, _States] = {}
        self._windows: dict[int, _Windows] = {}

    def states(self, partition: int) -> Mapping[str, IngestState]:
        """The newest record of each camera of a partition, as of now."""
        known = self._states.get(partition) or _States()
        end = self._state_reader.end(partition)
        records = self._state_reader.read(partition, known.next_offset, end, timeout_s=READ_S)
        told = [*known.by_camera.values(), *(r.value for r in records if isinstance(r.value, IngestState))]
        known = self._states[partition] = _States(max(end, known.next_offset), newest(told))
        return known.by_camera

    def windows(self, partition: int, from_offset: int) -> tuple[Iterable[tuple[int, WindowFacts]], int]:
        """(offset, facts) of the windows from ``from_offset`` to the end as of now, and that end."""
        reader = self._window_reader
        if from_offset == NEWEST:
            from_offset = reader.at_time(partition, round((self._utc_s() - _LOOK_BACK_S) * 1000))
        end = reader.end(partition)
        known = self._windows.get(partition)
        if known is None or not known.begin <= from_offset <= known.next_offset or len(known.found) > _MAX_KEPT:
            known = self._windows[partition] = _Windows(from_offset, from_offset)
        for record in reader.read(partition, known.next_offset, end, timeout_s=READ_S):
            known.next_offset = record.offset + 1
            if isinstance(record.value, WindowFacts):
                known.found.append((record.offset, record.value))
        known.next_offset = max(known.next_offset, end)
        return [(offset, facts) for offset, facts in known.found if offset >= from_offset], end

    def write(self, partition: int, state: IngestState) -> None:
        """Append a record and wait until it is in the log."""
        self._producer.send_message(encode_state(state), partition)
        self._producer.flush(READ_S)

    def note(self, partition: int, state: IngestState) -> bool:
        """Append a record if that needs no waiting; whether it was done."""
        return self._producer.try_send_message(encode_state(state), partition)

    def mark(self, partition: int, marker: FrameWindow) -> None:
        """Send a marker and wait until it is in the log."""
        self._mark(encode_window_message(marker), partition)

    def forget(self) -> None:
        """Free what was kept between claims that come together."""
        self._states.clear()
        self._windows.clear()
