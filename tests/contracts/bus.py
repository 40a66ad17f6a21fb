"""What pipeline/bus/base.py promises, as tests. A bus passes when a class that inherits this one gives it as ``bus``.

A bus may promise more than this (rebalancing while two consumers run, transactions): that is tested beside it.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import pytest

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.errors import BusError, RecordMalformed, RecordTooLarge

KEYS = ("gate", "plaza", "street")
LIMIT = 10_000
"""The largest record of the topic under test, in bytes, roughly: a record of half of it passes, one of twice it not."""
PATIENCE_S = 30.0


def decode(message: Message) -> str:
    """The codec under test: numbers as text; whatever is no number is malformed."""
    if message.value is None or not message.value.strip(b"x").isdigit():
        raise RecordMalformed("not a number")
    return message.value.decode()


def topic_of(name: str) -> Topic[str]:
    """The topic under test."""
    return Topic(name, lambda key, value: Message(key, value.encode()), decode)


class ProducerUnderTest(Protocol):
    """base.Producer, and a way to send what no codec made."""

    def send(self, key: str, value: str) -> None: ...
    def try_send(self, key: str, value: str) -> bool: ...
    def send_message(self, message: Message) -> None: ...
    def close(self) -> None: ...


class ConsumerUnderTest(Protocol):
    """base.Consumer, and close."""

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[str | Malformed]]: ...
    def commit(self, records: Sequence[Record[str | Malformed]]) -> None: ...
    def close(self) -> None: ...


class BusUnderTest(Protocol):
    """One topic of KEYS; what it makes it also closes when the test is over."""

    def producer(self, *, narrow: bool = False) -> ProducerUnderTest:
        """narrow: has room for very little before it pushes back."""

    def consumer(self) -> ConsumerUnderTest:
        """A consumer of the one group under test; the one before is closed by the test."""


def poll_until(
    consumer: ConsumerUnderTest, count: int, patience_s: float = PATIENCE_S
) -> list[Record[str | Malformed]]:
    """The next ``count`` records, however many polls that takes."""
    records: list[Record[str | Malformed]] = []
    until = time.monotonic() + patience_s
    while len(records) < count and time.monotonic() < until:
        records += consumer.poll(0.2, count - len(records))
    return records


def by_key(records: Sequence[Record[str | Malformed]]) -> dict[str, list[object]]:
    """The values of each key in their order."""
    values: dict[str, list[object]] = defaultdict(list)
    for record in records:
        values[record.key].append(record.value)
    return values


class BusContract:
    """Inherit as ``TestX(BusContract)`` with a fixture ``bus`` that gives a BusUnderTest."""

    @pytest.fixture
    def bus(self) -> BusUnderTest:
        raise NotImplementedError("give the bus that is tested")

    def test_the_records_of_a_key_come_once_and_in_the_order_they_were_sent(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        feeder = threading.Thread(
            target=lambda: [producer.send(key, f"{n}") for n in range(30) for key in KEYS], daemon=True
        )
        feeder.start()
        records = poll_until(consumer, 90)
        feeder.join(PATIENCE_S)
        assert by_key(records) == {key: [f"{n}" for n in range(30)] for key in KEYS}
        assert consumer.poll(0.3, 10) == []

    def test_offsets_rise_within_a_partition_and_a_key_stays_in_one(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        for n in range(3):
            for key in KEYS:
                producer.send(key, f"{n}")
        records = poll_until(consumer, 9)
        assert len({(record.partition, record.offset) for record in records}) == 9
        for key in KEYS:
            own = [record for record in records if record.key == key]
            assert len({record.partition for record in own}) == 1
            assert [record.offset for record in own] == sorted(record.offset for record in own)

    def test_a_poll_of_nothing_comes_back_empty_in_time(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        started = time.monotonic()
        assert list(consumer.poll(0.3, 5)) == []
        assert 0.2 < time.monotonic() - started < 2
        producer.close()

    def test_a_poll_gives_no_more_than_it_was_asked_for(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        for n in range(4):
            producer.send("gate", f"{n}")
        assert len(poll_until(consumer, 1)) == 1
        assert len(consumer.poll(5, 2)) in {1, 2}

    def test_what_was_not_committed_is_delivered_again_and_in_order(self, bus: BusUnderTest) -> None:
        first, producer = bus.consumer(), bus.producer()
        for n in range(4):
            producer.send("gate", f"{n}")
        polled = poll_until(first, 3)
        first.commit(polled[:1])
        first.close()
        again = poll_until(bus.consumer(), 3)
        assert [record.value for record in again] == ["1", "2", "3"]
        assert [record.offset for record in again[:2]] == [record.offset for record in polled[1:]]

    def test_what_was_committed_is_not_delivered_again(self, bus: BusUnderTest) -> None:
        first, producer = bus.consumer(), bus.producer()
        for n in range(3):
            for key in KEYS:
                producer.send(key, f"{n}")
        first.commit(poll_until(first, 9))
        first.close()
        second = bus.consumer()
        producer.send("plaza", "3")
        assert [record.value for record in poll_until(second, 1)] == ["3"]
        assert list(second.poll(0.5, 10)) == []

    def test_a_full_bus_says_so_and_drops_nothing(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer(narrow=True)
        sent = 0
        while sent < 5_000 and producer.try_send("gate", f"{sent}"):
            sent += 1
        assert sent < 5_000, "the bus was never full"
        rest = threading.Thread(
            target=lambda: [producer.send("gate", f"{n}") for n in range(sent, sent + 20)], daemon=True
        )
        rest.start()
        records = poll_until(consumer, sent + 20)
        rest.join(PATIENCE_S)
        assert not rest.is_alive(), "a send that waits for room never came to it"
        assert [record.value for record in records] == [f"{n}" for n in range(sent + 20)]

    def test_a_record_over_the_limit_is_refused_and_the_topic_goes_on(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        producer.send("gate", "1".zfill(LIMIT // 2))
        with pytest.raises(RecordTooLarge, match=r"gate.*\d+ bytes"):
            producer.send("gate", "2".zfill(LIMIT * 2))
        with pytest.raises(RecordTooLarge):
            producer.try_send("gate", "2".zfill(LIMIT * 2))
        producer.send("gate", "3")
        values = [str(record.value).lstrip("0") for record in poll_until(consumer, 2)]
        assert values == ["1", "3"]

    def test_what_cannot_be_decoded_comes_as_malformed_in_its_place(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        producer.send("gate", "1")
        bad = Message("gate", b"\x00no number", (("origin", b"test"),))
        producer.send_message(bad)
        producer.send("gate", "2")
        one, two, three = poll_until(consumer, 3)
        assert (one.value, three.value) == ("1", "2")
        assert isinstance(two.value, Malformed)
        assert two.value.message == bad
        assert two.value.reason == "not a number"
        assert one.offset < two.offset < three.offset

    def test_a_closed_producer_sends_no_more(self, bus: BusUnderTest) -> None:
        producer = bus.producer()
        producer.close()
        with pytest.raises(BusError, match="closed"):
            producer.send("gate", "1")
        producer.close()

    def test_what_was_sent_before_close_is_delivered(self, bus: BusUnderTest) -> None:
        consumer, producer = bus.consumer(), bus.producer()
        producer.send("gate", "1")
        producer.send("plaza", "2")
        producer.close()
        assert sorted(str(record.value) for record in poll_until(consumer, 2)) == ["1", "2"]
