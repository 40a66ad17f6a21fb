"""Reads spans of a topic without a group: replay, evidence, tail, restoring state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from kafka import KafkaConsumer as Client
from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.partitioner.default import murmur2

from pipeline.bus.base import Malformed, Record, Topic
from pipeline.bus.kafka.consumer import decoded
from pipeline.bus.kafka.errors import ours
from pipeline.bus.kafka.hearing import Hearing
from pipeline.bus.kafka.repairs import partitions_of, shut_consumer, skip_broken_fetch
from pipeline.errors import BusError, BusUnavailable, TopicMissing

T = TypeVar("T")
_POLL_MS = 100
_BATCH = 200


class KafkaReader(Generic[T]):
    """Reads any span of a topic, read_committed unless told otherwise; made by ``KafkaBus.reader``. One thread's.

    One ``read`` or ``follow`` at a time: beginning another ends the one before (BusError when it is asked on).
    """

    def __init__(self, topic: Topic[T], open_client: Callable[[], Client], *, answer_s: float) -> None:
        """answer_s: how long a question (for partitions, offsets) is waited for: BusUnavailable."""
        self.topic = topic
        self._open_client = open_client
        self._answer_s = answer_s
        self._opened: Client | None = None
        self._partitions: tuple[int, ...] = ()
        self._turn = object()
        self._closed = False

    def partitions(self) -> tuple[int, ...]:
        """The partitions of the topic. TopicMissing when there is none."""
        if not self._partitions:
            with self._doing("look for"):
                found = partitions_of(self._client, self.topic.name, self._answer_s)
            if not found:
                # A broker does not tell a topic that is not there from one that this user may not see.
                mend = "make it: passerby topics apply; or this user may not see it: docs/security.md"
                raise TopicMissing(f"topic {self.topic.name} is not there", mend=mend)
            self._partitions = tuple(sorted(found))
        return self._partitions

    def partition_of(self, key: str) -> int:
        """The partition a producer puts ``key`` into (Kafka's default: murmur2 of the key)."""
        partitions = self.partitions()
        return partitions[(int(murmur2(key.encode())) & 0x7FFFFFFF) % len(partitions)]

    def beginning(self, partition: int) -> int:
        """The oldest offset there is."""
        return self.beginnings([partition])[partition]

    def beginnings(self, partitions: Sequence[int]) -> dict[int, int]:
        """``beginning`` of several partitions by one question."""
        with self._doing("look into"):
            found = self._client.beginning_offsets(self._at(partitions), self._answer_s * 1000)
        return {at.partition: int(offset) for at, offset in found.items()}

    def end(self, partition: int) -> int:
        """The offset behind the last one that is decided: open transactions and what follows them lie behind it.

        Of a reader of the undecided as well: the offset behind the last one that is written.
        """
        return self.ends([partition])[partition]

    def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        """``end`` of several partitions by one question."""
        with self._doing("look into"):
            found = self._client.end_offsets(self._at(partitions), self._answer_s * 1000)
        return {at.partition: int(offset) for at, offset in found.items()}

    def at_time(self, partition: int, timestamp_ms: int) -> int:
        """The first offset whose record was sent at or after ``timestamp_ms``; the end when there is none."""
        (at,) = self._at([partition])
        with self._doing("look into"):
            found = self._client.offsets_for_times({at: timestamp_ms}, self._answer_s * 1000)[at]
        return self.end(partition) if found is None or found.offset < 0 else int(found.offset)

    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[T | Malformed]]:
        """The records of [from_offset, to_offset) that are there (aborted ones and markers leave gaps), in order.

        A ``from_offset`` that is deleted begins at the oldest. BusUnavailable when nothing comes for ``timeout_s``,
        which is also what happens to a ``to_offset`` beyond the end.
        """
        if from_offset >= to_offset:
            return
        (at,) = self._at([partition])
        turn = self._begin({partition: from_offset})
        stood, since = from_offset, time.monotonic()
        while stood < to_offset:
            for raw in self._poll(turn, _POLL_MS):
                if raw.offset >= to_offset:
                    return
                yield decoded(self.topic, raw)
                self._require(turn)
            with self._doing("read"):
                now_at = self._client.position(at, timeout_ms=_POLL_MS)
            if now_at is not None and now_at != stood:
                stood, since = now_at, time.monotonic()
            elif time.monotonic() - since > timeout_s:
                raise BusUnavailable(
                    f"nothing of {self.topic.name}/{partition} came for {timeout_s:g} s at offset {stood}"
                )

    def follow(
        self, partitions: Sequence[int], *, start: Mapping[int, int] | None = None, timeout_s: float = 1
    ) -> Iterator[Record[T | Malformed] | None]:
        """Every record from ``start`` (default: the end as of now) on, for ever; None whenever ``timeout_s`` passes
        without one, so that the caller can look at its own clock. A broker that goes is waited for, and told of in the
        log."""
        begin = dict(start or {})
        rest = [partition for partition in partitions if partition not in begin]
        begin |= self.ends(rest) if rest else {}
        turn = self._begin(begin)
        hearing = Hearing(self.topic.name)
        hearing.began()
        while True:
            raws = self._poll(turn, int(timeout_s * 1000))
            hearing.listen(self._client)
            for raw in raws:
                yield decoded(self.topic, raw)
                self._require(turn)
            if not raws:
                yield None
                self._require(turn)

    def close(self) -> None:
        """Leave."""
        self._closed = True
        if self._opened is not None:
            shut_consumer(self._opened)
            self._opened = None

    # ------------------------------------------------------------------------------------------- inside

    @property
    def _client(self) -> Client:
        if self._closed:
            raise BusError(f"the reader of {self.topic.name} is closed")
        if self._opened is None:
            self._opened = self._open_client()
        return self._opened

    def _at(self, partitions: Iterable[int]) -> list[TopicPartition]:
        there = self.partitions()
        chosen = list(partitions)
        if unknown := sorted(set(chosen) - set(there)):
            raise BusError(f"topic {self.topic.name} has no partition {unknown}: it has {len(there)}")
        return [TopicPartition(self.topic.name, partition) for partition in chosen]

    def _begin(self, offsets: Mapping[int, int]) -> object:
        """Stand at these offsets; whoever read before has lost its turn."""
        self._turn = object()
        at = {one.partition: one for one in self._at(offsets)}
        with self._doing("read"):
            self._client.assign([])
            self._client.assign(list(at.values()))
            for partition, offset in offsets.items():
                self._client.seek(at[partition], offset)
        return self._turn

    def _poll(self, turn: object, timeout_ms: int) -> list[Any]:
        self._require(turn)
        with self._doing("read"):
            try:
                fetched = self._client.poll(timeout_ms=timeout_ms, max_records=_BATCH)
            except Exception:
                skip_broken_fetch(self._client)
                raise
        return [record for records in fetched.values() for record in records]

    def _require(self, turn: object) -> None:
        if self._turn is not turn or self._closed:
            raise BusError(f"another read of {self.topic.name} began, or the reader was closed")

    @contextmanager
    def _doing(self, verb: str) -> Iterator[None]:
        with ours(f"{verb} {self.topic.name}"):
            try:
                yield
            except kafka_errors.KafkaTimeoutError as error:
                asked = ", ".join(self._client.config["bootstrap_servers"])
                told = f"no answer within {self._answer_s:g} s from {asked} (kafka.bootstrap_servers)"
                raise kafka_errors.KafkaTimeoutError(told) from error

    def __enter__(self) -> KafkaReader[T]:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
