"""Records and offsets together or not at all, and zombies kept out."""

# ruff: noqa: PT012 - a transaction is a block, and what it holds is part of what fails
from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.bus.base import Message
from pipeline.bus.kafka import KafkaBus, KafkaTransactions
from pipeline.bus.kafka.errors import kafka_errors
from pipeline.errors import BusError, BusUnavailable, Fenced, RecordTooLarge, TransactionAborted
from tests.broker import Broker
from tests.bus.kafka_log import Remembers, bus_with, committed_values, poll_until, texts, values

pytestmark = pytest.mark.kafka


def fill(bus: KafkaBus, prefix: str, count: int) -> None:
    producer = bus.producer(texts(f"{prefix}.in"))
    for n in range(count):
        producer.send_message(Message(f"camera-{n % 2}", f"{n}".encode()), n % 2)
    producer.flush(20)


@contextmanager
def polled_four(broker: Broker, prefix: str, timeout_s: float = 15) -> Iterator[tuple[KafkaBus, KafkaTransactions]]:
    """A worker that has polled two records of each partition of ``in``, and its transactions."""
    with bus_with(broker, prefix, "in", "out") as bus:
        fill(bus, prefix, 4)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g")
        transactions = bus.transactions(f"{prefix}.tx", consumer, timeout_s=timeout_s)
        poll_until(consumer, 4)
        yield bus, transactions


def test_records_and_offsets_are_seen_together_after_the_commit(broker: Broker, prefix: str) -> None:
    out = texts(f"{prefix}.out")
    with polled_four(broker, prefix) as (bus, transactions):
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"a", (("ce_id", b"1"),)))
            transaction.send(out.name, Message("gate", b"b"), partition=1)
            transaction.offsets({0: 2})
            transaction.offsets({1: 2})
            assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {}
        assert sorted(map(str, committed_values(bus, out))) == ["a", "b"]
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {0: 2, 1: 2}


def test_an_aborted_transaction_leaves_nothing_and_the_next_one_goes_on(broker: Broker, prefix: str) -> None:
    out = texts(f"{prefix}.out")
    with polled_four(broker, prefix) as (bus, transactions):
        with pytest.raises(ZeroDivisionError), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"never"))
            transaction.offsets({0: 2})
            raise ZeroDivisionError
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"good"))
            transaction.offsets({0: 1})
        assert committed_values(bus, out) == ["good"]
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {0: 1}
        with transactions.transaction():
            pass
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {0: 1}


def test_a_record_that_is_too_large_aborts_its_transaction_only(broker: Broker, prefix: str) -> None:
    out = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "in", "out") as bus:
        bus.declare_limit(out.name, 1_000)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g")
        transactions = bus.transactions(f"{prefix}.tx", consumer)
        with (
            pytest.raises(RecordTooLarge, match=r"2\d{3} bytes.*takes 1000") as caught,
            transactions.transaction() as transaction,
        ):
            transaction.send(out.name, Message("gate", b"small"))
            transaction.send(out.name, Message("gate", bytes(2_000)))
        assert caught.value.key == "gate"
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"good"))
        assert committed_values(bus, out) == ["good"]


def test_a_record_that_only_the_broker_finds_too_large_is_named_and_its_transaction_aborted(
    broker: Broker, prefix: str
) -> None:
    out = texts(f"{prefix}.out")
    with polled_four(broker, prefix) as (bus, transactions):
        bus.admin().alter(out.name, {"max.message.bytes": "2000"})
        noise = random.Random(1).randbytes(5_000)  # nothing that compresses
        with pytest.raises(RecordTooLarge, match="the broker takes fewer") as caught, transactions.transaction() as t:
            t.send(out.name, Message("gate", b"small"), 0)
            t.send(out.name, Message("yard", noise), 1)
            t.offsets({0: 2})
        assert caught.value.key == "yard"
        with transactions.transaction() as t:
            t.send(out.name, Message("gate", b"good"))
            t.offsets({0: 1})
        assert committed_values(bus, out) == ["good"]
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {0: 1}


