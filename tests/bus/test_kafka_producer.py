"""What becomes of a record: acknowledged, refused or given up, and told in order."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.bus.base import Message
from pipeline.bus.kafka import KafkaBus, SentRecord
from pipeline.errors import BusError, BusUnavailable, RecordTooLarge, TopicMissing
from tests.broker import Broker
from tests.bus.kafka_log import bus_with, committed_values, poll_until, texts, values, wait_for

pytestmark = pytest.mark.kafka
Told = list[tuple[Message, SentRecord | BusError]]


def test_every_record_is_told_where_it_lies_and_in_order(broker: Broker, prefix: str) -> None:
    told: Told = []
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in") as bus:
        producer = bus.producer(topic, on_sent=lambda message, where: told.append((message, where)))
        for n in range(50):
            producer.send("gate", f"{n}")
        producer.send_message(Message("gate", None, (("why", b"deleted"),)), partition=1)
        producer.flush(20)
        assert (producer.waiting, producer.waiting_bytes) == (0, 0)
        by_key = [where for message, where in told if message.value is not None]
        assert [where.offset for where in by_key if isinstance(where, SentRecord)] == list(range(50))
        assert [message.value for message, _ in told if message.value] == [f"{n}".encode() for n in range(50)]
        with bus.reader(topic) as reader:
            home = reader.partition_of("gate")
            assert {where.partition for where in by_key if isinstance(where, SentRecord)} == {home}
            last = next(where for message, where in told if message.value is None)
            assert isinstance(last, SentRecord)
            assert last.partition == 1
            assert abs(last.timestamp_ms / 1000 - time.time()) < 60


def test_windows_of_every_size_up_to_the_limit_arrive_whole(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.in")
    limit = 3 << 20
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        bus.admin().create(topic.name, 1, 1, {"max.message.bytes": str(limit)})
        bus.declare_limit(topic.name, limit)
        producer = bus.producer(topic)
        sent = ["x" * size for size in (1, 50_000, 400_000, 400_000, 400_000, 1_500_000, limit - 200)]
        for value in sent:
            producer.send("gate", value)
        with pytest.raises(RecordTooLarge, match=f"gate.*{topic.name}.*takes {limit}.*max_message"):
            producer.send("gate", "x" * limit)
        producer.flush(30)
        assert values(poll_until(bus.consumer(topic, f"{prefix}.g"), len(sent))) == sent


def test_compressed_text_comes_back_as_it_was(broker: Broker, prefix: str) -> None:
    """Also where a batch holds more than the megabyte that the library asks its decompressor for at once."""
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", partitions=1) as bus:
        producer = bus.producer(topic, compression="zstd")
        sent = [f"{n:06d}" * 20_000 for n in range(20)]
        for value in sent:
            producer.send("gate", value)
        producer.flush(30)
        assert committed_values(bus, topic) == sent


def test_one_record_that_the_broker_refuses_does_not_stop_the_others(broker: Broker, prefix: str) -> None:
    """kafka-python's idempotent producer is dead for good after it."""
    told: Told = []
    topic = texts(f"{prefix}.in")
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        bus.admin().create(topic.name, 1, 1, {"max.message.bytes": "5000"})  # our limit is higher: the broker decides
        producer = bus.producer(topic, on_sent=lambda message, where: told.append((message, where)))
        producer.send("gate", "before")
        producer.flush(20)
        producer.send("gate", "x" * 20_000)
        producer.flush(20)
        for n in range(3):
            producer.send("gate", f"after {n}")
        producer.flush(20)
        outcomes = [type(where) for _, where in told]
        assert outcomes == [SentRecord, RecordTooLarge, SentRecord, SentRecord, SentRecord]
        assert committed_values(bus, topic) == ["before", "after 0", "after 1", "after 2"]


def test_without_a_listener_the_next_call_hears_of_the_failure(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.in")
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        bus.admin().create(topic.name, 1, 1, {"max.message.bytes": "5000"})
        producer = bus.producer(topic)
        producer.send("gate", "x" * 20_000)
        with pytest.raises(RecordTooLarge):
            producer.flush(20)
        producer.send("gate", "after")
        producer.flush(20)


def test_a_topic_that_is_not_there_is_named_with_the_mend(broker: Broker, prefix: str) -> None:
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        producer = bus.producer(texts(f"{prefix}.nowhere"), block_s=20)
        with pytest.raises(TopicMissing, match="passerby topics apply"):
            producer.send("gate", "1")
        bus.admin().create(f"{prefix}.nowhere", 1, 1, {})
        wait_for(lambda: producer.connected)
        producer.send("gate", "2")
        producer.flush(20)


@pytest.mark.slow
def test_an_outage_longer_than_the_delivery_timeout(mortal_broker: Broker, prefix: str) -> None:
    """Records that cannot be delivered are told, nobody hangs, and the producer works again afterwards.

    kafka-python gives the producer id away with the expired batch, never asks for a new one, and stands still.
    """
    told: Told = []
    broker = mortal_broker
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", partitions=1) as bus:
        producer = bus.producer(
            topic,
            on_sent=lambda message, where: told.append((message, where)),
            block_s=1,
            delivery_timeout_s=4,
            max_waiting_bytes=2_000,
        )
        producer.send("gate", "0")
        producer.flush(20)
        broker.freeze()  # the sockets stay open: the first batch is on its way when its time is over
        waiting = 0
        while producer.try_send("gate", f"lost {waiting}"):
            waiting += 1
        assert waiting > 3
        with pytest.raises(BusUnavailable, match=r"unacknowledged.*within 1 s"):
            producer.send("gate", "no room")
        started = time.monotonic()
        wait_for(lambda: producer.waiting == 0, 30)
        assert time.monotonic() - started < 15
        assert [type(where) for _, where in told] == [SentRecord] + [BusUnavailable] * waiting
        assert [message.value for message, _ in told[1:]] == [f"lost {n}".encode() for n in range(waiting)]
        broker.kill()
        producer.try_send("gate", "lost without a connection")
        wait_for(lambda: len(told) == waiting + 2, 30)
        broker.start()
        told.clear()
        until = time.monotonic() + 60
        while not any(isinstance(where, SentRecord) for _, where in told) and time.monotonic() < until:
            producer.try_send("gate", "back")
            time.sleep(0.5)
        producer.flush(30)
        assert "back" in committed_values(bus, topic)


@pytest.mark.slow
def test_a_worker_that_starts_before_the_broker_sends_when_it_comes(mortal_broker: Broker, prefix: str) -> None:
    broker = mortal_broker
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", partitions=1):
        pass
    broker.kill()
    with KafkaBus(broker.settings(prefix), client_id="early") as bus:
        producer = bus.producer(topic, block_s=120)
        consumer = bus.consumer(topic, f"{prefix}.g")
        sender = threading.Thread(target=lambda: producer.send("gate", "early"))
        sender.start()
        assert list(consumer.poll(1.0)) == []
        broker.start()
        assert values(poll_until(consumer, 1, patience_s=60)) == ["early"]
        sender.join(5)
        assert not sender.is_alive()
