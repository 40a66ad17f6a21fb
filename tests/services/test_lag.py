"""Lag: seconds of video that wait, from the headers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.cli.lag import _as_json, _only, table
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.services.lag import measure, worst_s
from tests.services.logged import TOPICS
from tests.services.memory_log import MemoryLog

GROUP = "passerby.infer"
BASE_US = 1_767_254_400_000_000
PICTURE = np.zeros((8, 8, 3), np.uint8)


def _window(camera_id: str, second: int, epoch: int = 1) -> FrameWindow:
    """A window of eight frames that begin with a second; 0.875 s from the first to the last."""
    frames = tuple(Frame(n, n, BASE_US + second * 1_000_000 + n * 125_000, PICTURE) for n in range(8))
    return FrameWindow(camera_id, epoch, second, frames, 8, 8, 8.0, "wall")


def _log(seconds: int, cameras: tuple[str, ...] = ("gate", "yard")) -> MemoryLog:
    log = MemoryLog()
    for second in range(seconds):
        for camera_id in cameras:
            log.send(TOPICS.windows, camera_id, _window(camera_id, second), 5_000_000 + second * 1000)
    return log


def _clock() -> float:
    return 5_100.0


def test_behind_is_the_video_from_the_first_frame_that_waits_to_the_newest() -> None:
    log = _log(10)
    log.offsets[GROUP] = {0: 12}  # 6 of each are done
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    assert (lag.partition, lag.committed, lag.end, lag.records_behind) == (0, 12, 20, 8)
    assert {camera.camera_id: camera.behind_s for camera in lag.cameras} == {"gate": 3.875, "yard": 3.875}
    assert not any(camera.at_least for camera in lag.cameras)
    assert lag.cameras[0].silent_s == pytest.approx(91.0)
    assert lag.cameras[0].newest_us == BASE_US + 9_875_000
    assert worst_s([lag]) == lag.behind_s == 3.875


def test_who_committed_everything_is_not_behind_and_who_never_did_is_behind_all() -> None:
    log = _log(4)
    assert worst_s(measure(log, TOPICS, GROUP, clock=_clock)) == 3.875
    log.offsets[GROUP] = {0: 8}
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    assert (lag.records_behind, lag.behind_s) == (0, 0.0)
    assert [camera.camera_id for camera in lag.cameras] == ["gate", "yard"]


def test_cameras_of_a_partition_are_apart() -> None:
    log = _log(3)
    log.send(TOPICS.windows, "gate", _window("gate", 30))
    log.offsets[GROUP] = {0: 6}
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    assert {camera.camera_id: camera.behind_s for camera in lag.cameras} == {"gate": 0.875, "yard": 0.0}


def test_a_committed_offset_that_is_deleted_counts_from_the_oldest_there_is() -> None:
    log = _log(10, ("gate",))
    log.offsets[GROUP] = {0: 2}
    log.delete_before(TOPICS.windows.name, 0, 5)
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    assert (lag.records_behind, lag.behind_s) == (5, 4.875)


def test_far_behind_reads_the_ends_and_says_when_it_is_more() -> None:
    log = _log(200, ("gate",))
    log.send(TOPICS.windows, "late", _window("late", 500))
    log.offsets[GROUP] = {0: 0}
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    gate, late = lag.cameras
    assert (gate.behind_s, gate.at_least) == (199.875, False)
    assert (late.behind_s, late.at_least) == (0.875, False), "all of it was read to find it"
    log.reads.clear()
    many = _log(3000, ("gate",))
    (lag,) = measure(many, TOPICS, GROUP, clock=_clock)
    assert lag.behind_s == 2999.875
    assert sum(to - begin for _, _, begin, to in many.reads) <= 2048


def test_markers_status_and_rubbish_do_not_confuse() -> None:
    from pipeline.bus.base import Message

    log = _log(2, ("gate",))
    log.append(TOPICS.windows.name, Message("gate", b"rubbish"))
    log.send(TOPICS.windows, "gate", FrameWindow("gate", 2, 0, (), 0, 0, 0.0, "wall"))
    down = StreamStatus("down", "no answer", BASE_US + 9_000_000)
    log.send(TOPICS.windows, "gate", replace(_window("gate", 0), frames=(), status=down))
    log.offsets[GROUP] = {0: 1}
    (lag,) = measure(log, TOPICS, GROUP, clock=_clock)
    assert (lag.records_behind, lag.behind_s) == (4, 8.0)


def test_the_log_of_many_partitions_is_told_by_partition() -> None:
    log = MemoryLog(partitions=3)
    for camera_id in ("abc", "abcd", "abcde"):
        log.send(TOPICS.windows, camera_id, _window(camera_id, 0))
    log.offsets[GROUP] = {1: 1}
    lags = measure(log, TOPICS, GROUP, clock=_clock)
    assert [(lag.partition, lag.committed, lag.behind_s) for lag in lags] == [
        (0, None, 0.875), (1, 1, 0.0), (2, None, 0.875),
    ]  # fmt: skip
    (only,) = _only(lags, frozenset({"abcd"}))
    assert only.cameras[0].camera_id == "abcd"
    told = _as_json(only)
    assert json.loads(json.dumps(told))["cameras"][0]["newest"] == "2026-01-01T08:00:00.875000Z"


def test_the_table_names_the_camera_most_behind_first_and_fits_80_columns() -> None:
    from rich.console import Console

    log = _log(3)
    log.send(TOPICS.windows, "yard", _window("yard", 30))
    console = Console(width=80, record=True, force_terminal=False, quiet=False)
    with console.capture() as captured:
        console.print(table(measure(log, TOPICS, GROUP, clock=_clock)))
    lines = captured.get().splitlines()
    assert lines[0].split() == ["camera", "behind", "newest", "frame", "(UTC)", "sent", "partition", "waiting"]
    assert lines[1].startswith("yard")
    assert "30.9 s" in lines[1]
    assert "…" not in captured.get()
