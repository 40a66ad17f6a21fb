"""Membership, rebalancing and what cannot be decoded: what the bus on Kafka promises beyond the contract."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from pipeline.bus.base import Malformed, Message
from pipeline.bus.kafka import KafkaBus, KafkaConsumer
from pipeline.errors import BusError, BusUnavailable, Fenced
from tests.broker import Broker
from tests.bus.kafka_log import Remembers, bus_with, poll_until, texts, values, wait_for

pytestmark = pytest.mark.kafka


def fill(bus: KafkaBus, prefix: str, count: int, partitions: int = 2) -> None:
    producer = bus.producer(texts(f"{prefix}.in"))
    for n in range(count):
        producer.send_message(Message(f"camera-{n % partitions}", f"{n}".encode()), n % partitions)
    producer.flush(20)


def test_the_listener_hears_on_the_callers_thread_and_before_the_first_record(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 4)
        listener, threads = Remembers(), []
        listener.on_assigned = lambda _: (threads.append(threading.current_thread()), time.sleep(1.0))
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", listener=listener)
        started = time.monotonic()
        assert consumer.assignment == ()
        records = poll_until(consumer, 4)
        assert listener.heard == [("assigned", (0, 1))]
        assert threads == [threading.current_thread()]
        assert time.monotonic() - started > 1.0
        assert sorted(values(records)) == ["0", "1", "2", "3"]
        assert consumer.assignment == (0, 1)
        assert consumer.positions == {0: 2, 1: 2}
        wait_for(lambda: consumer.lag() == {0: 0, 1: 0})


def test_a_partition_moves_and_nothing_is_lost_or_done_twice(broker: Broker, prefix: str) -> None:
    done: list[str] = []

    with bus_with(broker, prefix, "in", partitions=4) as bus:
        fill(bus, prefix, 80, partitions=4)
        first_heard, second_heard = Remembers(), Remembers()
        in_flight: dict[str, list[object]] = {"first": [], "second": []}

        def work(name: str, consumer: KafkaConsumer[str], count: int) -> None:
            """Take some, and commit them on the next turn: there is always something in flight."""
            records = consumer.poll(0.05, count)
            finish(name, consumer)
            in_flight[name].extend(records)

        def finish(name: str, consumer: KafkaConsumer[str]) -> None:
            consumer.commit(in_flight[name])  # type: ignore[arg-type]
            done.extend(record.value for record in in_flight[name])  # type: ignore[attr-defined]
            in_flight[name].clear()

        topic = texts(f"{prefix}.in")
        first = bus.consumer(topic, f"{prefix}.g", listener=first_heard)
        first_heard.on_revoked = lambda _: finish("first", first)
        wait_for(lambda: len(done) > 3, doing=lambda: work("first", first, 2))
        second = bus.consumer(topic, f"{prefix}.g", listener=second_heard)
        second_heard.on_revoked = lambda _: finish("second", second)
        stop = threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                work("second", second, 1)

        # Each on a thread of its own: a commit waits for a rejoin that waits for the other.
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(go_on)
            try:
                wait_for(lambda: len(second.assignment) == 2, doing=lambda: work("first", first, 1))
                assert [kind for kind, _ in first_heard.heard] == ["assigned", "revoked"], "cooperative: two stay"
                assert sorted(first.assignment + second.assignment) == [0, 1, 2, 3]
                wait_for(lambda: len(done) >= 80, doing=lambda: work("first", first, 5))
            finally:
                stop.set()
            working.result(30)
        assert sorted(done, key=int) == [f"{n}" for n in range(80)]
        second.close()
        wait_for(lambda: len(first.assignment) == 4, doing=lambda: first.poll(0.05))


def test_a_change_nobody_has_heard_of_keeps_from_seeking_until_it_is_heard(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 4)
        topic, listener = texts(f"{prefix}.in"), Remembers()
        first = bus.consumer(topic, f"{prefix}.g", listener=listener)
        poll_until(first, 4)
        second = bus.consumer(topic, f"{prefix}.g", listener=Remembers())
        wait_for(lambda: first._thread.change is not None, doing=lambda: second.poll(0.05))
        began_s = time.monotonic()
        with pytest.raises(BusUnavailable, match="change"):
            first.seek(dict.fromkeys(first.assignment, 0))
        assert time.monotonic() - began_s < 9, "nobody waits for what cannot come (10 s)"
        first.hear()
        assert [kind for kind, _ in listener.heard] == ["assigned", "revoked"]
        (kept,) = first.assignment
        first.seek({kept: 0})
        assert [record.offset for record in poll_until(first, 2)] == [0, 1]


def test_a_caller_that_sleeps_longer_than_every_timeout_stays_a_member(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 2)
        listener = Remembers()
        topic = texts(f"{prefix}.in")
        consumer = bus.consumer(topic, f"{prefix}.g", listener=listener, session_timeout_s=2, rebalance_timeout_s=2.5)
        records = poll_until(consumer, 2)
        member = consumer.group_metadata()
        time.sleep(3.0)
        fill(bus, prefix, 2)
        records += poll_until(consumer, 2)
        assert consumer.group_metadata() == member
        consumer.commit(records)
        assert bus.committed(f"{prefix}.g", topic.name) == {0: 2, 1: 2}
        assert listener.heard == [("assigned", (0, 1))]


def test_heartbeats_go_on_while_the_listener_works(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 2)
        listener = Remembers()
        listener.on_assigned = lambda _: time.sleep(3.0)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", listener=listener, session_timeout_s=2)
        records = poll_until(consumer, 2)
        consumer.commit(records)
        assert listener.heard == [("assigned", (0, 1))]


def test_who_was_thrown_out_hears_that_its_partitions_are_lost(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 4)
        listener = Remembers()
        topic = texts(f"{prefix}.in")
        consumer = bus.consumer(topic, f"{prefix}.g", listener=listener)
        records = poll_until(consumer, 4)
        client = consumer._thread.client
        assert client is not None
        with bus.admin() as admin:  # the group throws the member out, as after a session without heartbeats
            admin._client.remove_group_members(f"{prefix}.g", [_member(consumer.group_metadata().member_id)])
        again = poll_until(consumer, 4)
        assert listener.heard == [("assigned", (0, 1)), ("lost", (0, 1)), ("assigned", (0, 1))]
        assert sorted(values(again)) == sorted(values(records)), "nothing was committed: all of it comes again"
        consumer.commit(again)


def _member(member_id: str) -> object:
    from kafka.admin import MemberToRemove

    return MemberToRemove(member_id=member_id)


def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 4)
        other_heard = Remembers()
        other = bus.consumer(topic, f"{prefix}.g", instance_id="other", listener=other_heard)
        mine = bus.consumer(topic, f"{prefix}.g", instance_id="mine", listener=Remembers())
        both = (other, mine)
        wait_for(lambda: all(len(c.assignment) == 1 for c in both), doing=lambda: [c.poll(0.05, 10) for c in both])
        before, kept = len(other_heard.heard), mine.assignment
        mine.close()
        back = bus.consumer(topic, f"{prefix}.g", instance_id="mine", listener=Remembers())
        wait_for(lambda: back.assignment != (), doing=lambda: (back.poll(0.05), other.poll(0.05)))
        assert back.assignment == kept
        assert other_heard.heard[before:] == []


def test_a_second_process_under_our_instance_id_fences_us(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 2)
        first = bus.consumer(topic, f"{prefix}.g", instance_id="twin", session_timeout_s=2)
        poll_until(first, 2)
        second = bus.consumer(topic, f"{prefix}.g", instance_id="twin", session_timeout_s=2)
        fenced: list[Fenced] = []

        def turn() -> None:
            second.poll(0.05)
            try:
                first.poll(0.05)
            except Fenced as error:
                fenced.append(error)

        wait_for(lambda: bool(fenced), doing=turn)
        assert "worker_id" in str(fenced[0])


def test_seeking_delivers_from_there_on(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in", partitions=1) as bus:
        fill(bus, prefix, 20, partitions=1)
        listener = Remembers()
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", listener=listener)
        listener.on_assigned = lambda partitions: consumer.seek({0: 15})
        assert values(poll_until(consumer, 5)) == ["15", "16", "17", "18", "19"]
        consumer.seek({0: 3})
        assert values(poll_until(consumer, 3)) == ["3", "4", "5"]
        with pytest.raises(BusError, match="not ours"):
            consumer.seek({7: 0})


def test_a_slow_caller_pauses_the_reading_and_still_gets_everything(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in") as bus:
        fill(bus, prefix, 400)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", max_waiting=20)
        records = poll_until(consumer, 1)
        time.sleep(1.0)
        with consumer._thread.changed:
            assert 0 < consumer._thread._count <= 20 + 16, "it read further ahead than it should"
        records += poll_until(consumer, 399)
        assert sorted(values(records), key=int) == [f"{n}" for n in range(400)]


def test_a_partition_of_many_tiny_records_does_not_keep_the_others_waiting(broker: Broker, prefix: str) -> None:
    with bus_with(broker, prefix, "in", partitions=4) as bus:
        producer = bus.producer(texts(f"{prefix}.in"))
        for n in range(4000):
            producer.send_message(Message("many", f"{n}".encode()), n % 2)
        for partition in (2, 3):
            for n in range(5):
                producer.send_message(Message("few", f"{n}".encode()), partition)
        producer.flush(30)
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g")
        records = poll_until(consumer, 4010)
        last_of_few = max(place for place, record in enumerate(records) if record.partition > 1)
        assert last_of_few < 200, "one fetch of the others held thousands"
        for partition, count in enumerate((2000, 2000, 5, 5)):
            assert [record.offset for record in records if record.partition == partition] == list(range(count))


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"", None])
def test_strange_keys_and_missing_values_do_not_stop_the_stream(broker: Broker, prefix: str, raw: bytes | None) -> None:
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in", partitions=1) as bus:
        producer = bus.producer(topic)
        producer.send("camera", "before")
        producer.flush(20)
        assert producer._client is not None
        producer._client.send(topic.name, b"value", raw, [("nothing", b""), ("some", b"\x00\xff")]).get(10)
        producer._client.send(topic.name, None, b"key").get(10)
        producer.send("camera", "after")
        producer.flush(20)
        before, strange, empty, after = poll_until(bus.consumer(topic, f"{prefix}.g"), 4)
        assert (before.value, after.value) == ("before", "after")
        assert strange.headers == (("nothing", b""), ("some", b"\x00\xff"))
        if raw == b"\xff\xfe":
            assert isinstance(strange.value, Malformed)
            assert (strange.value.reason, strange.key) == ("the key is not UTF-8", "\\xff\\xfe")
            assert strange.value.message.value == b"value"
        else:
            assert (strange.key, strange.value) == ("", "value")
        assert (empty.key, empty.value) == ("key", "")


def test_a_codec_that_trips_is_a_malformed_record_not_a_crash(broker: Broker, prefix: str) -> None:
    topic = texts(f"{prefix}.in")
    broken = type(topic)(topic.name, topic.encode, lambda message: f"{1 / int(message.value or b'0')}")
    with bus_with(broker, prefix, "in", partitions=1) as bus:
        fill(bus, prefix, 3, partitions=1)
        zero, one, two = poll_until(bus.consumer(broken, f"{prefix}.g"), 3)
        assert isinstance(zero.value, Malformed)
        assert "ZeroDivisionError" in zero.value.reason
        assert (one.value, two.value) == ("1.0", "0.5")


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_costs_no_record(mortal_broker: Broker, prefix: str) -> None:
    broker = mortal_broker
    topic = texts(f"{prefix}.in")
    with bus_with(broker, prefix, "in") as bus:
        listener = Remembers()
        consumer = bus.consumer(topic, f"{prefix}.g", listener=listener, session_timeout_s=6)
        producer = bus.producer(topic)
        producer.send("camera", "0")
        records = poll_until(consumer, 1)
        consumer.commit(records)
        broker.kill()
        for n in range(1, 21):
            producer.send("camera", f"{n}")
        assert list(consumer.poll(1.0, 10)) == []
        assert producer.waiting == 20
        broker.start()
        producer.flush(30)
        records += poll_until(consumer, 20, patience_s=60)
        assert values(records) == [f"{n}" for n in range(21)]

        def commit() -> None:  # until the group has given the partitions back, a commit passes them over
            consumer.poll(0.1)
            with suppress(BusError):
                consumer.commit(records)

        wait_for(lambda: sum(bus.committed(f"{prefix}.g", topic.name).values()) == 21, doing=commit)


@pytest.mark.slow
def test_a_broker_that_says_nothing_is_away_and_one_that_answers_again_is_back(
    mortal_broker: Broker, prefix: str
) -> None:
    broker = mortal_broker
    with bus_with(broker, prefix, "in") as bus:
        consumer = bus.consumer(texts(f"{prefix}.in"), f"{prefix}.g", session_timeout_s=30)
        wait_for(lambda: consumer.assignment != (), doing=lambda: consumer.poll(0.1))
        heard_s = consumer.heard_s
        wait_for(lambda: consumer.heard_s > heard_s, doing=lambda: consumer.poll(0.1))  # nothing comes but heartbeats
        assert consumer.connected
        broker.freeze()  # its sockets stay open
        try:
            wait_for(lambda: not consumer.connected, doing=lambda: consumer.poll(0.1))
            assert time.monotonic() - consumer.heard_s > 2
        finally:
            broker.thaw()
        wait_for(lambda: consumer.connected, doing=lambda: consumer.poll(0.1))
