"""One membership of an inference worker in its group: exactly-once from the windows to counts and events.

    1. poll, decode, detect, observe (stages); results are gathered, a partition at a time
    2. every ``commit_interval_s`` one transaction: events and counts, the state of the cameras that changed, the
       marker ``partition/<n>``, dead letters, and the offsets behind the windows they came from
    3. a partition that comes is restored first (restoring); one that goes is finished and committed; of one that is
       lost, everything is dropped
    4. an aborted transaction: drop everything, restore, go on; fenced: whoever called opens a new session

What is gathered but not committed can be dropped at any time: the windows come again, and give the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from pipeline.analytics.camera import Observation
from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.codec import decode_window
from pipeline.bus.topics import CameraState, PartitionState, Topics
from pipeline.core.frame import Frame, FrameWindow
from pipeline.errors import BusError, Fenced, OffsetGone, RecordMalformed, RecordTooLarge, TransactionAborted
from pipeline.metrics import InferMetrics
from pipeline.services.gathering import Gathered, Gathering
from pipeline.services.plans import Plan, Plans
from pipeline.services.refusals import Refusals
from pipeline.services.restoring import RestoredPartition, Restorer
from pipeline.services.stages import (
    CameraInUse,
    CameraPlan,
    InferStages,
    ObservationFailed,
    detect_again,
)
from pipeline.services.worker_bus import OpenTransaction, Raw, Transactions, WindowsConsumer, WorkerBus

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_SWEEP_S = 15.0
_KINDS: Mapping[type, str] = {RecordMalformed: "malformed", RecordTooLarge: "too_large"}
"""Of dead letters, for the metrics."""
_ONE_READ = 50  # offsets nearer to each other than this are read in one go


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How a session works.

    worker_id: unique in the group. max_in_flight: windows polled and not yet observed. forget_after_s: a camera that
    was removed from the topic is forgotten after so long without a window.
    """

    group: str
    worker_id: str
    commit_interval_s: float = 0.5
    session_timeout_s: float = 10.0
    transaction_timeout_s: float = 15.0
    max_in_flight: int = 8
    forget_after_s: float = 60.0


