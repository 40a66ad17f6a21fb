"""A street filmed twice, as windows in a log, and what inference published of it: for replay, evidence and lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.analytics.camera import Observation
from pipeline.bus.codec import decode_window
from pipeline.bus.memory import MemoryTopic
from pipeline.bus.topics import CameraDocument, Topics
from pipeline.config import Config, camera_document, load_config
from pipeline.core.events import Event
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.inference.batching import Batcher
from pipeline.services import wiring
from pipeline.services.infer import InferWorker
from pipeline.services.labels import Labeller
from tests.e2e.feeding import next_epoch, windows_of
from tests.services.memory_log import MemoryLog

CONFIG = """
kafka: {prefix: passerby}
sample_fps: 8
counts: {window_s: 4}
cameras:
  street:
    source: synthetic://street?seed=3&duration=12&width=640&height=360
    start: 2026-01-01T08:00:00Z
    lines:
      kerb: {points: [[0.0, 0.6], [1.0, 0.6]], wrong_way: left}
    zones:
      plaza: {points: [[0.05, 0.3], [0.95, 0.3], [0.95, 0.98], [0.05, 0.98]], dwell_s: 3, crowded_at: 2}
"""
TOPICS = Topics("passerby")
EPOCH_2_LATER_US = 60_000_000
SENT_MS = 1_767_254_400_000


@dataclass
class Logged:
    """log: everything. windows, events: what went in and what was published, in order."""

    config: Config
    log: MemoryLog
    windows: list[FrameWindow]
    events: list[Event]

    def offset_of_epoch(self, epoch: int) -> int:
        return next(n for n, window in enumerate(self.windows) if window.epoch == epoch)

    def of_type(self, type_: str) -> list[Event]:
        return [event for event in self.events if event.type == type_]


class _Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        self.events += observation.events


def logged(folder: Path) -> Logged:
    """Infer it as ``passerby run`` does, and lay everything into a log."""
    path = folder / "passerby.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    config = load_config(path)
    first = windows_of(config, "street")
    # A reader that was replaced, but goes on sending, lies between the two epochs.
    return laid(config, [*first, *next_epoch(first, 2, EPOCH_2_LATER_US, "second"), *first[3:5]])


def laid(config: Config, windows: list[FrameWindow]) -> Logged:
    """Windows of ``street`` in a log, and what one process makes of them."""
    log = MemoryLog()
    document = CameraDocument("street", camera_document(config, "street"))
    log.send(TOPICS.cameras, "street", document, SENT_MS)
    for number, window in enumerate(windows):
        log.send(TOPICS.windows, "street", window, SENT_MS + 1000 * number)
    events = infer(config, [decode_window(TOPICS.windows.encode("street", window).value or b"") for window in windows])
    for event in events:
        log.send(TOPICS.of_event(event), "street", event, SENT_MS + 1000 * (event.data["origin"]["offset"] + 1))
    log.offsets[config.kafka.infer_group_name] = {0: len(windows)}
    return Logged(config, log, windows, events)


def infer(config: Config, windows: Sequence[FrameWindow]) -> list[Event]:
    """What one process makes of the windows."""
    parts = wiring.build(config, preview="none")
    labellers = {name: Labeller(model) for name, model in parts.classifiers.items()}
    topic: MemoryTopic[FrameWindow] = MemoryTopic(TOPICS.windows.name, ["street"], capacity=len(windows))
    producer = topic.producer()
    for window in windows:
        producer.send("street", window)
    producer.close()
    sink, ledger = _Sink(), FrameLedger()
    ledger.captured("street", sum(len(window.frames) for window in windows))
    with Batcher(parts.first_detector, workers=2) as batcher:
        InferWorker(
            topic.consumer(), lambda _: batcher, lambda _: wiring.build_analytics(parts.cameras["street"]), sink,
            ledger, labels_of=lambda _: wiring.build_labels(parts.cameras["street"], labellers),
        ).run()  # fmt: skip
    return sink.events
