"""The way of windows from the cameras of a worker into the log.

Straight while the broker answers. When it does not (an acknowledgement is late, or there is no room), windows of live
cameras go to the spool on disk and from there, in order, when it does again; recordings wait, they can be read later.
A camera's windows never overtake each other: as long as one of them is in the spool, the next goes there too.

What was handed to the client and is not acknowledged when the broker goes away is written to the spool as well, in
front of what comes after it: a worker that dies then loses nothing that its cameras showed, and whoever starts again
under its name sends it. That may send a window twice; its epoch, writer and sequence say so.

The ledger of an ingest worker: ``analysed`` counts the frames that the log has acknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol, cast

from pipeline.bus.base import Message
from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.spool import Spool, Spooled
from pipeline.core.ledger import FrameLedger
from pipeline.errors import BusError, BusUnavailable, RecordMalformed, RecordTooLarge
from pipeline.metrics import SpoolState

_log = logging.getLogger(__name__)
_TICK_S = 0.1
_RETRY_S = 0.5
HELD_BACK = "held-back"
"""Header of a record in the spool whose epoch is not claimed yet: its numbers count from 1."""


class Sent(Protocol):
    """Where a message lies."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class LogProducer(Protocol):
    """What is needed of ``KafkaProducer``."""

    def try_send_message(self, message: Message, partition: int | None = None) -> bool: ...


class SendRecorder(Protocol):
    """Hears what was sent, and whether the broker answers."""

    def sent(self, camera_id: str, size_bytes: int, seconds: float) -> None:
        """The log acknowledged a window, ``seconds`` after it was handed to the client."""

    def broker_reachable(self, reachable: bool) -> None:
        """The broker answers, or not."""


Acknowledged = Callable[[WindowFacts, Sent], None]
"""Called for every window that the log has taken; on the client's thread."""
Settle = Callable[[Message], Message | None]
"""A held-back record as it is to be sent, once its epoch is claimed; None: it is not wanted any more.

May wait for the log; raises BusError when that cannot be reached, and is asked again then.
"""


@dataclass(slots=True, eq=False)
class _Pending:
    """A message on its way. sequence: in the spool, 0 where it is not there."""

    message: Message
    facts: WindowFacts
    finite: bool
    handed_s: float = 0.0
    sequence: int = 0

    @property
    def key(self) -> str:
        return self.message.key

    @property
    def size_bytes(self) -> int:
        return len(self.message.value or b"")


@dataclass(frozen=True, slots=True)
class SendLimits:
    """max_in_flight_bytes: handed to the client and not acknowledged. away_s: an acknowledgement later than this means
    that the broker is away."""

    max_in_flight_bytes: int = 24 << 20
    away_s: float = 2.0


@dataclass(slots=True)
class _Waiting:
    """A thread that waits for one acknowledgement."""

    done: threading.Event = field(default_factory=threading.Event)
    error: BusError | None = None


