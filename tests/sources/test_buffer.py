"""The buffer between decoding and consuming: bounded in age, and deaf to readers that were given up."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pipeline.core.frame import Frame
from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnavailable
from pipeline.sources.base import EpochStarted, SampledFrame, StatusChanged
from pipeline.sources.buffer import WAITING_FRAMES, StreamBuffer, Superseded
from tests.sources.material import FakeClock

_PICTURE = np.zeros((2, 2, 3), np.uint8)


def frame(index: int) -> SampledFrame:
    return SampledFrame(1, Frame(index, index * 1000, index * 1000, _PICTURE), 2, 2)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger() -> FrameLedger:
    ledger = FrameLedger()
    ledger.open("cam")
    return ledger


@pytest.fixture
def buffer(clock: FakeClock, ledger: FrameLedger) -> StreamBuffer:
    return StreamBuffer("cam", ledger, clock, max_age_s=2.0, max_frames=10)


def indices(buffer: StreamBuffer) -> list[int]:
    got = []
    while (item := buffer.get(0)) is not None:
        if isinstance(item, SampledFrame):
            got.append(item.frame.index)
    return got


def test_frames_come_out_in_order_and_only_while_they_are_fresh(
    buffer: StreamBuffer, clock: FakeClock, ledger: FrameLedger
) -> None:
    ticket = buffer.supersede()
    for i in range(4):
        buffer.put_frame(frame(i), ticket)
        clock.pass_s(1.0)
    assert indices(buffer) == [2, 3]
    line = ledger.lines()["cam"]
    assert line.dropped == {"stale": 2}
    assert (line.captured, line.in_flight, line.balanced) == (4, 2, True)


def test_a_burst_is_bounded_in_number_too(buffer: StreamBuffer, ledger: FrameLedger) -> None:
    ticket = buffer.supersede()
    for i in range(25):
        buffer.put_frame(frame(i), ticket)
    assert indices(buffer) == list(range(15, 25))
    assert ledger.lines()["cam"].dropped == {"backpressure": 15}


def test_epochs_and_statuses_are_never_dropped(buffer: StreamBuffer, clock: FakeClock) -> None:
    ticket = buffer.supersede()
    buffer.begin_epoch("wall", 0, ticket)
    buffer.put_frame(frame(0), ticket)
    buffer.tell("down", "gone", 1, ticket)
    buffer.put_frame(frame(1), ticket)
    clock.pass_s(5.0)
    kinds = []
    while (item := buffer.get(0)) is not None:
        kinds.append(type(item))
    assert kinds == [EpochStarted, StatusChanged]


def test_a_reader_that_was_given_up_can_do_nothing(buffer: StreamBuffer, ledger: FrameLedger) -> None:
    old = buffer.supersede()
    new = buffer.supersede()
    for attempt in (
        lambda: buffer.put_frame(frame(0), old),
        lambda: buffer.sampled_out(old),
        lambda: buffer.failed(old),
        lambda: buffer.begin_epoch("wall", 0, old),
        lambda: buffer.tell("up", "", 0, old),
        lambda: buffer.check(old),
    ):
        with pytest.raises(Superseded):
            attempt()
    assert ledger.lines()["cam"].captured == 0
    buffer.put_frame(frame(7), new)
    assert indices(buffer) == [7]


def test_the_same_status_twice_is_told_once_and_numbers_are_never_used_twice(buffer: StreamBuffer) -> None:
    ticket = buffer.supersede()
    buffer.tell("down", "refused", 0, ticket)
    buffer.tell("down", "refused", 1, ticket)
    buffer.tell("down", "timed out", 2, ticket)
    assert buffer.begin_epoch("wall", 3, ticket) == 2
    items = [buffer.get(0) for _ in range(3)]
    assert [item.epoch for item in items if item is not None] == [1, 1, 2]
    assert buffer.get(0) is None


def test_a_recording_makes_its_reader_wait_and_loses_nothing(
    buffer: StreamBuffer, clock: FakeClock, ledger: FrameLedger
) -> None:
    buffer.wait_for_consumer()
    ticket = buffer.supersede()

    def read() -> None:
        for i in range(60):
            buffer.put_frame(frame(i), ticket)
        buffer.finish()

    reader = threading.Thread(target=read)
    reader.start()
    until = time.monotonic() + 5
    while not buffer.blocked and time.monotonic() < until:
        time.sleep(0.01)
    assert buffer.blocked
    assert ledger.lines()["cam"].captured == WAITING_FRAMES
    clock.pass_s(100.0)
    got = []
    try:
        while True:
            item = buffer.get(1.0)
            assert isinstance(item, SampledFrame)
            got.append(item.frame.index)
    except StopIteration:
        pass
    reader.join(5)
    assert got == list(range(60))
    assert ledger.lines()["cam"].dropped == {}


def test_a_waiting_reader_is_freed_when_the_stream_is_closed(buffer: StreamBuffer, ledger: FrameLedger) -> None:
    buffer.wait_for_consumer()
    ticket = buffer.supersede()
    freed = threading.Event()

    def read() -> None:
        try:
            for i in range(60):
                buffer.put_frame(frame(i), ticket)
        except Superseded:
            freed.set()

    threading.Thread(target=read, daemon=True).start()
    while not buffer.blocked:
        time.sleep(0.01)
    buffer.discard("shutdown")
    assert freed.wait(5)
    line = ledger.lines()["cam"]
    assert line.dropped == {"shutdown": WAITING_FRAMES}
    assert line.in_flight == 0
    assert line.balanced


def test_what_was_read_before_a_failure_is_still_handed_out(buffer: StreamBuffer) -> None:
    ticket = buffer.supersede()
    buffer.put_frame(frame(0), ticket)
    buffer.finish(SourceUnavailable("gone"))
    with pytest.raises(Superseded):
        buffer.put_frame(frame(1), ticket)
    assert buffer.get(0) is not None
    with pytest.raises(SourceUnavailable, match="gone"):
        buffer.get(0)
    with pytest.raises(StopIteration):
        buffer.get(0)
