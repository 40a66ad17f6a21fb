"""An undisturbed pass over the windows topic: one process, no group, no transactions, no faults.

What it says is what a read_committed consumer of counts and events must have seen, each once, byte for byte.
"""

# ruff: noqa: ARG002  (methods of protocols)
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from benchmarks.whole_topics import as_it_lies, records
from pipeline.analytics.camera import Observation
from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.topics import Topics
from pipeline.core.frame import Frame, FrameWindow
from pipeline.errors import RecordMalformed
from pipeline.services.plans import Plans
from pipeline.services.stages import InferStages

Told = tuple[tuple[tuple[str, bytes], ...], bytes | None]
Output = dict[tuple[str, str], list[Told]]
"""(topic, camera_id) -> headers and value of each record, in order."""


@dataclass
class Pass:
    """What came out. windows: analysed; void; refused: reason of each."""

    output: Output = field(default_factory=dict)
    windows: int = 0
    void: int = 0
    frames: int = 0
    refused: list[str] = field(default_factory=list)


class _Span:
    """Some records as a consumer (bus.Consumer)."""

    def __init__(self, records: Iterator[Record[Any]]) -> None:
        self._records = records
        self.ended = False

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[Any]]:
        found = list(islice(self._records, max_records))
        self.ended = not found
        return found

    def commit(self, records: Sequence[Record[Any]]) -> None:
        pass


class _Collecting:
    """stages.Results that keeps everything."""

    def __init__(self, topics: Topics) -> None:
        self.told = Pass()
        self._topics = topics

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        for event in observation.events:
            topic = self._topics.of_event(event)
            message = topic.encode(event.camera_id, event)
            self.told.output.setdefault((topic.name, message.key), []).append((message.headers, message.value))

    def done(self, record: Record[Any], window: FrameWindow, observe_s: float) -> None:
        self.told.windows += 1
        self.told.frames += len(window.frames)

    def void(self, record: Record[Any], window: FrameWindow) -> None:
        self.told.void += 1

    def refused(self, record: Record[Any], window: FrameWindow | None, error: Exception, /) -> None:
        self.told.refused.append(str(error))


def straight_pass(
    reader: Any, topics: Topics, plans: Plans, *, in_flight: int = 8, until: Callable[[int], int] | None = None
) -> Pass:
    """Analyse every window there is, partition after partition. reader: of ``topics.windows_raw``.

    until: the offset to stop before, a partition; default its end.
    """
    results = _Collecting(topics)

    def decode(record: Record[Any]) -> FrameWindow:
        if isinstance(record.value, Malformed):
            raise RecordMalformed(record.value.reason)
        return topics.windows.decode(Message(record.key, record.value, record.headers))

    for partition in reader.partitions():
        end = reader.end(partition) if until is None else until(partition)
        span = _Span(reader.read(partition, reader.beginning(partition), end))
        stages: InferStages[Any] = InferStages(
            span, lambda record, window: plans.plan(window, record.partition), results, decode=decode,
            max_in_flight=in_flight,
        )  # fmt: skip
        while stages.in_flight or not span.ended:
            stages.take(0.0)
            stages.finish_next()
    return results.told


def published(bus: Any, topics: Topics) -> Output:
    """What a read_committed consumer sees of counts and events, in order a camera."""
    found: Output = {}
    for topic in (topics.counts, topics.events):
        for record in records(bus, as_it_lies(topic.name)):
            found.setdefault((topic.name, record.key), []).append((record.value.headers, record.value.value))
    return found


@dataclass(frozen=True)
class Verdict:
    """records: published. lost: not published. doubled: there more than once. different: other bytes, or order."""

    records: int
    lost: int
    doubled: int
    different: int

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.different)


def judge(expected: Output, found: Output) -> Verdict:
    """Compare by ``ce_id``; what is there once on both sides must be equal, and in the same order a camera."""
    records = lost = doubled = different = 0
    for key in expected.keys() | found.keys():
        want, have = expected.get(key, []), found.get(key, [])
        records += len(have)
        want_ids, have_ids = [_id(one) for one in want], [_id(one) for one in have]
        doubled += len(have_ids) - len(set(have_ids))
        lost += len(set(want_ids) - set(have_ids))
        different += len(set(have_ids) - set(want_ids))
        by_id = dict(zip(want_ids, want, strict=True))
        different += sum(1 for one in have if _id(one) in by_id and by_id[_id(one)] != one)
        if set(want_ids) == set(have_ids) and len(want_ids) == len(have_ids):
            different += sum(1 for one, other in zip(want_ids, have_ids, strict=True) if one != other)
    return Verdict(records, lost, doubled, different)


def doubles(expected: Output, found: Output) -> Iterator[str]:
    """Each id that is there more than once, how often the straight pass says it, and the records: an id that two events
    share shows on both sides, a record that was published twice on one.
    """
    for key, have in sorted(found.items()):
        want = Counter(_id(one) for one in expected.get(key, []))
        for told, times in Counter(_id(one) for one in have).items():
            if times > 1:
                values = [one[1] for one in have if _id(one) == told]
                yield f"{key} {told!r}: {times} times, {want[told]} in the straight pass: {values}"


def _id(told: Told) -> bytes:
    return dict(told[0])["ce_id"]
