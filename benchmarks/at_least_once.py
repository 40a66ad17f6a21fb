"""``passerby infer`` without transactions, to measure what they cost: send, flush, commit the offsets.

    python -m benchmarks.at_least_once passerby.yaml WORKER_ID

The same code but for what stands behind ``transaction()``; after a crash it would count twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.bus.base import Message, Record, Topic
from pipeline.bus.kafka import KafkaBus
from pipeline.config import load_config
from pipeline.services.infer_worker import InferOptions, infer


class _Sends:
    """Has the shape of an open transaction."""

    def __init__(self, bus: KafkaBus, producers: dict[str, Any]) -> None:
        self._bus, self._producers = bus, producers
        self.next_offsets: dict[int, int] = {}

    def send(self, topic_name: str, message: Message, partition: int | None = None) -> None:
        if topic_name not in self._producers:
            plain: Topic[Message] = Topic(topic_name, lambda _, told: told, lambda told: told)
            self._producers[topic_name] = self._bus.producer(plain, compression="zstd")
        self._producers[topic_name].send_message(message, partition)

    def offsets(self, next_offsets: Mapping[int, int]) -> None:
        self.next_offsets.update(next_offsets)


class _AtLeastOnce:
    """Has the shape of KafkaTransactions."""

    def __init__(self, bus: KafkaBus, consumer: Any) -> None:
        self._bus, self._consumer = bus, consumer
        self._producers: dict[str, Any] = {}

    @contextmanager
    def transaction(self) -> Iterator[_Sends]:
        sends = _Sends(self._bus, self._producers)
        yield sends
        for producer in self._producers.values():
            producer.flush()
        topic = self._consumer.topic.name
        self._consumer.commit([Record(topic, p, offset - 1, "", None) for p, offset in sends.next_offsets.items()])

    def close(self) -> None:
        for producer in self._producers.values():
            producer.close()


class AtLeastOnceBus(KafkaBus):
    """A bus whose transactions are none."""

    def transactions(self, transactional_id: str, consumer: Any, *, timeout_s: float = 15) -> Any:
        del transactional_id, timeout_s
        return _AtLeastOnce(self, consumer)


def main() -> None:
    """Until SIGTERM."""
    config = load_config(Path(sys.argv[1]), cameras=False)
    with AtLeastOnceBus(config.kafka, client_id=sys.argv[2]) as bus:
        infer(config, InferOptions(sys.argv[2]), bus)


if __name__ == "__main__":
    main()
