"""One connection to Kafka a process: makes producers, consumers and readers, and closes what it made."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from pipeline.bus.base import Message, PartitionListener, Topic
from pipeline.bus.kafka.admin import KafkaAdmin
from pipeline.bus.kafka.consumer import KafkaConsumer
from pipeline.bus.kafka.producer import KafkaProducer, SentRecord
from pipeline.bus.kafka.reader import KafkaReader
from pipeline.bus.kafka.transactions import KafkaTransactions
from pipeline.config import KafkaConfig
from pipeline.errors import BusError

T = TypeVar("T")
MIB = 1 << 20


class KafkaBus:
    """Kafka as ``settings`` describe it; opens nothing until asked. A context manager: closes what it made.

    ``client_id`` names the process in the broker's logs and quotas.
    """

    def __init__(self, settings: KafkaConfig, *, client_id: str) -> None:
        raise NotImplementedError

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

        on_sent: hears what became of each message, in order a partition, on the client's network thread (be quick).
        block_s: how long ``send`` waits for room before BusUnavailable.
        delivery_timeout_s: how long a record is tried; then ``on_sent`` gets BusUnavailable.
        compression: "zstd" for text; None for windows, whose pictures are compressed already.
        Starts without a broker.
        """
        raise NotImplementedError

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
    ) -> KafkaConsumer[T]:
        """A member of ``group`` reading ``topic`` (read_committed, cooperative-sticky, from the beginning at first).

        instance_id: static membership: the worker that comes back within the session timeout under this name gets its
        partitions again without a rebalance of the others.
        max_waiting, max_waiting_bytes: what the poll thread reads ahead before it pauses partitions.
        Starts without a broker: partitions are assigned when there is one.
        """
        raise NotImplementedError

    def transactions(
        self, transactional_id: str, consumer: KafkaConsumer[Any], *, timeout_s: float = 15
    ) -> KafkaTransactions:
        """Transactions that send records and commit offsets of ``consumer`` together; fences older holders of the id.

        timeout_s: the broker aborts a transaction that is open for longer.
        Waits for a broker; BusUnavailable when none answers within a minute.
        """
        raise NotImplementedError

    def reader(self, topic: Topic[T]) -> KafkaReader[T]:
        """Reads any span of ``topic`` without a group."""
        raise NotImplementedError

    def committed(self, group: str, topic_name: str, *, timeout_s: float = 30) -> dict[int, int]:
        """The committed next offset of each partition of the topic that has one.

        Waits while a transaction that commits offsets of the group is open (require_stable), so that what a dead
        worker left half done is decided first; BusUnavailable when that takes longer than ``timeout_s``.
        """
        raise NotImplementedError

    def admin(self) -> KafkaAdmin:
        """Describes, creates and changes topics."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything this bus made, newest first; closing twice is harmless."""
        raise NotImplementedError

    def __enter__(self) -> KafkaBus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
