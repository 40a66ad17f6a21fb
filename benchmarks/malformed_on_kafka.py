"""Damaged records on a real broker among good ones, read by a real inference worker: see ``benchmarks.malformed``.

Two logs with the same windows of a scripted street: a clean one, and one with damaged windows between (and damaged
documents and states before) them. The worker has to make the same counts and events of both, and a dead letter of each
damaged window.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.malformed import good_records, mutated
from benchmarks.whole_topics import records, without_origin
from pipeline.bus.base import Message, Topic
from pipeline.bus.declared import declared
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import DeadLetter, Topics
from pipeline.config import Config, load_config
from pipeline.core.frame import FrameWindow
from pipeline.errors import RecordMalformed
from pipeline.services.infer_worker import InferOptions, infer
from pipeline.services.topics import apply, plan
from tests import broker as brokers
from tests.e2e.feeding import apply_cameras, windows_of

_TOPICS = """\
{cameras: {partitions: 2}, windows: {partitions: 2}, state: {partitions: 2}, counts: {partitions: 1},
 events: {partitions: 1}, dead-letters: {partitions: 1}}
"""
_SOURCE = "synthetic://street?seed=7&duration=12"


def run(records: int, seed: int) -> int:
    """Print what became of ``records`` damaged windows; 1 if anything is not as it should be."""
    logging.disable(logging.WARNING)  # the worker tells each dead letter
    there = brokers.existing()
    with tempfile.TemporaryDirectory(prefix="malformed-") as name:
        folder = Path(name)
        broker = there or brokers.start(folder / "broker")
        try:
            return _compare(folder, broker.bootstrap_servers, records, seed)
        finally:
            if there is None:
                broker.stop()


def _compare(folder: Path, servers: str, records: int, seed: int) -> int:
    clean = _configured(folder, servers, "clean")
    windows = windows_of(clean, "street")
    wanted, none = _through(clean, windows, lambda *_: None)
    sent: Counter[str] = Counter()
    rng = random.Random(seed)

    def damage(bus: KafkaBus, topics: Topics, share: float) -> None:
        """Send a share of the damaged windows; before the first, also documents and states."""
        if not sent:
            for kind in ("cameras", "state"):
                _send(bus, getattr(topics, kind), _damaged(good_records()[kind], records // 100, rng), sent)
        good = [topics.windows.encode("street", rng.choice(windows)) for _ in range(3)]
        _send(bus, topics.windows, _damaged((topics.windows, good), round(records * share), rng), sent)

    dirty = _configured(folder, servers, "dirty")
    found, letters = _through(dirty, windows, damage)
    by_topic = Counter(letter.topic.rpartition(".")[2] for letter in letters)
    whole = sum(letter.size_bytes == -1 or len(letter.message.value or b"") == letter.size_bytes for letter in letters)
    print(f"good windows {len(windows)}, damaged {dict(sent)}")
    print(f"results of the clean log {len(wanted)}, of the other {len(found)}, equal: {wanted == found}")
    print(f"dead letters {dict(by_topic)}, whole {whole} of {len(letters)}; of the clean log {len(none)}")
    windows_name = Topics(dirty.kafka.prefix).windows.name
    by_reason = Counter(letter.reason.split(":")[0][:60] for letter in letters if letter.topic == windows_name)
    for reason, count in by_reason.most_common(8):
        print(f"  {count:7} {reason}")
    right = wanted == found and by_topic["windows"] == sent["windows"] and not none and bool(wanted)
    print("as it should be" if right else "NOT as it should be")
    return 0 if right else 1


def _configured(folder: Path, servers: str, name: str) -> Config:
    (folder / "topics.yaml").write_text(_TOPICS)
    file = folder / f"{name}.yaml"
    prefix = f"{name}-{uuid.uuid4().hex[:8]}"
    file.write_text(
        f"kafka: {{bootstrap_servers: '{servers}', prefix: {prefix}, topics: topics.yaml}}\n"
        f"counts: {{window_s: 2}}\ncameras:\n  street:\n    source: '{_SOURCE}'\n    sample_fps: 5\n"
        "    lines: {middle: {points: [[0.0, 0.6], [1.0, 0.6]]}, up: {points: [[0.5, 0.0], [0.5, 1.0]]}}\n"
    )
    return load_config(file, os.environ)


def _through(
    config: Config, windows: list[FrameWindow], damage: Callable[[KafkaBus, Topics, float], None]
) -> tuple[list[bytes], list[DeadLetter]]:
    """Make topics, send all, let a worker work: its results without their place in the log, and its dead letters."""
    topics = Topics(config.kafka.prefix)
    with KafkaBus(config.kafka, client_id="malformed") as bus:
        with bus.admin() as admin:
            apply(admin, plan(declared(config.kafka), {}, admin.brokers()))
        damage(bus, topics, 0.1)
        apply_cameras(bus, topics, config)
        share = 0.9 / len(windows)
        with bus.producer(topics.windows) as producer:
            for window in windows:
                producer.send("street", window)
                producer.flush(60)
                damage(bus, topics, share)
        infer(config, InferOptions(worker_id="infer-1", until_idle_s=8))
        results = [without_origin(event) for topic in (topics.counts, topics.events) for event in _all(bus, topic)]
        return results, _all(bus, topics.dead_letters)


def _damaged(good: tuple[Topic[Any], list[Message]], count: int, rng: random.Random) -> list[Message]:
    """Mutated records that cannot be read: one that still can be is another good record, not a damaged one."""
    topic, whole = good
    found: list[Message] = []
    while len(found) < count:
        bad = mutated(rng.choice(whole), rng)
        try:
            topic.decode(bad)
        except RecordMalformed:
            found.append(bad)
    return found


def _send(bus: KafkaBus, topic: Topic[Any], messages: list[Message], sent: Counter[str]) -> None:
    with bus.producer(topic) as producer:
        for message in messages:
            producer.send_message(message)
        producer.flush(60)
    sent[topic.name.rpartition(".")[2]] += len(messages)


def _all(bus: KafkaBus, topic: Topic[Any]) -> list[Any]:
    return [record.value for record in records(bus, topic)]