class InferSession:
    """From joining the group to leaving it; a context manager. All of it runs on the caller's thread.

    unpack: where windows are decoded.
    """

    def __init__(
        self,
        bus: WorkerBus,
        topics: Topics,
        plans: Plans,
        settings: SessionSettings,
        metrics: InferMetrics,
        *,
        unpack: Executor,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._plans = plans
        self._settings = settings
        self._metrics = metrics
        self._unpack = unpack
        self._now_s = now_s
        self._messages: list[tuple[str, Message]] = []  # of the window that is being observed
        self._gathering = Gathering(now_s)
        self._offsets: dict[int, int] = {}  # what is committed, a partition
        self._in_use: dict[str, tuple[int, Mapping[str, Any] | None]] = {}  # revision and document of each camera
        self._told: dict[str, tuple[CameraPlan, int]] = {}  # what the metrics know: plan and partition of a camera
        self._finished_s: dict[str, float] = {}
        self._refusals = Refusals()
        self._of_clips: dict[tuple[int, int], bytes] = {}  # windows whose pictures belong to a restored clip
        self._stale = False
        self._swept_s = now_s()
        self.last_window_s: float | None = None
        self.assigned_s: float | None = None
        with ExitStack() as stack:
            self._windows = stack.enter_context(closing(bus.reader(topics.windows_raw)))
            state = stack.enter_context(closing(bus.reader(topics.state)))
            written = stack.enter_context(closing(bus.reader(topics.state, undecided=True)))
            self._restorer = Restorer(
                lambda: bus.committed(settings.group, topics.windows.name), state, written.end, self._windows.end,
                patience_s=settings.transaction_timeout_s + 5, now_s=now_s, sleep=sleep,
            )  # fmt: skip
            self._consumer: WindowsConsumer = bus.consumer(
                topics.windows_raw, settings.group, instance_id=settings.worker_id, listener=self,
                session_timeout_s=settings.session_timeout_s,
            )  # fmt: skip
            stack.callback(self._consumer.close)
            self._transactions: Transactions = stack.enter_context(
                closing(
                    bus.transactions(
                        f"{settings.group}.{settings.worker_id}", self._consumer,
                        timeout_s=settings.transaction_timeout_s,
                    )
                )
            )  # fmt: skip
            self._closing = stack.pop_all()
        self.stages: InferStages[Raw] = InferStages(
            self._consumer, self._plan_of, self, decode=self._decode, detect_again=detect_again,
            window_again=self._window_again, max_in_flight=settings.max_in_flight,
        )  # fmt: skip
        metrics.follow_lag(self._consumer.lag)

    # -- the loop

    def turn(self) -> None:
        """One round: take what came, finish the oldest window, commit when it is time.

        Raises Fenced (open a new session), BusUnavailable (call again), and what nobody here can mend.
        """
        if self._stale:
            self._consumer.hear()  # else the partitions cannot be moved in, and this turn would come for ever
            self._start_over()
        try:
            self.stages.take(self._patience_s())
            if self._stale:
                return
            self.stages.finish_next()
            if self._patience_s() <= 0:
                self.commit()
        except (TransactionAborted, ObservationFailed, OffsetGone, RecordTooLarge) as error:
            self._give_up(error)
        if self._now_s() - self._swept_s >= _SWEEP_S and not self._stale:
            self._sweep()

    def finish(self) -> None:
        """Finish and commit what was polled; what cannot be committed somebody does again."""
        if self._stale:
            return
        try:
            self.stages.drain()
            self.commit()
        except (TransactionAborted, ObservationFailed, RecordTooLarge) as error:
            self._give_up(error)

    @property
    def idle(self) -> bool:
        """Nothing is in flight, and nothing waits to be committed."""
        return not self.stages.in_flight and not self._gathering

    @property
    def connected(self) -> bool:
        """A broker answers (or did within the last seconds)."""
        return self._consumer.connected

    @property
    def heard_s(self) -> float:
        """When (monotonic seconds) a broker was last heard of; -inf before the first time."""
        return self._consumer.heard_s

    def close(self) -> None:
        """Leave the group; what is not committed is dropped."""
        self._metrics.follow_lag(dict)
        for camera_id in self._told:
            self._metrics.camera_left(camera_id)
        self._told.clear()
        self._closing.close()

    def __enter__(self) -> InferSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the transaction

    def commit(self) -> None:
        """Everything gathered in one transaction. Raises TransactionAborted, RecordTooLarge or Fenced; what is gathered
        stays."""
        if not self._gathering:
            return
        began_s = time.perf_counter()
        try:
            with self._transactions.transaction() as transaction:
                for partition, gathered in sorted(self._gathering.partitions.items()):
                    self._send(transaction, partition, gathered)
                transaction.offsets(
                    {partition: each.next_offset for partition, each in self._gathering.partitions.items()}
                )
        except (TransactionAborted, RecordTooLarge):
            self._metrics.aborted(time.perf_counter() - began_s)
            raise
        except Fenced:
            self._metrics.fenced()
            raise
        self._metrics.committed(time.perf_counter() - began_s)
        for partition, gathered in self._gathering.partitions.items():
            self._offsets[partition] = gathered.next_offset
            for topic, reason in gathered.dead:
                self._metrics.dead_letter(topic, reason)
        self._refusals.committed(self._offsets)
        self._gathering.drop()

    def _send(self, transaction: OpenTransaction, partition: int, gathered: Gathered) -> None:
        state = self._topics.state
        for topic, message in gathered.messages:
            transaction.send(topic, message)
        for camera_id in gathered.cameras:
            camera = self.stages.cameras[camera_id]
            revision, document = self._in_use.get(camera_id, (-1, None))
            told = CameraState(
                camera_id, camera.next_offset, camera.epoch, revision, document, camera.state(),
                {"writer": camera.writer, "sequence": camera.sequence},
            )  # fmt: skip
            transaction.send(state.name, state.encode(camera_id, told), partition)
        for key in gathered.forgotten:
            transaction.send(state.name, Message(key, None), partition)
        marker = PartitionState(partition, gathered.next_offset)
        transaction.send(state.name, state.encode(marker.key, marker), partition)

    def _patience_s(self) -> float:
        """Seconds until the next commit is due, as far as we wait for a window."""
        if self._gathering.since_s is None:
            return _POLL_S
        return min(_POLL_S, self._gathering.since_s + self._settings.commit_interval_s - self._now_s())

    # -- what the stages give (stages.Results)

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        """Gather the events of a frame."""
        self._metrics.observed(window, frame, observation)
        for event in observation.events:
            topic = self._topics.of_event(event)
            self._messages.append((topic.name, topic.encode(event.camera_id, event)))

    def done(self, record: Record[Raw], window: FrameWindow, observe_s: float) -> None:
        """Every frame was observed: its camera's state and its offset go into the next transaction."""
        plan = self.stages.cameras[window.camera_id].plan
        assert isinstance(plan, Plan)
        self._in_use[window.camera_id] = (window.revision, plan.document)
        gathered = self._gathering.of(record.partition, record.offset + 1)
        gathered.messages += self._messages
        self._messages.clear()
        gathered.cameras[window.camera_id] = None
        self._refusals.analysed(window)
        self._finished_s[window.camera_id] = self._now_s()
        self._metrics.analysed(window, observe_s, record.timestamp_ms)

    def void(self, record: Record[Raw], window: FrameWindow) -> None:
        """Sent by a reader that was already replaced: only its offset counts."""
        self._gathering.of(record.partition, record.offset + 1)
        self._metrics.void(window)

    def refused(self, record: Record[Raw], window: FrameWindow | None, error: Exception) -> None:
        """A dead letter, and on."""
        gathered = self._gathering.of(record.partition, record.offset + 1)
        cause = error.__cause__ if isinstance(error.__cause__, RecordTooLarge) else error
        unwritten = window is not None and self._refusals.is_unwritten(window.camera_id)
        if window is not None and window.camera_id in self.stages.cameras and not unwritten:
            gathered.cameras[window.camera_id] = None
        kind = _KINDS.get(type(cause), "invalid")
        gathered.bury(self._topics, record, "windows", kind, str(error) or type(error).__name__, type(cause).__name__)

    # -- what the stages ask

    def _decode(self, record: Record[Raw]) -> Future[FrameWindow]:
        self.last_window_s = self._now_s()
        self._metrics.polled(record.key, record.timestamp_ms)
        return self._unpack.submit(self._unpacked, record)

    def _unpacked(self, record: Record[Raw]) -> FrameWindow:
        if isinstance(record.value, Malformed):
            raise RecordMalformed(record.value.reason)
        began_s = time.perf_counter()
        window = self._topics.windows.decode(Message(record.key, record.value, record.headers))
        self._metrics.unpacked(time.perf_counter() - began_s)
        return window

    def _plan_of(self, record: Record[Raw], window: FrameWindow) -> CameraPlan:
        self._refusals.check((record.partition, record.offset), window)
        plan = self._plans.plan(window, record.partition)
        told = self._told.get(window.camera_id)
        if told is None or told[0] is not plan:
            self._told[window.camera_id] = (plan, record.partition)
            self._metrics.camera_came(plan.watched(), record.partition)
        return plan

    # -- partitions come and go (bus.PartitionListener)

    def assigned(self, partitions: Sequence[int]) -> None:
        """Restore them before their first window comes."""
        began_s = time.perf_counter()
        try:
            self._restore(partitions)
        except BusError as error:
            if not error.retriable:
                raise
            self._give_up(error)
        self.assigned_s = self._now_s()
        self._metrics.restored(time.perf_counter() - began_s)
        self._rebalanced("assigned", partitions)

    def revoked(self, partitions: Sequence[int]) -> None:
        """Finish and commit what is in flight; what cannot be committed is dropped, and somebody does it again."""
        try:
            self.finish()
        finally:
            self._leave(partitions)
        self._rebalanced("revoked", partitions)

    def lost(self, partitions: Sequence[int]) -> None:
        """They are another worker's already: drop what is in flight of them."""
        self._leave(partitions)
        self._rebalanced("lost", partitions)

    def _rebalanced(self, kind: str, partitions: Sequence[int]) -> None:
        if partitions:
            _log.info("partitions %s: %s", kind, ", ".join(str(partition) for partition in sorted(partitions)))
        self._metrics.rebalanced(kind, len(partitions), len(self._offsets))

    def _restore(self, partitions: Sequence[int]) -> None:
        for found in self._restorer.restore(partitions):
            partition = found.partition
            begins = self._windows.beginning(partition)
            next_offset = begins if found.next_offset is None else max(begins, found.next_offset)
            if found.next_offset is not None and begins > found.next_offset:
                _log.error(
                    "partition %d: windows %d to %d were deleted before anybody analysed them",
                    partition, found.next_offset, begins - 1,
                )  # fmt: skip
            self._offsets[partition] = next_offset
            self._consumer.seek({partition: next_offset})
            for camera_id, state in found.cameras.items():
                self._take_over(partition, camera_id, state)
            self._bury_state(found, next_offset)
            self._read_clips(found, next_offset)

    def _take_over(self, partition: int, camera_id: str, state: CameraState) -> None:
        writer, told = str(state.more.get("writer", "")), state.more.get("sequence")
        sequence = told if isinstance(told, int) else -1
        self.stages.cameras[camera_id] = CameraInUse(
            partition, state.epoch, writer, sequence, state.next_offset, snapshot=state.analytics or None
        )
        self._in_use[camera_id] = (state.revision, state.document)
        self._finished_s[camera_id] = self._now_s()
        if state.document is not None:
            self._plans.remember(camera_id, state.revision, state.document)

    def _read_clips(self, found: RestoredPartition, next_offset: int) -> None:
        """The windows of the clips that the cameras of a partition are in the middle of."""
        clips = [(camera_id, self.stages.cameras[camera_id].clip()) for camera_id in found.cameras]
        wanted = {frame.offset for _, clip in clips for frame in clip.frames}
        self._of_clips = {place: data for place, data in self._of_clips.items() if place[0] != found.partition}
        for begin, end in _spans(offset for offset in wanted if offset < next_offset):
            for record in self._windows.read(found.partition, begin, end):
                if record.offset in wanted and isinstance(record.value, bytes):
                    self._of_clips[found.partition, record.offset] = record.value
        for camera_id, clip in clips:
            if any((found.partition, frame.offset) not in self._of_clips for frame in clip.frames):
                _log.warning("camera %s: pictures of its last seconds are gone: its clip begins anew", camera_id)

    def _window_again(self, partition: int, offset: int) -> FrameWindow | None:
        data = self._of_clips.pop((partition, offset), None)
        return decode_window(data) if data is not None else None

    def _bury_state(self, found: RestoredPartition, next_offset: int) -> None:
        """States that cannot be read become dead letters, and their keys free: the next restore does not see them."""
        for record in found.malformed.values():
            if record.key.startswith("ingest/"):
                continue  # not ours
            assert isinstance(record.value, Malformed)
            gathered = self._gathering.of(found.partition, next_offset)
            gathered.bury(self._topics, record, "state", "malformed", record.value.reason, "RecordMalformed")
            if record.key != PartitionState(found.partition, 0).key:
                gathered.forgotten.append(record.key)

    def _give_up(self, error: Exception) -> None:
        """Drop everything; the next turn goes on from what is committed. A window that cannot be observed is marked."""
        if isinstance(error, ObservationFailed):
            # It becomes a dead letter when it comes again: who else tries would fail as well.
            _log.error("a window cannot be analysed: %s", error, exc_info=error.cause)
            self._refusals.failed(error.place, f"the analytics failed: {type(error.cause).__name__}: {error.cause}")
        elif isinstance(error, RecordTooLarge):
            if error.key not in self.stages.cameras or not self._refusals.too_large(error):
                raise error
            _log.error("camera %s: its windows become dead letters until it begins anew: %s", error.key, error)
        else:
            _log.warning("going back to what is committed: %s", error)
        self._stale = True
        self.stages.forget()
        self._gathering.drop()
        self._refusals.dropped()
        self._messages.clear()
        self._in_use.clear()
        self._finished_s.clear()

    def _start_over(self) -> None:
        """Go on from what is committed."""
        self.stages.forget()
        self._restore(self._consumer.assignment)
        self._stale = False

    def _leave(self, partitions: Collection[int]) -> None:
        gone = {camera_id for camera_id, camera in self.stages.cameras.items() if camera.partition in partitions}
        gone |= {camera_id for camera_id, (_, partition) in self._told.items() if partition in partitions}
        self.stages.forget(partitions)
        self._gathering.drop(partitions)
        self._of_clips = {place: data for place, data in self._of_clips.items() if place[0] not in partitions}
        for partition in partitions:
            self._offsets.pop(partition, None)
        for camera_id in gone:
            self._drop_camera(camera_id)

    def _drop_camera(self, camera_id: str) -> None:
        self._refusals.forget(camera_id)
        self._in_use.pop(camera_id, None)
        self._finished_s.pop(camera_id, None)
        if self._told.pop(camera_id, None) is not None:
            self._metrics.camera_left(camera_id)

    def _sweep(self) -> None:
        """Forget cameras that were removed from the topic and send nothing any more."""
        self._swept_s = now_s = self._now_s()
        self._plans.catch_up(sorted(self._offsets))
        lag = self._consumer.lag()
        for camera_id, camera in list(self.stages.cameras.items()):
            quiet_s = now_s - self._finished_s.get(camera_id, now_s)
            if (
                not self._plans.is_removed(camera_id)
                or quiet_s < self._settings.forget_after_s
                or lag.get(camera.partition)
            ):
                continue
            _log.info("camera %s was removed: its state goes", camera_id)
            committed = self._offsets[camera.partition]
            gathered = self._gathering.partitions.get(camera.partition) or self._gathering.of(
                camera.partition, committed
            )
            gathered.cameras.pop(camera_id, None)
            gathered.forgotten.append(camera_id)
            self.stages.forget_camera(camera_id)
            self._plans.forget(camera_id)
            self._drop_camera(camera_id)


def _spans(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """[begin, end) of the runs of offsets that lie near each other: those of a camera that is gone lie far back."""
    spans: list[tuple[int, int]] = []
    for offset in sorted(offsets):
        if spans and offset - spans[-1][1] < _ONE_READ:
            spans[-1] = (spans[-1][0], offset + 1)
        else:
            spans.append((offset, offset + 1))
    return spans
