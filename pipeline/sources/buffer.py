"""Between the thread that decodes and the thread that consumes: bounded, and the one place where frames are dropped.

Every reader holds a ticket. When a reader is given up (it hangs inside the decoder), ``supersede`` makes its ticket
worthless: whatever it does when it comes back changes neither the stream nor the ledger. Epochs and status live here
too, under the same lock, for the same reason.
"""

from __future__ import annotations

import threading
from collections import deque

from pipeline.core.frame import CameraState, StreamStatus, TimeSource
from pipeline.core.ledger import DropCause, FrameLedger
from pipeline.errors import SourceError
from pipeline.sources.base import Clock, EpochStarted, SampledFrame, StatusChanged, StreamItem

WAITING_FRAMES = 16


class Superseded(Exception):
    """The reader's ticket is no longer valid: stop reading."""


class StreamBuffer:
    """Items of one camera in order; frames older than ``max_age_s`` are dropped, oldest first.

    max_frames bounds the memory should a source deliver faster than time passes. Once ``wait_for_consumer`` was
    called nothing is dropped: the reader waits instead.
    """

    def __init__(
        self,
        camera_id: str,
        ledger: FrameLedger,
        clock: Clock,
        *,
        max_age_s: float,
        max_frames: int,
        first_epoch: int = 1,
    ) -> None:
        self._camera_id = camera_id
        self._epoch = first_epoch - 1
        self._first_epoch = first_epoch
        self._status: tuple[CameraState, str] | None = None
        self._ledger = ledger
        self._clock = clock
        self._max_age_s = max_age_s
        self._max_frames = max_frames
        self._waits = False
        self._changed = threading.Condition()
        self._items: deque[tuple[StreamItem, float]] = deque()
        self._frames = 0
        self._ticket = 0
        self._blocked = False
        self._closed = False
        self._failure: SourceError | None = None

    def supersede(self) -> int:
        """Make every earlier ticket worthless; give the new one."""
        with self._changed:
            self._ticket += 1
            self._blocked = False
            self._changed.notify_all()
            return self._ticket

    def wait_for_consumer(self) -> None:
        """From now on the reader waits while the buffer is full; nothing is dropped for its age."""
        with self._changed:
            self._waits = True

    @property
    def blocked(self) -> bool:
        """Whether the reader is waiting for the consumer (and so is not hanging)."""
        return self._blocked

    def check(self, ticket: int) -> None:
        """Raises Superseded if ``ticket`` is no longer valid."""
        with self._changed:
            self._check(ticket)

    def begin_epoch(self, time_source: TimeSource, at_us: int, ticket: int) -> int:
        """Append the start of the next epoch; its number, never used before. Raises Superseded."""
        with self._changed:
            self._check(ticket)
            self._epoch += 1
            self._append(EpochStarted(self._epoch, time_source, at_us))
            return self._epoch

    def tell(self, state: CameraState, reason: str, at_us: int, ticket: int) -> None:
        """Append a change of status; the same state for the same reason is none. Raises Superseded."""
        with self._changed:
            self._check(ticket)
            if self._status == (state, reason):
                return
            self._status = (state, reason)
            # What is told before any epoch uses up a number, so that no two stretches of a stream share one.
            self._epoch = max(self._epoch, self._first_epoch)
            self._append(StatusChanged(self._epoch, StreamStatus(state, reason, at_us)))

    def put_frame(self, item: SampledFrame, ticket: int) -> None:
        """Append a sampled frame and tell the ledger; may wait, may drop older frames. Raises Superseded."""
        with self._changed:
            self._check(ticket)
            while self._waits and self._frames >= WAITING_FRAMES:
                self._blocked = True
                self._changed.wait()
                self._check(ticket)
            self._blocked = False
            self._ledger.captured(self._camera_id)
            self._append(item)
            if not self._waits:
                self._drop_stale()

    def sampled_out(self, ticket: int) -> None:
        """Tell the ledger of a frame that is not to be analysed. Raises Superseded."""
        with self._changed:
            self._check(ticket)
            self._ledger.captured_and_sampled_out(self._camera_id)

    def failed(self, ticket: int) -> None:
        """Tell the ledger of a frame that was captured but could not be made into a picture. Raises Superseded."""
        with self._changed:
            self._check(ticket)
            self._ledger.captured(self._camera_id)
            self._ledger.dropped(self._camera_id, 1, "failed")

    def finish(self, failure: SourceError | None = None) -> None:
        """Nothing more will come: ``get`` gives what is left, then raises ``failure`` or says that it is over."""
        with self._changed:
            self._closed = True
            self._failure = failure
            self._changed.notify_all()

    def discard(self, cause: DropCause) -> None:
        """Drop everything inside, for ``cause``, and take nothing more."""
        with self._changed:
            self._closed = True
            if self._frames:
                self._ledger.dropped(self._camera_id, self._frames, cause)
            self._items.clear()
            self._frames = 0
            self._changed.notify_all()

    def get(self, timeout_s: float) -> StreamItem | None:
        """The next item, or None if none came in time. Raises StopIteration at the end, or the failure."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(timeout_s)
            if not self._waits:
                self._drop_stale()
            if self._items:
                item, _ = self._items.popleft()
                self._frames -= isinstance(item, SampledFrame)
                self._changed.notify_all()
                return item
            if self._closed:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                raise StopIteration
            return None

    def _check(self, ticket: int) -> None:
        if self._closed or ticket != self._ticket:
            raise Superseded

    def _append(self, item: StreamItem) -> None:
        self._items.append((item, self._clock.monotonic_s()))
        self._frames += isinstance(item, SampledFrame)
        self._changed.notify_all()

    def _drop_stale(self) -> None:
        """Drop frames that are too old or too many, oldest first; what is not a frame stays where it is."""
        oldest_s = self._clock.monotonic_s() - self._max_age_s
        stale = too_many = 0
        kept: deque[tuple[StreamItem, float]] = deque()
        while self._items:
            item, at_s = self._items[0]
            if isinstance(item, SampledFrame):
                if at_s < oldest_s:
                    stale += 1
                elif self._frames - stale - too_many > self._max_frames:
                    too_many += 1
                else:
                    break
            else:
                kept.append(self._items[0])
            self._items.popleft()
        self._items.extendleft(reversed(kept))
        self._frames -= stale + too_many
        if stale:
            self._ledger.dropped(self._camera_id, stale, "stale")
        if too_many:
            self._ledger.dropped(self._camera_id, too_many, "backpressure")
