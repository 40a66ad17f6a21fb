"""The recorders: objects that services tell what happened.

All methods are thread-safe and cost microseconds; what lives elsewhere already (the ledger, the health of sources, the
spool, the lag) is read when Prometheus asks. Of a camera that left the worker no series stays.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import CameraRules
from pipeline.metrics.catalogue import DEAD_REASONS, OUTCOMES, READ_TOPICS, REBALANCES, STAGES_OF, Role
from pipeline.metrics.lag import Lag
from pipeline.metrics.parts import ObservationLike, SourceHealth, SpoolState
from pipeline.metrics.registry import MetricRegistry, Sample
from pipeline.metrics.sides import SILENT_STATES, ResultSide, SourceSide

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def _utc_us() -> int:
    return time.time_ns() // 1000


class WorkerMetrics:
    """What every worker has."""

    def __init__(self, role: Role) -> None:
        self.registry = MetricRegistry(role)
        stages = self.registry.histogram("passerby_stage_duration_seconds")
        self._stages = {stage: stages.labels(stage) for stage in STAGES_OF[role]}
        self.registry.gauge("passerby_build_info").labels(__version__, platform.python_version(), role).set(1)
        self.registry.read_at_scrape(lambda: [("passerby_worker_threads", (), threading.active_count())])

    def wsgi_app(self) -> WSGIApplication:
        """Serves the page that Prometheus reads."""
        return self.registry.wsgi_app()

    def watch_worker(self, ready: Callable[[], bool], last_turn_s: Callable[[], float]) -> None:
        """Where readiness and the loop's last turn (seconds since 1970) are asked at a scrape; ``health`` calls it."""

        def read() -> Iterator[Sample]:
            yield "passerby_worker_ready", (), ready()
            yield "passerby_worker_last_turn_timestamp_seconds", (), last_turn_s()

        self.registry.read_at_scrape(read)


class ClusterMetrics(WorkerMetrics):
    """What every worker on Kafka has."""

    def __init__(self, role: Role) -> None:
        super().__init__(role)
        self._dead_letters = self.registry.counter("passerby_dead_letters_total")
        for topic in READ_TOPICS[role]:
            for reason in DEAD_REASONS:
                self._dead_letters.labels(topic, reason)
        self._rebalances = self.registry.counter("passerby_rebalances_total")
        for kind in REBALANCES:
            self._rebalances.labels(kind)

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record of ``topic`` (without prefix) was set aside. ``reason``: one of ``catalogue.DEAD_REASONS``."""
        self._dead_letters.labels(topic, reason if reason in DEAD_REASONS else "other").inc()

    def rebalanced(self, kind: str, partitions: int, held: int) -> None:
        """``partitions`` were assigned, revoked or lost (``catalogue.REBALANCES``); the worker now holds ``held``."""
        self._rebalances.labels(kind).inc(partitions)
        self.registry.gauge("passerby_partitions_assigned").set(held)

    def broker_reachable(self, reachable: bool) -> None:
        """The last attempt to reach a broker worked, or not."""
        self.registry.gauge("passerby_broker_reachable").set(reachable)


class IngestMetrics(ClusterMetrics):
    """Of ``passerby ingest``. ``ledger``: its ``analysed`` is what the log has acknowledged (frames_sent_total)."""

    def __init__(self, ledger: FrameLedger, utc_us: Callable[[], int] = _utc_us) -> None:
        super().__init__("ingest")
        self._sources = SourceSide(self.registry, ledger, "passerby_frames_sent_total", utc_us)
        self._windows = self.registry.counter("passerby_windows_sent_total")
        self._bytes = self.registry.counter("passerby_windows_sent_bytes_total")

    def camera_came(self, camera_id: str, health: Callable[[], SourceHealth] | None = None) -> None:
        """The worker reads this camera from now on. ``health``: ``Stream.health``, asked at each scrape."""
        self._sources.came(camera_id, health)
        with self._sources.present(camera_id):
            self._windows.labels(camera_id)
            self._bytes.labels(camera_id)

    def camera_left(self, camera_id: str) -> None:
        """The worker reads it no more: its series go."""
        self._sources.left(camera_id)

    def status(self, camera_id: str, status: StreamStatus) -> None:
        """The source says that the camera came up, went down or ended."""
        self._sources.state(camera_id, status.state)

    def decoded(self, seconds: float) -> None:
        """FFmpeg took this long for one frame."""
        self._stages["decode"].observe(seconds)

    def encoded(self, seconds: float) -> None:
        """A window's pictures became bytes."""
        self._stages["encode"].observe(seconds)

    def sent(self, camera_id: str, size_bytes: int, seconds: float) -> None:
        """The log acknowledged a window of ``size_bytes``, ``seconds`` after it was handed to the client."""
        self._stages["send"].observe(seconds)
        with self._sources.present(camera_id) as present:
            if present:
                self._windows.labels(camera_id).inc()
                self._bytes.labels(camera_id).inc(size_bytes)

    def follow_spool(self, state: Callable[[], SpoolState]) -> None:
        """Where the spool's state is asked at each scrape."""

        def read() -> Iterator[Sample]:
            now = state()
            yield "passerby_spool_size_bytes", (), now.size_bytes
            yield "passerby_spool_capacity_bytes", (), now.capacity_bytes
            yield "passerby_spool_windows", (), now.windows
            yield "passerby_spool_oldest_age_seconds", (), now.oldest_age_s
            yield "passerby_spool_dropped_windows_total", (), now.dropped

        self.registry.read_at_scrape(read)


