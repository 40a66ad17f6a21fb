"""Cameras that fail, against a real RTSP server: each comes back by itself, and no other loses a frame."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from pipeline.sources.base import EpochStarted, SampledFrame
from tests.rtsp_server import RtspServer, Wire, require_rtsp
from tests.sources.material import Taken, Watched, settings_for

pytestmark = [pytest.mark.rtsp, pytest.mark.timeout(120)]
CAP_S = 0.5
BACK_S = CAP_S + 5.0  # what the faults' bar allows


@pytest.fixture(scope="module", autouse=True)
def _gstreamer() -> None:
    require_rtsp()


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer() as running:
        yield running


def check(camera: Watched) -> None:
    """What holds for every stream, whatever happened to it."""
    taken = camera.taken
    line = taken.ledger
    assert line is not None
    assert line.balanced
    assert line.in_flight == 0
    epochs = [e.epoch for e in taken.epochs]
    assert epochs == sorted(set(epochs))
    current = 0
    for item in taken.items:
        if isinstance(item, EpochStarted):
            current = item.epoch
        elif isinstance(item, SampledFrame):
            assert item.epoch == current
    for epoch in epochs:
        frames = [f.frame for f in taken.frames if f.epoch == epoch]
        for values in (
            [f.captured_at_us for f in frames], [f.pts_us for f in frames], [f.index for f in frames]
        ):  # fmt: skip
            assert values == sorted(set(values))


def ups(taken: Taken) -> int:
    return taken.states.count("up")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_is_read_at_the_rate_asked_for(server: RtspServer, transport: str) -> None:
    with Watched(settings_for(server.url(), transport=transport)) as camera:
        camera.more_frames(5)
        before = len(camera.taken.frames)
        began = time.monotonic()
        camera.more_frames(24)
        rate = (len(camera.taken.frames) - before) / (time.monotonic() - began)
    check(camera)
    assert rate == pytest.approx(8.0, rel=0.15)
    assert camera.taken.epochs[0].time_source == "wall"
    assert abs(camera.taken.frames[-1].frame.captured_at_us / 1e6 - time.time()) < 5
    assert camera.taken.statuses == [("up", "h264 320x240, 25 fps declared")]
    assert camera.taken.ledger is not None
    assert camera.taken.ledger.dropped.keys() <= {"shutdown"}


def test_killed_in_mid_gop_it_comes_back_in_a_new_epoch_and_another_camera_loses_nothing(server: RtspServer) -> None:
    with RtspServer("--gop", "100") as dying, Watched(settings_for(server.url())) as other:
        with Watched(settings_for(dying.url())) as camera:
            camera.more_frames(7)
            other.more_frames(1)
            dying.kill()
            camera.wait(lambda taken: "down" in taken.states)
            time.sleep(1.0)
            dying.start()
            camera.wait(lambda taken: ups(taken) == 2, BACK_S)
            camera.more_frames(8)
        check(camera)
        assert len(camera.taken.epochs) == 2
        assert camera.taken.states[:2] == ["up", "down"]
        assert camera.taken.states[-1] == "up"
    check(other)
    assert other.taken.statuses == [("up", "h264 320x240, 25 fps declared")]
    line = other.taken.ledger
    assert line is not None
    assert line.dropped.keys() <= {"shutdown"}
    indices = [f.frame.index for f in other.taken.frames]
    assert all(b - a in (3, 4) for a, b in pairwise(indices))


@pytest.mark.parametrize("fault", ["hang", "garbage", "refuse"])
def test_a_wire_that_fails_in_the_middle_and_heals(server: RtspServer, fault: str) -> None:
    with Wire(server.port) as wire, Watched(settings_for(server.url(port=wire.port))) as camera:
        camera.more_frames(5)
        wire.fault = fault  # type: ignore[assignment]
        if fault == "refuse":
            wire.cut()
        camera.wait(lambda taken: "down" in taken.states)
        time.sleep(1.5)
        wire.fault = "pass"
        took = camera.wait(lambda taken: ups(taken) >= 2, BACK_S + 3.0)
        camera.more_frames(5)
    check(camera)
    assert took < BACK_S
    assert len(camera.taken.epochs) >= 2


@pytest.mark.parametrize("fault", ["hang", "garbage", "refuse", "drip"])
def test_a_wire_that_fails_from_the_beginning_and_heals(server: RtspServer, fault: str) -> None:
    with Wire(server.port, fault) as wire:  # type: ignore[arg-type]
        with Watched(settings_for(server.url(port=wire.port), open_timeout_s=1.5)) as camera:
            camera.wait(lambda taken: "down" in taken.states)
            assert camera.taken.states == ["down"]
            wire.fault = "pass"
            took = camera.wait(lambda taken: ups(taken) == 1, BACK_S)
            camera.more_frames(5)
        check(camera)
        assert took < BACK_S
        assert camera.taken.epochs[0].epoch == 2  # the failure before it has used the first number


def test_nobody_listens_then_somebody_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    late = RtspServer(port=port)
    with Watched(settings_for(f"rtsp://127.0.0.1:{port}/cam")) as camera:
        camera.wait(lambda taken: "down" in taken.states)
        assert "connection refused" in camera.taken.statuses[0][1]
        late.start()
        try:
            camera.wait(lambda taken: ups(taken) == 1, BACK_S)
            camera.more_frames(3)
        finally:
            late.kill()
    check(camera)


def test_a_tarpit_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tarpit:
        url = f"rtsp://127.0.0.1:{tarpit.getsockname()[1]}/cam"
        with Watched(settings_for(url, stall_timeout_s=30.0, open_timeout_s=30.0)) as camera:
            time.sleep(0.5)
            began = time.monotonic()
        assert time.monotonic() - began < 4.0
    check(camera)
    assert camera.stream.health.abandoned_readers == 1


def test_a_change_of_size_in_the_middle_of_the_stream() -> None:
    options = ("--then-size", "640x360", "--after-s", "1.5")
    with RtspServer(*options) as changing, Watched(settings_for(changing.url(), stall_timeout_s=3.0)) as camera:
        camera.wait(lambda taken: {(f.width, f.height) for f in taken.frames} == {(320, 240), (640, 360)}, 20)
        camera.more_frames(5)
    check(camera)
    assert {f.frame.picture.shape for f in camera.taken.frames} == {(96, 160, 3)}


def test_a_stream_that_ends_is_asked_again() -> None:
    with RtspServer("--frames", "40") as ending, Watched(settings_for(ending.url())) as camera:
        camera.wait(lambda taken: ups(taken) >= 2, 20)
        camera.more_frames(2)
    check(camera)
    assert camera.taken.states[:3] == ["up", "down", "up"]


def test_a_camera_with_sound_only_stays_down_with_the_reason() -> None:
    with RtspServer("--sound-only") as deaf, Watched(settings_for(deaf.url())) as camera:
        camera.wait(lambda taken: bool(taken.states))
    assert "only sound" in camera.taken.statuses[0][1]
    assert camera.taken.error is None


def test_passwords(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer("--user", "viewer", "--password", "canary7secret") as locked:
        with Watched(settings_for(locked.url())) as nobody:
            nobody.wait(lambda taken: bool(taken.states))
        assert "asks for a user and password" in nobody.taken.statuses[0][1]
        with Watched(settings_for(locked.url("viewer:wrong9canary"))) as wrong:
            wrong.wait(lambda taken: bool(taken.states))
            time.sleep(1.0)
        assert "wrong user or password" in wrong.taken.statuses[0][1]
        assert len(wrong.taken.statuses) == 1
        with Watched(settings_for(locked.url("viewer:canary7secret"))) as right:
            right.more_frames(3)
            locked.kill()
            right.wait(lambda taken: "down" in taken.states)
        check(right)
    told = [reason for w in (nobody, wrong, right) for _, reason in w.taken.statuses]
    out, err = capfd.readouterr()
    for text in (*told, caplog.text, out, err):
        assert "canary" not in text


def test_reconnecting_does_not_grow(server: RtspServer) -> None:
    """Threads and hung readers are the same after many failures as after one."""
    with Wire(server.port, "refuse") as wire:
        quick = settings_for(server.url(port=wire.port), backoff_first_s=0.01, backoff_cap_s=0.02)
        with Watched(quick) as camera:
            camera.wait(lambda taken: wire.connections >= 5)
            before = threading.active_count()
            camera.wait(lambda taken: wire.connections >= 60)
            assert threading.active_count() <= before + 2
        assert camera.stream.health.hung_readers == 0
