"""Inference workers on the log model: cameras, windows of every kind, and a script that troubles the workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bus.base import Message
from pipeline.bus.topics import CameraDocument, Topics
from pipeline.config import CameraConfig, camera_from_document
from pipeline.core.detections import Detections
from pipeline.core.frame import Frame, FrameWindow, Picture, StreamStatus
from pipeline.core.rules import CameraRules
from pipeline.errors import BusUnavailable, Fenced, ModelError
from pipeline.metrics import InferMetrics
from pipeline.services.infer_session import InferSession, SessionSettings
from pipeline.services.plans import Plans
from tests.chaos.log_model import Killed, LogModel, ModelBus

CLASSES = ("person", "car")
BREAKS_THE_ANALYTICS, BREAKS_THE_NETWORK = 251, 252  # first pixel of a picture
Output = dict[tuple[str, str], list[tuple[tuple[tuple[str, bytes], ...], bytes | None]]]


class Inline(Executor):
    """Does it at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class PixelEngine:
    """Sees one person where the first pixel of the picture says: 8 px further down with each step."""

    detector: Any

    def __init__(self) -> None:
        self.detector = self

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        future: Future[Detections] = Future()
        n = int(picture[0, 0, 0])
        if n == BREAKS_THE_NETWORK:
            future.set_exception(ModelError("the network failed"))
        else:
            boxes = 1 if n != BREAKS_THE_ANALYTICS else 2  # more boxes than scores
            box = np.array([[300, 8 * n, 330, 8 * n + 60]] * boxes, np.float32)
            future.set_result(Detections(box, np.array([0.9], np.float32), np.array([0]), CLASSES))
        return future

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        provenance = {"model": "pixel", "model_version": "1", "model_sha256": "0" * 64, "config_sha256": "1" * 64}
        return camera.rules(), provenance


def document(line_y: float = 0.5, *, zone: bool = False) -> dict[str, Any]:
    """A camera's document."""
    told: dict[str, Any] = {
        "source": {"url": "rtsp://camera.example/stream"},
        "counts": {"window_s": 1.0},
        "lines": {"middle": {"points": [[0.0, line_y], [1.0, line_y]], "classes": ["person"]}},
    }
    if zone:
        told["zones"] = {"low": {"points": [[0.1, 0.5], [0.9, 0.5], [0.9, 1.0], [0.1, 1.0]], "dwell_s": 0.5}}
    return told


def window(
    camera_id: str,
    n: int,
    *,
    epoch: int = 1,
    revision: int = 0,
    writer: str = "i1",
    frames: int = 4,
    pixel: int = -1,
    sequence: int | None = None,
) -> FrameWindow:
    """The ``n``-th window of an epoch, 8 frames a second; somebody walks down the picture again and again.

    Its sequence is 10 n + 1, so that there is room for others between two; a marker's is 0.
    """
    sequence = 10 * n + 1 if sequence is None else sequence
    made = []
    for i in range(n * frames, (n + 1) * frames):
        picture = np.zeros((6, 8, 3), np.uint8)
        picture[0, 0, 0] = i % 44 if pixel < 0 else pixel
        at_us = i * 125_000
        made.append(Frame(i, at_us, epoch * 1_000_000_000 + at_us, picture))
    return FrameWindow(camera_id, epoch, sequence, tuple(made), 640, 360, 8.0, "wall", None, revision, writer)


def status(camera_id: str, n: int, state: Any, *, epoch: int = 1, revision: int = 0) -> FrameWindow:
    told = StreamStatus(state, "said the test", epoch * 1_000_000_000 + n * 500_000)
    return FrameWindow(camera_id, epoch, 10 * n + 5, (), 640, 360, 8.0, "wall", told, revision, "i1")


def marker(camera_id: str, epoch: int, *, revision: int = 0, writer: str = "i2") -> FrameWindow:
    return FrameWindow(camera_id, epoch, 0, (), 0, 0, 8.0, "wall", None, revision, writer)


@dataclass
class Worker:
    """A process: its session while it lives."""

    number: int
    session: InferSession | None = None
    consumer: Any = None


