"""What a person sees of a camera while a run works."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.analytics.camera import Observation
from pipeline.core.events import CAMERA_STATUS, Event
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.services.monitor import RunMonitor


@pytest.mark.parametrize(("states", "shown"), [([], "up"), (["tampered"], "tampered"), (["tampered", "up"], "up")])
def test_a_camera_is_shown_as_tampered_with_for_as_long_as_it_is(states: list[str], shown: str) -> None:
    ledger = FrameLedger()
    ledger.open("gate")
    monitor = RunMonitor(["gate"], ledger, now_s=lambda: 0.0, utc_us=lambda: 0, progress_of=lambda _: None)
    told = [Event(state, CAMERA_STATUS, "gate", 0, {"state": state}) for state in states]
    for n, events in enumerate([*((event,) for event in told), ()]):
        frame = Frame(n, n, n, np.zeros((1, 1, 3), np.uint8))
        window = FrameWindow("gate", 1, n, (frame,), 4, 4, 8.0, "pts")
        monitor.observed(window, frame, Observation(events))
    assert monitor.views()[0].state == shown
