"""The recorders: objects that services tell what happened.

All methods are thread-safe and cost microseconds; what lives elsewhere already (the ledger, the health of sources, the
spool, the lag) is read when Prometheus asks. Of a camera that left the worker no series stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.metrics.catalogue import Role
from pipeline.metrics.parts import ObservationLike, SourceHealth, SpoolState


class WorkerMetrics:
    """What every worker has. ``role``: ingest, infer or run."""

    def __init__(self, role: Role) -> None:
        raise NotImplementedError

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """The page for Prometheus: its content type and its bytes. ``accept``: the request's Accept header."""
        raise NotImplementedError

    def watch_worker(self, ready: Callable[[], bool], last_turn_s: Callable[[], float]) -> None:
        """Where readiness and the loop's last turn (seconds since 1970) are asked at a scrape; ``health`` calls it."""
        raise NotImplementedError

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record of ``topic`` (without prefix) was set aside. ``reason``: a class of reasons, never free text."""
        raise NotImplementedError

    def rebalanced(self, kind: str, partitions: int, held: int) -> None:
        """``partitions`` were assigned, revoked or lost (``catalogue.REBALANCES``); the worker now holds ``held``."""
        raise NotImplementedError

    def broker_reachable(self, reachable: bool) -> None:
        """The last attempt to reach a broker worked, or not."""
        raise NotImplementedError


class IngestMetrics(WorkerMetrics):
    """Of ``passerby ingest``. ``ledger``: its ``analysed`` is what the log has acknowledged (frames_sent_total)."""

    def __init__(self, ledger: FrameLedger) -> None:
        raise NotImplementedError

    def camera_came(self, camera_id: str, health: Callable[[], SourceHealth] | None = None) -> None:
        """The worker reads this camera from now on. ``health``: ``Stream.health``, asked at each scrape."""
        raise NotImplementedError

    def camera_left(self, camera_id: str) -> None:
        """The worker reads it no more: its series go."""
        raise NotImplementedError

    def status(self, camera_id: str, status: StreamStatus) -> None:
        """The source says that the camera came up, went down or ended."""
        raise NotImplementedError

    def decoded(self, seconds: float) -> None:
        """FFmpeg took this long for one frame."""
        raise NotImplementedError

    def encoded(self, seconds: float) -> None:
        """A window's pictures became bytes."""
        raise NotImplementedError

    def sent(self, window: FrameWindow, size_bytes: int, seconds: float) -> None:
        """The log acknowledged a window of ``size_bytes``, ``seconds`` after it was handed to the client."""
        raise NotImplementedError

    def follow_spool(self, state: Callable[[], SpoolState]) -> None:
        """Where the spool's state is asked at each scrape."""
        raise NotImplementedError


class InferMetrics(WorkerMetrics):
    """Of ``passerby infer``. Results are gathered, and told only when their transaction is committed."""

    def __init__(self) -> None:
        raise NotImplementedError

    def camera_came(self, camera_id: str, partition: int) -> None:
        """The worker analyses this camera from now on (at its restore, or its first window)."""
        raise NotImplementedError

    def camera_left(self, camera_id: str) -> None:
        """Its partition went to another worker: its series go, results not yet committed are forgotten."""
        raise NotImplementedError

    def model_loaded(self, model: str, version: str, sha256: str, provider: str) -> None:
        """A model is ready."""
        raise NotImplementedError

    def follow_lag(self, records: Callable[[], Mapping[int, int]]) -> None:
        """Where the windows not yet finished are asked at each scrape, by partition (``KafkaConsumer.lag``)."""
        raise NotImplementedError

    def polled(self, timestamp_ms: int) -> None:
        """A window came out of the log; ``timestamp_ms``: of its record."""
        raise NotImplementedError

    def unpacked(self, seconds: float) -> None:
        """A window's bytes became pictures."""
        raise NotImplementedError

    def batch(self, model: str, pictures: int, waited_s: float, network_s: float) -> None:
        """The network answered a batch; ``waited_s``: its oldest picture, for the batch to fill."""
        raise NotImplementedError

    def observed(self, window: FrameWindow, frame: Frame | None, observation: ObservationLike) -> None:
        """A frame (None: a change of status) was observed: a ``ResultSink``. Waits for its transaction."""
        raise NotImplementedError

    def analysed(self, window: FrameWindow, seconds: float, timestamp_ms: int) -> None:
        """A window went through the analytics in ``seconds``. Waits for its transaction."""
        raise NotImplementedError

    def void(self, window: FrameWindow) -> None:
        """A window of an older epoch was passed over. Waits for its transaction."""
        raise NotImplementedError

    def committed(self, seconds: float) -> None:
        """The transaction is committed, ``seconds`` after it began: what was gathered is told."""
        raise NotImplementedError

    def aborted(self, seconds: float) -> None:
        """The transaction was aborted: what was gathered is forgotten, it will come again."""
        raise NotImplementedError

    def fenced(self) -> None:
        """The worker is a zombie: what was gathered is forgotten."""
        raise NotImplementedError

    def restored(self, seconds: float) -> None:
        """The state of new partitions was read."""
        raise NotImplementedError


class RunMetrics(WorkerMetrics):
    """Of ``passerby run``: both sides in one process; a ``ResultSink`` that counts what is written."""

    def __init__(self, ledger: FrameLedger) -> None:
        raise NotImplementedError