class _Analysing(WorkerMetrics):
    """What a worker with a network has."""

    def _begin_analysing(self, utc_us: Callable[[], int]) -> None:
        """``utc_us``: UTC in microseconds since 1970."""
        self._utc_us = utc_us
        self._batch_size = self.registry.histogram("passerby_inference_batch_size")
        self._results = ResultSide(self.registry, utc_us, tells_frames=self.registry.role == "infer")

    def model_loaded(self, model: str, version: str, sha256: str, provider: str) -> None:
        """A model is ready."""
        self.registry.gauge("passerby_model_info").labels(model, version, sha256, provider).set(1)
        self._batch_size.labels(model)

    def batch(self, model: str, pictures: int, waited_s: float, network_s: float) -> None:
        """The network answered a batch; ``waited_s``: its oldest picture, for the batch to fill."""
        self._batch_size.labels(model).observe(pictures)
        self._stages["batch_wait"].observe(waited_s)
        self._stages["inference"].observe(network_s)

    def clip(self, model: str, pictures: int, seconds: float) -> None:
        """A scene model looked at a clip, of which so many pictures had to be encoded."""
        self._batch_size.labels(model).observe(pictures)
        self._stages["scene"].observe(seconds)

    def judged(self, seconds: float) -> None:
        """A classifier judged a picture."""
        self._stages["label"].observe(seconds)


