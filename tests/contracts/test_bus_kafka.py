"""The bus on Kafka keeps the contract, against a real broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.bus.base import Topic
from pipeline.bus.kafka import KafkaBus, KafkaConsumer, KafkaProducer
from tests.broker import Broker
from tests.contracts.bus import LIMIT, BusContract, BusUnderTest, topic_of

pytestmark = pytest.mark.kafka


class OneTopic:
    """A topic of its own for each test, and a group."""

    def __init__(self, bus: KafkaBus, topic: Topic[str]) -> None:
        self._bus = bus
        self._topic = topic
        with bus.admin() as admin:
            admin.create(topic.name, 3, 1, {"max.message.bytes": str(LIMIT)})

    def producer(self, *, narrow: bool = False) -> KafkaProducer[str]:
        """narrow: little more than one record may be unacknowledged."""
        producer = self._bus.producer(self._topic, max_waiting_bytes=200 if narrow else 1 << 20)
        producer.wait_connected(20)
        return producer

    def consumer(self) -> KafkaConsumer[str]:
        """Always of the same group."""
        return self._bus.consumer(self._topic, f"{self._topic.name}.group", session_timeout_s=6)


class TestKafkaBus(BusContract):
    @pytest.fixture
    def bus(self, broker: Broker, prefix: str) -> Iterator[BusUnderTest]:
        topic = topic_of(f"{prefix}.tested")
        with KafkaBus(broker.settings(prefix), client_id="contract") as bus:
            bus.declare_limit(topic.name, LIMIT)
            yield OneTopic(bus, topic)
