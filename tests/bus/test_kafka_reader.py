"""Reading spans without a group, and the administration of topics."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.bus.base import Message, Record
from pipeline.bus.kafka import KafkaBus
from pipeline.errors import BusError, BusMisconfigured, BusUnavailable, TopicMissing
from tests.broker import Broker
from tests.bus.kafka_log import bus_with, settled_ends, texts, values, wait_for

pytestmark = pytest.mark.kafka


def test_a_span_is_read_as_it_lies_without_what_was_aborted(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "in", "out", partitions=1) as bus:
        transactions = bus.transactions(f"{prefix}.tx", bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g"))
        for n in range(6):
            try:
                with transactions.transaction() as transaction:
                    transaction.send(topic.name, Message("gate", f"{n}".encode()))
                    assert transactions._client is not None
                    transactions._client.flush(10)  # what is aborted lies in the log too
                    if n % 2:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        reader = bus.reader(topic)
        end = settled_ends(reader)[0]
        records = list(reader.read(0, 0, end))
        assert values(records) == ["0", "2", "4"]
        assert end == 12, "six records, and a marker behind each"
        middle = records[1].offset
        assert values(list(reader.read(0, middle, middle + 1))) == ["2"]
        assert values(list(reader.read(0, middle + 1, end))) == ["4"]
        assert list(reader.read(0, end, end)) == []
        with pytest.raises(BusUnavailable, match="nothing of"):
            list(reader.read(0, end, end + 5, timeout_s=0.5))


def test_the_end_is_before_an_open_transaction(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "in", "out", partitions=1) as bus:
        transactions = bus.transactions(f"{prefix}.tx", bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g"))
        with bus.reader(topic) as reader:
            with transactions.transaction() as transaction:
                transaction.send(topic.name, Message("gate", b"open"))
                assert transactions._client is not None
                transactions._client.flush(10)
                assert reader.end(0) == 0
            # The broker answers a commit before the marker stands behind the records.
            wait_for(lambda: reader.end(0) == 2)


def test_offsets_by_time(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "out", partitions=1) as bus:
        producer, times = bus.producer(topic), []
        for n in range(3):
            times.append(int(time.time() * 1000))
            producer.send("gate", f"{n}")
            producer.flush(10)
            time.sleep(0.05)
        with bus.reader(topic) as reader:
            assert [reader.at_time(0, at) for at in times] == [0, 1, 2]
            assert reader.at_time(0, int(time.time() * 1000) + 60_000) == 3
            assert (reader.beginning(0), reader.end(0)) == (0, 3)


def test_following_goes_on_from_the_end_and_says_when_nothing_comes(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.out")
    with bus_with(broker, prefix, "out") as bus:
        producer = bus.producer(topic)
        producer.send("gate", "before")
        producer.flush(10)
        with bus.reader(topic) as reader:
            live = reader.follow(reader.partitions(), timeout_s=0.2)
            assert next(live) is None
            producer.send("gate", "after")
            producer.flush(10)
            seen = [record for record in (next(live) for _ in range(5)) if isinstance(record, Record)]
            assert values(seen) == ["after"]
            home = reader.partition_of("gate")
            replay = reader.follow([home], start={home: 0}, timeout_s=0.2)
            told = next(replay)
            assert isinstance(told, Record)
            assert told.value == "before"
            with pytest.raises(BusError, match="another read"):
                next(live)


def test_the_partition_of_a_key_is_the_producers(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.out")
    keys = [f"camera-{n}" for n in range(20)] + ["ä", ""]
    with bus_with(broker, prefix, "out", partitions=5) as bus, bus.reader(topic) as reader:
        producer = bus.producer(topic)
        for key in keys:
            producer.send(key, key)
        producer.flush(10)
        lies = {
            str(record.value): partition
            for partition in reader.partitions()
            for record in reader.read(partition, 0, reader.end(partition))
        }
        assert lies == {key: reader.partition_of(key) for key in keys}


def test_what_is_not_there_is_said(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "out") as bus:
        with pytest.raises(TopicMissing, match=f"{prefix}.nowhere"):
            bus.reader(texts(f"{prefix}.nowhere")).partitions()
        with pytest.raises(TopicMissing):
            bus.committed(f"{prefix}.g", f"{prefix}.nowhere")
        with pytest.raises(BusError, match="no partition"):
            bus.reader(texts(f"{prefix}.out")).end(9)
        assert bus.committed(f"{prefix}.g", f"{prefix}.out") == {}


def test_topics_are_made_described_changed_and_deleted(broker: Broker, prefix: str) -> None:
    name = f"{prefix}.made"
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        admin = bus.admin()
        assert admin.brokers() >= 1
        assert admin.describe([name]) == {}
        settings = {"cleanup.policy": "compact", "max.message.bytes": "2000000"}
        assert admin.create(name, 2, 1, settings)
        assert not admin.create(name, 7, 1, {})
        made = admin.describe([name, f"{prefix}.nowhere"])
        assert list(made) == [name]
        assert (made[name].partitions, made[name].replication) == (2, 1)
        assert dict(made[name].set_here) == settings
        assert made[name].config["min.insync.replicas"] == "1"
        admin.alter(name, {"cleanup.policy": None, "retention.ms": "5000"})
        changed = admin.describe([name])[name].set_here
        assert dict(changed) == {"max.message.bytes": "2000000", "retention.ms": "5000"}
        admin.add_partitions(name, 3)
        assert admin.describe([name])[name].partitions == 3
        with pytest.raises(BusMisconfigured):
            admin.add_partitions(name, 2)
        with pytest.raises(BusMisconfigured):
            admin.create(f"{prefix}.wrong", 1, 99, {})
        assert name in admin.topics()
        admin.delete([name, f"{prefix}.nowhere"])
        assert name not in admin.topics()


def test_a_closed_bus_makes_nothing(broker: Broker, prefix: str) -> None:
    bus = KafkaBus(broker.settings(prefix), client_id="test")
    bus.close()
    bus.close()
    with pytest.raises(BusError, match="closed"):
        bus.reader(texts(f"{prefix}.out"))


@pytest.mark.slow
def test_a_broker_that_is_gone_since_is_not_waited_for_without_end(mortal_broker: Broker, prefix: str) -> None:
    with KafkaBus(mortal_broker.settings(prefix), client_id="test", answer_s=1.5) as bus:
        reader = bus.reader(texts(f"{prefix}.out"))
        with pytest.raises(TopicMissing):
            reader.partitions()
        told: list[BusError] = []

        def ask() -> None:
            try:
                reader.partitions()
            except BusError as error:
                told.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        mortal_broker.freeze()
        try:
            asking.start()
            asking.join(20)
        finally:
            mortal_broker.thaw()
        assert [type(error) for error in told] == [BusUnavailable]
        assert mortal_broker.bootstrap_servers in str(told[0])
        assert "kafka.bootstrap_servers" in str(told[0])


@pytest.mark.slow
def test_who_follows_is_told_that_the_broker_is_away_and_that_it_is_back(
    mortal_broker: Broker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = texts(f"{prefix}.out")
    with bus_with(mortal_broker, prefix, "out") as bus, bus.reader(topic) as reader:
        live = reader.follow(reader.partitions(), timeout_s=0.2)
        quiet_until_s = time.monotonic() + 8
        while time.monotonic() < quiet_until_s:  # nothing is sent, and that is no outage
            assert next(live) is None
        assert "no broker answers" not in caplog.text
        mortal_broker.freeze()
        try:
            wait_for(lambda: "no broker answers" in caplog.text, doing=lambda: next(live))
        finally:
            mortal_broker.thaw()
        wait_for(lambda: "answers again" in caplog.text, doing=lambda: next(live))
        bus.producer(topic).send("gate", "after")
        wait_for(lambda: any(isinstance(next(live), Record) for _ in range(5)))
