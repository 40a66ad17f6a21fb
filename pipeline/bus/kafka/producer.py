"""Sends to one topic: idempotent, in order, bounded.

kafka-python's own client is made on a thread of its own, so that a worker starts without a broker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kafka import KafkaProducer as Client
from kafka import errors as kafka_errors
from kafka.producer.future import RecordMetadata
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.bus.base import Message, Topic
from pipeline.bus.kafka.errors import ours, translate
from pipeline.bus.kafka.repairs import mend_producer, shut_producer
from pipeline.errors import BusError, BusUnavailable, RecordTooLarge

T = TypeVar("T")
_log = logging.getLogger(__name__)
RETRY_S = 1.0
"""Between two looks for a broker."""


@dataclass(frozen=True, slots=True)
class SentRecord:
    """Where a message lies in the log now (acknowledged by all in-sync replicas)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def wire_headers(message: Message) -> list[tuple[str, bytes]]:
    """The headers as kafka-python takes them."""
    return list(message.headers)


def wire_size(message: Message) -> int:
    """Bytes of the record in a batch of its own, before compression: what the broker holds against its limit."""
    key = message.key.encode()
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, message.value, wire_headers(message)))


def check_size(topic_name: str, message: Message, limit_bytes: int) -> int:
    """The size of the record; RecordTooLarge when the topic does not take it."""
    size = wire_size(message)
    if size > limit_bytes:
        raise RecordTooLarge(
            f"a record of {message.key!r} for {topic_name} has {size} bytes, and the topic takes {limit_bytes}",
            mend="raise max_message of the topic (passerby topics apply), or send less: smaller pictures, jpeg",
            key=message.key,
        )
    return size