def test_two_transactions_at_once_are_refused(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g")
        transactions = bus.transactions(f"{prefix}.tx", consumer)
        one_by_one = pytest.raises(BusError, match="one after the other")
        with transactions.transaction(), one_by_one, transactions.transaction():
            pass
        transactions.close()
        with pytest.raises(BusError, match="closed"), transactions.transaction():
            pass


def test_a_zombie_with_the_same_transactional_id_is_fenced(broker: Broker, prefix: str) -> None:
    out = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "in", "out") as bus:
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g")
        zombie = bus.transactions(f"{prefix}.tx", consumer)
        with pytest.raises(Fenced), zombie.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"zombie"))
            successor = bus.transactions(f"{prefix}.tx", consumer)
            transaction.send(out.name, Message("gate", b"zombie too"))
        with pytest.raises(Fenced), zombie.transaction():
            pass
        with successor.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"successor"))
        assert committed_values(bus, out) == ["successor"]


def test_offsets_of_an_old_generation_are_refused_and_nothing_is_published(broker: Broker, prefix: str) -> None:
    """A worker that the group has given up on has a producer of its own id: only its generation betrays it."""
    out, taken = texts(f"{prefix}.out"), texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", "out") as bus, KafkaBus(bus.settings, client_id="other") as other:
        fill(bus, prefix, 4)
        zombie = bus.consumer(taken, f"{prefix}.g", listener=Remembers(), session_timeout_s=2)
        transactions = bus.transactions(f"{prefix}.zombie", zombie)
        poll_until(zombie, 4)
        stale = zombie.group_metadata()
        zombie.close()
        heir = other.consumer(taken, f"{prefix}.g")
        poll_until(heir, 4)
        zombie.group_metadata = lambda: stale  # type: ignore[method-assign]
        with pytest.raises(Fenced), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"zombie"))
            transaction.offsets({0: 2, 1: 2})
        with other.transactions(f"{prefix}.heir", heir).transaction() as transaction:
            transaction.send(out.name, Message("gate", b"heir"))
            transaction.offsets({0: 2, 1: 2})
        assert committed_values(bus, out) == ["heir"]
        assert bus.committed(f"{prefix}.g", taken.name) == {0: 2, 1: 2}


def test_the_committed_offsets_wait_for_a_transaction_that_is_open(broker: Broker, prefix: str) -> None:
    taken = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in") as bus, KafkaBus(bus.settings, client_id="other") as other:
        fill(bus, prefix, 4)
        consumer = bus.consumer(taken, f"{prefix}.g")
        transactions = bus.transactions(f"{prefix}.tx", consumer)
        poll_until(consumer, 4)
        answers: list[dict[int, int]] = []
        asking = threading.Thread(target=lambda: answers.append(other.committed(f"{prefix}.g", taken.name)))
        client = transactions._client
        assert client is not None
        client.begin_transaction()
        offsets = {_at(taken.name, 0): _offset(2)}  # as KafkaTransactions does it, stopped before the end
        client.send_offsets_to_transaction(offsets, consumer.group_metadata())
        with pytest.raises(BusUnavailable):
            other.committed(f"{prefix}.g", taken.name, timeout_s=0.5)
        asking.start()
        time.sleep(0.5)
        assert answers == []
        client.commit_transaction()
        asking.join(20)
        assert answers == [{0: 2}]


def _at(topic: str, partition: int) -> object:
    from kafka import TopicPartition

    return TopicPartition(topic, partition)


def _offset(offset: int) -> object:
    from kafka.structs import OffsetAndMetadata

    return OffsetAndMetadata(offset, "", -1)


def test_a_transaction_that_is_open_for_too_long_is_aborted_by_the_broker(broker: Broker, prefix: str) -> None:
    """The library would heal the epoch by itself and then call the lost transaction committed."""
    if not broker.ours:
        pytest.skip("needs a broker that looks for hanging transactions every second")
    out = texts(f"{prefix}.out")
    with polled_four(broker, prefix, timeout_s=2) as (bus, transactions):
        with pytest.raises((Fenced, TransactionAborted)), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"early"))
            time.sleep(5)
            transaction.send(out.name, Message("gate", b"late"))
            transaction.offsets({0: 2})
        assert committed_values(bus, out) == []
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {}


def test_a_record_that_was_not_delivered_is_not_committed_around(broker: Broker, prefix: str) -> None:
    """The library fails the record and commits the rest: a delivery timeout is "retriable" to it."""
    out = texts(f"{prefix}.out")
    with polled_four(broker, prefix) as (bus, transactions):
        with pytest.raises(TransactionAborted, match="delivery timeout"), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"delivered"))
            assert transactions._client is not None
            transactions._client.flush(10)
            transaction.send(out.name, Message("gate", b"lost on the way"))
            transaction.sent[-1][1].failure(kafka_errors.KafkaTimeoutError("delivery timeout"))
            transaction.offsets({0: 2})
        assert committed_values(bus, out) == []
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"again"))
            transaction.offsets({0: 2})
        assert committed_values(bus, out) == ["again"]


