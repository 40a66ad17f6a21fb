"""``passerby tail``: what is published, as it comes. One thread a topic reads; who iterates gets events in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from pipeline.bus.base import Malformed, Record, Topic
from pipeline.core.events import COUNT_WINDOW, Event
from pipeline.errors import BusError
from pipeline.services.log import Log, Reader

_WAITING = 1000
_IDLE_S = 0.2
_MOST_PAST = 50_000  # events of the past that are put in order at once


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted; None or empty: all. Names as in the events' data.

    types: whole (``io.passerby.line.crossed.v1``) or their middle (``line.crossed``). classes: classes or groups.
    """

    cameras: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    lines: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    counts: bool = True
    events: bool = True

    def wants(self, event: Event) -> bool:
        """Whether the event is one of them; one that has no line is not of the wanted line, and so on."""
        data = event.data
        if not (self.counts if event.type == COUNT_WINDOW else self.events):
            return False
        if self.cameras and event.camera_id not in self.cameras:
            return False
        if self.types and not {event.type, short_type(event.type)} & self.types:
            return False
        if self.lines and not _names(data, "line", "lines") & self.lines:
            return False
        if self.zones and not _names(data, "zone", "zones") & self.zones:
            return False
        if self.directions and data.get("direction") not in self.directions:
            return False
        return not self.classes or bool({data.get("class_id"), data.get("group")} & self.classes)


def short_type(type_: str) -> str:
    """``io.passerby.line.crossed.v1`` -> ``line.crossed``."""
    return type_.removeprefix("io.passerby.").rpartition(".v")[0] or type_


def _names(data: object, one: str, many: str) -> set[str]:
    """What a rule's events name (``line``), or a count window counts (``lines``)."""
    assert hasattr(data, "get")
    named = data.get(one)
    return {named} if isinstance(named, str) else set(data.get(many) or ())


class EventTail:
    """Follows topics of events. Iterating gives each record as it comes, and None whenever a moment passed without.

    since_ms: begin with what was published then (milliseconds since 1970), which is given in the order of its times,
    the cameras and topics among each other; None: with what comes from now on. A context manager: the readers' threads
    end with it. Raises the readers' BusError.
    """

    def __init__(self, log: Log, topics: list[Topic[Event]], *, since_ms: int | None = None) -> None:
        self._log = log
        self._since_ms = since_ms
        self._stop = threading.Event()
        self._records: queue.Queue[Record[Event | Malformed] | BusError | None] = queue.Queue(_WAITING)
        self._ready = threading.Semaphore(0)
        self._past: list[Record[Event | Malformed]] = []
        self._reading_the_past = len(topics)  # whoever iterates again goes on where the last one stopped
        self._threads = [
            threading.Thread(target=self._read, args=(topic,), name=f"tail-{topic.name}", daemon=True)
            for topic in topics
        ]

    def __enter__(self) -> EventTail:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def wait_ready(self, timeout_s: float = 60) -> bool:
        """Wait until it is settled where each topic begins: what is published after this returns is told."""
        until = time.monotonic() + timeout_s
        return all(self._ready.acquire(timeout=max(0.0, until - time.monotonic())) for _ in self._threads)

    def __iter__(self) -> Iterator[Record[Event | Malformed] | None]:
        past = self._past
        while True:
            try:
                found = self._records.get(timeout=_IDLE_S)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, BusError):
                raise found
            if found is not None:
                past.append(found)
            else:
                self._reading_the_past -= 1
            if self._reading_the_past == 0 or len(past) >= _MOST_PAST:
                told = sorted(past, key=_in_order)
                past.clear()
                yield from told

    def _read(self, topic: Topic[Event]) -> None:
        try:
            reader = self._log.reader(topic)
            try:
                partitions = reader.partitions()
                ends = reader.ends(partitions)
                start = ends
                if self._since_ms is not None:
                    start = {partition: reader.at_time(partition, self._since_ms) for partition in partitions}
                self._ready.release()
                self._follow(reader, start, ends)
            finally:
                reader.close()
        except BusError as error:
            self._ready.release()
            self._put(error)

    def _follow(self, reader: Reader[Event], start: dict[int, int], ends: dict[int, int]) -> None:
        """First what was published until now, then None, then what comes."""
        for partition, begin in start.items():
            for record in reader.read(partition, begin, ends[partition]):
                self._put(record)
                if self._stop.is_set():
                    return
        self._put(None)
        for came in reader.follow(list(ends), start=ends, timeout_s=_IDLE_S):
            if came is not None:
                self._put(came)
            if self._stop.is_set():
                return

    def _put(self, item: Record[Event | Malformed] | BusError | None) -> None:
        while not self._stop.is_set():
            try:
                self._records.put(item, timeout=_IDLE_S)
                return
            except queue.Full:
                continue


def _in_order(record: Record[Event | Malformed]) -> tuple[int, bool]:
    """By time; of one moment the count window, which sums up, comes last."""
    event = record.value
    if isinstance(event, Event):
        return event.time_us, event.type == COUNT_WINDOW
    return record.timestamp_ms * 1000, False
