"""A log in memory as those who only read it see it (services.log.Log), with records that can be deleted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Malformed, Message, Record, Topic
from pipeline.errors import RecordMalformed, TopicMissing


@dataclass
class _Partition:
    records: dict[int, tuple[Message, int]] = field(default_factory=dict)
    beginning: int = 0
    end: int = 0


class MemoryLog:
    """Topics by name; every topic has ``partitions`` of them, keys spread by their length."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.topics: dict[str, list[_Partition]] = {}
        self.offsets: dict[str, dict[int, int]] = {}
        self.reads: list[tuple[str, int, int, int]] = []

    def partition_of(self, key: str) -> int:
        return len(key) % self.partitions

    def append(self, topic: str, message: Message, timestamp_ms: int = 0) -> tuple[int, int]:
        """Where it lies now: partition and offset."""
        parts = self.topics.setdefault(topic, [_Partition() for _ in range(self.partitions)])
        number = self.partition_of(message.key)
        part = parts[number]
        part.records[part.end] = (message, timestamp_ms)
        part.end += 1
        return number, part.end - 1

    def send(self, topic: Topic[Any], key: str, value: Any, timestamp_ms: int = 0) -> tuple[int, int]:
        return self.append(topic.name, topic.encode(key, value), timestamp_ms)

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """As retention does."""
        part = self.topics[topic][partition]
        part.beginning = offset
        for gone in [each for each in part.records if each < offset]:
            del part.records[gone]

    def reader(self, topic: Topic[Any], *, undecided: bool = False) -> MemoryReader:
        return MemoryReader(self, topic)

    def committed(self, group: str, topic_name: str, *, timeout_s: float = 30) -> dict[int, int]:
        return dict(self.offsets.get(group, {}))


class MemoryReader:
    def __init__(self, log: MemoryLog, topic: Topic[Any]) -> None:
        self.log, self.topic = log, topic

    def _part(self, partition: int) -> _Partition:
        if self.topic.name not in self.log.topics:
            raise TopicMissing(f"topic {self.topic.name} is not there")
        return self.log.topics[self.topic.name][partition]

    def partitions(self) -> tuple[int, ...]:
        self._part(0)
        return tuple(range(self.log.partitions))

    def partition_of(self, key: str) -> int:
        return self.log.partition_of(key)

    def beginning(self, partition: int) -> int:
        return self._part(partition).beginning

    def end(self, partition: int) -> int:
        return self._part(partition).end

    def beginnings(self, partitions: Sequence[int]) -> dict[int, int]:
        return {each: self.beginning(each) for each in partitions}

    def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        return {each: self.end(each) for each in partitions}

    def at_time(self, partition: int, timestamp_ms: int) -> int:
        records = self._part(partition).records
        return min((offset for offset, (_, at) in records.items() if at >= timestamp_ms), default=self.end(partition))

    def read(self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30) -> Iterator[Record[Any]]:
        self.log.reads.append((self.topic.name, partition, from_offset, to_offset))
        part = self._part(partition)
        assert to_offset <= part.end, "a span beyond the end would wait for ever"
        for offset in sorted(part.records):
            if from_offset <= offset < to_offset:
                yield self._record(partition, offset)

    def follow(
        self, partitions: Sequence[int], *, start: Mapping[int, int] | None = None, timeout_s: float = 1
    ) -> Iterator[Record[Any] | None]:
        at = {each: (start or {}).get(each, self.end(each)) for each in partitions}
        while True:
            came = [
                (each, offset) for each in partitions for offset in sorted(self._part(each).records)
                if offset >= at[each]
            ]  # fmt: skip
            for each, offset in came:
                at[each] = offset + 1
                yield self._record(each, offset)
            if not came:
                time.sleep(min(timeout_s, 0.02))
                yield None

    def close(self) -> None:
        pass

    def _record(self, partition: int, offset: int) -> Record[Any]:
        message, at = self._part(partition).records[offset]
        try:
            value = self.topic.decode(message)
        except RecordMalformed as error:
            value = Malformed(message, str(error))
        return Record(self.topic.name, partition, offset, message.key, value, message.headers, at)


def offsets_of(records: Iterable[Record[Any]]) -> list[int]:
    return [record.offset for record in records]
