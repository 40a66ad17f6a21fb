"""The ledger's sum, and when windows close."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.classes import expand, group_of
from pipeline.core.events import event_id, rfc3339
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.core.window import WindowBuilder

_PICTURE = np.zeros((2, 2, 3), np.uint8)


def _frame(n: int, step_us: int = 125_000) -> Frame:
    return Frame(n, n * step_us, n * step_us, _PICTURE)


def test_ledger_tells_where_every_frame_went() -> None:
    ledger = FrameLedger()
    ledger.open("never")
    ledger.captured("gate", 10)
    ledger.captured_and_sampled_out("gate", 20)
    ledger.analysed("gate", 4)
    ledger.dropped("gate", 3, "stale")
    line = ledger.lines()["gate"]
    assert (line.captured, line.analysed, line.sampled_out, line.in_flight) == (30, 4, 20, 3)
    assert line.dropped == {"stale": 3}
    assert line.balanced
    assert ledger.lines()["never"].captured == 0


def test_a_frame_with_two_fates_shows_as_fewer_than_none_in_flight() -> None:
    ledger = FrameLedger()
    ledger.captured("gate")
    ledger.analysed("gate", 1)
    ledger.dropped("gate", 1, "stale")
    assert ledger.lines()["gate"].in_flight == -1
    assert not ledger.lines()["gate"].balanced


def test_the_account_of_a_camera_that_is_no_more_goes_once_nothing_of_it_is_in_flight() -> None:
    ledger = FrameLedger()
    for camera_id in ("gate", "yard"):
        ledger.open(camera_id)
        ledger.captured(camera_id, 5)
    ledger.analysed("gate", 5)
    ledger.close("gate")
    ledger.close("yard")
    ledger.close("nobody")
    assert ledger.lines().keys() == {"yard"}
    ledger.analysed("yard", 3)
    assert ledger.lines()["yard"].balanced
    ledger.dropped("yard", 2, "spool_full")
    assert not ledger.lines()


def test_an_account_that_is_opened_again_stays() -> None:
    ledger = FrameLedger()
    ledger.captured("gate", 5)
    ledger.close("gate")
    ledger.open("gate")
    ledger.analysed("gate", 5)
    assert ledger.lines()["gate"].analysed == 5


def test_a_window_closes_at_its_number_of_frames() -> None:
    builder = WindowBuilder("gate", 1, 8.0, "pts", window_frames=8, window_s=10)
    closed = [window for n in range(20) for window in builder.add(_frame(n), 640, 360)]
    assert [len(window.frames) for window in closed] == [8, 8]
    assert [window.sequence for window in closed] == [0, 1]
    assert [len(window.frames) for window in builder.flush()] == [4]
    assert builder.flush() == []


def test_a_window_closes_after_its_seconds() -> None:
    builder = WindowBuilder("gate", 1, 2.0, "pts", window_frames=8, window_s=1.0)
    closed = [window for n in range(5) for window in builder.add(_frame(n, 500_000), 640, 360)]
    assert [[frame.index for frame in window.frames] for window in closed] == [[0, 1], [2, 3]]


def test_a_window_holds_one_size_of_source() -> None:
    builder = WindowBuilder("gate", 1, 8.0, "pts")
    assert builder.add(_frame(0), 640, 360) == []
    (closed,) = builder.add(_frame(1), 1280, 720)
    assert (closed.width, closed.height, len(closed.frames)) == (640, 360, 1)
    (last,) = builder.flush()
    assert (last.width, last.height) == (1280, 720)


def test_a_status_travels_behind_the_frames_before_it() -> None:
    builder = WindowBuilder("gate", 4, 8.0, "wall")
    builder.add(_frame(0), 640, 360)
    frames, status = builder.status(StreamStatus("down", "no frame for 10 s", 5))
    assert len(frames.frames) == 1
    assert frames.status is None
    assert status.frames == ()
    assert status.status == StreamStatus("down", "no frame for 10 s", 5)
    assert status.opened_at_us == 5
    assert (frames.sequence, status.sequence) == (0, 1)
    with pytest.raises(ValueError, match="frames or a status"):
        _ = FrameWindow("gate", 1, 0, (), 0, 0, 8.0, "pts").opened_at_us


@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=60))
def test_no_frame_is_lost_between_windows_whatever_the_times(steps: list[int]) -> None:
    builder = WindowBuilder("gate", 1, 8.0, "pts")
    at_us, windows = 0, []
    for n, step in enumerate(steps):
        at_us += step
        windows += builder.add(Frame(n, at_us, at_us, _PICTURE), 4, 4)
    windows += builder.flush()
    assert [frame.index for window in windows for frame in window.frames] == list(range(len(steps)))
    assert [window.sequence for window in windows] == list(range(len(windows)))
    for window in windows:
        assert len(window.frames) <= 8
        assert window.frames[-1].pts_us - window.frames[0].pts_us < 1_000_000


def test_groups_and_classes() -> None:
    assert expand(["person", "vehicle"]) == {"person", "vehicle", "car", "motorcycle", "bus", "truck"}
    assert expand(["bicycle"]) == {"bicycle"}
    assert [group_of(name) for name in ("person", "truck", "bicycle", "dog")] == ["person", "vehicle", None, None]


def test_the_same_happening_has_the_same_id_and_another_has_another() -> None:
    told = ("gate", 1, 17, "street", "gate/1/4", "io.passerby.line.crossed.v1")
    assert event_id(*told) == event_id(*told)
    assert len(event_id(*told)) == 32
    others = [
        event_id(*[value if n != changed else type(value)(f"{value}9") for n, value in enumerate(told)])
        for changed in range(6)
    ]
    assert len({event_id(*told), *others}) == 7
    assert event_id("a", 1, 1, "b", "c", "d") != event_id("a", 1, 1, "b\x1fc", "", "d")


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_767_254_400_125_000) == "2026-01-01T08:00:00.125000Z"
