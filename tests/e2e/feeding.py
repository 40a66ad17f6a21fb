"""Puts cameras and their windows into a log as ``apply`` and ``ingest`` do, in this process: for tests of readers."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import CameraDocument, Topics
from pipeline.config import Config, camera_document, load_config
from pipeline.core.frame import FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.services.ingest import CameraIngest, WindowSettings
from pipeline.services.streams import build_stream, model_manifest, stream_settings
from pipeline.sources.base import SystemClock


class _Kept:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.windows: list[FrameWindow] = []

    def send(self, key: str, value: FrameWindow) -> None:
        self.windows.append(value)

    def try_send(self, key: str, value: FrameWindow) -> bool:
        self.send(key, value)
        return True

    def close(self) -> None:
        pass


def windows_of(config: Config, camera_id: str) -> list[FrameWindow]:
    """Every window of a camera that is a file."""
    camera, kept = config.cameras[camera_id], _Kept()
    stream = build_stream(
        stream_settings(camera, "none"), model_manifest(camera.model), ledger=FrameLedger(), clock=SystemClock(),
        stop=threading.Event(),
    )  # fmt: skip
    settings = WindowSettings(camera.sample_fps, camera.windows.window_frames, camera.windows.window_s)
    ingest = CameraIngest(camera_id, lambda: stream, kept, settings, FrameLedger())
    ingest.start()
    assert ingest.join(280), "the street is not drawn yet"
    assert ingest.failure is None, ingest.failure
    return kept.windows


def next_epoch(windows: Iterable[FrameWindow], epoch: int, later_us: int, writer: str = "") -> list[FrameWindow]:
    """The same pictures filmed again ``later_us`` later, as a reader that took over sends them: a marker, then they."""
    marker: list[FrameWindow] = []
    shifted = []
    for window in windows:
        if not marker:
            marker = [FrameWindow(window.camera_id, epoch, 0, (), 0, 0, 0.0, "wall", writer=writer)]
        frames = tuple(replace(frame, captured_at_us=frame.captured_at_us + later_us) for frame in window.frames)
        status = window.status and replace(window.status, at_us=window.status.at_us + later_us)
        shifted.append(
            replace(window, epoch=epoch, sequence=window.sequence + 1, frames=frames, status=status, writer=writer)
        )
    return marker + shifted


def apply_cameras(bus: KafkaBus, topics: Topics, config: Config) -> None:
    """Put the documents of all cameras into the log."""
    producer = bus.producer(topics.cameras)
    for camera_id in config.cameras:
        producer.send(camera_id, CameraDocument(camera_id, camera_document(config, camera_id)))
    producer.flush(30)
    producer.close()


def send(bus: KafkaBus, topics: Topics, windows: Iterable[FrameWindow]) -> None:
    """Append windows, JPEG in quality 85."""
    producer = bus.producer(topics.windows)
    for window in windows:
        producer.send(window.camera_id, window)
    producer.flush(30)
    producer.close()


def configured(path: Path) -> Config:
    """The file's cameras and kafka section."""
    return load_config(path)
