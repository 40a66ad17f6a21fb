"""Who may speak for a camera: epochs claimed in the log, and how far the log tells a recording (decision 0070).

A worker that takes a camera

1. reads its ``ingest/<camera_id>`` record in ``state`` and the windows behind the offset it names: the newest epoch,
   who holds it, and the camera's last frame in the log
2. writes the next epoch to ``state``
3. sends the marker, the epoch's first window: what others send for the camera is void from there on
4. of a recording: reads what came into the log before the marker; its last frame is where reading goes on

A camera nobody has seen gets epoch 1 without a marker. A recording that the log tells to its end is left alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pipeline.bus.codec import WindowFacts
from pipeline.bus.topics import IngestState
from pipeline.core.frame import FrameWindow

Outcome = Literal["", "ended", "failed"]
NEWEST = -1


@dataclass(frozen=True, slots=True)
class LogPosition:
    """What the log tells of a camera before ``offset`` of its windows partition.

    epoch, writer: who spoke last; what is older, or of this epoch by somebody else, is void. last_us:
    ``captured_at_us`` of the last frame of the recording; outcome: how it ended. Both are those of ``recording``,
    which epochs from ``begins`` on tell.
    """

    offset: int
    epoch: int = 0
    writer: str = ""
    recording: str = ""
    begins: int = 0
    last_us: int | None = None
    outcome: Outcome = ""
    reason: str = ""

    def behind(self, offset: int, window: WindowFacts) -> LogPosition:
        """The position behind a window that lies at ``offset``."""
        if offset < self.offset:
            return self
        void = window.epoch < self.epoch or (window.epoch == self.epoch and window.writer != self.writer)
        if void:
            return replace(self, offset=offset + 1)
        now = self
        if self.epoch < self.begins <= window.epoch:
            now = replace(self, last_us=None, outcome="", reason="")
        last_us = now.last_us if window.last_us is None else window.last_us
        outcome, reason = now.outcome, now.reason
        if window.status is not None and window.status.state == "ended":
            outcome, reason = "ended", window.status.reason
        return replace(
            now, offset=offset + 1, epoch=window.epoch, writer=window.writer, last_us=last_us, outcome=outcome,
            reason=reason,
        )  # fmt: skip

    def state(self, camera_id: str, epoch: int, writer: str) -> IngestState:
        """The record that says so, and that ``writer`` took ``epoch``."""
        more: dict[str, Any] = {
            "at": [self.epoch, self.writer],
            "recording": self.recording,
            "begins": self.begins,
            "last_us": self.last_us,
            "outcome": self.outcome,
            "reason": self.reason,
        }
        return IngestState(camera_id, epoch, self.offset, writer, more)

    @classmethod
    def of(cls, state: IngestState) -> LogPosition:
        """What a record says; one that is odd says only where to look."""
        more: Mapping[str, Any] = state.more
        try:
            epoch, writer = more["at"]
            last_us = more["last_us"]
            outcome: Outcome = more["outcome"] if more["outcome"] in ("ended", "failed") else ""
            return cls(
                state.windows_offset, int(epoch), str(writer), str(more["recording"]), int(more["begins"]),
                None if last_us is None else int(last_us), outcome, str(more["reason"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return cls(state.windows_offset)


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker wants a camera. writer: unique to this taking. recording: which one it is ("" for a live source).

    revision: of the document that the marker goes by.
    """

    camera_id: str
    partition: int
    writer: str
    recording: str = ""
    revision: int = -1


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of it. The epochs of the taker are ``base`` + 1, + 2, ...; ``marked``: the first began with a marker.

    position: of the log before the first window of the taker. finished: the recording is told to its end; no epoch
    was taken.
    """

    base: int
    marked: bool
    position: LogPosition
    finished: bool = False

    @property
    def resume_after_us(self) -> int | None:
        """``captured_at_us`` of the last frame that need not be read again."""
        return self.position.last_us


class StateLog(Protocol):
    """The topics as claims need them. Each may raise BusError, after which the claim is tried again."""

    def states(self, partition: int) -> Mapping[str, IngestState]:
        """The newest record of each camera of a partition, as of now."""

    def windows(self, partition: int, from_offset: int) -> tuple[Iterable[tuple[int, WindowFacts]], int]:
        """(offset, facts) of the windows from ``from_offset`` to the end as of now, and that end.

        NEWEST: those of the last minute.
        """

    def write(self, partition: int, state: IngestState) -> None:
        """Append a record and wait until it is in the log."""

    def mark(self, partition: int, marker: FrameWindow) -> None:
        """Send a marker and wait until it is in the log."""

    def forget(self) -> None:
        """Free what was kept between claims that come together."""


class EpochClaims:
    """Takes cameras, one at a time; thread-safe."""

    def __init__(self, log: StateLog) -> None:
        self._log = log
        self._lock = threading.Lock()

    def claim(self, ask: Ask) -> Claim:
        """Take a camera. Raises BusError when the log cannot be read or written; try again then."""
        with self._lock:
            known = self._log.states(ask.partition).get(ask.camera_id)
            if known is None:
                return self._first(ask)
            position = self._scan(ask, LogPosition.of(known))
            same = ask.recording != "" and position.recording == ask.recording
            if same and position.outcome == "ended":
                return Claim(max(known.epoch, position.epoch), False, position, finished=True)
            if not same:
                begins = max(known.epoch, position.epoch) + 1
                position = replace(position, recording=ask.recording, begins=begins)
            return self._mark(ask, known.epoch, replace(position, outcome="", reason=""))

    def rest(self) -> None:
        """Free what is kept between claims, unless one is being made."""
        if self._lock.acquire(blocking=False):
            try:
                self._log.forget()
            finally:
                self._lock.release()

    def _first(self, ask: Ask) -> Claim:
        """A camera of which ``state`` says nothing. A transaction that is open there hides what was written last, so
        that the newest windows are looked at, too."""
        position = self._scan(ask, LogPosition(NEWEST, recording=ask.recording, begins=1))
        if position.epoch > 0:
            return self._mark(ask, 0, replace(position, outcome="", reason=""))
        self._log.write(ask.partition, position.state(ask.camera_id, 1, ask.writer))
        return Claim(0, False, position)

    def _mark(self, ask: Ask, known_epoch: int, position: LogPosition) -> Claim:
        """Take the next epoch. In the log of windows, and nowhere else, it is decided who has it."""
        while True:
            epoch = max(known_epoch, position.epoch) + 1
            self._log.write(ask.partition, position.state(ask.camera_id, epoch, ask.writer))
            self._log.mark(ask.partition, _marker(ask, epoch))
            position = self._scan(ask, position)
            if (position.epoch, position.writer) == (epoch, ask.writer):
                # Its end may have come in the last moment; then there is nothing left to read, and it is told again.
                return Claim(epoch - 1, True, replace(position, outcome="", reason=""))

    def _scan(self, ask: Ask, position: LogPosition) -> LogPosition:
        windows, end = self._log.windows(ask.partition, position.offset)
        for offset, facts in windows:
            if facts.camera_id == ask.camera_id:
                position = position.behind(offset, facts)
        return replace(position, offset=max(position.offset, end))


def _marker(ask: Ask, epoch: int) -> FrameWindow:
    return FrameWindow(ask.camera_id, epoch, 0, (), 0, 0, 0.0, "wall", revision=ask.revision, writer=ask.writer)


def newest(states: Iterable[IngestState]) -> dict[str, IngestState]:
    """The record that counts of each camera, from all in the order of the log.

    A worker that was replaced may still write: what is of an older epoch, or of the same by another writer, says
    nothing.
    """
    found: dict[str, IngestState] = {}
    for state in states:
        before = found.get(state.camera_id)
        if before is None or state.epoch > before.epoch or (state.epoch, state.writer) == (before.epoch, before.writer):
            found[state.camera_id] = state
    return found
