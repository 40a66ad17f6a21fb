"""``passerby ingest``: reads the cameras of its partitions and sends their windows to the log.

1. poll ``cameras``: partitions come and go, documents change; the fleet follows
2. each camera runs on a thread of its own: claim its epoch, read, fill windows, send (or spool)
3. every few seconds: note in ``state`` how far the log has each camera; once a recording is told whole: that
4. SIGTERM: stop reading, send what is left, note it, leave the group at once so that others take over

What it knew when it last ran lies beside the spool (``cameras.json``): its live cameras begin from there when no
broker answers.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.codec import WindowFacts
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.spool import Spool
from pipeline.bus.topics import CameraDocument, Topics
from pipeline.config import Config, camera_environment
from pipeline.core.ledger import FrameLedger, LedgerLine
from pipeline.errors import BusError, BusUnavailable
from pipeline.metrics import IngestMetrics
from pipeline.services.dead_documents import DeadDocuments
from pipeline.services.documents import CamerasView
from pipeline.services.epochs import Ask, EpochClaims
from pipeline.services.fleet import Fleet, FleetCamera, Plan, planned
from pipeline.services.fleet_progress import FleetProgress
from pipeline.services.health import Health, serve
from pipeline.services.ingest_log import IngestLog, ingest_states, windows_as_facts
from pipeline.services.ingest_notes import Notes
from pipeline.services.ingest_session import CameraSession, SessionParts, Tenure, account
from pipeline.services.sending import HELD_BACK, Sent, WindowSender
from pipeline.services.signals import stopped_by_signals
from pipeline.sources.base import SystemClock

_log = logging.getLogger(__name__)
_POLL_S = 0.2
_FLUSH_S = 5.0
_REST_S = 30.0
_FOREVER_S = 7 * 86_400.0
"""How long a window is tried: whether it is needed no more is ours to say, and giving up would break the order."""
CACHE = "cameras.json"


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How a worker runs beside its configuration. stop_after_s: wall seconds. metrics_port: None for none."""

    once: bool = False
    worker_id: str | None = None
    stop_after_s: float | None = None
    metrics_port: int | None = None
    session_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What came of it. failures: camera_id -> why its recording could not be read to its end (``once``)."""

    ledger: Mapping[str, LedgerLine]
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or 3 when some recordings failed."""
        return 3 if self.failures else 0


def ingest(config: Config, options: IngestOptions, env: Mapping[str, str] = os.environ) -> IngestResult:
    """Do the worker's job until it is stopped, or (``once``) every recording of the fleet is sent.

    Raises BusMisconfigured, BusDenied when the log cannot be used at all, UsageError for a port that is taken.
    """
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signals(stop))
        worker = IngestWorker(config, options, env, stack)
        try:
            failures = worker.run(stop)
        finally:
            worker.drain()
        lines = worker.ledger.lines()
        for camera_id, line in lines.items():
            _log.info("camera %s: %s", camera_id, account(line))
        return IngestResult(lines, failures)


