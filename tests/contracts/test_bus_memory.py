"""The bus of one process keeps the contract."""

from __future__ import annotations

import pytest

from pipeline.bus.memory import MemoryConsumer, MemoryProducer, MemoryTopic
from tests.contracts.bus import KEYS, LIMIT, BusContract, BusUnderTest, topic_of


class OneTopic:
    """A topic in memory whose values go through their codec, so that there is something to be malformed."""

    def __init__(self) -> None:
        self._topic = MemoryTopic("tested", KEYS, capacity=10, codec=topic_of("tested"), limit_bytes=LIMIT)

    def producer(self, *, narrow: bool = False) -> MemoryProducer[str]:
        """Ten a key are narrow enough."""
        return self._topic.producer()

    def consumer(self) -> MemoryConsumer[str]:
        """One after the other."""
        return self._topic.consumer()


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> BusUnderTest:
        return OneTopic()
