"""Kafka as far as exactly-once rests on it, in memory and in one thread: what a test can stop at every step.

Topics with partitions; transactions with their markers, which reach each partition at a time of their own; producer
epochs; a group with generations and cooperative rebalances. ``at`` is called before and after every step of the
protocol with its name: a test kills (raises ``Killed``) where it likes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Malformed, Message, PartitionListener, Record, Topic
from pipeline.errors import BusError, BusUnavailable, Fenced, RecordMalformed, RecordTooLarge, TransactionAborted


class Killed(BaseException):
    """kill -9: nothing of the worker runs after this."""


@dataclass(eq=False)
class Txn:
    """A transaction as the broker sees it. decided: None while it is open."""

    producer: str
    epoch: int
    offsets: dict[int, int] = field(default_factory=dict)
    decided: str | None = None
    unmarked: set[tuple[str, int]] = field(default_factory=set)  # partitions its marker has not reached


@dataclass(frozen=True)
class Entry:
    message: Message
    txn: Txn | None


@dataclass(eq=False)
class Member:
    """A consumer in the group. wants: partitions of its next assignment; owns: what its listener knows of."""

    consumer: ModelConsumer
    owns: set[int] = field(default_factory=set)
    wants: set[int] = field(default_factory=set)
    generation: int = 0


class LogModel:
    """The broker. partitions: of every topic."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.topics: dict[str, list[list[Entry]]] = {}
        self.committed_offsets: dict[int, int] = {}
        self.txns: list[Txn] = []
        self.producer_epochs: dict[str, int] = {}
        self.members: list[Member] = []
        self.generation = 0
        self.at: Callable[[str], None] = lambda step: None
        self.limits: dict[str, int] = {}  # the largest value a topic takes, where there is one
        self.heard_s: Callable[[], float] = time.monotonic  # when a consumer last heard of it

    # -- records

    def entries(self, topic: str, partition: int) -> list[Entry]:
        return self.topics.setdefault(topic, [[] for _ in range(self.partitions)])[partition]

    def append(self, topic: str, message: Message, partition: int, txn: Txn | None = None) -> None:
        self.entries(topic, partition).append(Entry(message, txn))
        if txn is not None:
            txn.unmarked.add((topic, partition))

    def partition_of(self, key: str) -> int:
        return sum(key.encode()) % self.partitions

    def stable_end(self, topic: str, partition: int) -> int:
        """The offset of the first record whose transaction is open, or whose marker has not come here."""
        entries = self.entries(topic, partition)
        for offset, entry in enumerate(entries):
            txn = entry.txn
            if txn is not None and (txn.decided is None or (topic, partition) in txn.unmarked):
                return offset
        return len(entries)

    def visible(self, topic: str, partition: int) -> list[tuple[int, Message]]:
        """What a read_committed reader sees now."""
        entries = self.entries(topic, partition)[: self.stable_end(topic, partition)]
        return [
            (offset, entry.message)
            for offset, entry in enumerate(entries)
            if entry.txn is None or entry.txn.decided == "committed"
        ]

    # -- transactions

    def decide(self, txn: Txn, how: str) -> None:
        """The coordinator has the end of a transaction: offsets at once, markers of the records later."""
        assert txn.decided is None
        txn.decided = how
        if how == "committed":
            self.committed_offsets.update(txn.offsets)
        txn.offsets = {}

    def deliver_markers(self) -> None:
        for txn in self.txns:
            if txn.decided is not None:
                txn.unmarked.clear()
        self.txns = [txn for txn in self.txns if txn.decided is None]

    def deliver_a_marker(self) -> bool:
        """One marker reaches one partition; False when none was on its way."""
        for txn in self.txns:
            if txn.decided is not None and txn.unmarked:
                txn.unmarked.discard(min(txn.unmarked))
                return True
        return False

    def time_out(self, producer: str | None = None) -> None:
        """The broker aborts open transactions (of one id, or of all that hold offsets), and fences who held them."""
        for txn in self.txns:
            if txn.decided is None and producer in (None, txn.producer):
                self.producer_epochs[txn.producer] = max(self.producer_epochs[txn.producer], txn.epoch + 1)
                self.decide(txn, "aborted")

    # -- the group

    def rebalance(self) -> None:
        """Spread the partitions over the members, sticky; each member hears of it in its own poll."""
        self.generation += 1
        if not self.members:
            return
        share = -(-self.partitions // len(self.members))
        taken: set[int] = set()
        for member in self.members:
            kept = sorted(member.wants - taken)[:share]
            member.wants = set(kept)
            taken |= member.wants
        for partition in range(self.partitions):
            if partition not in taken:
                least = min(self.members, key=lambda member: (len(member.wants), self.members.index(member)))
                least.wants.add(partition)

    def leave(self, consumer: ModelConsumer) -> None:
        """A member is gone: it left, or its session timed out."""
        before = len(self.members)
        self.members = [member for member in self.members if member.consumer is not consumer]
        if len(self.members) < before:
            self.rebalance()


class ModelConsumer:
    """One membership."""

    def __init__(self, log: LogModel, topic: Topic[Any], listener: PartitionListener) -> None:
        self.log, self.topic, self.listener = log, topic, listener
        self.member: Member | None = Member(self)
        self.positions: dict[int, int] = {}
        self._hearing = False
        log.members.append(self.member)
        log.rebalance()

    @property
    def in_group(self) -> bool:
        return any(member is self.member for member in self.log.members)

    def hear(self) -> None:
        self._hearing = True
        try:
            self._hear()
        finally:
            self._hearing = False

    def _hear(self) -> None:
        member = self.member
        if member is None:
            raise BusError("closed")
        if not self.in_group:
            if member.owns:
                lost, member.owns = sorted(member.owns), set()
                self.listener.lost(lost)
            member.wants = set()
            self.log.members.append(member)
            self.log.rebalance()
        member.generation = self.log.generation
        revoked = sorted(member.owns - member.wants)
        if revoked:
            self.log.at("revoking")
            self.listener.revoked(revoked)
            if self.in_group:
                member.owns -= set(revoked)
            self.log.at("revoked")
        owned_by_others = {p for other in self.log.members if other is not member for p in other.owns}
        assigned = sorted(member.wants - member.owns - owned_by_others)
        if assigned:
            member.owns |= set(assigned)
            for partition in assigned:
                self.positions[partition] = self.log.committed_offsets.get(partition, 0)
            self.log.at("assigning")
            self.listener.assigned(assigned)
            self.log.at("assigned")

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[Any]]:
        self.hear()
        member = self.member
        assert member is not None
        taken: list[Record[Any]] = []
        for partition in sorted(member.owns):
            for offset, message in self.log.visible(self.topic.name, partition):
                if offset >= self.positions[partition] and len(taken) < max_records:
                    taken.append(_record(self.topic, partition, offset, message))
                    self.positions[partition] = offset + 1
        return taken

    def commit(self, records: Sequence[Record[Any]]) -> None:
        raise AssertionError("the transaction commits")

    def seek(self, offsets: Mapping[int, int]) -> None:
        assert self.member is not None
        assert set(offsets) <= self.member.owns, "not ours"
        if not self._hearing and (not self.in_group or self.member.owns - self.member.wants):
            raise BusUnavailable("the listener has to hear of a change first")
        self.positions.update(offsets)

    @property
    def assignment(self) -> tuple[int, ...]:
        return tuple(sorted(self.member.owns)) if self.member is not None else ()

    @property
    def ended(self) -> bool:
        return False

    @property
    def connected(self) -> bool:
        return time.monotonic() - self.log.heard_s() < 0.2

    @property
    def heard_s(self) -> float:
        return self.log.heard_s()

    def lag(self) -> dict[int, int]:
        return {p: self.log.stable_end(self.topic.name, p) - self.positions[p] for p in self.assignment}

    def close(self) -> None:
        self.log.leave(self)
        self.member = None


