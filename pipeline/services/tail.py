"""``passerby tail``: what is published, as it comes. One thread a topic reads; who iterates gets events in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from pipeline.bus.base import Malformed, Record, Topic
from pipeline.core.events import COUNT_WINDOW, Event
from pipeline.errors import BusError
from pipeline.services.log import Log

_WAITING = 1000
_IDLE_S = 0.2


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

    since_ms: begin with what was published then (milliseconds since 1970); None: with what comes from now on. A
    context manager: the readers' threads end with it. Raises the readers' BusError.
    """

    def __init__(self, log: Log, topics: list[Topic[Event]], *, since_ms: int | None = None) -> None:
        self._log = log
        self._since_ms = since_ms
        self._stop = threading.Event()
        self._records: queue.Queue[Record[Event | Malformed] | BusError] = queue.Queue(_WAITING)
        self._ready = threading.Semaphore(0)
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
        while True:
            try:
                found = self._records.get(timeout=_IDLE_S)
            except queue.Empty:
                yield None
                continue
            if isinstance(found, BusError):
                raise found
            yield found

    def _read(self, topic: Topic[Event]) -> None:
        try:
            reader = self._log.reader(topic)
            try:
                partitions = reader.partitions()
                start = {partition: self._begin(reader.end, reader.at_time, partition) for partition in partitions}
                self._ready.release()
                for record in reader.follow(partitions, start=start, timeout_s=_IDLE_S):
                    if record is not None:
                        self._put(record)
                    if self._stop.is_set():
                        return
            finally:
                reader.close()
        except BusError as error:
            self._ready.release()
            self._put(error)

    def _begin(self, end: Callable[[int], int], at_time: Callable[[int, int], int], partition: int) -> int:
        return end(partition) if self._since_ms is None else at_time(partition, self._since_ms)

    def _put(self, item: Record[Event | Malformed] | BusError) -> None:
        while not self._stop.is_set():
            try:
                self._records.put(item, timeout=_IDLE_S)
                return
            except queue.Full:
                continue
