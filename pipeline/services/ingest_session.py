"""One taking of one camera: from the claim of its epoch to the last window that the log has of it.

Windows are counted from epoch 1 by the stream, as in ``passerby run``; what the log calls them is the claim's. A live
camera does not wait for a claim when no broker answers: its windows are held back in the spool, under numbers of their
own, and get their epoch when they leave it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pipeline.bus.base import Message
from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.windows import encode_window_message, renumbered_message
from pipeline.core.frame import FrameWindow, StreamStatus
from pipeline.core.ledger import FrameLedger, LedgerLine
from pipeline.errors import BusError, ConfigError, ModelError, PasserbyError, RecordTooLarge, SourceError
from pipeline.metrics.parts import SourceHealth
from pipeline.services.epochs import Ask, Claim, EpochClaims, LogPosition
from pipeline.services.fleet import BrokenStream, EmptyStream, FleetCamera, Plan
from pipeline.services.ingest import CameraIngest, ItemStream, WindowSettings
from pipeline.services.sending import HELD_BACK, Sent, WindowSender
from pipeline.services.streams import build_stream
from pipeline.sources.base import Clock, Stream, StreamHealth

_log = logging.getLogger(__name__)
_ASK_AGAIN_S = 0.5
_LOOK_S = 0.05
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


class IngestRecorder(Protocol):
    """What a worker tells of its cameras: ``pipeline.metrics.IngestMetrics``."""

    def camera_came(self, camera_id: str, health: Callable[[], SourceHealth] | None = None) -> None: ...
    def camera_left(self, camera_id: str) -> None: ...
    def status(self, camera_id: str, status: StreamStatus) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def encoded(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What all sessions of a worker share. grace_s: how long a live camera waits for its claim."""

    claims: EpochClaims
    sender: WindowSender
    ledger: FrameLedger
    recorder: IngestRecorder
    clock: Clock
    grace_s: float = 3.0


def account(line: LedgerLine) -> str:
    """Where a camera's frames went, in words."""
    dropped = "".join(f", {frames} dropped ({cause})" for cause, frames in sorted(line.dropped.items()))
    waiting = f", {line.in_flight} in the spool or on their way" if line.in_flight else ""
    return f"{line.captured} frames, {line.analysed} sent, {line.sampled_out} sampled out{dropped}{waiting}"


class Tenure:
    """Under which name and numbers a session speaks in the log, and how far the log has it. Thread-safe."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.claim: Claim | None = None
        self.position = LogPosition(0)
        self.changed = False
        self._lock = threading.Lock()
        self._claiming = threading.Lock()

    def take(self, claims: EpochClaims) -> Claim:
        """Claim the camera, once. Raises BusError."""
        with self._claiming:
            claim = self.claim
            if claim is None:
                claim = claims.claim(self.ask)
                with self._lock:
                    self.position = claim.position
                self.claim = claim
            return claim

    def numbered(self, claim: Claim, epoch: int, sequence: int) -> tuple[int, int]:
        """What the log calls window ``sequence`` of the stream's own ``epoch`` (1, 2, ...)."""
        return claim.base + epoch, sequence + (1 if claim.marked and epoch == 1 else 0)

    def settled(self, message: Message, claim: Claim) -> Message:
        """A held-back message with the numbers it has in the log."""
        facts = window_facts(message.value or b"")
        headers = tuple(header for header in message.headers if header[0] != HELD_BACK)
        return renumbered_message(replace(message, headers=headers), *self.numbered(claim, facts.epoch, facts.sequence))

    def acknowledged(self, window: WindowFacts, sent: Sent) -> None:
        """The log has a window of ours."""
        with self._lock:
            self.position = self.position.behind(sent.offset, window)
            self.changed = True

    def finish(self, outcome_of: Callable[[LogPosition], LogPosition]) -> None:
        """Change what the log is to know of the recording."""
        with self._lock:
            self.position = outcome_of(self.position)
            self.changed = True

    @property
    def epoch(self) -> int:
        """The newest epoch that is ours."""
        return max(self.position.epoch, (self.claim.base if self.claim else 0) + 1)