class ModelTransaction:
    def __init__(self, log: LogModel, txn: Txn) -> None:
        self._log, self._txn = log, txn
        self.next_offsets: dict[int, int] = {}

    def send(self, topic_name: str, message: Message, partition: int | None = None) -> None:
        self._log.at("send")
        _require_alive(self._log, self._txn)
        at = self._log.partition_of(message.key) if partition is None else partition
        if len(message.value or b"") > self._log.limits.get(topic_name, 1 << 30):
            raise RecordTooLarge(f"a record of {message.key!r} is too large for {topic_name}", key=message.key)
        self._log.append(topic_name, message, at, self._txn)

    def offsets(self, next_offsets: Mapping[int, int]) -> None:
        self.next_offsets.update(next_offsets)


class ModelTransactions:
    """The steps of ``pipeline.bus.kafka.transactions``. answer_lost: makes the next commit's answer not come."""

    def __init__(self, log: LogModel, transactional_id: str, consumer: ModelConsumer) -> None:
        self._log, self._id, self._consumer = log, transactional_id, consumer
        self.answer_lost = False
        self._epoch = self._init()

    def _init(self) -> int:
        self._log.at("init")
        self._log.time_out(self._id)
        self._log.producer_epochs[self._id] = self._log.producer_epochs.get(self._id, -1) + 1
        return self._log.producer_epochs[self._id]

    @contextmanager
    def transaction(self) -> Iterator[ModelTransaction]:
        log = self._log
        log.at("begin")
        if log.producer_epochs[self._id] != self._epoch:
            raise Fenced("a newer producer has this id")
        txn = Txn(self._id, self._epoch)
        log.txns.append(txn)
        transaction = ModelTransaction(log, txn)
        try:
            yield transaction
            log.at("offsets")
            _require_alive(log, txn)
            member = self._consumer.member
            if member is None or not self._consumer.in_group:
                raise Fenced("not a member of the group any more")
            if member.generation != log.generation:
                raise TransactionAborted("an old generation")
            txn.offsets = dict(transaction.next_offsets)
            log.at("before commit")
            _require_alive(log, txn)
            log.decide(txn, "committed")
            log.at("after commit")
        except Killed:
            raise
        except BaseException:
            if txn.decided is None:
                log.decide(txn, "aborted")
            raise
        if self.answer_lost:
            self.answer_lost = False
            self._epoch = self._init()
            raise TransactionAborted("not confirmed")
        log.at("confirmed")

    def close(self) -> None:
        self._log.time_out(self._id)


