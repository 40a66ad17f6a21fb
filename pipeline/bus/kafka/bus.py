"""One connection to Kafka a process: makes producers, consumers and readers, and closes what it made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol, TypeVar

import kafka
from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from pipeline.bus.base import Message, PartitionListener, Topic
from pipeline.bus.declared import declared
from pipeline.bus.kafka.admin import KafkaAdmin
from pipeline.bus.kafka.consumer import KafkaConsumer
from pipeline.bus.kafka.errors import ours
from pipeline.bus.kafka.producer import KafkaProducer, SentRecord, producer_arguments
from pipeline.bus.kafka.reader import KafkaReader
from pipeline.bus.kafka.repairs import forget_offset_answers, partitions_of, shut_consumer
from pipeline.bus.kafka.settings import KIB, MIB, check_installed, client_arguments, open_client, quiet_client
from pipeline.bus.kafka.transactions import KafkaTransactions
from pipeline.config import KafkaConfig
from pipeline.errors import BusError, TopicMissing

T = TypeVar("T")
UNDECLARED_LIMIT = 1000 * KIB
"""Largest record of a topic that is not declared (Kafka's default is 1 MiB and a little)."""
_READING: dict[str, Any] = {
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    "auto_offset_reset": "earliest",
    "allow_auto_create_topics": False,
    "max_partition_fetch_bytes": 2 * MIB,
    "fetch_max_bytes": 16 * MIB,
    "fetch_max_wait_ms": 100,
}


class _Closes(Protocol):
    def close(self) -> None: ...


class KafkaBus:
    """Kafka as ``settings`` describe it; opens nothing until asked. A context manager: closes what it made.

    ``client_id`` names the process in the broker's logs and quotas. Raises BusMisconfigured at once where a package
    is missing that kafka-python does without only badly (crc32c, zstandard).
    answer_s: how long its readers wait for the answer to a question before BusUnavailable.
    """

    def __init__(self, settings: KafkaConfig, *, client_id: str, answer_s: float = 30) -> None:
        check_installed()
        quiet_client()
        self.settings = settings
        self.client_id = client_id
        self._answer_s = answer_s
        self._made: list[_Closes] = []
        self._askers: dict[str, kafka.KafkaConsumer] = {}
        self._lock = threading.RLock()
        self._closed = False

    def producer(
        self,
        topic: Topic[T],
        *,
        on_sent: Callable[[Message, SentRecord | BusError], None] | None = None,
        block_s: float = 60,
        delivery_timeout_s: float = 120,
        max_waiting_bytes: int = 32 * MIB,
        compression: str | None = None,
    ) -> KafkaProducer[T]:
        """A producer for ``topic``: idempotent, acks=all, batched, Kafka's default partitioning by key.

        on_sent: hears what became of each message, in order a partition, on a thread of the client (be quick).
        block_s: how long ``send`` waits for room before BusUnavailable.
        delivery_timeout_s: how long a record is tried; then ``on_sent`` gets BusUnavailable. Nobody knows then whether
        the record is in the log: sending it again may put it there twice.
        compression: "zstd" for text; None for windows, whose pictures are compressed already.
        Starts without a broker.
        """
        limit = self.limit_bytes(topic.name)
        told = producer_arguments(limit, compression=compression, delivery_timeout_s=delivery_timeout_s)
        doing = f"send to {topic.name}"
        return self._keep(
            KafkaProducer(
                topic,
                lambda: self._open(kafka.KafkaProducer, told, doing),
                limit_bytes=limit,
                on_sent=on_sent,
                block_s=block_s,
                max_waiting_bytes=max_waiting_bytes,
            )
        )

    def consumer(
        self,
        topic: Topic[T],
        group: str,
        *,
        instance_id: str | None = None,
        listener: PartitionListener | None = None,
        max_waiting: int = 64,
        max_waiting_bytes: int = 64 * MIB,
        session_timeout_s: float = 10,
        rebalance_timeout_s: float = 60,
    ) -> KafkaConsumer[T]:
        """A member of ``group`` reading ``topic`` (read_committed, cooperative-sticky, from the beginning at first).

        instance_id: static membership: the worker that comes back within the session timeout under this name gets its
        partitions again without a rebalance of the others.
        max_waiting, max_waiting_bytes: what the poll thread reads ahead before it pauses partitions.
        rebalance_timeout_s: how long the listener may take while the group waits for it.
        Starts without a broker: partitions are assigned when there is one.
        """
        told = _READING | {
            "group_id": group,
            "group_instance_id": instance_id,
            "partition_assignment_strategy": (CooperativeStickyAssignor,),
            "session_timeout_ms": int(session_timeout_s * 1000),
            # How soon a member hears of a rebalance, too.
            "heartbeat_interval_ms": int(min(1.0, session_timeout_s / 4) * 1000),
            "max_poll_interval_ms": int(rebalance_timeout_s * 1000),
            "max_poll_records": 16,
        }
        doing = f"read {topic.name}"
        return self._keep(
            KafkaConsumer(
                topic,
                group,
                lambda: self._open(kafka.KafkaConsumer, told, doing),
                listener=listener,
                max_waiting=max_waiting,
                max_waiting_bytes=max_waiting_bytes,
            )
        )

    def transactions(
        self, transactional_id: str, consumer: KafkaConsumer[Any], *, timeout_s: float = 15
    ) -> KafkaTransactions:
        """Transactions that send records and commit offsets of ``consumer`` together; fences older holders of the id.

        timeout_s: the broker aborts a transaction that is open for longer.
        Waits for a broker; BusUnavailable when none answers within a minute.
        """
        largest = max([*self._limits.values(), UNDECLARED_LIMIT])
        told = producer_arguments(
            largest,
            compression="zstd",
            delivery_timeout_s=timeout_s,
            extra=[
                ("transactional_id", transactional_id),
                ("transaction_timeout_ms", int(timeout_s * 1000)),
                # What a transaction waits when the one before is still being written down by the broker.
                ("retry_backoff_ms", 20),
            ],
        )
        doing = f"begin the transactions of {transactional_id}"
        return self._keep(
            KafkaTransactions(
                transactional_id,
                consumer,
                lambda: self._open(kafka.KafkaProducer, told, doing),
                limit_bytes=self.limit_bytes,
                timeout_s=timeout_s,
            )
        )

    def reader(self, topic: Topic[T], *, undecided: bool = False) -> KafkaReader[T]:
        """Reads any span of ``topic`` without a group; undecided: also what open and aborted transactions wrote."""
        told = _READING | {"group_id": None}
        if undecided:
            told["isolation_level"] = "read_uncommitted"
        return self._keep(
            KafkaReader(
                topic, lambda: self._open(kafka.KafkaConsumer, told, f"read {topic.name}"), answer_s=self._answer_s
            )
        )

    def committed(self, group: str, topic_name: str, *, timeout_s: float = 30) -> dict[int, int]:
        """The committed next offset of each partition of the topic that has one.

        Waits while a transaction that commits offsets of the group is open (require_stable), so that what a dead
        worker left half done is decided first; BusUnavailable when that takes longer than ``timeout_s``.
        TopicMissing when there is no such topic.
        """
        doing = f"ask for the committed offsets of {topic_name}"
        with self._lock:
            asker = self._askers.get(group)
            if asker is None:
                told = _READING | {"group_id": group}
                asker = self._askers[group] = self._open(kafka.KafkaConsumer, told, doing)
            with ours(doing):
                partitions = partitions_of(asker, topic_name, timeout_s)
                if not partitions:
                    raise TopicMissing(f"topic {topic_name} is not there", mend="make it: passerby topics apply")
                at = [TopicPartition(topic_name, partition) for partition in sorted(partitions)]
                forget_offset_answers(asker)
                found = asker._coordinator.fetch_committed_offsets(at, timeout_ms=int(timeout_s * 1000))
        return {one.partition: told.offset for one, told in found.items()}

    def admin(self) -> KafkaAdmin:
        """Describes, creates and changes topics."""
        return self._keep(KafkaAdmin(lambda: self._open(kafka.KafkaAdminClient, {}, "ask the cluster")))

    def limit_bytes(self, topic_name: str) -> int:
        """The largest record the topic is declared to take."""
        return self._limits.get(topic_name, UNDECLARED_LIMIT)

    def declare_limit(self, topic_name: str, limit_bytes: int) -> None:
        """Of a topic that is in no declaration (before its producer is made)."""
        self._limits[topic_name] = limit_bytes

    def close(self) -> None:
        """Close everything this bus made, newest first; closing twice is harmless."""
        with self._lock:
            self._closed = True
            made, self._made = self._made, []
            askers, self._askers = self._askers, {}
        with contextlib.ExitStack() as stack:
            for one in made:
                stack.callback(one.close)
            for asker in askers.values():
                stack.callback(shut_consumer, asker)

    @cached_property
    def _limits(self) -> dict[str, int]:
        return {spec.name: spec.max_message_bytes for spec in declared(self.settings)}

    def _open(self, make: Callable[..., Any], arguments: dict[str, Any], doing: str) -> Any:
        known: dict[str, Any] = make.DEFAULT_CONFIG  # type: ignore[attr-defined]
        common = client_arguments(self.settings, self.client_id)
        told = {name: value for name, value in common.items() if name in known} | arguments
        return open_client(make, told, self.settings, doing)

    def _keep(self, one: _MadeT) -> _MadeT:
        with self._lock:
            if self._closed:
                one.close()
                raise BusError("the bus is closed")
            self._made.append(one)
        return one

    def __enter__(self) -> KafkaBus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_MadeT = TypeVar("_MadeT", bound=_Closes)
