"""Stream time that can be trusted, out of presentation timestamps that cannot.

The rule, frame by frame (``step`` = this timestamp minus the last one):

    0 < step <= 10 s      believed as it is: variable frame rate, a lying declared rate, lost packets
    missing               placed one usual step after the last frame
    anything else         doubted: placed half a usual step after the last frame, and the next frame decides:
        it returns to the old clock        the doubted timestamp was an error; nothing else changes
        it goes on from the doubted one    the stream's clock really moved (see ``Jump``)

A clock that moved back by at most a second, as cameras do every now and then, goes on without a break. A larger
move is a ``Jump``: for files a new epoch, since what follows is another recording. Forward, up to an hour is
believed (a recording with a hole in it keeps its times); beyond, and backwards, time goes on without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

BELIEVED_STEP_US = 10_000_000
SMALL_REWIND_US = 1_000_000
BELIEVED_HOLE_US = 3_600_000_000
_USUAL_US = 40_000
_SLOWEST_US = 1_000_000
_FASTEST_US = 1_000


@dataclass(slots=True)
class BestEffort:
    """Presentation or decoding timestamps, whichever has gone wrong less often so far.

    Some containers (AVI with B-frames above all) give presentation times in the wrong order, while the decoding times
    beside them, which come out of the decoder in order, are right. The rule is FFmpeg's ``best_effort_timestamp``,
    which PyAV does not hand on.
    """

    _faulty_pts: int = 0
    _faulty_dts: int = 0
    _last_pts: int | None = None
    _last_dts: int | None = None

    def choose(self, pts: int | None, dts: int | None) -> int | None:
        """The better timestamp of the next frame in the order of presentation; None if it has neither."""
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._faulty_pts <= self._faulty_dts or dts is None):
            return pts
        return dts


@dataclass(frozen=True, slots=True)
class Tick:
    """The time of one frame: ``pts_us`` since the first frame; rises by at least 1 from frame to frame.

    jump_us: None, or by how much the stream's own clock jumped just before this frame (negative: backwards).
    """

    pts_us: int
    jump_us: int | None = None


@dataclass(slots=True)
class Timeline:
    """Turns raw timestamps of one connection or file into rising stream time.

    usual_us: expected microseconds from frame to frame, until the stream has shown its own.
    repaired: how many timestamps were missing or doubted.
    """

    usual_us: int = _USUAL_US
    repaired: int = 0
    _last_us: int | None = None
    _offset_us: int | None = None
    _doubted_us: int | None = None
    _sure: bool = False  # whether the last frame stands where its own timestamp says

    def __post_init__(self) -> None:
        if not _FASTEST_US <= self.usual_us <= _SLOWEST_US:
            self.usual_us = _USUAL_US

    def tick(self, raw_us: int | None) -> Tick:
        """The time of the next frame, whose own timestamp is ``raw_us`` (microseconds, any origin, None: missing)."""
        sure, self._sure = self._sure, False
        next_us = 0 if self._last_us is None else self._last_us + self.usual_us
        if raw_us is None:
            self.repaired += 1
            return self._at(next_us)
        if self._offset_us is None or self._last_us is None:  # the first timestamp of all
            self._offset_us = next_us - raw_us
            self._sure = True
            return self._at(next_us)
        step_us = raw_us + self._offset_us - self._last_us
        if 0 < step_us <= BELIEVED_STEP_US:
            self._doubted_us = None
            self._sure = True
            if sure and step_us <= _SLOWEST_US:
                self.usual_us = max(step_us, _FASTEST_US)
            return self._at(self._last_us + step_us)
        self.repaired += 1
        if self._doubted_us is not None and 0 < raw_us - self._doubted_us <= BELIEVED_STEP_US:
            return self._moved(raw_us, self._doubted_us)
        self._doubted_us = raw_us
        # Half a step: were it a whole one, the frame after an error would seem to be late by it.
        return self._at(self._last_us + self.usual_us // 2)

    @property
    def end_us(self) -> int:
        """When the last frame ends: its time and one usual step; 0 before the first frame."""
        return 0 if self._last_us is None else self._last_us + self.usual_us

    def _moved(self, raw_us: int, doubted_us: int) -> Tick:
        """The clock went on from a doubted timestamp: from here the doubted frame is where it was placed."""
        assert self._last_us is not None
        assert self._offset_us is not None
        jump_us = doubted_us + self._offset_us - self._last_us
        pts_us = self._last_us + raw_us - doubted_us
        told = None if -SMALL_REWIND_US <= jump_us <= 0 else jump_us
        if BELIEVED_STEP_US < jump_us <= BELIEVED_HOLE_US:
            pts_us += jump_us
        self._doubted_us = None
        self._offset_us = pts_us - raw_us
        return Tick(self._at(pts_us).pts_us, told)

    def _at(self, pts_us: int) -> Tick:
        self._last_us = pts_us
        return Tick(pts_us)
