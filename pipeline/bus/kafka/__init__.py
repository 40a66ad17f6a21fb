"""The log on Kafka: the only importer of kafka-python. Its errors never leave this folder (see ``errors``).

    bus = KafkaBus(settings, client_id="infer-1")
    with bus, bus.consumer(topics.windows, "passerby.infer") as windows, bus.transactions("infer-1", windows) as tx:
        records = windows.poll(timeout_s=0.2, max_records=64)
        with tx.transaction() as t:
            t.send("passerby.events", Message("gate", b"..."))
            t.offsets({record.partition: record.offset + 1 for record in records})

What kafka-python 3.0.12 does, and where we work around it: docs/decisions/0071-the-bus-on-kafka.md.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():  # kafka-python 3.0.12 reads its schemas by a function that Python calls deprecated
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import kafka as _kafka  # noqa: F401

from pipeline.bus.kafka.admin import KafkaAdmin, TopicDescription
from pipeline.bus.kafka.bus import KafkaBus
from pipeline.bus.kafka.consumer import KafkaConsumer
from pipeline.bus.kafka.producer import KafkaProducer, SentRecord
from pipeline.bus.kafka.reader import KafkaReader
from pipeline.bus.kafka.transactions import KafkaTransactions, Transaction

__all__ = [
    "KafkaAdmin",
    "KafkaBus",
    "KafkaConsumer",
    "KafkaProducer",
    "KafkaReader",
    "KafkaTransactions",
    "SentRecord",
    "TopicDescription",
    "Transaction",
]