class IngestWorker:
    """See the module. ``run``, the listener's methods and ``drain`` belong to one thread."""

    def __init__(self, config: Config, options: IngestOptions, env: Mapping[str, str], stack: ExitStack) -> None:
        self.ledger = FrameLedger()
        self._options = options
        kafka = config.kafka
        self._worker_id = options.worker_id or kafka.worker_id or socket.gethostname()
        self._boot = secrets.token_hex(3)
        self._sessions_made = 0
        self._env = camera_environment(config, env)
        self._folder = Path(config.file).resolve().parent if config.file else Path.cwd()
        self.metrics = IngestMetrics(self.ledger)
        self.health = Health("assignment")
        topics = Topics(kafka.prefix)
        folder = Path(kafka.spool.dir) / self._worker_id
        bus = stack.enter_context(KafkaBus(kafka, client_id=f"ingest-{self._worker_id}"))
        spool = stack.enter_context(
            Spool(
                folder, max_bytes=kafka.spool.max_bytes, min_free_bytes=kafka.spool.min_free_bytes,
                sync_s=kafka.spool.sync_s,
            )
        )  # fmt: skip
        self._cache = folder / CACHE
        self._tenures: dict[str, Tenure] = {}
        self._sender = WindowSender(
            spool, self.ledger, self.metrics, settle=self._settle, acknowledged=self._acknowledged
        )
        capacity_bytes = kafka.spool.max_bytes
        self.metrics.follow_spool(lambda: self._sender.spool_state(capacity_bytes))
        windows = bus.producer(topics.windows_raw, on_sent=self._sender.on_sent, delivery_timeout_s=_FOREVER_S)
        self._log = IngestLog(
            bus.reader(ingest_states(topics)),  # type: ignore[arg-type]
            bus.reader(windows_as_facts(topics)),  # type: ignore[arg-type]
            bus.producer(topics.state, block_s=10),
            self._sender.send_and_wait,
        )
        claims = EpochClaims(self._log)
        self._claims = claims
        clock = SystemClock()
        self._parts = SessionParts(claims, self._sender, self.ledger, self.metrics, clock)
        self._view = CamerasView(bus.reader(topics.cameras))
        self._progress = FleetProgress(bus.reader(topics.cameras), bus.reader(ingest_states(topics)))
        self._notes = Notes(self._sender, self._log.note)
        self.fleet = Fleet(self._plan, self._make)
        self._loading: set[int] = set()
        self._assigned: set[int] = set()
        self._ever_assigned = False
        self._began_s = self._rest_s = time.monotonic()
        self._begin_again: dict[str, tuple[float, float]] = {}  # camera -> (when, wait before the next)
        self._cached: list[FleetCamera] | None = read_cache(self._cache)
        if options.metrics_port is not None:
            stack.enter_context(serve(options.metrics_port, self.metrics, self.health))
        self._sender.start(windows)
        self._consumer = bus.consumer(
            topics.cameras, kafka.ingest_group_name, listener=self,
            session_timeout_s=options.session_timeout_s or kafka.session_timeout_s, rebalance_timeout_s=30,
        )  # fmt: skip
        self._dead = DeadDocuments(
            topics.dead_letters,
            lambda: bus.producer(topics.dead_letters, on_sent=self._dead.on_sent, compression="zstd"),
            lambda record: self._consumer.commit([record]),
            lambda: self.metrics.dead_letter("cameras", "malformed"),
        )

    # ------------------------------------------------------------------------------------------- the loop

    def run(self, stop: threading.Event) -> dict[str, str]:
        """Work until ``stop`` or the end of what was asked for; (``once``) camera_id -> why its recording failed."""
        look_s = 0.0
        while not stop.is_set():
            self.health.turned()
            for record in self._consumer.poll(_POLL_S, 64):
                self._changed(record)
            self.metrics.broker_reachable(self._consumer.connected and not self._sender.away)
            self._dead.tick()
            self._load()
            self._tick()
            now_s = time.monotonic()
            if self._options.stop_after_s is not None and now_s - self._began_s >= self._options.stop_after_s:
                break
            if self._options.once and self._ever_assigned and not self._loading and now_s >= look_s:
                look_s = now_s + 1.0
                failures = self._whole_fleet_sent()
                if failures is not None:
                    return failures
        return {}

    def drain(self) -> None:
        """Stop reading, send what is left, note it, and leave the group."""
        self._give_up(None, join_s=_FLUSH_S)
        self._consumer.close()
        self._sender.close()

    def _whole_fleet_sent(self) -> dict[str, str] | None:
        try:
            report = self._progress.look()
        except BusError as error:
            _log.debug("the fleet's progress is not known: %s", error)
            return None
        return report.failures if report.is_complete else None

    def _tick(self) -> None:
        """What has to be looked at now and then."""
        now_s = time.monotonic()
        if self._cached is not None and not self._ever_assigned and now_s - self._began_s > self._parts.grace_s:
            self._begin_from_cache()
        for camera_id, session in list(self.fleet.sessions.items()):
            assert isinstance(session, CameraSession)
            if not session.finished:
                continue
            if session.may_try_again:
                self._try_again(camera_id, session, now_s)
            else:
                self._notes.finished(session)
        self._notes.tick(list(self._tenures.values()))
        if now_s >= self._rest_s:
            self._rest_s = now_s + _REST_S
            self._claims.rest()
        for writer, tenure in list(self._tenures.items()):
            held = self.fleet.sessions.get(tenure.ask.camera_id)
            mine = isinstance(held, CameraSession) and held.tenure is tenure
            if not mine and not self._sender.is_sending(tenure.ask.camera_id) and not tenure.changed:
                del self._tenures[writer]

    def _try_again(self, camera_id: str, session: CameraSession, now_s: float) -> None:
        when_s, wait_s = self._begin_again.get(camera_id, (0.0, 5.0))
        if when_s == 0.0:
            _log.error("camera %s: %s; it begins anew in %g s", camera_id, session.failure, wait_s)
            self._begin_again[camera_id] = (now_s + wait_s, wait_s)
        elif now_s >= when_s:
            self._begin_again[camera_id] = (0.0, min(60.0, 2 * wait_s))
            self.fleet.restart(camera_id)

    # ------------------------------------------------------------------------------------------- partitions and cameras

    def assigned(self, partitions: Sequence[int]) -> None:
        """These came to us; their cameras are read from the topic before the next poll."""
        self._ever_assigned = True
        self._assigned.update(partitions)
        self._loading.update(partitions)
        self.metrics.rebalanced("assigned", len(partitions), len(self._assigned))
        self.health.ready("assignment")

    def revoked(self, partitions: Sequence[int]) -> None:
        """These go to another worker: stop their cameras, send what is left."""
        self._assigned.difference_update(partitions)
        self._dead.forget(partitions)
        self.metrics.rebalanced("revoked", len(partitions), len(self._assigned))
        self._give_up(set(partitions), join_s=_FLUSH_S)

    def lost(self, partitions: Sequence[int]) -> None:
        """These went to another worker already: what we still send of them is void."""
        _log.warning("partitions %s went to another worker while we were silent", list(partitions))
        self._assigned.difference_update(partitions)
        self._dead.forget(partitions)
        self.metrics.rebalanced("lost", len(partitions), len(self._assigned))
        self._loading.difference_update(partitions)
        self._left(self.fleet.release(set(partitions), join_s=0.5))

    def _give_up(self, partitions: set[int] | None, *, join_s: float) -> None:
        self._loading = set() if partitions is None else self._loading - partitions
        gone = self.fleet.release(partitions, join_s=join_s)
        if gone:
            self._sender.flush(_FLUSH_S, gone)
            self._notes.write([t for t in self._tenures.values() if t.ask.camera_id in gone])
            self._left(gone)

    def _left(self, camera_ids: set[str]) -> None:
        for camera_id in camera_ids:
            self.metrics.camera_left(camera_id)
            self._begin_again.pop(camera_id, None)
        if camera_ids:
            _log.info("gave up %s", ", ".join(sorted(camera_ids)))

    def _load(self) -> None:
        """Read the cameras of partitions that came."""
        if not self._loading:
            return
        try:
            self._view.refresh(sorted(self._loading))
        except BusError as error:
            self.health.missing("cameras", str(error))
            _log.debug("the cameras cannot be read yet: %s", error)
            return
        self.health.ready("cameras")
        self._cached = None
        stray = {s.camera.partition for s in self.fleet.sessions.values()} - self._assigned
        if stray:
            self._left(self.fleet.release(stray))
        for partition in sorted(self._loading):
            held = self._view.of(partition)
            changes = self.fleet.load(
                partition, [FleetCamera(h.camera_id, h.partition, h.revision, h.document) for h in held]
            )
            if changes:
                _log.info("partition %d: %s", partition, changes)
                self._left({*changes.removed} - {*self.fleet.sessions})
        self._loading.clear()
        self._keep_cache()

    def _changed(self, record: Record[CameraDocument | Malformed]) -> None:
        """One record of the topic: a camera was put, or removed."""
        value = record.value
        if isinstance(value, Malformed):
            _log.error(
                "the document of camera %s at offset %d cannot be read: %s", record.key, record.offset, value.reason
            )
            self._dead.found(record)
            return
        if record.partition in self._loading or record.partition not in self._assigned:
            return  # ``_load`` reads it
        changes = self.fleet.change(record.partition, record.offset, value)
        if changes:
            _log.info("cameras: %s", changes)
            self._left({*changes.removed} - {*self.fleet.sessions})
            self._keep_cache()

    def _plan(self, camera: FleetCamera) -> Plan:
        plan = planned(camera, self._env, self._folder)
        if plan.error is not None:
            _log.error("camera %s: %s", camera.camera_id, plan.error)
        return plan

    def _make(self, camera: FleetCamera, plan: Plan) -> CameraSession:
        self._sessions_made += 1
        writer = f"{self._worker_id}/{self._boot}-{self._sessions_made}"
        session = CameraSession(camera, plan, self._parts, writer, assigned=camera.partition in self._assigned)
        self._tenures[writer] = session.tenure
        return session

    # ------------------------------------------------------------------------------------------- without a broker

    def _begin_from_cache(self) -> None:
        cameras, self._cached = self._cached or [], None
        live = [camera for camera in cameras if not camera.recording]
        if live:
            _log.warning("no broker answers: %d live cameras begin as they were known last", len(live))
        for partition in {camera.partition for camera in live}:
            self.fleet.load(partition, [camera for camera in live if camera.partition == partition])

    def _keep_cache(self) -> None:
        write_cache(self._cache, [session.camera for session in self.fleet.sessions.values()])

    # ------------------------------------------------------------------------------------------- for the sender

    def _settle(self, message: Message) -> Message | None:
        """A message of the spool as it is to be sent; None: the camera is another worker's now."""
        headers = dict(message.headers)
        if HELD_BACK not in headers:
            return message
        partition = self._partition_of(message.key)
        if partition is None:
            return None
        writer = headers.get("writer", b"").decode(errors="replace")
        tenure = self._tenures.get(writer)
        if tenure is None:  # of a worker of this name that died
            tenure = self._tenures[writer] = Tenure(Ask(message.key, partition, writer))
        return tenure.settled(message, tenure.take(self._claims))

    def _partition_of(self, camera_id: str) -> int | None:
        """The partition of a camera that is ours; None: it is not. BusUnavailable: not known yet."""
        if not self._ever_assigned or self._loading:
            raise BusUnavailable("not known yet whose camera it is")
        session = self.fleet.sessions.get(camera_id)
        return session.camera.partition if session is not None else None

    def _acknowledged(self, window: WindowFacts, sent: Sent) -> None:
        tenure = self._tenures.get(window.writer)
        if tenure is not None:
            tenure.acknowledged(window, sent)


def read_cache(path: Path) -> list[FleetCamera] | None:
    """The cameras as they were known last; None when nothing (or nothing that can be read) is there."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return [
            FleetCamera(str(c["camera_id"]), int(c["partition"]), int(c["revision"]), dict(c["document"]))
            for c in told["cameras"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_cache(path: Path, cameras: Sequence[FleetCamera]) -> None:
    """Keep the cameras for a start without a broker. A disk that is full costs only that."""
    told = [
        {"camera_id": c.camera_id, "partition": c.partition, "revision": c.revision, "document": c.document}
        for c in cameras
    ]
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps({"version": 1, "cameras": told}), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        _log.warning("%s cannot be written: %s", path, error.strerror)
