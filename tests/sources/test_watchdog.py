"""Readers that hang inside the decoder for ever, which no time-out of FFmpeg's ends."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import pytest

from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnavailable
from pipeline.sources import live
from pipeline.sources.address import locate
from pipeline.sources.backoff import Backoff
from pipeline.sources.base import EpochStarted, SampledFrame, SystemClock
from pipeline.sources.live import LiveStream
from pipeline.sources.video import DecodedFrame
from tests.sources.material import Taken, settings_for

_IMAGE = av.VideoFrame.from_ndarray(np.zeros((72, 64), np.uint8), format="yuv420p")


class Script:
    """What each connection does in turn; the last one is repeated. ``frames``: before it does ``then``."""

    def __init__(self, *connections: tuple[str, int, str]) -> None:
        self.connections = connections
        self.opened = 0
        self.release = threading.Event()
        self.late_frames = 0
        self.url = "rtsp://me:canary7@cam/x"

    def open(self, *_: Any) -> Camera:
        number = min(self.opened, len(self.connections) - 1)
        self.opened += 1
        at_open, frames, then = self.connections[number]
        if at_open == "hang":
            self.release.wait(60)
        elif at_open == "refuse":
            raise SourceUnavailable("cam: connection refused")
        return Camera(self, frames, then)


class Camera:
    """A stand-in for an opened video: 100 frames a second."""

    declared_fps = 100.0
    duration_s = None
    has_timestamps = True
    corrupt_packets = 0

    def __init__(self, script: Script, frames: int, then: str) -> None:
        self._script, self._frames, self._then = script, frames, then

    def describe(self) -> str:
        return "a stand-in"

    def frames(self, _picture_size: object = None) -> Iterator[DecodedFrame]:
        for i in range(self._frames):
            time.sleep(0.01)
            yield DecodedFrame(i * 10_000, _IMAGE)
        if self._then == "hang":
            self._script.release.wait(60)
            for i in range(self._frames, self._frames + 50):
                self._script.late_frames += 1
                yield DecodedFrame(i * 10_000, _IMAGE)
        elif self._then == "crash":
            raise RuntimeError(f"a defect at {self._script.url}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Run:
    """A stream over a script, consumed in this thread."""

    def __init__(self, script: Script, **options: Any) -> None:
        self.ledger = FrameLedger()
        self.stop = threading.Event()
        self.taken = Taken()
        options = {"stall_timeout_s": 0.8, "open_timeout_s": 0.8, "sample_fps": 100.0, **options}
        self.stream = LiveStream(
            settings_for("rtsp://me:canary7@cam/x", **options),
            locate("rtsp://me:canary7@cam/x"),
            lambda w, h: (32, 32),
            ledger=self.ledger,
            clock=SystemClock(),
            stop=self.stop,
            open_video=script.open,  # type: ignore[arg-type]
            backoff=Backoff(0.01, 0.05, random.Random(1)),
        )

    def until(self, done: Any, timeout_s: float = 20.0) -> Taken:
        began = time.monotonic()
        for item in self.stream:
            self.taken.items.append(item)
            if isinstance(item, SampledFrame):
                self.ledger.analysed("cam", 1)
            if done(self.taken):
                break
            assert time.monotonic() - began < timeout_s
        return self.taken

    def end(self) -> None:
        self.stop.set()
        self.stream.close()
        self.taken.ledger = self.ledger.lines()["cam"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_GRACE_S", 0.05)
    monkeypatch.setattr(live, "_CLOSING_S", 0.2)


@pytest.mark.parametrize("where", [("hang", 0, ""), ("ok", 10, "hang")])
def test_a_hung_reader_is_given_up_and_can_touch_nothing_when_it_comes_back(where: tuple[str, int, str]) -> None:
    script = Script(where, ("ok", 10_000, ""))
    run = Run(script)
    taken = run.until(lambda t: "up" in t.states[t.states.index("down") :] if "down" in t.states else False)
    assert "no frame for 0.8 s" in dict(taken.statuses)["down"]
    assert run.stream.health.abandoned_readers == 1
    assert run.stream.health.hung_readers == 1
    frames_before = len(taken.frames)
    script.release.set()  # the old reader comes back with frames
    run.until(lambda t: len(t.frames) >= frames_before + 30)
    run.end()
    line = taken.ledger
    assert line is not None
    assert line.balanced
    assert line.in_flight == 0
    assert script.late_frames <= 1
    current = 0
    for item in taken.items:
        if isinstance(item, EpochStarted):
            current = item.epoch
        elif isinstance(item, SampledFrame):
            assert item.epoch == current
    assert sum(f.epoch == taken.epochs[0].epoch for f in taken.frames) == (where[1] or len(taken.frames))
    assert run.stream.health.hung_readers == 0


def test_hung_readers_are_bounded() -> None:
    script = Script(("hang", 0, ""))
    run = Run(script, open_timeout_s=0.2)
    deadline = time.monotonic() + 8.0
    thread = threading.Thread(target=run.until, args=(lambda t: False,), daemon=True)
    thread.start()
    while time.monotonic() < deadline:
        assert run.stream.health.hung_readers <= live.MAX_HUNG
        time.sleep(0.05)
    assert run.stream.health.hung_readers == live.MAX_HUNG
    assert script.opened == live.MAX_HUNG
    script.release.set()
    run.stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_defect_in_a_reader_is_a_reason_to_start_again_and_not_to_die(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(Script(("ok", 5, "crash"), ("ok", 10_000, "")))
    taken = run.until(lambda t: t.states.count("up") == 2)
    run.end()
    assert "RuntimeError" in dict(taken.statuses)["down"]
    assert "canary7" not in dict(taken.statuses)["down"]
    assert "a defect at" in caplog.text
    assert "canary7" not in caplog.text


def test_an_attempt_that_delivered_frames_resets_the_back_off() -> None:
    script = Script(*[("refuse", 0, "")] * 6, ("ok", 5, ""), ("ok", 10_000, ""))
    run = Run(script)
    run.until(lambda t: t.states.count("up") == 2)
    run.end()
    assert run.stream._backoff._failures == 1


def test_closing_without_having_read_anything() -> None:
    run = Run(Script(("ok", 10, "")))
    run.stream.close()
    assert list(run.stream) == []


def test_leaving_early_accounts_for_what_is_inside() -> None:
    run = Run(Script(("ok", 10_000, "")), max_staleness_s=5.0)
    with run.stream:
        run.until(lambda t: len(t.frames) == 3)
        time.sleep(0.5)
    run.end()
    assert run.taken.ledger is not None
    assert run.taken.ledger.dropped.get("shutdown", 0) >= 10
    assert run.taken.ledger.in_flight == 0
    assert run.taken.ledger.balanced
