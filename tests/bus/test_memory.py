"""What every bus promises, kept by the memory bus."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.bus.memory import MemoryTopic
from pipeline.errors import BusError


def _drain(topic: MemoryTopic[int]) -> list[tuple[str, int]]:
    consumer = topic.consumer()
    got: list[tuple[str, int]] = []
    while not consumer.ended:
        records = consumer.poll(0.1, 3)
        got += [(record.key, record.value) for record in records]
        consumer.commit(records)
    return got


def test_records_of_a_key_keep_their_order_and_offsets_count_within_it() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a", "b"], capacity=10)
    with topic.producer() as producer:
        for value in range(5):
            producer.send("a", value)
            producer.send("b", value * 10)
    records = topic.consumer().poll(0, 10)
    assert [(r.value, r.offset) for r in records if r.key == "a"] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    assert [(r.value, r.offset) for r in records if r.key == "b"] == [(0, 0), (10, 1), (20, 2), (30, 3), (40, 4)]
    assert {r.key: r.partition for r in records} == {"a": 0, "b": 1}


def test_poll_is_fair_over_the_keys() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["busy", "calm"], capacity=100)
    producer = topic.producer()
    for value in range(50):
        producer.send("busy", value)
    producer.send("calm", 1)
    assert "calm" in {record.key for record in topic.consumer().poll(0, 2)}


def test_a_full_key_waits_and_does_not_hold_up_another() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a", "b"], capacity=2)
    producer = topic.producer()
    producer.send("a", 1)
    producer.send("a", 2)
    assert producer.try_send("a", 3) is False
    assert producer.try_send("b", 1) is True
    sent = threading.Event()
    thread = threading.Thread(target=lambda: (producer.send("a", 3), sent.set()))
    thread.start()
    assert not sent.wait(0.05)
    assert topic.consumer().poll(1, 1)[0].value == 1
    assert sent.wait(2)
    thread.join()


def test_what_was_polled_and_not_committed_is_delivered_again_in_order() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a"], capacity=10)
    with topic.producer() as producer:
        for value in range(5):
            producer.send("a", value)
    first = topic.consumer()
    polled = first.poll(0, 4)
    first.commit(polled[:2])
    first.close()
    assert _drain(topic) == [("a", 2), ("a", 3), ("a", 4)]


def test_the_topic_ends_when_all_producers_are_closed_and_all_is_polled() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a"])
    one, two = topic.producer(), topic.producer()
    one.send("a", 1)
    one.close()
    one.close()
    consumer = topic.consumer()
    assert not consumer.ended
    two.close()
    assert not consumer.ended
    assert len(consumer.poll(0)) == 1
    assert consumer.ended


def test_closing_the_topic_frees_a_waiting_sender_with_an_error() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a"], capacity=1)
    producer = topic.producer()
    producer.send("a", 1)
    failures: list[BusError] = []

    def send() -> None:
        try:
            producer.send("a", 2)
        except BusError as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(0.02)
    topic.close()
    thread.join(2)
    assert len(failures) == 1
    assert topic.consumer().ended


def test_wrong_use_is_told() -> None:
    topic: MemoryTopic[int] = MemoryTopic("t", ["a"])
    with pytest.raises(BusError, match="no key 'b'"):
        topic.producer().send("b", 1)
    producer = topic.producer()
    producer.close()
    with pytest.raises(BusError, match="closed"):
        producer.send("a", 1)
    with pytest.raises(ValueError, match="at least one"):
        MemoryTopic("t", ["a"], capacity=0)


def test_nothing_is_lost_between_many_senders_and_one_reader() -> None:
    keys = [f"camera{n}" for n in range(8)]
    topic: MemoryTopic[int] = MemoryTopic("t", keys, capacity=2)

    def work(key: str) -> None:
        with topic.producer() as producer:
            for value in range(200):
                producer.send(key, value)

    held = topic.producer()  # so that the topic does not end before the threads have their producers
    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    got: list[tuple[str, int]] = []
    reader = threading.Thread(target=lambda: got.extend(_drain(topic)))
    reader.start()
    for thread in threads:
        thread.join()
    held.close()
    reader.join(10)
    for key in keys:
        assert [value for k, value in got if k == key] == list(range(200))
