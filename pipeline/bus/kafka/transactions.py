"""Records and consumed offsets in one transaction (KIP-447).

The commit, step by step; what fails before step 5 aborts, what fails in step 5 is decided by the broker:

1. begin
2. send the records (they go out while more are made)
3. send_offsets_to_transaction with the consumer's group metadata: the broker refuses an old generation here
4. flush, and look at every record's answer: kafka-python would commit without a record whose delivery timed out
5. end the transaction

A producer whose transaction was aborted is not used again: kafka-python keeps refused offsets and puts them into the
next transaction, when the partitions may be another worker's; and what is still on its way to a broker would count
with the next transaction of the same epoch. A new producer has a new epoch, which fences both.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer as Client
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.producer.future import FutureRecordMetadata
from kafka.structs import OffsetAndMetadata

from pipeline.bus.base import Message
from pipeline.bus.kafka.consumer import KafkaConsumer
from pipeline.bus.kafka.errors import translate
from pipeline.bus.kafka.producer import check_size, wire_headers, wire_size
from pipeline.bus.kafka.repairs import mend_transactions, shut_producer
from pipeline.errors import BusError, BusUnavailable, Fenced, RecordTooLarge, TransactionAborted

_log = logging.getLogger(__name__)
_READY_S = 60.0
_TAKEN_OVER = (
    kafka_errors.ProducerFencedError,
    kafka_errors.InvalidProducerEpochError,
    kafka_errors.TransactionCoordinatorFencedError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.UnknownMemberIdError,
)
_Record = tuple[str, Message, int | None]
_REJOIN_S = 2.0
"""How long a commit waits for a rejoin that is under way, so as not to be refused for an old generation."""
_WRONG = (kafka_errors.KafkaError, OSError, RuntimeError, ValueError, AssertionError, TypeError)


class Transaction:
    """An open transaction; made by ``KafkaTransactions.transaction``."""

    def __init__(self, client: Client, limit_bytes: Callable[[str], int]) -> None:
        self._client = client
        self._limit_bytes = limit_bytes
        self.next_offsets: dict[int, int] = {}
        self.sent: list[tuple[_Record, FutureRecordMetadata]] = []

    def send(self, topic_name: str, message: Message, partition: int | None = None) -> None:
        """Send within the transaction, to ``partition`` or by key. Raises RecordTooLarge before anything is sent."""
        check_size(topic_name, message, self._limit_bytes(topic_name))
        self._send((topic_name, message, partition))

    def offsets(self, next_offsets: Mapping[int, int]) -> None:
        """Commit these next offsets of the consumer's partitions with the transaction (several calls add up)."""
        self.next_offsets.update(next_offsets)

    def again(self, client: Client) -> Transaction:
        """The same once more, in the transaction that is open with ``client``."""
        copy = Transaction(client, self._limit_bytes)
        for record, _ in self.sent:
            copy._send(record)
        copy.offsets(self.next_offsets)
        return copy

    def _send(self, record: _Record) -> None:
        topic_name, message, partition = record
        value, headers = message.value, wire_headers(message)
        self.sent.append((record, self._client.send(topic_name, value, message.key.encode(), headers, partition)))