class CameraSession:
    """See the module. ``finished`` once its stream is at its end, or failed; ``failure`` says why."""

    def __init__(self, camera: FleetCamera, plan: Plan, parts: SessionParts, writer: str, *, assigned: bool) -> None:
        """assigned: the camera surely is ours; else it was when we last heard."""
        self.camera = camera
        self.plan = plan
        self.tenure = Tenure(Ask(camera.camera_id, camera.partition, writer, camera.recording, camera.revision))
        self.noted = False  # how it ended is in the log
        self._parts = parts
        self._assigned = threading.Event()
        if assigned:
            self._assigned.set()
        self._stop = threading.Event()
        self._stream: Stream | BrokenStream | EmptyStream | None = None
        self._last: FrameWindow | None = None  # of what was sent, without its pictures
        self._begun = False
        windows = replace(plan.reading.windows, encoding="raw") if plan.reading else WindowSettings()
        self._ingest = CameraIngest(camera.camera_id, self._open, self, windows, parts.ledger)

    # ------------------------------------------------------------------------------------------- for the fleet

    def start(self) -> None:
        """Begin; returns at once."""
        self._parts.recorder.camera_came(self.camera.camera_id, self._health)
        self._begun = True
        self._ingest.start()

    def update(self, camera: FleetCamera, plan: Plan) -> None:
        """The same stream under a newer document; also: the camera is surely ours."""
        self.camera = camera
        self.plan = replace(plan, reading=self.plan.reading, manifest=self.plan.manifest)
        self._assigned.set()

    def stop(self) -> None:
        """Stop soon; returns at once."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has stopped; whether it has."""
        return self._ingest.join(timeout_s)

    def removed(self) -> None:
        """Tell the log that the camera is no more, and that its recording begins anew should it come back."""
        self._parts.recorder.camera_left(self.camera.camera_id)
        last, tenure = self._last, self.tenure
        if last is not None and (last.status is None or last.status.state != "ended"):
            at_us = last.frames[-1].captured_at_us + 1 if last.time_source == "pts" and last.frames else None
            status = StreamStatus("ended", "removed from the configuration", at_us or self._parts.clock.utc_us())
            told = replace(last, sequence=last.sequence + 1, frames=(), status=status)
            self._stop = threading.Event()  # the last words need no stream
            try:
                self.send(self.camera.camera_id, told)
            except BusError as error:
                _log.warning("camera %s: its end is not told: %s", self.camera.camera_id, error)
            self._parts.sender.flush(2.0, {self.camera.camera_id})
        tenure.finish(lambda position: replace(position, recording="", last_us=None, outcome="", reason=""))
        line = self._parts.ledger.lines().get(self.camera.camera_id)
        if line is not None:
            _log.info("camera %s: %s", self.camera.camera_id, account(line))
        self._parts.ledger.close(self.camera.camera_id)

    @property
    def finished(self) -> bool:
        """Its stream is over, by itself."""
        return self._begun and not self._stop.is_set() and self._ingest.join(0)

    @property
    def failure(self) -> PasserbyError | None:
        """Why it ended before its end."""
        return self._ingest.failure

    @property
    def may_try_again(self) -> bool:
        """Whether it broke for a reason that is nobody's configuration: then it is begun anew after a while."""
        told = (SourceError, ConfigError, ModelError, RecordTooLarge)
        return self.failure is not None and not isinstance(self.failure, told)

    @property
    def is_recording(self) -> bool:
        """Whether it reads something that has an end."""
        stream = self._stream
        return self.camera.recording != "" and (stream is None or stream.is_finite or self.plan.error is not None)

    def _health(self) -> SourceHealth:
        stream = self._stream
        return StreamHealth() if stream is None or isinstance(stream, BrokenStream | EmptyStream) else stream.health

    # ------------------------------------------------------------------------------------------- on the camera's thread

    def _open(self) -> ItemStream:
        claim = self._take_epoch()
        if self._stop.is_set() or (claim is not None and claim.finished):
            self._stream = EmptyStream()
        elif self.plan.reading is None or self.plan.manifest is None:
            error = self.plan.error or PasserbyError("no plan")
            self._stream = BrokenStream(error, self._parts.clock.utc_us())
        else:
            settings = replace(
                self.plan.reading.settings,
                resume_after_us=claim.resume_after_us if claim is not None else None,
                on_decoded=self._parts.recorder.decoded,
            )
            self._stream = build_stream(
                settings, self.plan.manifest, ledger=self._parts.ledger, clock=self._parts.clock, stop=self._stop
            )
        return self._stream

    def _take_epoch(self) -> Claim | None:
        """The claim; None when a live camera is not to wait for it any longer."""
        asked_s, since_s = -1e9, time.monotonic()
        live = self.camera.recording == ""
        while not self._stop.is_set():
            now_s = time.monotonic()
            older = self._parts.sender.holds(self.camera.camera_id)
            if self._assigned.is_set() and not older and now_s - asked_s >= _ASK_AGAIN_S:
                asked_s = now_s
                try:
                    return self.tenure.take(self._parts.claims)
                except BusError as error:
                    _log.debug("camera %s: not claimed yet: %s", self.camera.camera_id, error)
            if live and now_s - since_s > self._parts.grace_s:
                return None
            self._stop.wait(_LOOK_S)
        return None

    def send(self, key: str, value: FrameWindow) -> None:
        """Producer.send: what CameraIngest calls."""
        last = tuple(replace(frame, picture=NO_PICTURE, preview=None) for frame in value.frames[-1:])
        self._last = replace(value, frames=last)
        message = self._message(value, self.tenure.claim)
        self._parts.sender.send(message, finite=self._waits, stop=self._stop)
        if value.status is not None:
            self._parts.recorder.status(key, value.status)

    def _message(self, window: FrameWindow, claim: Claim | None) -> Message:
        epoch, sequence = window.epoch, window.sequence
        if claim is not None:
            epoch, sequence = self.tenure.numbered(claim, epoch, sequence)
        writer, revision = self.tenure.ask.writer, self.camera.revision
        told = replace(window, epoch=epoch, sequence=sequence, revision=revision, writer=writer)
        windows = self.plan.reading.windows if self.plan.reading is not None else WindowSettings(encoding="jpeg")
        began_s = time.perf_counter()
        message = encode_window_message(told, windows.encoding, windows.quality)
        if window.frames:
            self._parts.recorder.encoded(time.perf_counter() - began_s)
        return message if claim is not None else replace(message, headers=(*message.headers, (HELD_BACK, b"1")))

    @property
    def _waits(self) -> bool:
        """Whether the source can wait for the log, and be read again."""
        stream, reading = self._stream, self.plan.reading
        realtime = reading is not None and reading.settings.mode == "realtime"
        return stream is not None and stream.is_finite and not realtime

    def try_send(self, key: str, value: FrameWindow) -> bool:
        """Producer.try_send."""
        self.send(key, value)
        return True

    def close(self) -> None:
        """Producer.close: the worker's sender goes on."""
