"""How far the log has each camera, noted in ``state``: so that whoever takes over need not read far."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from pipeline.bus.topics import IngestState
from pipeline.errors import BusError
from pipeline.services.epochs import LogPosition, Outcome
from pipeline.services.ingest_session import CameraSession, Tenure
from pipeline.services.sending import WindowSender

_log = logging.getLogger(__name__)
NOTE_S = 5.0


class Notes:
    """Writes notes. note: appends a record to a partition of ``state`` if that needs no waiting."""

    def __init__(
        self,
        sender: WindowSender,
        note: Callable[[int, IngestState], bool],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._note = note
        self._now_s = now_s
        self._due_s = now_s() + NOTE_S

    def tick(self, tenures: Iterable[Tenure]) -> None:
        """Note what changed, every few seconds."""
        if self._now_s() >= self._due_s:
            self._due_s = self._now_s() + NOTE_S
            self.write(list(tenures))

    def write(self, tenures: Iterable[Tenure]) -> None:
        """Note what changed, now."""
        for tenure in tenures:
            if tenure.changed and tenure.claim is not None:
                self._write(tenure)

    def finished(self, session: CameraSession) -> None:
        """A session is over by itself: once the log has all of it, say how it ended."""
        tenure, camera_id = session.tenure, session.camera.camera_id
        if session.noted or self._sender.is_sending(camera_id):
            return
        session.noted = True
        failure = session.failure
        if failure is not None:
            _log.error("camera %s: %s", camera_id, str(failure).splitlines()[0])
        if not session.is_recording or tenure.claim is None or tenure.claim.finished:
            return
        outcome: Outcome = "failed" if failure is not None else "ended"
        reason = str(failure).splitlines()[0] if failure is not None else ""

        def told(position: LogPosition) -> LogPosition:
            return replace(position, outcome=outcome, reason=reason or position.reason)

        tenure.finish(told)
        if not self._write(tenure):
            session.noted = False
        else:
            _log.info("camera %s: %s", camera_id, "sent to its end" if outcome == "ended" else "failed")

    def _write(self, tenure: Tenure) -> bool:
        ask = tenure.ask
        tenure.changed = False
        try:
            if self._note(ask.partition, tenure.position.state(ask.camera_id, tenure.epoch, ask.writer)):
                return True
        except BusError as error:
            _log.debug("camera %s: its state is not noted: %s", ask.camera_id, error)
        tenure.changed = True
        return False
