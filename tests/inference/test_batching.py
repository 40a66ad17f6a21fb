"""Batches over cameras: what leaves together, when, and who fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.batching import Batcher
from pipeline.inference.detector import Detector
from pipeline.inference.preprocess import InputFit, fit
from tests.inference.networks import convolving_model, manifest_for

SHAPES = {"shapes": [{"width": 128, "height": 64}, {"width": 64, "height": 64}]}
WIDE, SQUARE = (1280, 640), (640, 640)


class Recorder:
    """Stands in for a detector: records its batches, waits at a gate, answers with the first pixel as score."""

    buckets = (1, 2, 4)

    def __init__(self) -> None:
        self.manifest = manifest_for(b"x", input=SHAPES)
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def fit(self, width: int, height: int) -> InputFit:
        return fit(self.manifest, width, height)

    def detect(self, pictures: Sequence[Picture], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        assert len(set(sizes)) == 1
        marks = [int(picture[0, 0, 0]) for picture in pictures]
        self.batches.append(marks)
        self.entered.release()
        assert self.gate.wait(10)
        if 255 in marks:
            raise ModelError("the network failed")
        return [_answer(mark) for mark in marks]

    def picture(self, mark: int, size: tuple[int, int] = WIDE) -> Picture:
        placed = self.fit(*size)
        return np.full((placed.height, placed.width, 3), mark, np.uint8)

    def submit(self, batcher: Batcher, mark: int, size: tuple[int, int] = WIDE) -> Future[Detections]:
        return batcher.submit(self.picture(mark, size), *size)


def _answer(mark: int) -> Detections:
    boxes = np.zeros((1, 4), np.float32)
    return Detections(boxes, np.array([mark / 255], np.float32), np.zeros(1, np.int64), ("person",))


def batcher(detector: Any, **settings: Any) -> Batcher:
    return Batcher(detector, **{"workers": 1} | settings)


def test_every_picture_gets_its_own_answer() -> None:
    recorder = Recorder()
    with batcher(recorder, workers=3, wait_s=0.001) as under_test:
        marks = list(range(60))
        futures = [recorder.submit(under_test, mark, (WIDE, SQUARE)[mark % 2]) for mark in marks]
        for mark, future in zip(marks, futures, strict=True):
            assert future.result(10).scores[0] == np.float32(mark / 255)
    stats = under_test.stats
    assert stats.pictures == 60
    assert sum(stats.batches.values()) == len(recorder.batches)
    assert max(stats.batches) <= 4


def test_a_full_batch_leaves_without_waiting() -> None:
    recorder = Recorder()
    with batcher(recorder, wait_s=60) as under_test:
        futures = [recorder.submit(under_test, mark) for mark in range(4)]
        for future in futures:
            future.result(10)
        assert recorder.batches == [[0, 1, 2, 3]]


def test_a_lonely_picture_waits_no_longer_than_the_limit() -> None:
    recorder = Recorder()
    with batcher(recorder, wait_s=0.05) as under_test:
        started = time.monotonic()
        recorder.submit(under_test, 7).result(10)
        waited = time.monotonic() - started
    assert 0.045 < waited < 1.0
    assert recorder.batches == [[7]]


def test_pictures_that_come_while_the_network_works_leave_together() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with batcher(recorder, wait_s=0.0) as under_test:
        first = recorder.submit(under_test, 0)
        assert recorder.entered.acquire(timeout=10)
        futures = [recorder.submit(under_test, mark) for mark in range(1, 7)]
        recorder.gate.set()
        for future in [first, *futures]:
            future.result(10)
    assert recorder.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_batches_are_formed_per_shape_and_the_oldest_goes_first() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with batcher(recorder, wait_s=0.0) as under_test:
        first = recorder.submit(under_test, 0, SQUARE)
        assert recorder.entered.acquire(timeout=10)
        futures = [recorder.submit(under_test, mark, WIDE if mark % 2 else SQUARE) for mark in range(1, 7)]
        recorder.gate.set()
        for future in [first, *futures]:
            future.result(10)
    assert recorder.batches == [[0], [1, 3, 5], [2, 4, 6]]


def test_with_batches_of_one_nothing_waits() -> None:
    recorder = Recorder()
    with batcher(recorder, buckets=(1,), wait_s=60) as under_test:
        for future in [recorder.submit(under_test, mark) for mark in range(5)]:
            future.result(10)
    assert recorder.batches == [[0], [1], [2], [3], [4]]


def test_workers_run_side_by_side() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with batcher(recorder, workers=3, buckets=(1,)) as under_test:
        futures = [recorder.submit(under_test, mark) for mark in range(3)]
        for _ in range(3):
            assert recorder.entered.acquire(timeout=10), "three pictures are in the network at once"
        recorder.gate.set()
        for future in futures:
            future.result(10)


def test_a_failed_batch_fails_its_pictures_and_no_other() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with batcher(recorder, wait_s=0.0) as under_test:
        first = recorder.submit(under_test, 0)
        assert recorder.entered.acquire(timeout=10)
        bad = [recorder.submit(under_test, 255, SQUARE), recorder.submit(under_test, 3, SQUARE)]
        good = recorder.submit(under_test, 4, WIDE)
        recorder.gate.set()
        assert first.result(10).scores[0] == 0
        for future in bad:
            with pytest.raises(ModelError, match="the network failed"):
                future.result(10)
        assert good.result(10).scores[0] == np.float32(4 / 255)
    assert under_test.stats.pictures == 4


def test_a_picture_of_another_size_fails_at_once_and_alone() -> None:
    recorder = Recorder()
    with batcher(recorder, wait_s=0.0) as under_test:
        with pytest.raises(ModelError, match="48x64x3 uint8 was sent where the model wants 64x128x3"):
            under_test.submit(np.zeros((48, 64, 3), np.uint8), *WIDE)
        assert len(recorder.submit(under_test, 1).result(10)) == 1


def test_a_cancelled_picture_is_not_run() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with batcher(recorder, wait_s=0.0) as under_test:
        first = recorder.submit(under_test, 0)
        assert recorder.entered.acquire(timeout=10)
        unwanted, wanted = recorder.submit(under_test, 1), recorder.submit(under_test, 2)
        assert unwanted.cancel()
        recorder.gate.set()
        first.result(10)
        wanted.result(10)
    assert recorder.batches == [[0], [2]]


def test_closing_finishes_what_was_submitted_and_refuses_more() -> None:
    recorder = Recorder()
    under_test = batcher(recorder, wait_s=60)
    future = recorder.submit(under_test, 9)
    under_test.close()
    under_test.close()
    assert future.done()
    assert future.result().scores[0] == np.float32(9 / 255)
    with pytest.raises(RuntimeError, match="closed"):
        recorder.submit(under_test, 1)


def test_the_wait_limit_is_told_by_the_clock_given() -> None:
    recorder = Recorder()
    now = [100.0]
    under_test = batcher(recorder, wait_s=5.0, clock=lambda: now[0])
    future = recorder.submit(under_test, 1)
    time.sleep(0.05)
    assert not future.done()
    now[0] = 105.0
    recorder.submit(under_test, 2, SQUARE)  # wakes the worker
    future.result(10)
    assert recorder.batches[0] == [1]
    now[0] = 106.0
    under_test.close()
    assert under_test.stats.waited_s == pytest.approx(5.0 + 1.0)


def test_at_least_one_worker() -> None:
    with pytest.raises(ValueError, match="at least one worker"):
        Batcher(Recorder(), workers=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_answers_are_byte_identical_whatever_the_number_of_workers(workers: int, tmp_path: Path) -> None:
    detector = Detector(convolving_model(tmp_path, [(128, 64), (64, 64)]))
    rng = np.random.default_rng(7)
    sizes = [(WIDE, SQUARE)[i % 2] for i in range(40)]
    fits = [detector.fit(*size) for size in sizes]
    pictures = [rng.integers(0, 256, (each.height, each.width, 3), np.uint8) for each in fits]
    with Batcher(detector, workers=workers) as under_test:
        futures = [under_test.submit(picture, *size) for picture, size in zip(pictures, sizes, strict=True)]
        got = [future.result(30) for future in futures]
    assert under_test.stats.batches == {1: 40}
    assert sum(len(each) for each in got) > 100
    for picture, size, found in zip(pictures, sizes, got, strict=True):
        (alone,) = detector.detect([picture], [size])
        assert found.boxes.tobytes() == alone.boxes.tobytes()
        assert found.scores.tobytes() == alone.scores.tobytes()
        assert found.class_ids.tobytes() == alone.class_ids.tobytes()
