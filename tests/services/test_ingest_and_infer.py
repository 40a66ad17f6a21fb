"""Ingest and inference over the memory bus, with streams and detectors that do as the test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.bus.memory import MemoryTopic
from pipeline.core.detections import Detections
from pipeline.core.events import CAMERA_STATUS, COUNT_WINDOW, LINE_CROSSED
from pipeline.core.frame import Frame, FrameWindow, Picture, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import CameraRules, LineRule
from pipeline.errors import ModelError, SourceUnreadable
from pipeline.services.infer import InferWorker
from pipeline.services.ingest import CameraIngest, WindowSettings, through_encoding
from pipeline.sources.base import EpochStarted, SampledFrame, StatusChanged, StreamItem

_CLASSES = ("person", "car")
_PROVENANCE = {"model": "m", "model_version": "1", "model_sha256": "0" * 64, "config_sha256": "1" * 64}


def _picture(seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 255, (36, 64, 3), dtype=np.uint8)


def _walk(ledger: FrameLedger, camera_id: str, frames: int = 40, epoch: int = 1) -> Iterator[StreamItem]:
    """A stream of ``frames`` sampled frames at 8 a second; the red channel's first pixel carries the frame's number."""
    yield EpochStarted(epoch, "pts", 0)
    for n in range(frames):
        picture = _picture(n)
        picture[0, 0, 0] = n
        ledger.captured(camera_id)
        yield SampledFrame(epoch, Frame(n, n * 125_000, n * 125_000, picture), 640, 360)
    yield StatusChanged(epoch, StreamStatus("ended", "read to its end", frames * 125_000))


class _Walker:
    """Sees one person who walks down the picture, 8 px a frame, where the picture's first pixel says it is."""

    def __init__(self, workers: int = 1, fail_at: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._fail_at = fail_at

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        return self._pool.submit(self._detect, int(picture[0, 0, 0]))

    def _detect(self, n: int) -> Detections:
        if n == self._fail_at:
            raise ModelError("the network failed")
        box = np.array([[300, 8 * n, 330, 8 * n + 60]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), _CLASSES)


class _Kept:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None, Observation]] = []

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        self.seen.append((window.camera_id, None if frame is None else frame.index, observation))

    def events(self) -> list[dict[str, Any]]:
        return [event.structured() for _, _, observation in self.seen for event in observation.events]


def _analytics(camera_id: str) -> CameraAnalytics:
    rules = CameraRules(camera_id, lines=(LineRule("middle", ((0.0, 0.5), (1.0, 0.5)), ("person",)),))
    return CameraAnalytics(rules, provenance=_PROVENANCE)


def _run(cameras: list[str], workers: int = 1, frames: int = 40) -> tuple[_Kept, FrameLedger]:
    ledger, kept = FrameLedger(), _Kept()
    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", cameras)
    ingests = [
        CameraIngest(c, lambda c=c: _walk(ledger, c, frames), topic.producer(), WindowSettings(), ledger)  # type: ignore[misc]
        for c in cameras
    ]
    detector = _Walker(workers)
    worker = InferWorker(topic.consumer(), lambda _: detector, _analytics, kept, ledger)
    for ingest in ingests:
        ingest.start()
    worker.run()
    assert all(ingest.join(5) for ingest in ingests)
    assert [ingest.failure for ingest in ingests] == [None] * len(cameras)
    return kept, ledger


def test_a_walk_over_the_line_is_one_crossing_and_every_frame_is_accounted_for() -> None:
    kept, ledger = _run(["gate"])
    crossings = [event for event in kept.events() if event["type"] == LINE_CROSSED]
    assert [(c["data"]["line"], c["data"]["direction"]) for c in crossings] == [("middle", "right")]
    assert [index for _, index, _ in kept.seen if index is not None] == list(range(40))
    line = ledger.lines()["gate"]
    assert (line.captured, line.analysed, line.in_flight, line.balanced) == (40, 40, 0, True)
    counted = [e["data"]["lines"]["middle"]["person"]["right"] for e in kept.events() if e["type"] == COUNT_WINDOW]
    assert sum(counted) == 1


def test_results_of_a_camera_are_the_same_whatever_the_number_of_threads() -> None:
    told = []
    for workers in (1, 2, 4):
        kept, _ = _run(["a", "b", "c"], workers)
        events = kept.events()
        told.append({camera: [e for e in events if e["subject"] == camera] for camera in ("a", "b", "c")})
    assert told[0]["a"]
    assert told[0] == told[1] == told[2]


def test_windows_of_an_older_epoch_are_dropped_and_told() -> None:
    ledger, kept = FrameLedger(), _Kept()
    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"], capacity=100)
    with topic.producer() as producer:
        for epoch, sequence in ((1, 0), (2, 0), (1, 1), (2, 1)):
            frames = tuple(
                Frame(n, n * 125_000, epoch * 10**8 + sequence * 10**6 + n * 125_000, _picture()) for n in range(4)
            )
            ledger.captured("gate", 4)
            producer.send("gate", FrameWindow("gate", epoch, sequence, frames, 640, 360, 8.0, "wall"))
    InferWorker(topic.consumer(), lambda _: _Walker(), _analytics, kept, ledger).run()
    line = ledger.lines()["gate"]
    assert (line.analysed, line.dropped, line.in_flight) == (12, {"superseded_epoch": 4}, 0)


