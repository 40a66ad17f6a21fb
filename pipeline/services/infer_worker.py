"""``passerby infer``: a worker that turns windows of the log into counts and events, exactly once.

1. the models of all cameras are loaded, before the group waits for us
2. sessions: join, restore, work, commit (infer_session); one that is fenced is followed by another
3. at the end (signal, ``--stop-after``, ``--until-idle``): finish what was polled, commit, leave

Without a broker it waits for one; nothing is lost meanwhile, since nothing is taken.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import Config, camera_environment, camera_from_document
from pipeline.errors import BusError, BusUnavailable, ConfigError, Fenced, ModelError, PasserbyError
from pipeline.inference.batching import Batcher
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel
from pipeline.metrics import InferMetrics
from pipeline.services.health import Health, serving
from pipeline.services.infer_session import InferSession, SessionSettings
from pipeline.services.plans import Models, Plans
from pipeline.services.quiet_time import QuietTime
from pipeline.services.signals import stopped_by_signals
from pipeline.services.worker_bus import WorkerBus

_log = logging.getLogger(__name__)
_AGAIN_FIRST_S, _AGAIN_LAST_S = 0.5, 10.0
_JOINING_S = 30.0  # how long --until-idle waits for a first assignment


@dataclass(frozen=True, slots=True)
class InferOptions:
    """How a worker runs beside its configuration.

    worker_id: overrides ``kafka.worker_id``. until_idle_s: end after so long without a window. stop_after_s: end after
    so long. metrics_port: None serves nothing. max_in_flight: windows between poll and commit; None: by the threads.
    """

    worker_id: str | None = None
    until_idle_s: float | None = None
    stop_after_s: float | None = None
    metrics_port: int | None = None
    max_in_flight: int | None = None


def infer(config: Config, options: InferOptions, bus: WorkerBus | None = None) -> None:
    """Work until asked to end. Raises PasserbyError for what no retry can mend. bus: instead of Kafka, for tests."""
    stop = threading.Event()
    worker_id = options.worker_id or config.kafka.worker_id or socket.gethostname()
    metrics, health = InferMetrics(), Health("broker", "models", "assignment")
    topics = Topics(config.kafka.prefix)
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signals(stop))
        stack.enter_context(serving(options.metrics_port, metrics, health))
        log = bus or stack.enter_context(KafkaBus(config.kafka, client_id=f"passerby-infer-{worker_id}"))
        models = stack.enter_context(_models(config, metrics))
        unpack = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="unpack"))
        plans, settings = _plans(config, log, topics, models), _session_settings(config, options, worker_id)

        def open_session() -> InferSession:
            return InferSession(log, topics, plans, settings, metrics, unpack=unpack)

        _Worker(options, plans, models, open_session, metrics, health, stop).run()


def _plans(config: Config, log: WorkerBus, topics: Topics, models: Models) -> Plans:
    environment, folder = camera_environment(config, os.environ), Path(config.file or ".").resolve().parent
    return Plans(
        log.reader(topics.cameras),
        lambda camera_id, document: camera_from_document(camera_id, document, environment, folder, secrets=False),
        models.engine,
    )


def _threads(config: Config) -> int:
    """Pictures the network works on at once."""
    return config.inference.threads or os.cpu_count() or 1


def _session_settings(config: Config, options: InferOptions, worker_id: str) -> SessionSettings:
    kafka = config.kafka
    return SessionSettings(
        kafka.infer_group_name, worker_id, kafka.commit_interval_s, kafka.session_timeout_s,
        kafka.transaction_timeout_s, options.max_in_flight or max(8, 2 * _threads(config)),
    )  # fmt: skip


def _models(config: Config, metrics: InferMetrics) -> Models:
    def make_batcher(detector: Detector) -> Batcher:
        name = detector.provenance.model

        def on_batch(pictures: int, waited_s: float, network_s: float) -> None:
            metrics.batch(name, pictures, waited_s, network_s)

        return Batcher(detector, workers=_threads(config), wait_s=config.inference.batch_wait_s, on_batch=on_batch)

    def on_loaded(model: Detector | SceneModel | Classifier) -> None:
        told = model.provenance
        metrics.model_loaded(told.model, told.model_version, told.model_sha256, model.provider)
        _log.info("model %s %s on %s", told.model, told.model_version, model.provider)

    return Models(
        config, make_batcher=make_batcher, on_loaded=on_loaded, on_clip=metrics.clip, on_judged=metrics.judged
    )


class _Worker:
    """The sessions of one process."""

    def __init__(
        self,
        options: InferOptions,
        plans: Plans,
        models: Models,
        open_session: Callable[[], InferSession],
        metrics: InferMetrics,
        health: Health,
        stop: threading.Event,
    ) -> None:
        self._options = options
        self._plans = plans
        self._models = models
        self._open_session = open_session
        self._metrics = metrics
        self._health = health
        self._stop = stop
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Session after session, until asked to end."""
        self._until_there(self._load, "reading the cameras")
        again_s = _AGAIN_FIRST_S
        while not self._is_over():
            began_s = time.monotonic()
            try:
                with self._open_session() as session:
                    self._work(session)
                return
            except Fenced as error:
                _log.warning("joining again: %s", error)
            except BusError as error:
                if not error.retriable:
                    raise
                self._health.missing("broker", str(error))
                _log.warning("trying again: %s", error)
            self._health.missing("assignment", "joining again")
            again_s = _AGAIN_FIRST_S if time.monotonic() - began_s > _AGAIN_LAST_S else min(2 * again_s, _AGAIN_LAST_S)
            self._stop.wait(again_s)

    def _load(self) -> None:
        """Read the cameras, load their models: before anybody waits for us. What cannot be loaded is told of there."""
        self._plans.read_all()
        for camera in self._plans.cameras():
            with suppress(ModelError, ConfigError):
                self._models.engine(camera).rules(camera)  # which loads its scene model and classifier, too
        self._health.ready("models")

    def _until_there(self, work: Callable[[], None], doing: str) -> None:
        told_s = 0.0
        while not self._is_over():
            self._health.turned()
            try:
                work()
                self._broker_is(True)
                return
            except BusUnavailable as error:
                self._broker_is(False, str(error))
                if time.monotonic() - told_s > _AGAIN_LAST_S:
                    told_s = time.monotonic()
                    _log.warning("%s: waiting for a broker: %s", doing, error)
                self._stop.wait(_AGAIN_FIRST_S)

    def _work(self, session: InferSession) -> None:
        joined_s = time.monotonic()
        quiet = QuietTime(joined_s)
        while not self._is_over() and not self._is_idle(session, quiet, joined_s):
            try:
                session.turn()
                self._broker_is(session.connected, "no broker answers")
            except BusUnavailable as error:
                _log.warning("waiting for a broker: %s", error)
                self._broker_is(False, str(error))
                self._stop.wait(_AGAIN_FIRST_S)
            self._health.turned()
            if session.assigned_s is not None or time.monotonic() - joined_s > _JOINING_S:
                self._health.ready("assignment")  # also for one that stands by: more workers than partitions
        try:
            session.finish()
        except PasserbyError as error:
            _log.warning("what was polled last is left to another worker: %s", error)

    def _broker_is(self, reachable: bool, reason: str = "") -> None:
        self._metrics.broker_reachable(reachable)
        if reachable:
            self._health.ready("broker")
        else:
            self._health.missing("broker", reason)

    def _is_over(self) -> bool:
        """Whether a signal or the time says that it is time to end."""
        if self._options.stop_after_s is not None and time.monotonic() - self._began_s >= self._options.stop_after_s:
            self._stop.set()
        return self._stop.is_set()

    def _is_idle(self, session: InferSession, quiet: QuietTime, joined_s: float) -> bool:
        """Whether the log was idle for as long as ``--until-idle`` says."""
        quiet.disturbed(max(session.assigned_s or joined_s + _JOINING_S, session.last_window_s or 0.0))
        quiet.heard(session.heard_s)
        until_s = self._options.until_idle_s
        return until_s is not None and session.idle and quiet.seconds >= until_s