class KafkaProducer(Generic[T]):
    """base.Producer over Kafka; made by ``KafkaBus.producer``. Safe to use from several threads."""

    def __init__(
        self,
        topic: Topic[T],
        open_client: Callable[[], Client],
        *,
        limit_bytes: int,
        on_sent: Callable[[Message, SentRecord | BusError], None] | None,
        block_s: float,
        max_waiting_bytes: int,
    ) -> None:
        self.topic = topic
        self._open_client = open_client
        self._limit_bytes = limit_bytes
        self._on_sent = on_sent
        self._block_s = block_s
        self._max_waiting_bytes = max_waiting_bytes
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._waiting = 0
        self._waiting_bytes = 0
        self._closed = False
        self._trouble: BusError | None = None  # why there is no client yet
        self._failed: BusError | None = None  # what became of a record when nobody listens
        self._opener = threading.Thread(target=self._open, name=f"kafka-open-{topic.name}", daemon=True)
        self._opener.start()

    def send(self, key: str, value: T) -> None:
        """Encode and append; wait while ``max_waiting_bytes`` are unacknowledged.

        Raises RecordTooLarge before anything is sent, BusUnavailable after ``block_s`` without room or broker,
        BusError when closed. What happens to the record afterwards ``on_sent`` hears (without one: the next send or
        flush raises it).
        """
        self.send_message(self.topic.encode(key, value))

    def try_send(self, key: str, value: T) -> bool:
        """Append if there is room (and a broker was met once); say whether it was done."""
        return self.try_send_message(self.topic.encode(key, value))

    def send_message(self, message: Message, partition: int | None = None) -> None:
        """Append a message as it is (a value of None deletes the key), to ``partition`` or by key; else as ``send``."""
        self._append(message, partition, self._block_s)

    def try_send_message(self, message: Message, partition: int | None = None) -> bool:
        """``send_message`` if there is room; say whether there was."""
        return self._append(message, partition, 0)

    def flush(self, timeout_s: float = 60) -> None:
        """Wait until everything sent so far is acknowledged or failed; BusUnavailable when that takes longer."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._waiting == 0, timeout_s)
            waiting = self._waiting
            self._raise_failed()
        if not done:
            raise BusUnavailable(f"{waiting} records of {self.topic.name} are not acknowledged after {timeout_s:g} s")

    @property
    def waiting(self) -> int:
        """Records sent and not yet acknowledged or failed."""
        with self._changed:
            return self._waiting

    @property
    def waiting_bytes(self) -> int:
        """Their bytes."""
        with self._changed:
            return self._waiting_bytes

    @property
    def connected(self) -> bool:
        """A broker was met and the topic is there; it may be away again."""
        with self._changed:
            return self._client is not None

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until a broker was met; say whether. Raises what does not pass by itself (BusDenied, TopicMissing)."""
        with self._changed:
            self._changed.wait_for(lambda: self._client is not None or self._hopeless() or self._closed, timeout_s)
            if self._client is None:
                self._raise_hopeless()
            return self._client is not None

    def close(self, timeout_s: float = 10) -> None:
        """Send what waits (for up to ``timeout_s``; the rest fails into ``on_sent``) and leave."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._opener.join()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting == 0, timeout_s if self._client else 0)
        if self._client is not None:
            shut_producer(self._client)

    # ------------------------------------------------------------------------------------------- the client

    def _open(self) -> None:
        while not self._closed:
            try:
                client = self._open_client()
            except BusError as trouble:
                self._wait_after(trouble)
                continue
            mend_producer(client)
            trouble_here = self._topic_there(client)
            with self._changed:
                if trouble_here is None and not self._closed:
                    self._client = client
                    self._trouble = None
                    self._changed.notify_all()
                    return
            shut_producer(client)
            if trouble_here is not None:
                self._wait_after(trouble_here)

    def _topic_there(self, client: Client) -> BusError | None:
        """Fetch where the topic lies, so that ``send`` never waits for it."""
        try:
            client.partitions_for(self.topic.name)
        except kafka_errors.KafkaTimeoutError:
            return translate(kafka_errors.UnknownTopicOrPartitionError(self.topic.name), f"send to {self.topic.name}")
        except kafka_errors.KafkaError as error:
            return translate(error, f"send to {self.topic.name}")
        return None

    def _wait_after(self, trouble: BusError) -> None:
        with self._changed:
            if self._trouble is None or str(self._trouble) != str(trouble):
                _log.warning("%s", trouble)
            self._trouble = trouble
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed, RETRY_S)

    # ------------------------------------------------------------------------------------------- a record's way

    def _append(self, message: Message, partition: int | None, block_s: float) -> bool:
        size = check_size(self.topic.name, message, self._limit_bytes)
        client = self._reserve(size, block_s)
        if client is None:
            return False
        try:
            with ours(f"send to {self.topic.name}"):
                future = client.send(
                    self.topic.name, message.value, message.key.encode(), wire_headers(message), partition
                )
        except BusError:
            self._release(size)
            raise
        future.add_callback(self._acknowledged, message, size).add_errback(self._not_sent, message, size)
        return True

    def _reserve(self, size: int, block_s: float) -> Client | None:
        """Room for ``size`` bytes; None when there is none (only if asked not to wait)."""
        until = time.monotonic() + block_s
        with self._changed:
            while True:
                if self._closed:
                    raise BusError(f"the producer of {self.topic.name} is closed")
                self._raise_failed()
                full = self._waiting > 0 and self._waiting_bytes + size > self._max_waiting_bytes
                if self._client is not None and not full:
                    self._waiting += 1
                    self._waiting_bytes += size
                    return self._client
                self._raise_hopeless()
                left = until - time.monotonic()
                if block_s == 0:
                    return None
                if left <= 0:
                    raise self._no_room(block_s)
                self._changed.wait(left)

    def _hopeless(self) -> bool:
        """Waiting does not help: somebody has to do something first."""
        return self._trouble is not None and not self._trouble.retriable

    def _raise_hopeless(self) -> None:
        if self._trouble is not None and self._hopeless():
            raise self._trouble

    def _no_room(self, block_s: float) -> BusError:
        if self._client is None:
            return self._trouble or BusUnavailable(f"cannot send to {self.topic.name}: no broker after {block_s:g} s")
        waiting = f"{self._waiting} records ({self._waiting_bytes} bytes) are unacknowledged"
        return BusUnavailable(f"cannot send to {self.topic.name}: {waiting}, and none was within {block_s:g} s")

    def _acknowledged(self, message: Message, size: int, told: RecordMetadata) -> None:
        self._tell(message, SentRecord(told.topic, told.partition, told.offset, told.timestamp), size)

    def _not_sent(self, message: Message, size: int, error: BaseException) -> None:
        trouble = translate(error, f"send to {self.topic.name}")
        if self._on_sent is None:
            with self._changed:
                self._failed = self._failed or trouble
        self._tell(message, trouble, size)

    def _tell(self, message: Message, what: SentRecord | BusError, size: int) -> None:
        try:
            if self._on_sent is not None:
                self._on_sent(message, what)
        finally:
            self._release(size)

    def _release(self, size: int) -> None:
        with self._changed:
            self._waiting -= 1
            self._waiting_bytes -= size
            self._changed.notify_all()

    def _raise_failed(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed

    def __enter__(self) -> KafkaProducer[T]:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def producer_arguments(
    limit_bytes: int, *, compression: str | None, delivery_timeout_s: float, extra: Sequence[tuple[str, Any]] = ()
) -> dict[str, Any]:
    """What producers of kafka-python are told beside the settings of every client."""
    request_ms = int(min(30.0, max(1.0, delivery_timeout_s / 2)) * 1000)
    return {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": compression,
        "batch_size": 1 << 20,
        "linger_ms": 5,
        # A batch of one record has some 70 bytes around it that the record's own size does not count.
        "max_request_size": limit_bytes + 1024,
        "max_block_ms": 5_000,
        "request_timeout_ms": request_ms,
        "delivery_timeout_ms": max(int(delivery_timeout_s * 1000), request_ms + 5),
        **dict(extra),
    }