class ModelReader:
    def __init__(self, log: LogModel, topic: Topic[Any], undecided: bool) -> None:
        self._log, self._topic, self._undecided = log, topic, undecided

    def partitions(self) -> tuple[int, ...]:
        return tuple(range(self._log.partitions))

    def beginning(self, partition: int) -> int:
        return 0

    def end(self, partition: int) -> int:
        if self._undecided:
            return len(self._log.entries(self._topic.name, partition))
        return self._log.stable_end(self._topic.name, partition)

    def read(self, partition: int, from_offset: int, to_offset: int) -> Iterator[Record[Any]]:
        for offset, message in self._log.visible(self._topic.name, partition):
            if from_offset <= offset < to_offset:
                yield _record(self._topic, partition, offset, message)

    def close(self) -> None:
        pass


class ModelBus:
    """A worker's connection to the model; what ``KafkaBus`` is to Kafka."""

    def __init__(self, log: LogModel) -> None:
        self.log = log
        self.made: list[ModelConsumer] = []
        self.transacting: list[ModelTransactions] = []

    def consumer(self, topic: Topic[Any], group: str, *, listener: PartitionListener, **_: Any) -> ModelConsumer:
        self.made.append(ModelConsumer(self.log, topic, listener))
        return self.made[-1]

    def transactions(self, transactional_id: str, consumer: ModelConsumer, **_: Any) -> ModelTransactions:
        self.transacting.append(ModelTransactions(self.log, transactional_id, consumer))
        return self.transacting[-1]

    def reader(self, topic: Topic[Any], *, undecided: bool = False) -> ModelReader:
        return ModelReader(self.log, topic, undecided)

    def committed(self, group: str, topic_name: str) -> dict[int, int]:
        """Kafka's answer waits for open transactions with offsets; here the broker's time-out comes at once."""
        if any(txn.offsets for txn in self.log.txns if txn.decided is None):
            for txn in [txn for txn in self.log.txns if txn.decided is None and txn.offsets]:
                self.log.time_out(txn.producer)
        return dict(self.log.committed_offsets)


def _require_alive(log: LogModel, txn: Txn) -> None:
    if txn.decided is not None or log.producer_epochs[txn.producer] != txn.epoch:
        raise Fenced("the broker aborted the transaction: it was open for too long")


def _record(topic: Topic[Any], partition: int, offset: int, message: Message) -> Record[Any]:
    try:
        value = topic.decode(message)
    except RecordMalformed as error:
        value = Malformed(message, str(error))
    return Record(topic.name, partition, offset, message.key, value, message.headers, 1000 + offset)
