"""The frame ledger: where every captured frame went.

    captured = analysed + sampled_out + sum(dropped) + in_flight

``in_flight`` goes up when a frame is captured to be analysed and down when its fate is told. A frame that a stage
loses stays in flight for ever (a finished run must have 0); two fates for one frame leave fewer than none in flight.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

DropCause = Literal["stale", "backpressure", "superseded_epoch", "spool_full", "shutdown", "failed"]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One camera's account, in frames."""

    captured: int
    analysed: int
    sampled_out: int
    dropped: dict[str, int]
    in_flight: int

    @property
    def balanced(self) -> bool:
        """Whether every captured frame has one fate, and none has two (which would leave fewer than 0 in flight)."""
        told = self.analysed + self.sampled_out + sum(self.dropped.values()) + self.in_flight
        return self.captured == told and self.in_flight >= 0


@dataclass(slots=True)
class _Account:
    captured: int = 0
    analysed: int = 0
    sampled_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    closing: bool = False


class FrameLedger:
    """Thread-safe accounts of all cameras."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def open(self, camera_id: str) -> None:
        """Begin an account, so that a camera that never delivered is listed with zeros; or go on with one."""
        with self._lock:
            self._accounts.setdefault(camera_id, _Account()).closing = False

    def close(self, camera_id: str) -> None:
        """The camera is no more: its account goes once nothing of it is in flight."""
        with self._lock:
            account = self._accounts.get(camera_id)
            if account is not None:
                account.closing = True
                self._settle(camera_id, account)

    def captured_and_sampled_out(self, camera_id: str, frames: int = 1) -> None:
        """Frames came from the decoder and are not to be analysed."""
        with self._lock:
            account = self._accounts.setdefault(camera_id, _Account())
            account.captured += frames
            account.sampled_out += frames

    def captured(self, camera_id: str, frames: int = 1) -> None:
        """Frames came from the decoder and go on to be analysed: in flight from here."""
        with self._lock:
            account = self._accounts.setdefault(camera_id, _Account())
            account.captured += frames
            account.queued += frames

    def analysed(self, camera_id: str, frames: int) -> None:
        """Frames went through the analytics."""
        with self._lock:
            account = self._accounts[camera_id]
            account.analysed += frames
            account.queued -= frames
            self._settle(camera_id, account)

    def dropped(self, camera_id: str, frames: int, cause: DropCause) -> None:
        """Frames were given up, for a named cause."""
        with self._lock:
            account = self._accounts[camera_id]
            account.dropped[cause] += frames
            account.queued -= frames
            self._settle(camera_id, account)

    def lines(self) -> dict[str, LedgerLine]:
        """All accounts at one instant, by camera_id."""
        with self._lock:
            return {
                camera_id: LedgerLine(a.captured, a.analysed, a.sampled_out, dict(a.dropped), a.queued)
                for camera_id, a in sorted(self._accounts.items())
            }

    def _settle(self, camera_id: str, account: _Account) -> None:
        if account.closing and account.queued <= 0:
            del self._accounts[camera_id]