@dataclass
class World:
    """The log, its topics, and workers that can be troubled."""

    partitions: int = 2
    log: LogModel = field(init=False)
    topics: Topics = field(default_factory=lambda: Topics("t"))
    clock_s: float = 0.0
    workers: dict[int, Worker] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    make_engine: Callable[[], Any] = PixelEngine

    def __post_init__(self) -> None:
        self.log = LogModel(self.partitions)

    # -- what lies in the log

    def apply(self, camera_id: str, told: dict[str, Any] | None) -> int:
        """Put a camera's document into the log; its revision."""
        partition = self.log.partition_of(camera_id)
        message = self.topics.cameras.encode(camera_id, CameraDocument(camera_id, told))
        self.log.append(self.topics.cameras.name, message, partition)
        return len(self.log.entries(self.topics.cameras.name, partition)) - 1

    def feed(self, told: FrameWindow | Message) -> None:
        message = told if isinstance(told, Message) else self.topics.windows_as("raw").encode(told.camera_id, told)
        self.log.append(self.topics.windows.name, message, self.log.partition_of(message.key))

    def output(self) -> Output:
        """What a read_committed reader sees of counts, events and dead letters, in order a key."""
        self.log.deliver_markers()
        told: Output = {}
        for topic in (self.topics.counts, self.topics.events, self.topics.dead_letters):
            for partition in range(self.partitions):
                for _, message in self.log.visible(topic.name, partition):
                    told.setdefault((topic.name, message.key), []).append((message.headers, message.value))
        return told

    def states(self) -> dict[str, bytes]:
        """The newest value of each key of the state."""
        self.log.deliver_markers()
        found: dict[str, bytes | None] = {}
        for partition in range(self.partitions):
            for _, message in self.log.visible(self.topics.state.name, partition):
                found[message.key] = message.value
        return {key: value for key, value in found.items() if value is not None}

    # -- workers

    def start(self, number: int) -> None:
        """A process begins, or begins again: the group lets a static member take its own place."""
        worker = self.workers.setdefault(number, Worker(number))
        if worker.session is not None:
            return
        if worker.consumer is not None:
            self.log.leave(worker.consumer)
        bus = ModelBus(self.log)
        engine = self.make_engine()
        plans = Plans(
            bus.reader(self.topics.cameras),
            lambda camera_id, told: camera_from_document(camera_id, told, {}, Path(), secrets=False),
            lambda _: engine,
            now_s=lambda: self.clock_s,
        )
        settings = SessionSettings("g", f"w{number}", **{"commit_interval_s": 0.5, "max_in_flight": 4, **self.settings})
        try:
            worker.session = InferSession(
                bus, self.topics, plans, settings, InferMetrics(), unpack=Inline(), now_s=lambda: self.clock_s,
                sleep=self._sleep,
            )  # fmt: skip
        except Killed:
            worker.session = None
        worker.consumer = bus.made[-1] if bus.made else None

    def turn(self, number: int, seconds: float = 0.1) -> None:
        """One turn of a worker; what its service would do with its errors."""
        worker = self.workers.get(number)
        if worker is None or worker.session is None:
            return
        self.clock_s += seconds
        try:
            worker.session.turn()
        except Killed:
            worker.session = None
        except Fenced:
            worker.session.close()
            worker.session = None
            self.start(number)
        except BusUnavailable:
            pass

    def expire(self, number: int) -> None:
        """Its session times out: dead, or stalled for too long."""
        worker = self.workers.get(number)
        if worker is not None and worker.consumer is not None:
            self.log.leave(worker.consumer)

    def stop(self, number: int) -> None:
        """SIGTERM: finish, commit, leave."""
        worker = self.workers.get(number)
        if worker is None or worker.session is None:
            return
        try:
            worker.session.finish()
        except Killed:
            worker.session = None
            return
        except Fenced:
            pass
        worker.session.close()
        worker.session = None

    def work_dying(self, turns: int = 4) -> int:
        """Worker after worker is killed after ``turns`` turns, until the windows of partition 0 are done; how many."""
        for number in range(400):
            self.start(number)
            for _ in range(turns):
                self.turn(number)
            self.expire(number)  # kill -9: nothing is finished, nobody says goodbye
            self.workers[number].session = None
            if self.log.committed_offsets.get(0, 0) == len(self.log.entries(self.topics.windows.name, 0)):
                break
        return number + 1

    def settle(self) -> None:
        """No more trouble: everybody dead is seen to be dead, and one worker does the rest."""
        self.log.at = lambda step: None
        self.log.deliver_markers()
        for number in list(self.workers):
            self.stop(number)
            self.expire(number)
        self.start(99)
        for _ in range(3000):
            self.turn(99)
            session = self.workers[99].session
            assert session is not None
            done = all(
                self.log.committed_offsets.get(p, 0) == len(self.log.entries(self.topics.windows.name, p))
                for p in range(self.partitions)
            )
            if done and session.idle:
                return
        raise AssertionError("the windows were not all worked on")

    def _sleep(self, seconds: float) -> None:
        self.clock_s += seconds
        self.log.deliver_a_marker()