def test_a_window_that_was_sent_twice_counts_once() -> None:
    """A writer that got no answer sends again: n, n + 1, and then both once more."""
    ledger, kept = FrameLedger(), _Kept()
    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"], capacity=8)
    with topic.producer() as producer:
        for sequence in (0, 1, 0, 1, 2):
            frames = tuple(Frame(n, n * 125_000, sequence * 10**6 + n * 125_000, _picture()) for n in range(4))
            producer.send("gate", FrameWindow("gate", 1, sequence, frames, 640, 360, 8.0, "wall"))
        ended = StreamStatus("ended", "read to its end", 4 * 10**6)
        for _ in range(2):
            producer.send("gate", FrameWindow("gate", 1, 3, (), 0, 0, 8.0, "wall", ended))
    ledger.captured("gate", 20)
    InferWorker(topic.consumer(), lambda _: _Walker(), _analytics, kept, ledger).run()
    line = ledger.lines()["gate"]
    assert (line.analysed, line.dropped, line.in_flight) == (12, {"superseded_epoch": 8}, 0)
    assert [event["data"]["state"] for event in kept.events() if event["type"] == CAMERA_STATUS] == ["ended"]


def test_down_before_the_first_epoch_has_a_number_of_its_own() -> None:
    ledger = FrameLedger()

    def late() -> Iterator[StreamItem]:
        yield StatusChanged(1, StreamStatus("down", "refused", 0))
        yield from _walk(ledger, "gate")

    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"], capacity=100)
    ingest = CameraIngest("gate", late, topic.producer(), WindowSettings(), ledger)
    ingest.start()
    assert ingest.join(10)
    windows = [record.value for record in topic.consumer().poll(1.0, 100)]
    assert [window.sequence for window in windows] == list(range(len(windows)))


def test_a_failing_network_ends_the_work_with_its_error_and_loses_no_frame_silently() -> None:
    ledger, kept = FrameLedger(), _Kept()
    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"])
    ingest = CameraIngest("gate", lambda: _walk(ledger, "gate", 100), topic.producer(), WindowSettings(), ledger)
    worker = InferWorker(topic.consumer(), lambda _: _Walker(fail_at=20), _analytics, kept, ledger)
    ingest.start()
    with pytest.raises(ModelError, match="the network failed"):
        worker.run()
    worker.abandon()
    topic.close()
    assert ingest.join(5)
    for record in topic.drain():
        ledger.dropped("gate", len(record.value.frames), "failed")
    line = ledger.lines()["gate"]
    assert line.analysed == 16
    assert (line.balanced, line.in_flight) == (True, 0)


def test_a_stream_that_breaks_delivers_what_it_had_and_says_why() -> None:
    ledger, kept = FrameLedger(), _Kept()

    def breaking() -> Iterator[StreamItem]:
        for n, item in enumerate(_walk(ledger, "gate", 13)):
            if n == 12:
                raise SourceUnreadable("gate: broken off")
            yield item

    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"])
    ingest = CameraIngest("gate", breaking, topic.producer(), WindowSettings(), ledger)
    ingest.start()
    InferWorker(topic.consumer(), lambda _: _Walker(), _analytics, kept, ledger).run()
    assert ingest.join(5)
    assert isinstance(ingest.failure, SourceUnreadable)
    assert [index for _, index, _ in kept.seen if index is not None] == list(range(11))


def test_an_unexpected_error_in_a_source_is_a_failure_of_that_camera_only(caplog: pytest.LogCaptureFixture) -> None:
    ledger, kept = FrameLedger(), _Kept()

    def wrong() -> Iterator[StreamItem]:
        raise RuntimeError("a bug")
        yield

    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["bad", "good"])
    bad = CameraIngest("bad", wrong, topic.producer(), WindowSettings(), ledger)
    good = CameraIngest("good", lambda: _walk(ledger, "good", 10), topic.producer(), WindowSettings(), ledger)
    bad.start()
    good.start()
    InferWorker(topic.consumer(), lambda _: _Walker(), _analytics, kept, ledger).run()
    assert good.join(5)
    assert bad.join(5)
    assert "a bug" in str(bad.failure)
    assert good.failure is None
    assert ledger.lines()["good"].analysed == 10


def test_a_closed_bus_ends_ingest_without_a_failure_and_tells_what_was_not_sent() -> None:
    ledger = FrameLedger()
    topic: MemoryTopic[FrameWindow] = MemoryTopic("windows", ["gate"], capacity=1)
    ingest = CameraIngest("gate", lambda: _walk(ledger, "gate", 80), topic.producer(), WindowSettings(), ledger)
    ingest.start()
    while topic.waiting("gate") == 0:
        threading.Event().wait(0.005)
    topic.close()
    assert ingest.join(5)
    assert ingest.failure is None
    for record in topic.drain():
        ledger.dropped("gate", len(record.value.frames), "shutdown")
    line = ledger.lines()["gate"]
    assert line.in_flight == 0
    assert line.dropped["shutdown"] == line.captured


def test_jpeg_on_the_memory_bus_is_what_the_wire_would_give() -> None:
    window = FrameWindow("gate", 1, 0, (Frame(0, 0, 0, _picture(), _picture(1)),), 640, 360, 8.0, "pts")
    once = through_encoding(window, "jpeg", 85)
    assert not np.array_equal(once.frames[0].picture, window.frames[0].picture)
    assert np.array_equal(once.frames[0].picture, through_encoding(window, "jpeg", 85).frames[0].picture)
    assert once.frames[0].preview is window.frames[0].preview
    assert np.array_equal(through_encoding(window, "raw", 85).frames[0].picture, window.frames[0].picture)
