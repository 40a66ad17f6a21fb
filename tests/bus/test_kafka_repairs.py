"""The repairs of kafka-python hang on its insides: each is read again before another version is taken."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bus.kafka.errors import kafka_errors
from pipeline.bus.kafka.repairs import mend_consumer, mend_producer, mend_transactions


def test_the_version_is_the_one_whose_faults_were_read() -> None:
    from kafka.version import __version__

    assert __version__ == "3.0.12", "read docs/decisions/0071 and pipeline/bus/kafka/repairs.py against the new version"


@pytest.fixture
def manager() -> Any:
    """A real TransactionManager of an idempotent producer that has its id."""
    from kafka.producer.transaction_manager import ProducerIdAndEpoch, TransactionManager, TransactionState

    manager = TransactionManager(api_version=(4, 1))
    manager._current_state = TransactionState.READY
    manager.set_producer_id_and_epoch(ProducerIdAndEpoch(7, 0))
    return manager


class Sender:
    """What a producer's sender has of what is mended."""

    class Client:
        def poll(self, timeout_ms: Any = None, future: Any = None) -> str:
            return "polled"

    class Accumulator:
        expired: tuple[str, ...] = ()

        def expired_batches(self) -> tuple[str, ...]:
            return self.expired

    def __init__(self) -> None:
        self._client, self._accumulator = self.Client(), self.Accumulator()
        self.completed: list[tuple[str, Exception]] = []

    def _complete_batch_with_exception(self, batch: str, error: Exception) -> None:
        self.completed.append((batch, error))


class Producer:
    """Manager and sender together."""

    def __init__(self, manager: Any) -> None:
        self._transaction_manager, self._sender = manager, Sender()


def test_a_producer_that_gave_its_id_away_asks_for_another(manager: Any) -> None:
    manager.reset_producer_id()
    manager.init_producer_id()
    assert manager._pending_requests == [], "the library has mended it: the repair can go"
    mend_producer(Producer(manager))
    manager.reset_producer_id()
    manager.init_producer_id()
    assert len(manager._pending_requests) == 1


def test_batches_expire_without_a_producer_id_and_not_twice_with_one(manager: Any) -> None:
    producer = Producer(manager)
    mend_producer(producer)
    producer._sender._accumulator.expired = ("batch",)
    assert producer._sender._client.poll(timeout_ms=1) == "polled"
    assert producer._sender.completed == []
    manager.reset_producer_id()
    producer._sender._client.poll(timeout_ms=1)
    ((batch, error),) = producer._sender.completed
    assert (batch, type(error)) == ("batch", kafka_errors.KafkaTimeoutError)


def test_a_refused_record_is_not_the_end_of_the_producer_but_fencing_is(manager: Any) -> None:
    refused = kafka_errors.MessageSizeTooLargeError()
    assert manager.classify_batch_error(refused, None) == manager.ERROR_CLASS_FATAL, "mended: the repair can go"
    mend_producer(Producer(manager))
    assert manager.classify_batch_error(refused, None) == manager.ERROR_CLASS_NEEDS_EPOCH_BUMP
    assert manager.classify_batch_error(kafka_errors.ProducerFencedError(), None) == manager.ERROR_CLASS_FATAL
    assert manager.classify_batch_error(kafka_errors.NotLeaderForPartitionError(), None) == "RETRIABLE"


def test_a_transaction_is_never_healed_behind_our_back() -> None:
    from kafka.producer.transaction_manager import TransactionManager

    manager = TransactionManager(transactional_id="tx", api_version=(4, 1))
    error = kafka_errors.InvalidProducerEpochError()
    assert manager.classify_batch_error(error, None) == manager.ERROR_CLASS_NEEDS_EPOCH_BUMP
    mend_transactions(Producer(manager))
    assert manager.classify_batch_error(error, None) == manager.ERROR_CLASS_FATAL


class Coordinator:
    """What a consumer's coordinator has of what is mended."""

    def __init__(self) -> None:
        self.rejoining, self.needed, self.resets = False, False, 0

    def reset_generation(self, member_id: str = "") -> None:
        self.resets += 1

    def need_rejoin(self) -> bool:
        return self.needed

    def _handle_heartbeat_response(self, response: Any, send_time: float) -> Any:
        if isinstance(response, Exception):
            raise response
        return response


class Consumer:
    """Has a coordinator."""

    def __init__(self) -> None:
        self._coordinator = Coordinator()


def test_a_rejoin_under_way_is_needed_until_it_is_done() -> None:
    consumer = Consumer()
    mend_consumer(consumer, lambda error: None)
    coordinator = consumer._coordinator
    assert not coordinator.need_rejoin()
    coordinator.rejoining = True
    assert coordinator.need_rejoin()
    coordinator.reset_generation()
    assert not coordinator.rejoining, "thrown out while rejoining: the partitions have to be called lost"
    assert coordinator.resets == 1


def test_a_fenced_heartbeat_is_heard_and_others_pass() -> None:
    heard: list[BaseException] = []
    consumer = Consumer()
    mend_consumer(consumer, heard.append)
    assert consumer._coordinator._handle_heartbeat_response("fine", 0.0) == "fine"
    fenced = kafka_errors.FencedInstanceIdError("twin")
    with pytest.raises(kafka_errors.FencedInstanceIdError):
        consumer._coordinator._handle_heartbeat_response(fenced, 0.0)
    with pytest.raises(kafka_errors.RebalanceInProgressError):
        consumer._coordinator._handle_heartbeat_response(kafka_errors.RebalanceInProgressError(), 0.0)
    assert heard == [fenced]