class InferMetrics(ClusterMetrics, _Analysing):
    """Of ``passerby infer``. Results are gathered, and told only when their transaction is committed."""

    def __init__(self, utc_us: Callable[[], int] = _utc_us) -> None:
        super().__init__("infer")
        self._begin_analysing(utc_us)
        self._lag = Lag(lambda: utc_us() / 1000)
        self.registry.read_at_scrape(self._lag.read)
        self._transactions = self.registry.counter("passerby_transactions_total")
        for outcome in OUTCOMES:
            self._transactions.labels(outcome)

    def camera_came(self, rules: CameraRules, partition: int) -> None:
        """The worker analyses this camera from now on (at its restore, or its first window); again when its rules
        change."""
        self._results.came(rules)
        self._lag.came(rules.camera_id, partition)

    def camera_left(self, camera_id: str) -> None:
        """Its partition went to another worker: its series go, results not yet committed are forgotten."""
        self._results.left(camera_id)
        self._lag.left(camera_id)

    def follow_lag(self, records: Callable[[], Mapping[int, int]]) -> None:
        """Where the windows not yet polled are asked at each scrape, by partition (``KafkaConsumer.lag``)."""
        self._lag.follow(records)

    def polled(self, camera_id: str, timestamp_ms: int) -> None:
        """A window came out of the log; ``timestamp_ms``: of its record."""
        self._stages["wire"].observe(max(0.0, self._utc_us() / 1e6 - timestamp_ms / 1000))
        self._lag.polled(camera_id, timestamp_ms)

    def unpacked(self, seconds: float) -> None:
        """A window's bytes became pictures."""
        self._stages["unpack"].observe(seconds)

    def observed(self, window: FrameWindow, frame: Frame | None, observation: ObservationLike) -> None:
        """A frame (None: a change of status) was observed: a ``ResultSink``. Waits for its transaction."""
        self._results.observed(window, frame, observation)

    def analysed(self, window: FrameWindow, seconds: float, timestamp_ms: int) -> None:
        """A window went through the analytics in ``seconds``. Waits for its transaction."""
        self._stages["analytics"].observe(seconds)
        self._results.analysed(window)
        delivering = window.status is None or window.status.state not in SILENT_STATES
        self._lag.finished(window.camera_id, timestamp_ms, delivering=delivering)

    def void(self, window: FrameWindow) -> None:
        """A window of an older epoch was passed over. Waits for its transaction."""
        self._results.void(window)

    def committed(self, seconds: float) -> None:
        """The transaction is committed, ``seconds`` after it began: what was gathered is told."""
        self._transactions.labels("committed").inc()
        self._stages["commit"].observe(seconds)
        self._results.publish()

    def aborted(self, seconds: float) -> None:
        """The transaction was aborted: what was gathered is forgotten, it will come again."""
        self._transactions.labels("aborted").inc()
        self._stages["commit"].observe(seconds)
        self._results.forget_gathered()

    def fenced(self) -> None:
        """The worker is a zombie: what was gathered is forgotten."""
        self._transactions.labels("fenced").inc()
        self._results.forget_gathered()

    def restored(self, seconds: float) -> None:
        """The state of new partitions was read."""
        self.registry.histogram("passerby_restore_duration_seconds").observe(seconds)


class RunMetrics(_Analysing):
    """Of ``passerby run``: both sides in one process. A ``ResultSink``, to be called when a result is written."""

    def __init__(self, ledger: FrameLedger, utc_us: Callable[[], int] = _utc_us) -> None:
        super().__init__("run")
        self._begin_analysing(utc_us)
        self._ledger = ledger
        self._newest_us: dict[str, int] = {}  # capture of the newest analysed frame, of live cameras
        self._sources = SourceSide(self.registry, ledger, "passerby_frames_analysed_total", utc_us)
        self.registry.read_at_scrape(self._read_lag)

    def camera_came(self, rules: CameraRules, health: Callable[[], SourceHealth] | None = None) -> None:
        """The run has this camera. ``health``: ``Stream.health``, asked at each scrape."""
        self._sources.came(rules.camera_id, health)
        self._results.came(rules)

    def decoded(self, seconds: float) -> None:
        """FFmpeg took this long for one frame."""
        self._stages["decode"].observe(seconds)

    def observed(self, window: FrameWindow, frame: Frame | None, observation: ObservationLike) -> None:
        """A frame (None: a change of status, or the end) was observed and its events are written."""
        self._results.observed(window, frame, observation)
        if frame is not None:
            self._sources.state(window.camera_id, "up")
            if window.time_source != "pts":
                self._newest_us[window.camera_id] = frame.captured_at_us
        elif window.status is not None:
            self._sources.state(window.camera_id, window.status.state)
        self._results.publish()

    def analysed(self, window: FrameWindow, seconds: float, timestamp_ms: int = -1) -> None:
        """A window went through the analytics in ``seconds``, and its results are written."""
        del window, timestamp_ms
        self._stages["analytics"].observe(seconds)

    def void(self, window: FrameWindow) -> None:
        """A window of an older epoch was passed over."""
        self._results.void(window)
        self._results.publish()

    def _read_lag(self) -> Iterator[Sample]:
        lines, now_us = self._ledger.lines(), self._utc_us()
        for camera_id in self._sources.cameras():
            newest_us, line = self._newest_us.get(camera_id), lines.get(camera_id)
            waits = newest_us is not None and line is not None and line.in_flight > 0
            behind_s = max(0, now_us - newest_us) / 1e6 if waits and newest_us is not None else 0.0
            yield "passerby_lag_seconds", (camera_id,), behind_s