class WindowSender:
    """Sends the windows of all cameras of a worker. Thread-safe; ``start`` begins to empty the spool."""

    def __init__(
        self,
        spool: Spool,
        ledger: FrameLedger,
        recorder: SendRecorder,
        *,
        settle: Settle,
        acknowledged: Acknowledged,
        limits: SendLimits | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped_windows = 0
        self._spool = spool
        self._ledger = ledger
        self._recorder = recorder
        self._settle = settle
        self._acknowledged = acknowledged
        self._limits = limits or SendLimits()
        self._now_s = now_s
        self._changed = threading.Condition(threading.RLock())
        self._producer: LogProducer | None = None
        self._in_flight: OrderedDict[int, _Pending] = OrderedDict()  # by id of the message
        self._in_flight_bytes = 0
        self._again: list[_Pending] = []  # came back from the client, to be sent before all else
        self._handed: dict[str, int] = {}  # key -> sequence in the spool up to which all was handed to the client
        self._not_before: dict[str, float] = {}  # key -> when its spool is looked at again
        self._waiting: dict[int, _Waiting] = {}
        self._reachable = True
        self._closing = False
        self._thread = threading.Thread(target=self._empty, name="spool", daemon=True)
        for key in list(spool.keys()):
            _log.info("camera %s: %d windows were left in the spool and go first", key, spool.waiting(key))
            ledger.captured(key, spool.frames_of(key))

    def start(self, producer: LogProducer) -> None:
        """Begin. producer: made with ``on_sent=sender.on_sent``."""
        self._producer = producer
        self._thread.start()

    # ------------------------------------------------------------------------------------------- for cameras

    def send(self, message: Message, *, finite: bool, stop: threading.Event) -> None:
        """Take a window. A recording's waits for room, until ``stop``; a live one never does: it may be dropped.

        Raises BusUnavailable when ``stop`` is set before there was room, RecordTooLarge for what the topic does not
        take.
        """
        pending = _Pending(message, window_facts(message.value or b""), finite)
        held_back = any(name == HELD_BACK for name, _ in message.headers)
        with self._changed:
            while not (self._closing and finite):
                if not held_back and not self.holds(message.key) and self._hand(pending):
                    return
                if not finite:
                    self._keep(pending)
                    return
                if stop.is_set():
                    break
                self._changed.wait(_TICK_S)
        raise BusUnavailable(f"camera {message.key}: stopped before its window could be sent")

    def holds(self, camera_id: str) -> bool:
        """Whether windows of the camera wait in the spool, or have to be sent again."""
        with self._changed:
            return self._spool.waiting(camera_id) > 0 or any(pending.key == camera_id for pending in self._again)

    def send_and_wait(self, message: Message, partition: int, timeout_s: float = 10.0) -> None:
        """Send past the spool and wait until it is in the log. Raises BusUnavailable."""
        waiting = _Waiting()
        until_s = self._now_s() + timeout_s
        with self._changed:
            self._waiting[id(message)] = waiting
        try:
            while self._producer is None or not self._producer.try_send_message(message, partition):
                if self._closing or self._now_s() > until_s:
                    raise BusUnavailable("the broker does not take a marker")
                time.sleep(_TICK_S / 10)
            if not waiting.done.wait(max(0.0, until_s - self._now_s())):
                raise BusUnavailable(f"a marker is not acknowledged after {timeout_s:g} s")
        finally:
            with self._changed:
                self._waiting.pop(id(message), None)
        if waiting.error is not None:
            raise waiting.error

    # ------------------------------------------------------------------------------------------- for the worker

    @property
    def away(self) -> bool:
        """Whether the broker does not answer: an acknowledgement is late."""
        with self._changed:
            return self._is_away()

    def spool_state(self, capacity_bytes: int) -> SpoolState:
        """The spool at this instant."""
        spool = self._spool
        return SpoolState(spool.size_bytes, capacity_bytes, spool.records, spool.age_s, self.dropped_windows)

    def is_sending(self, camera_id: str) -> bool:
        """Whether a window of the camera is not in the log yet."""
        with self._changed:
            return self.holds(camera_id) or any(pending.key == camera_id for pending in self._in_flight.values())

    def flush(self, timeout_s: float, camera_ids: Collection[str] | None = None) -> bool:
        """Wait until nothing of these cameras (None: of all) is in flight, unless the broker is away; whether it is."""
        until_s = self._now_s() + timeout_s
        with self._changed:
            while any(camera_ids is None or p.key in camera_ids for p in self._in_flight.values()):
                left_s = until_s - self._now_s()
                if left_s <= 0 or self._is_away():
                    return False
                self._changed.wait(min(left_s, _TICK_S))
        return True

    def close(self) -> None:
        """Stop; what live cameras sent and the log has not acknowledged stays in the spool. Close the producer next."""
        with self._changed:
            self._closing = True
            for key in {pending.key for pending in self._in_flight.values()}:
                self._write_in_flight(key)
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(10)

    # ------------------------------------------------------------------------------------------- the client's side

    def on_sent(self, message: Message, what: object) -> None:
        """Hear what became of a message: a BusError, or where it lies (``Sent``)."""
        with self._changed:
            waiting = self._waiting.get(id(message))
            if waiting is not None:
                waiting.error = what if isinstance(what, BusError) else None
                waiting.done.set()
                return
            pending = self._in_flight.pop(id(message), None)
            if pending is None:
                return
            self._in_flight_bytes -= pending.size_bytes
            if isinstance(what, BusError):
                self._came_back(pending, what)
            else:
                self._took(pending, cast("Sent", what))
            self._changed.notify_all()

    def _took(self, pending: _Pending, sent: Sent) -> None:
        facts = pending.facts
        self._forget(pending)
        if facts.frames:
            self._ledger.analysed(pending.key, facts.frames)
        self._recorder.sent(pending.key, pending.size_bytes, self._now_s() - pending.handed_s)
        self._tell_reachable(True)
        self._acknowledged(facts, sent)

    def _came_back(self, pending: _Pending, error: BusError) -> None:
        if self._closing:
            if not pending.sequence and pending.facts.frames:
                self._ledger.dropped(pending.key, pending.facts.frames, "shutdown")
        elif isinstance(error, RecordTooLarge):
            self._refuse(pending, error)
        else:
            _log.warning("camera %s: a window has to be sent again: %s", pending.key, error)
            self._again.append(pending)
            self._again.sort(key=lambda again: again.handed_s)

    def _refuse(self, pending: _Pending, error: BusError) -> None:
        _log.error("camera %s: a window was refused: %s", pending.key, error)
        self._forget(pending)
        if pending.facts.frames:
            self._ledger.dropped(pending.key, pending.facts.frames, "failed")

    # ------------------------------------------------------------------------------------------- under the lock

    def _forget(self, pending: _Pending) -> None:
        """Its place in the spool is free; when it was the last on its way, so is every one before ``_handed``."""
        if not pending.sequence:
            return
        key = pending.key
        last = not any(other is not pending for other in self._on_the_way(key))
        self._done(key, max(pending.sequence, self._handed.get(key, 0)) if last else pending.sequence)

    def _done(self, key: str, sequence: int) -> None:
        self._spool.done(key, sequence)
        if not self._spool.waiting(key):  # sequences only rise: what was remembered of these says nothing of the next
            self._handed.pop(key, None)
            self._not_before.pop(key, None)

    def _on_the_way(self, key: str) -> list[_Pending]:
        """Messages of a camera that lie in its spool, were handed over, and are not acknowledged."""
        return [p for p in (*self._in_flight.values(), *self._again) if p.key == key and p.sequence]

    def _is_away(self) -> bool:
        oldest = next(iter(self._in_flight.values()), None)
        return oldest is not None and self._now_s() - oldest.handed_s > self._limits.away_s

    def _hand(self, pending: _Pending) -> bool:
        """To the client, if there is room; RecordTooLarge passes through."""
        if self._producer is None or self._closing or not self._has_room(pending):
            return False
        key = id(pending.message)
        pending.handed_s = self._now_s()
        self._in_flight[key] = pending
        self._in_flight_bytes += pending.size_bytes
        handed = False
        try:
            handed = self._producer.try_send_message(pending.message)
        finally:
            if not handed and self._in_flight.pop(key, None) is not None:
                self._in_flight_bytes -= pending.size_bytes
        return handed

    def _has_room(self, pending: _Pending) -> bool:
        if not self._in_flight:
            return True
        fits = self._in_flight_bytes + pending.size_bytes <= self._limits.max_in_flight_bytes
        return fits and (pending.finite or not self._is_away())

    def _keep(self, pending: _Pending) -> None:
        """Into the spool, behind what is in flight of the camera."""
        self._tell_reachable(self._producer is not None and not self._is_away())
        self._write_in_flight(pending.key)
        if not self._append(pending) and pending.facts.frames:
            self._ledger.dropped(pending.key, pending.facts.frames, "spool_full")
            self.dropped_windows += 1
        self._changed.notify_all()

    def _write_in_flight(self, key: str) -> None:
        """What the client holds of a live camera, so that a crash does not lose it; it is not sent from there."""
        flying = [p for p in self._in_flight.values() if p.key == key and not p.finite and not p.sequence]
        written = [pending for pending in flying if self._append(pending)]
        stored = self._spool.read(key, after=self._handed.get(key, 0), limit=len(written)) if written else []
        for pending, spooled in zip(written, stored, strict=False):
            pending.sequence = self._handed[key] = spooled.sequence

    def _append(self, pending: _Pending) -> bool:
        before = self._spool.records
        try:
            what = self._spool.append(pending.message, frames=pending.facts.frames, keep=False)
        except BusError as error:
            _log.error("camera %s: %s", pending.key, error)
            return False
        if what.dropped:
            self.dropped_windows += before + what.stored - self._spool.records
            for key, frames in what.dropped.items():
                if frames:
                    self._ledger.dropped(key, frames, "spool_full")
        return what.stored

    def _tell_reachable(self, reachable: bool) -> None:
        if reachable != self._reachable:
            self._reachable = reachable
            _log.log(logging.INFO if reachable else logging.WARNING, "the broker %s", _WORDS[reachable])
            self._recorder.broker_reachable(reachable)

    # ------------------------------------------------------------------------------------------- emptying the spool

    def _empty(self) -> None:
        while True:
            with self._changed:
                if self._closing:
                    return
                moved = self._send_again()
                spooled = None if self._again else self._next_in_spool()
                if spooled is None:
                    if not moved:
                        self._changed.wait(_TICK_S)
                    continue
            self._forward(spooled)

    def _send_again(self) -> bool:
        if not self._again:
            return False
        pending = self._again[0]
        try:
            handed = self._hand(pending)
        except BusError as error:
            self._refuse(pending, error)
            handed = True
        if handed:
            self._again.remove(pending)
        return handed

    def _next_in_spool(self) -> Spooled | None:
        """The next message that was not handed over, of the camera that waits longest."""
        now_s = self._now_s()
        for key in list(self._spool.keys()):
            if self._not_before.get(key, now_s) > now_s:
                continue
            found = self._spool.read(key, after=self._handed.get(key, 0), limit=1)
            for damaged, frames in self._spool.take_damaged().items():
                _log.error("camera %s: %d frames in the spool were damaged on the disk", damaged, frames)
                self._ledger.dropped(damaged, frames, "failed")
            if found:
                return found[0]
        return None

    def _forward(self, spooled: Spooled) -> None:
        """One message of the spool: settle its epoch, hand it over when there is room, or drop it."""
        key = spooled.message.key
        try:
            ready = self._settle(spooled.message)
            facts = window_facts(ready.value or b"") if ready is not None else None
        except BusError as error:
            if not isinstance(error, RecordMalformed):
                _log.debug("camera %s: its spool waits: %s", key, error)
                self._not_before[key] = self._now_s() + _RETRY_S
                return
            _log.error("camera %s: a record of the spool cannot be read: %s", key, error)
            ready = facts = None
        with self._changed:
            if ready is None or facts is None:
                self._give_up(spooled)
                return
            pending = _Pending(ready, facts, finite=False, sequence=spooled.sequence)
            while not self._closing:
                try:
                    handed = self._hand(pending)
                except BusError as error:
                    self._refuse(pending, error)
                    handed = True
                if handed:
                    self._handed[key] = spooled.sequence
                    return
                self._tell_reachable(not self._is_away())
                self._changed.wait(_TICK_S)

    def _give_up(self, spooled: Spooled) -> None:
        """Nobody wants it: the camera is another worker's now. What is before it in the spool may be in flight."""
        key = spooled.message.key
        self._handed[key] = spooled.sequence
        if not self._on_the_way(key):
            self._done(key, spooled.sequence)
        if spooled.frames:
            self._ledger.dropped(key, spooled.frames, "superseded_epoch")


_WORDS = {True: "answers again", False: "does not answer: windows of live cameras go to the spool"}
