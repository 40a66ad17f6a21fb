"""Cameras and other sources over a network: a reader thread, a watchdog that outlives it, and reconnecting.

Three threads a camera:

    consumer     takes items out of the buffer (whoever iterates the stream)
    reader       opens, decodes, samples, scales, puts into the buffer; a new one for every connection
    supervisor   starts readers, watches their pulse, gives up one that hangs, waits, starts the next

FFmpeg can hang for ever inside a read, whatever time-outs it is given; a Python thread cannot be killed. So a reader
without a pulse is abandoned: its ticket becomes worthless (see ``buffer``), a new reader takes over, and the old
thread ends by itself if FFmpeg ever returns. At most ``MAX_HUNG`` of them may linger, then the camera waits.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceDenied, SourceError, SourceUnavailable, SourceUnreadable
from pipeline.sources.address import Address
from pipeline.sources.backoff import Backoff
from pipeline.sources.base import Clock, PictureSize, StreamHealth, StreamItem, StreamSettings
from pipeline.sources.buffer import StreamBuffer, Superseded
from pipeline.sources.reader import Connection, Reader
from pipeline.sources.video import Video

_log = logging.getLogger(__name__)

MAX_HUNG = 4
_POLL_S = 0.05
_CLOSING_S = 1.0
_GRACE_S = 0.5


class LiveStream:
    """The stream of a network source or webcam; see ``pipeline.sources.base.Stream``."""

    def __init__(
        self,
        settings: StreamSettings,
        address: Address,
        picture_size: PictureSize,
        *,
        ledger: FrameLedger,
        clock: Clock,
        stop: threading.Event,
        open_video: Callable[[Address, StreamSettings], Video] = Video,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._address = address
        self._ledger = ledger
        self._clock = clock
        self._stop = stop
        self._backoff = backoff or Backoff(settings.backoff_first_s, settings.backoff_cap_s)
        self._buffer = StreamBuffer(
            settings.camera_id,
            ledger,
            clock,
            max_age_s=settings.max_staleness_s,
            max_frames=max(8, round(2 * settings.sample_fps * settings.max_staleness_s)),
            first_epoch=settings.first_epoch,
        )
        self._reader = Reader(settings, address, picture_size, self._buffer, clock, open_video)
        self._closing = threading.Event()
        self._supervisor: threading.Thread | None = None
        self._recording = address.is_local or (address.recording and settings.mode != "realtime")
        self._current: Connection | None = None
        self._past = StreamHealth()
        self._hung: list[threading.Thread] = []

    # -- the consumer's side

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamItem:
        if self._supervisor is None:
            self._ledger.open(self._settings.camera_id)
            name = f"watch-{self._settings.camera_id}"
            self._supervisor = threading.Thread(target=self._supervise, name=name, daemon=True)
            self._supervisor.start()
        while not self._stop.is_set():
            item = self._buffer.get(_POLL_S * 2)
            if item is not None:
                return item
        self.close()
        raise StopIteration

    @property
    def is_finite(self) -> bool:
        """Whether it has an end; of a URL that does not look like a file this is known when it is open."""
        return self._recording or (self._current is not None and self._current.finite)

    @property
    def duration_s(self) -> float | None:
        """Declared seconds of a recording; None for a camera."""
        return self._current.duration_s if self._current is not None else None

    @property
    def position_s(self) -> float:
        """Seconds of stream time read since the first frame of this connection."""
        return self._current.position_s if self._current is not None else 0.0

    @property
    def health(self) -> StreamHealth:
        """What was lost or mended, over all connections."""
        past, now = self._past, self._current
        return replace(
            past,
            corrupt_packets=past.corrupt_packets + (now.corrupt_packets if now else 0),
            repaired_timestamps=past.repaired_timestamps + (now.repaired_timestamps if now else 0),
            connections=past.connections + (now.first_frame if now else 0),
            hung_readers=sum(thread.is_alive() for thread in self._hung),
        )

    def close(self) -> None:
        """Stop reading; frames still in the buffer are dropped with cause ``shutdown``."""
        self._closing.set()
        self._buffer.discard("shutdown")
        if self._supervisor is not None and self._supervisor is not threading.current_thread():
            self._supervisor.join(_CLOSING_S + 1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the supervisor's side

    @property
    def _ending(self) -> bool:
        return self._closing.is_set() or self._stop.is_set()

    def _supervise(self) -> None:
        try:
            self._pause(self._backoff.random.uniform(0.0, self._settings.start_jitter_s))
            while not self._ending and self._attempt():
                pass
        except Superseded:
            pass  # the consumer closed the stream
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))  # code only, no values
            name = type(error).__name__
            _log.error("camera %s: its supervisor failed: %s\n%s", self._settings.camera_id, name, where)
            self._buffer.finish(SourceUnavailable(f"{self._address.shown}: {type(error).__name__}"))

    def _attempt(self) -> bool:
        """One connection and the wait after it; whether there is to be another."""
        connection = self._connect()
        failure = self._watch(connection)
        if self._ending:
            self._join(connection)
            return False
        ticket = self._buffer.supersede()
        now_us = self._clock.utc_us()
        if failure is None and connection.finite:
            lost = connection.corrupt_packets
            words = f"read to its end, {lost} corrupt packets skipped" if lost else "read to its end"
            self._buffer.tell("ended", words, now_us, ticket)
            self._buffer.finish()
            return False
        failure = failure or SourceUnavailable(f"{self._address.shown}: the stream ended")
        self._buffer.tell("down", str(failure), now_us, ticket)
        if self._is_final(connection, failure):
            self._buffer.finish(failure)
            return False
        self._settle(connection)
        if connection.first_frame:
            self._backoff.succeeded()
        self._count_reconnect(connection, failure)
        slow = isinstance(failure, SourceDenied | SourceUnreadable)
        self._pause(self._backoff.slow_delay_s() if slow else self._backoff.delay_s())
        self._wait_for_hung()
        return True

    def _count_reconnect(self, connection: Connection, failure: SourceError) -> None:
        match failure:
            case SourceDenied():
                reason = "denied"
            case SourceUnreadable():
                reason = "unreadable"
            case _ if not connection.done.is_set():
                reason = "stalled"
            case _ if connection.failure is None:
                reason = "ended"
            case _:
                reason = "unavailable"
        counted = dict(self._past.reconnects)
        counted[reason] = counted.get(reason, 0) + 1
        self._past = replace(self._past, reconnects=counted)

    def _is_final(self, connection: Connection, failure: SourceError) -> bool:
        """Whether another attempt is useless: for a recording always (it cannot go on where it broke); for a URL that
        never delivered and answers with something that is no video, since then it is the URL that is wrong."""
        if self._recording or connection.finite:
            return True
        never = self._past.connections == 0 and not connection.first_frame and self._settings.mode == "auto"
        return never and self._address.kind in ("http", "network") and isinstance(failure, SourceUnreadable)

    def _connect(self) -> Connection:
        connection = Connection(self._buffer.supersede(), self._clock.monotonic_s())
        self._current = connection
        name = f"read-{self._settings.camera_id}"
        connection.thread = threading.Thread(target=self._reader.run, args=(connection,), name=name, daemon=True)
        connection.thread.start()
        return connection

    def _settle(self, connection: Connection) -> None:
        """Add what a connection counted to the total."""
        self._current = None
        self._past = replace(
            self._past,
            corrupt_packets=self._past.corrupt_packets + connection.corrupt_packets,
            repaired_timestamps=self._past.repaired_timestamps + connection.repaired_timestamps,
            connections=self._past.connections + connection.first_frame,
        )

    def _watch(self, connection: Connection) -> SourceError | None:
        """Wait for the end of a connection; give it up when its pulse stops. Why it ended, or None for a clean end."""
        s = self._settings
        while not connection.done.wait(_POLL_S):
            if self._ending:
                return None
            now_s = self._clock.monotonic_s()
            if self._buffer.blocked:
                connection.beat_s = now_s
                continue
            # The first frame of a stream that is open may have to wait for the next key frame.
            limit_s = s.stall_timeout_s if connection.opened else s.open_timeout_s
            if connection.opened and not connection.first_frame:
                limit_s += s.open_timeout_s
            if now_s - connection.beat_s > limit_s + _GRACE_S:
                self._abandon(connection)
                return SourceUnavailable(f"{self._address.shown}: no frame for {limit_s:g} s")
        return connection.failure

    def _abandon(self, connection: Connection) -> None:
        assert connection.thread is not None
        self._past = replace(self._past, abandoned_readers=self._past.abandoned_readers + 1)
        self._hung.append(connection.thread)
        _log.warning("camera %s: a reader hangs and is given up", self._settings.camera_id)

    def _join(self, connection: Connection) -> None:
        assert connection.thread is not None
        connection.thread.join(_CLOSING_S)
        if connection.thread.is_alive():
            self._abandon(connection)

    def _wait_for_hung(self) -> None:
        while not self._ending:
            self._hung = [thread for thread in self._hung if thread.is_alive()]
            if len(self._hung) < MAX_HUNG:
                return
            self._pause(_POLL_S)

    def _pause(self, seconds: float) -> None:
        until_s = self._clock.monotonic_s() + seconds
        while not self._ending and (left_s := until_s - self._clock.monotonic_s()) > 0:
            self._closing.wait(min(left_s, _POLL_S))
