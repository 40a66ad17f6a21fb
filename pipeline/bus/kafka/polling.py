"""The thread that polls: keeps our place in the group, reads ahead a little, pauses when enough is waiting.

It talks to the caller's thread by three things under one lock: records that wait, a change of partitions that the
caller has to hear of before anything else happens, and troubles.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kafka import KafkaConsumer as Client
from kafka import TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.future import Future

from pipeline.bus.kafka.errors import translate
from pipeline.bus.kafka.hearing import Hearing
from pipeline.bus.kafka.repairs import (
    forget_offset_answers,
    mend_consumer,
    mend_turns,
    shut_consumer,
    skip_broken_fetch,
)
from pipeline.errors import BusDenied, BusError, Fenced

_log = logging.getLogger(__name__)
POLL_MS = 100
BATCH = 16
"""Records taken from the client at once: how far max_waiting may be overshot."""
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """Partitions that came or go; ``done`` tells the group that the caller has heard of it."""

    kind: Literal["assigned", "revoked", "lost"]
    partitions: tuple[int, ...]
    done: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Task:
    """Something the poll thread is to do. error: what it raised; told before ``done``."""

    task: Callable[[Client], None]
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class PollThread:
    """Polls ``topic_name`` for one consumer. ``changed`` guards everything that two threads see."""

    def __init__(
        self,
        topic_name: str,
        open_client: Callable[[], Client],
        *,
        heard: bool,
        max_waiting: int,
        max_waiting_bytes: int,
    ) -> None:
        """heard: the caller has a listener, and changes wait until it has heard of them."""
        self.topic_name = topic_name
        self.changed = threading.Condition()
        self.change: Change | None = None
        self.trouble: BusError | None = None
        self.client: Client | None = None
        self.assigned: set[int] = set()
        self.fenced = False
        self.hearing = Hearing(topic_name)
        self._open_client = open_client
        self._heard = heard
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: OrderedDict[int, deque[Any]] = OrderedDict()
        self._count = 0
        self._bytes = 0
        self._paused = False
        self._stopping = False
        self._told: dict[str, float] = {}
        self._tasks: deque[_Task] = deque()
        self._thread = threading.Thread(target=self._run, name=f"kafka-poll-{topic_name}", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------------- the caller's side

    def take(self, limit: int) -> list[Any]:
        """Up to ``limit`` waiting records, fair over the partitions. Under ``changed``."""
        taken: list[Any] = []
        while len(taken) < limit and self._waiting:
            partition, records = next(iter(self._waiting.items()))
            record = records.popleft()
            taken.append(record)
            self._count -= 1
            self._bytes -= _size(record)
            if records:
                self._waiting.move_to_end(partition)
            else:
                del self._waiting[partition]
        return taken

    @property
    def anything(self) -> bool:
        """Something for the caller. Under ``changed``."""
        return bool(self._waiting) or self.change is not None or self.trouble is not None

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget what waits of these. Under ``changed``."""
        for partition in partitions:
            records = self._waiting.pop(partition, ())
            self._count -= len(records)
            self._bytes -= sum(_size(record) for record in records)

    def do(self, task: Callable[[Client], None], timeout_s: float = 10) -> bool:
        """Have the poll thread do something between two polls; raises what it raised.

        False when it did not come to it in time, or cannot before the caller has heard of a change: it is not done
        later either.
        """
        told, until = _Task(task), time.monotonic() + timeout_s
        with self.changed:
            self._tasks.append(told)
        while not told.done.wait(0.02):
            with self.changed:
                if (self.change is not None or time.monotonic() >= until) and told in self._tasks:
                    self._tasks.remove(told)
                    return False
        if told.error is not None:
            raise told.error
        return True

    def stop(self) -> None:
        """Leave the group, end the thread."""
        with self.changed:
            self._stopping = True
            change, self.change = self.change, None
            self.changed.notify_all()
        if change is not None:
            change.done()
        self._thread.join(15)

    # ------------------------------------------------------------------------------------------- the poll thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._round()
                except Exception as error:
                    self._tell(translate(error, f"read {self.topic_name}"))
                    if self.client is not None:
                        skip_broken_fetch(self.client)
                    self._rest(RETRY_S if self.client is None else 0.1)
        finally:
            if self.client is not None:
                shut_consumer(self.client)

    def _round(self) -> None:
        if self.client is None:
            client = self._open_client()
            mend_consumer(client, self._instance_fenced)
            mend_turns(client)
            client.subscribe([self.topic_name], listener=_Bridge(self))
            self.client = client
            self.hearing.began()
        self._do_tasks(self.client)
        if self.fenced:
            self._rest(RETRY_S)
            return
        try:
            fetched = self.client.poll(timeout_ms=POLL_MS, max_records=BATCH)
        finally:
            self.hearing.listen(self.client)
        with self.changed:
            for at, records in fetched.items():
                self._waiting.setdefault(at.partition, deque()).extend(records)
                self._count += len(records)
                self._bytes += sum(_size(record) for record in records)
            if fetched:
                self.changed.notify_all()
            full = self._count >= self._max_waiting or self._bytes >= self._max_waiting_bytes
            roomy = self._count <= self._max_waiting // 2 and self._bytes <= self._max_waiting_bytes // 2
        self._pause(self.client, full, roomy)
        if self.topic_name in self.client._cluster.unauthorized_topics:
            raise BusDenied(f"cannot read {self.topic_name}: the broker's access rules do not let us")

    def _do_tasks(self, client: Client) -> None:
        while True:
            with self.changed:
                if not self._tasks:
                    return
                told = self._tasks.popleft()
            try:
                told.task(client)
            except Exception as error:
                told.error = error
            finally:
                told.done.set()

    def _pause(self, client: Client, full: bool, roomy: bool) -> None:
        if full or (self._paused and not roomy):
            client.pause(*client.assignment())  # each time: partitions that came since are not paused
            self._paused = True
        elif self._paused:
            client.resume(*client.paused())
            self._paused = False

    def _tell(self, trouble: BusError) -> None:
        """Give a trouble to the caller: once a minute what says the same, and not at all what passes by itself."""
        now = time.monotonic()
        text = str(trouble)
        if now - self._told.get(text, -60.0) < 60.0:
            return
        self._told = {text: now}
        _log.warning("%s", text)
        if not trouble.retriable:
            with self.changed:
                self.trouble = trouble
                self.changed.notify_all()

    def _rest(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._stopping, seconds)

    # ------------------------------------------------------------------------------------------- the I/O thread

    def _instance_fenced(self, error: BaseException) -> None:
        self.fenced = True
        with self.changed:
            self.trouble = Fenced(
                f"another process reads {self.topic_name} under our instance id: {error}",
                mend="give every worker a worker_id of its own",
            )
            self.changed.notify_all()

    async def hear(self, kind: Literal["assigned", "revoked", "lost"], partitions: Sequence[TopicPartition]) -> None:
        """Called by the group's client on its I/O thread; returns when the caller has heard. Heartbeats go on."""
        numbers = tuple(sorted(at.partition for at in partitions))
        client = self.client
        if not numbers or client is None:
            return
        forget_offset_answers(client)
        heard = Future()
        net = client._net

        def done() -> None:
            net.call_soon_threadsafe(lambda: heard.success(None) if not heard.is_done else None)

        with self.changed:
            if self._stopping:
                return
            if not self._heard:
                self.settle(kind, numbers)
                return
            self.change = Change(kind, numbers, done)
            self.changed.notify_all()
        await heard

    def settle(self, kind: Literal["assigned", "revoked", "lost"], numbers: Iterable[int]) -> None:
        """From now on these are ours, or not. Under ``changed``."""
        if kind == "assigned":
            self.assigned.update(numbers)
        else:
            self.assigned.difference_update(numbers)
            self.drop(numbers)


class _Bridge(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """kafka-python's listener; coroutines, so that heartbeats go on while the caller works."""

    def __init__(self, thread: PollThread) -> None:
        self._thread = thread

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        await self._thread.hear("assigned", assigned)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        await self._thread.hear("revoked", revoked)

    async def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:
        await self._thread.hear("lost", lost)


def _size(record: Any) -> int:
    return (len(record.value) if record.value is not None else 0) + 100
