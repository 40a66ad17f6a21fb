"""Reads one topic as a member of a group; a thread of its own polls, so that a slow caller is never thrown out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kafka import KafkaConsumer as Client
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata, MemberState, OffsetAndMetadata

from pipeline.bus.base import Malformed, Message, PartitionListener, Record, Topic
from pipeline.bus.kafka.errors import ours, translate
from pipeline.bus.kafka.polling import PollThread
from pipeline.errors import BusError, BusUnavailable, RecordMalformed

T = TypeVar("T")
COMMIT_S = 15.0


def decoded(topic: Topic[T], raw: Any) -> Record[T | Malformed]:
    """What kafka-python gave, as our record; whatever is wrong with it becomes Malformed."""
    key, reason = "", ""
    try:
        key = raw.key.decode() if raw.key is not None else ""
    except UnicodeDecodeError:
        key, reason = raw.key.decode(errors="backslashreplace"), "the key is not UTF-8"
    headers = tuple((name, bytes(value or b"")) for name, value in raw.headers or ())
    message = Message(key, None if raw.value is None else bytes(raw.value), headers)
    value: T | Malformed
    try:
        value = Malformed(message, reason) if reason else topic.decode(message)
    except RecordMalformed as error:
        value = Malformed(message, str(error))
    except Exception as error:  # a codec that trips over strange bytes must not stop the stream
        value = Malformed(message, f"{type(error).__name__}: {error}"[:300])
    return Record(topic.name, raw.partition, raw.offset, key, value, headers, raw.timestamp)


class KafkaConsumer(Generic[T]):
    """base.Consumer over Kafka; made by ``KafkaBus.consumer``. Everything but ``lag`` belongs to one thread."""

    def __init__(
        self,
        topic: Topic[T],
        group: str,
        open_client: Callable[[], Client],
        *,
        listener: PartitionListener | None,
        max_waiting: int,
        max_waiting_bytes: int,
    ) -> None:
        self.topic = topic
        self.group = group
        self._listener = listener
        self._positions: dict[int, int] = {}
        self._hearing = False
        self._closed = False
        self._thread = PollThread(
            topic.name,
            open_client,
            heard=listener is not None,
            max_waiting=max_waiting,
            max_waiting_bytes=max_waiting_bytes,
        )

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[T | Malformed]]:
        """Up to ``max_records`` records, in order a partition, fair over the partitions; empty after ``timeout_s``.

        The listener hears of partitions in here. Raises what does not pass by itself, once: BusDenied, Fenced,
        OffsetGone, TopicMissing, BusError. While a broker is merely away, poll comes back empty.
        """
        if self._closed:
            raise BusError(f"the consumer of {self.topic.name} is closed")
        until = time.monotonic() + timeout_s
        thread = self._thread
        while True:
            with thread.changed:
                thread.changed.wait_for(lambda: thread.anything, max(0.0, until - time.monotonic()))
                if thread.trouble is not None:
                    trouble, thread.trouble = thread.trouble, None
                    raise trouble
                change = thread.change
                taken = thread.take(max_records) if change is None else []
                for raw in taken:
                    self._positions[raw.partition] = raw.offset + 1
            if change is None:
                return [decoded(self.topic, raw) for raw in taken]
            self._hear(change)
            if time.monotonic() >= until:
                return []

    def hear(self) -> None:
        """Tell the listener of what changed, without giving records: until it has heard, nothing else can be done."""
        thread = self._thread
        while (change := thread.change) is not None:
            self._hear(change)

    def commit(self, records: Sequence[Record[Any]]) -> None:
        """Commit the offsets behind these records (the at-least-once way; waits for the broker).

        Partitions that are not ours any more are passed over: another worker reads those records again.
        Raises BusUnavailable or Fenced.
        """
        offsets: dict[int, int] = {}
        for record in records:
            offsets[record.partition] = max(offsets.get(record.partition, 0), record.offset + 1)
        with self._thread.changed:
            offsets = {partition: offset for partition, offset in offsets.items() if partition in self._thread.assigned}
        if offsets:
            self._commit({self._at(p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()})

    def seek(self, offsets: Mapping[int, int]) -> None:
        """Deliver these partitions from these offsets on (inside ``assigned``, or between polls).

        Raises BusError for a partition that is not ours, BusUnavailable when there is no broker, or the listener has
        to hear of a change first (``hear``, or ``poll``).
        """
        if missing := sorted(set(offsets) - set(self.assignment)):
            raise BusError(f"partitions {missing} of {self.topic.name} are not ours")

        def jump(client: Client) -> None:
            for partition, offset in offsets.items():
                client.seek(self._at(partition), offset)
            with self._thread.changed:
                self._thread.drop(offsets)

        client = self._thread.client
        if self._hearing and client is not None:
            jump(client)  # the poll thread waits for us
        else:
            with ours(f"seek in {self.topic.name}"):
                if not self._thread.do(jump):
                    why = "its partitions change" if self._thread.change is not None else "no broker answers"
                    raise BusUnavailable(f"cannot seek in {self.topic.name}: {why}")
        self._positions.update(offsets)

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Who we are in the group at this moment (kafka-python's tuple; for ``KafkaTransactions``)."""
        client = self._thread.client
        return ConsumerGroupMetadata(self.group) if client is None else client.group_metadata()

    def settled_metadata(self, timeout_s: float) -> ConsumerGroupMetadata:
        """``group_metadata`` once no rejoin is under way, or after ``timeout_s``: while one is, the generation we know
        may have ended, and a commit under it is refused."""
        until = time.monotonic() + timeout_s
        while (told := self.group_metadata()).state == MemberState.REBALANCING and time.monotonic() < until:
            time.sleep(0.005)
        return told

    def still_ours(self, partitions: Iterable[int]) -> bool:
        """Whether these were ours all the time since the listener heard of them (False where there is no listener: then
        they may have gone and come back). Going, but not gone, is ours."""
        thread = self._thread
        with thread.changed:
            lost = thread.change is not None and thread.change.kind == "lost"
            return self._listener is not None and not lost and thread.assigned.issuperset(partitions)

    @property
    def assignment(self) -> tuple[int, ...]:
        """The partitions that are ours: the listener has heard of them; in order."""
        with self._thread.changed:
            return tuple(sorted(self._thread.assigned))

    @property
    def positions(self) -> dict[int, int]:
        """The offset behind the last record ``poll`` delivered, of each partition that is ours."""
        ours = self.assignment
        return {partition: offset for partition, offset in self._positions.items() if partition in ours}

    def lag(self) -> dict[int, int]:
        """Records a partition that lie behind what ``poll`` delivered (at most: markers of transactions count too).

        Makes no request: what the last fetch said. A partition that was not fetched yet is absent.
        """
        client = self._thread.client
        if client is None:
            return {}
        behind = {}
        for partition in self.assignment:
            state = client._subscription.assignment.get(self._at(partition))
            if state is not None and state.highwater is not None and state.position is not None:
                delivered = self._positions.get(partition, state.position.offset)
                behind[partition] = max(0, state.highwater - delivered)
        return behind

    @property
    def connected(self) -> bool:
        """A broker answers (or did within the last seconds)."""
        return self._thread.hearing.connected

    @property
    def heard_s(self) -> float:
        """When (monotonic seconds) a broker was last heard of; -inf before the first time."""
        return self._thread.hearing.heard_s

    @property
    def ended(self) -> bool:
        """False: a topic of Kafka has no end."""
        return False

    def close(self) -> None:
        """Leave the group (a static member: when its session ends); calls no listener, commits nothing."""
        if not self._closed:
            self._closed = True
            self._thread.stop()

    # ------------------------------------------------------------------------------------------- inside

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic.name, partition)

    def _hear(self, change: Any) -> None:
        """Tell the listener, and then the group that the listener knows: also when the listener fails."""
        thread, listener = self._thread, self._listener
        assert listener is not None
        self._hearing = True
        try:
            if change.kind == "assigned":
                for partition in change.partitions:
                    self._positions.pop(partition, None)
                with thread.changed:
                    thread.settle("assigned", change.partitions)
                listener.assigned(change.partitions)
            elif change.kind == "revoked":
                listener.revoked(change.partitions)
            else:
                listener.lost(change.partitions)
        finally:
            self._hearing = False
            with thread.changed:
                if change.kind != "assigned":
                    thread.settle(change.kind, change.partitions)
                if thread.change is change:
                    thread.change = None
            change.done()

    def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        doing = f"commit offsets of {self.topic.name}"
        until = time.monotonic() + COMMIT_S
        while True:
            client = self._thread.client
            if client is None:
                raise BusUnavailable(f"cannot {doing}: no broker answers")
            try:
                client.commit(offsets, timeout_ms=int(COMMIT_S * 1000))
                return
            except kafka_errors.RebalanceInProgressError as error:
                if time.monotonic() > until or (self._thread.change is not None and not self._hearing):
                    raise translate(error, doing) from error  # it waits for us to hear of a change
                time.sleep(0.02)  # the poll thread is joining; our partitions stay ours meanwhile
            except (kafka_errors.KafkaError, RuntimeError, OSError) as error:
                raise translate(error, doing) from error

    def __enter__(self) -> KafkaConsumer[T]:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