@pytest.mark.slow
def test_a_broker_that_dies_in_the_middle_decides_each_transaction_once(mortal_broker: Broker, prefix: str) -> None:
    """Every record is published once, whatever the outage does to the commit that was under way."""
    broker = mortal_broker
    out, taken = texts(f"{prefix}.out"), texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", "out") as bus:
        fill(bus, prefix, 200)
        killer = threading.Timer(1.0, lambda: (broker.kill(), broker.start()))
        killer.start()
        published, restarts = 0, 0
        consumer = bus.consumer(taken, f"{prefix}.g")
        transactions = bus.transactions(f"{prefix}.tx", consumer, timeout_s=10)
        back_since = time.monotonic()
        while published < 200 and time.monotonic() - back_since < 90:
            if killer.is_alive():  # the broker is not back yet: how long that takes is not what is tested
                back_since = time.monotonic()
            try:
                records = consumer.poll(0.2, 4)
                if not records:
                    continue
                with transactions.transaction() as transaction:
                    for record in records:
                        transaction.send(out.name, Message(record.key, str(record.value).encode()))
                    transaction.offsets({record.partition: record.offset + 1 for record in records})
                time.sleep(0.02)
            except BusError:  # drop everything, come back, go on from the committed offsets
                restarts += 1
                transactions.close()
                consumer.close()
                killer.join()
                consumer = bus.consumer(taken, f"{prefix}.g")
                transactions = bus.transactions(f"{prefix}.tx", consumer, timeout_s=10)
            published = sum(bus.committed(f"{prefix}.g", taken.name).values()) if not killer.is_alive() else 0
        killer.join()
        seen = committed_values(bus, out)
        assert sorted(map(str, seen), key=int) == [f"{n}" for n in range(200)]
        assert values(poll_until(consumer, 1, patience_s=1)) == []


def test_a_commit_that_meets_a_new_generation_is_repeated_while_the_partitions_are_ours(
    broker: Broker, prefix: str
) -> None:
    out = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "in", "out") as bus:
        fill(bus, prefix, 4)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", listener=Remembers())
        transactions = bus.transactions(f"{prefix}.tx", consumer)
        poll_until(consumer, 4)
        member = consumer.group_metadata()
        answers = [member._replace(generation_id=member.generation_id - 1)]
        consumer.group_metadata = lambda: answers.pop() if answers else member  # type: ignore[method-assign]
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"once"), partition=1)
            transaction.offsets({0: 2, 1: 1})
        assert committed_values(bus, out) == ["once"]
        assert bus.committed(f"{prefix}.g", f"{prefix}.in") == {0: 2, 1: 1}
        consumer._thread.settle("lost", (1,))
        answers.append(member._replace(generation_id=member.generation_id - 1))
        with pytest.raises(TransactionAborted), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"not ours any more"), partition=1)
            transaction.offsets({1: 2})
        assert committed_values(bus, out) == ["once"]


def test_what_a_refused_commit_said_is_not_said_by_the_next(broker: Broker, prefix: str) -> None:
    """The library keeps refused offsets, and puts them into the next transaction: by then they are another worker's."""
    out, group = texts(f"{prefix}.out"), f"{prefix}.g"
    with bus_with(broker, prefix, "in", "out") as bus:
        fill(bus, prefix, 4)
        consumer = bus.consumer(texts(f"{prefix}.in"), group, listener=Remembers())
        transactions = bus.transactions(f"{prefix}.tx", consumer)
        poll_until(consumer, 4)
        member = consumer.group_metadata()
        answers = 4 * [member._replace(generation_id=member.generation_id - 1)]  # the group moves on again and again
        consumer.group_metadata = lambda: answers.pop() if answers else member  # type: ignore[method-assign]
        with pytest.raises(TransactionAborted), transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"never"), partition=1)
            transaction.offsets({0: 2, 1: 1})
        answers.clear()
        with transactions.transaction() as transaction:
            transaction.send(out.name, Message("gate", b"once"), partition=1)
            transaction.offsets({0: 2})
        assert committed_values(bus, out) == ["once"]
        assert bus.committed(group, f"{prefix}.in") == {0: 2}, "partition 1 was not in it"
