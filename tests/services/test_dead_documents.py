"""A camera's document that cannot be read becomes one dead letter, whoever reads it again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.kafka import SentRecord
from pipeline.bus.topics import DeadLetter, Topics
from pipeline.config import load_config
from pipeline.errors import BusError, BusUnavailable, Fenced
from pipeline.services.dead_documents import DeadDocuments
from pipeline.services.ingest_worker import IngestOptions, IngestWorker

TOPICS = Topics("passerby")


def damaged(offset: int, partition: int = 0) -> Record[Any]:
    message = Message("gate", b"{half", (("by", b"hand"),))
    value = Malformed(message, "a camera's document is not JSON")
    return Record(TOPICS.cameras.name, partition, offset, "gate", value, message.headers, 17)


@dataclass
class Rig:
    """The letters in the log, the offsets that were committed, and a broker that may not answer."""

    letters: list[DeadLetter] = field(default_factory=list)
    committed: list[tuple[int, int]] = field(default_factory=list)
    counted: int = 0
    opened: int = 0
    full: bool = False
    answers: bool = True
    refuses: BusError | None = None
    waiting: list[Message] = field(default_factory=list)
    on_sent: Callable[[Message, object], None] = lambda _message, _answer: None

    def make(self) -> DeadDocuments:
        made = DeadDocuments(TOPICS.dead_letters, self.open, self.commit, self.count)
        self.on_sent = made.on_sent
        return made

    def open(self) -> Rig:
        self.opened += 1
        return self

    def count(self) -> None:
        self.counted += 1

    def commit(self, record: Record[Any]) -> None:
        self.committed.append((record.partition, record.offset + 1))

    def try_send_message(self, message: Message, partition: int | None = None) -> bool:
        if self.full:
            return False
        self.waiting.append(message)
        if self.answers:
            self.answer()
        return True

    def answer(self) -> None:
        message = self.waiting.pop(0)
        if self.refuses is not None:
            self.on_sent(message, self.refuses)
            return
        self.letters.append(TOPICS.dead_letters.decode(message))
        self.on_sent(message, SentRecord(TOPICS.dead_letters.name, 0, len(self.letters) - 1, 0))


def turn(dead: DeadDocuments, times: int = 10) -> None:
    for _ in range(times):
        dead.tick()


def test_each_is_buried_once_with_its_reason_and_place_and_then_committed() -> None:
    rig = Rig()
    dead = rig.make()
    turn(dead)
    assert rig.opened == 0, "no producer for what never comes"
    for record in (damaged(3), damaged(5), damaged(3)):
        dead.found(record)
    turn(dead)
    assert [(letter.partition, letter.offset) for letter in rig.letters] == [(0, 3), (0, 5)]
    assert rig.letters[0] == DeadLetter(
        Message("gate", b"{half", (("by", b"hand"),)), "a camera's document is not JSON", "RecordMalformed",
        "passerby.cameras", 0, 3, 17, "ingest",
    )  # fmt: skip
    assert rig.committed == [(0, 4), (0, 6)]
    assert (rig.counted, rig.opened) == (2, 1)


def test_nothing_is_committed_before_the_log_has_the_letter() -> None:
    rig = Rig(full=True)
    dead = rig.make()
    dead.found(damaged(3))
    turn(dead)
    rig.full, rig.answers = False, False
    turn(dead)
    assert (len(rig.waiting), rig.committed) == (1, [])
    rig.answer()
    turn(dead)
    assert rig.committed == [(0, 4)]
    assert len(rig.letters) == 1


def test_what_went_to_another_worker_is_left_to_it() -> None:
    rig = Rig(answers=False)
    dead = rig.make()
    for record in (damaged(3), damaged(7, partition=1)):
        dead.found(record)
    turn(dead)
    dead.forget([0])
    rig.answer()  # the letter of what is no more ours: the next worker may send it again
    rig.answers = True
    turn(dead)
    assert rig.committed == [(1, 8)]


@pytest.mark.parametrize("trouble", [BusUnavailable("timed out"), Fenced("another has it")])
def test_a_letter_that_is_refused_commits_nothing_and_stops_nobody(trouble: BusError) -> None:
    rig = Rig(refuses=trouble)
    dead = rig.make()
    dead.found(damaged(3))
    turn(dead)
    assert (rig.committed, rig.counted) == ([], 0)
    rig.refuses = None
    dead.found(damaged(9))
    turn(dead)
    assert rig.committed == [(0, 10)]


class FakeConsumer:
    """Gives its partition and then some records; the worker is told to stop in the fourth poll."""

    def __init__(self, worker: IngestWorker, *records: Record[Any]) -> None:
        self.worker, self.records, self.connected = worker, list(records), True
        self.stop, self.polls = threading.Event(), 0
        self.committed: list[Record[Any]] = []
        self.begun = False

    def poll(self, timeout_s: float, max_records: int = 1) -> list[Record[Any]]:
        if not self.begun:
            self.begun = True
            self.worker.assigned([0])
        self.polls += 1
        if self.polls % 4 == 0:
            self.stop.set()
        taken, self.records = self.records, []
        return taken

    def commit(self, records: list[Record[Any]]) -> None:
        self.committed += records

    def close(self) -> None: ...


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("pipeline.bus.kafka.settings.BOOTSTRAP_S", 0.2)
    file = tmp_path / "worker.yaml"
    spool = f"spool: {{dir: {tmp_path / 'spool'}, min_free_bytes: 0}}"
    file.write_text(f"kafka: {{bootstrap_servers: '127.0.0.1:9', {spool}}}\n", encoding="utf-8")
    with ExitStack() as stack:
        config = load_config(file, cameras=False)
        made = IngestWorker(config, IngestOptions(worker_id="w"), {}, stack)
        made._consumer.close()
        yield made
        made.drain()


def test_a_worker_buries_what_its_partitions_hold_also_while_it_cannot_read_the_cameras(worker: Any) -> None:
    rig = Rig()
    rig.on_sent = worker._dead.on_sent
    worker._dead._open_producer = rig.open
    worker._consumer = FakeConsumer(worker, damaged(3))
    worker.run(worker._consumer.stop)
    assert [letter.offset for letter in rig.letters] == [3]
    assert [record.offset for record in worker._consumer.committed] == [3]
    value = worker.metrics.registry.value("passerby_dead_letters_total", topic="cameras", reason="malformed")
    assert value == 1


def test_a_worker_says_whether_its_consumer_hears_of_a_broker(worker: Any) -> None:
    def reachable() -> float | None:
        value: float | None = worker.metrics.registry.value("passerby_broker_reachable")
        return value

    worker._consumer = FakeConsumer(worker)
    worker.run(worker._consumer.stop)
    assert reachable() == 1
    worker._consumer.connected = False
    worker._consumer.stop.clear()
    worker.run(worker._consumer.stop)
    assert reachable() == 0