class KafkaTransactions:
    """One transactional producer beside one consumer; made by ``KafkaBus.transactions``. Belongs to one thread."""

    def __init__(
        self,
        transactional_id: str,
        consumer: KafkaConsumer[Any],
        open_client: Callable[[], Client],
        *,
        limit_bytes: Callable[[str], int],
        timeout_s: float,
    ) -> None:
        self.transactional_id = transactional_id
        self._consumer = consumer
        self._open_client = open_client
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self._fenced: Fenced | None = None
        self._closed = False
        self._owner = threading.Lock()
        self._ready(time.monotonic() + _READY_S)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin; commit at the end of the block; abort when the block raises.

        Raises Fenced (we are a zombie: drop all, close, rejoin), RecordTooLarge (aborted: the broker does not take a
        record) or TransactionAborted. The latter says that nothing
        counted, or that nobody confirmed the commit: either way the committed offsets are decided when it is raised
        or soon after (``KafkaBus.committed`` waits for that), and tell which; restore from them and go on. After
        TransactionAborted a new transaction may begin; after Fenced none. BusUnavailable: none was begun.
        """
        if not self._owner.acquire(blocking=False):
            raise BusError("a transaction is open already: one after the other")
        try:
            client = self._ready(time.monotonic() + self._timeout_s)
            try:
                client.begin_transaction()
            except _WRONG as error:
                raise self._failed(error, "begin") from error
            transaction = Transaction(client, self._limit_bytes)
            try:
                yield transaction
            except kafka_errors.KafkaError as error:  # from Transaction.send: the transaction itself is broken
                raise self._failed(error, "send") from error
            except BaseException:
                self._abort()
                raise
            self._commit(client, transaction)
        finally:
            self._owner.release()

    def close(self) -> None:
        """Abort what is open and leave."""
        if not self._closed:
            self._closed = True
            if self._client is not None:
                shut_producer(self._client)
                self._client = None

    # ------------------------------------------------------------------------------------------- the client

    def _ready(self, until: float) -> Client:
        """A producer whose earlier transactions are decided; a new one after trouble."""
        if self._closed:
            raise BusError(f"the transactions of {self.transactional_id} are closed")
        if self._fenced is not None:
            raise self._fenced
        while self._client is None:
            try:
                self._client = self._initialised(max(1.0, until - time.monotonic()))
            except BusUnavailable:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.2)
        return self._client

    def _initialised(self, timeout_s: float) -> Client:
        client = self._open_client()
        mend_transactions(client)
        client.config["max_block_ms"] = int(timeout_s * 1000)
        try:
            client.init_transactions()
        except _WRONG as error:
            shut_producer(client)
            raise translate(error, f"take over the transactions of {self.transactional_id}") from error
        client.config["max_block_ms"] = int(self._timeout_s * 1000)
        return client

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            shut_producer(client)

    # ------------------------------------------------------------------------------------------- the way out

    def _commit(self, client: Client, transaction: Transaction) -> None:
        until = time.monotonic() + self._timeout_s
        try:
            try:
                self._prepare(client, transaction, until)
            except _WRONG as error:
                cause = self._cause(error)
                if not self._may_repeat(cause, transaction):
                    raise cause from error
                client = self._ready(until)
                client.begin_transaction()
                self._prepare(client, transaction.again(client), until)
        except RecordTooLarge:
            self._abort()
            raise
        except BusUnavailable as error:
            raise TransactionAborted(f"transaction of {self.transactional_id} aborted: {error}") from error
        except _WRONG as error:
            raise self._failed(error, "send records and offsets") from error
        try:
            result = client._transaction_manager.begin_commit()
            client._sender.wakeup()
            _await(result, until)
        except _WRONG as error:
            raise self._undecided(error) from error

    def _prepare(self, client: Client, transaction: Transaction, until: float) -> None:
        """Steps 3 and 4: everything is at the broker, and only the end is missing."""
        if transaction.next_offsets:
            topic = self._consumer.topic.name
            offsets = {
                TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in transaction.next_offsets.items()
            }
            member = self._consumer.settled_metadata(_REJOIN_S)
            result = client._transaction_manager.send_offsets_to_transaction(offsets, member)
            client._sender.wakeup()
            _await(result, until)
        client.flush(timeout=max(0.1, until - time.monotonic()))
        for (topic_name, _, _), future in transaction.sent:
            if not future.is_done:
                raise kafka_errors.KafkaTimeoutError(f"a record of {topic_name} has no answer")
            if isinstance(future.exception, kafka_errors.MessageSizeTooLargeError):
                raise _refused(transaction)
            if future.exception is not None:
                raise future.exception

    def _may_repeat(self, cause: BaseException, transaction: Transaction) -> bool:
        """The group went on to its next generation while we sent the offsets under the last one, and the partitions
        were ours all the time: what is aborted here is as right as before."""
        if not (isinstance(cause, kafka_errors.CommitFailedError) and "IllegalGeneration" in str(cause)):
            return False
        self._abort()
        self._consumer.settled_metadata(_REJOIN_S)
        return self._consumer.still_ours(transaction.next_offsets)

    def _abort(self) -> None:
        """Abort, so that nobody waits for what is open, and throw the producer away: see the module. Where aborting
        fails, the next producer aborts in its stead."""
        if self._client is None:
            return
        try:
            result = self._client._transaction_manager.begin_abort()
            self._client._sender.wakeup()
            _await(result, time.monotonic() + min(5.0, self._timeout_s))
        except _WRONG as error:
            _log.warning("transaction of %s: aborting failed: %s", self.transactional_id, error)
        self._discard()

    def _failed(self, error: BaseException, step: str) -> BusError:
        """What went wrong before the commit was asked for: surely nothing of the transaction counts."""
        cause = self._cause(error)
        fenced = self._taken_over(cause, step)
        if fenced is not None:
            return fenced
        self._abort()
        told = translate(cause, step)
        return TransactionAborted(f"transaction of {self.transactional_id} aborted: {told}")

    def _undecided(self, error: BaseException) -> BusError:
        """The commit was asked for and not confirmed: a new producer of the same id makes the broker decide."""
        cause = self._cause(error)
        fenced = self._taken_over(cause, "commit")
        if fenced is not None:
            return fenced
        self._discard()
        try:
            self._client = self._initialised(min(10.0, self._timeout_s))
        except BusError as later:
            _log.warning("%s", later)  # the next transaction tries again
        told = translate(cause, "commit")
        return TransactionAborted(f"transaction of {self.transactional_id} was not confirmed: {told}")

    def _cause(self, error: BaseException) -> BaseException:
        """kafka-python says "in an error state"; its manager knows why."""
        manager = self._client._transaction_manager if self._client is not None else None
        last = manager.last_error if manager is not None else None
        return last if isinstance(last, BaseException) else error

    def _taken_over(self, cause: BaseException, step: str) -> Fenced | None:
        unknown = isinstance(cause, kafka_errors.CommitFailedError) and "UnknownMemberId" in str(cause)
        if not unknown and not isinstance(cause, _TAKEN_OVER):
            return None
        if isinstance(cause, kafka_errors.FencedInstanceIdError) or unknown:
            self._abort()  # the producer is still ours: give the offsets free at once
        self._discard()
        self._fenced = Fenced(f"transaction of {self.transactional_id}: {translate(cause, step)}")
        return self._fenced

    def __enter__(self) -> KafkaTransactions:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _refused(transaction: Transaction) -> RecordTooLarge:
    """The broker takes less than is declared. It refuses a batch; the largest record of those refused is named."""
    too_large = [
        record for record, future in transaction.sent
        if isinstance(future.exception, kafka_errors.MessageSizeTooLargeError)
    ]  # fmt: skip
    topic_name, message, _ = max(too_large, key=lambda record: wire_size(record[1]))
    return RecordTooLarge(
        f"a record of {message.key!r} for {topic_name} has {wire_size(message)} bytes, and the broker takes fewer",
        mend="its topic is not as declared: passerby topics apply", key=message.key,
    )  # fmt: skip


def _await(result: Any, until: float) -> None:
    if not result.wait(timeout_ms=max(0.0, until - time.monotonic()) * 1000):
        raise kafka_errors.KafkaTimeoutError("no answer in time")
