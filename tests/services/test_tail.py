"""Tail: the events asked for, once, in order, in words; totals that add up however counts and crossings interleave."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.bus.base import Malformed, Message, Record
from pipeline.cli import build
from pipeline.core.events import (
    CAMERA_STATUS,
    COUNT_WINDOW,
    DIRECTION_WRONG,
    EVENT_TYPES,
    LINE_CROSSED,
    SCENE_EVENT,
    VEHICLE_STOPPED,
    ZONE_CROWDED,
    ZONE_DWELLED,
    ZONE_ENTERED,
    ZONE_EXITED,
    Event,
)
from pipeline.errors import TopicMissing
from pipeline.outputs.tail import EventLines, RunningTotals, in_words
from pipeline.services.tail import EventFilter, EventTail, short_type
from tests.outputs.samples import crossing, window
from tests.services.logged import TOPICS
from tests.services.memory_log import MemoryLog

S = 1_000_000
BASE = 1_767_254_400 * S


def told(event: Event, **data: Any) -> Event:
    return Event(event.id, event.type, event.camera_id, event.time_us, {**event.data, **data})


def test_a_filter_wants_what_it_names() -> None:
    left = crossing(BASE, "gate", line="kerb", direction="left")
    car = crossing(BASE, "yard", line="road", direction="right", class_id="car")
    counts = told(window(BASE, BASE + 10 * S), lines={"kerb": {"person": {"left": 1, "right": 0}}})
    inside = Event("z", ZONE_ENTERED, "gate", BASE, {"class_id": "person", "group": "person", "zone": "plaza"})
    everything = [left, car, counts, inside]

    def wanted(**asked: Any) -> list[Event]:
        return [event for event in everything if EventFilter(**asked).wants(event)]

    assert wanted() == everything
    assert wanted(cameras=frozenset({"yard"})) == [car]
    assert wanted(types=frozenset({"line.crossed"})) == [left, car]
    assert wanted(types=frozenset({COUNT_WINDOW})) == [counts]
    assert wanted(lines=frozenset({"kerb"})) == [left, counts]
    assert wanted(zones=frozenset({"plaza"})) == [inside]
    assert wanted(directions=frozenset({"right"})) == [car]
    assert wanted(classes=frozenset({"vehicle"})) == [car]
    assert wanted(classes=frozenset({"person"})) == [left, inside]
    assert wanted(events=False) == [counts]
    assert wanted(counts=False, cameras=frozenset({"gate"})) == [left, inside]


def test_short_types() -> None:
    assert [short_type(type_) for type_ in (LINE_CROSSED, COUNT_WINDOW)] == ["line.crossed", "count.window"]
    assert short_type("com.example.other") == "com.example.other"


def _taken(tail: Iterator[Record[Event | Malformed] | None], number: int) -> list[Record[Event | Malformed]]:
    found = (record for record in tail if record is not None)
    return list(itertools.islice(found, number))


def test_the_past_comes_in_the_order_of_its_times_and_then_what_is_new() -> None:
    log = MemoryLog(partitions=2)
    events = [crossing(BASE + n * S, camera, n=n) for n, camera in enumerate(("gate", "yards", "gate", "yards"))]
    for event in (events[1], events[3], events[0], events[2]):
        log.send(TOPICS.events, event.camera_id, event, event.time_us // 1000)
    counts = window(BASE - 5 * S, BASE + 2 * S)
    log.send(TOPICS.counts, "gate", counts, counts.time_us // 1000)
    with EventTail(log, [TOPICS.events, TOPICS.counts], since_ms=0) as tail:
        assert tail.wait_ready(10)
        came = iter(tail)
        assert [record.value for record in _taken(came, 5)] == [events[0], events[1], events[2], counts, events[3]]
        late = crossing(BASE, "gate", n=9)
        log.send(TOPICS.events, "gate", late, 0)
        assert [record.value for record in _taken(came, 1)] == [late]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tail-")]


def test_without_since_only_what_comes_is_told_and_from_since_on_what_was_published_then() -> None:
    log = MemoryLog()
    old, new = crossing(BASE, n=1), crossing(BASE + S, n=2)
    log.send(TOPICS.events, "gate", old, 1000)
    log.send(TOPICS.events, "gate", new, 2000)
    with EventTail(log, [TOPICS.events]) as tail:
        assert tail.wait_ready(10)
        assert next(iter(tail)) is None
        live = crossing(BASE + 2 * S, n=3)
        log.send(TOPICS.events, "gate", live, 3000)
        assert _taken(iter(tail), 1)[0].value == live
    with EventTail(log, [TOPICS.events], since_ms=2000) as tail:
        assert [record.value for record in _taken(iter(tail), 2)] == [new, live]


def test_what_cannot_be_read_is_given_as_such_and_a_missing_topic_is_an_error() -> None:
    log = MemoryLog()
    log.append(TOPICS.events.name, Message("gate", b"not an event"))
    with EventTail(log, [TOPICS.events], since_ms=0) as tail:
        assert isinstance(_taken(iter(tail), 1)[0].value, Malformed)
    with EventTail(log, [TOPICS.counts]) as tail, pytest.raises(TopicMissing):
        list(itertools.islice(tail, 3))


SAMPLES = {
    LINE_CROSSED: ({"line": "kerb", "direction": "left"}, "car 7 crossed kerb to the left"),
    ZONE_ENTERED: ({"zone": "plaza"}, "car 7 entered plaza"),
    ZONE_EXITED: ({"zone": "plaza", "dwell_s": 65.2}, "car 7 left plaza after 1 min 05 s"),
    ZONE_DWELLED: ({"zone": "plaza", "dwell_s": 10.0}, "car 7 has stayed in plaza for 10.0 s"),
    VEHICLE_STOPPED: ({"zone": "road", "stopped_s": 20.0}, "car 7 has stood still in road for 20.0 s"),
    DIRECTION_WRONG: ({"zone": None, "line": "kerb"}, "car 7 went the wrong way over kerb"),
    ZONE_CROWDED: ({"zone": "plaza", "phase": "start", "occupancy": 8}, "plaza is crowded: 8 inside"),
    SCENE_EVENT: ({"kind": "fight", "phase": "start", "score": 0.934}, "fight start (score 0.93)"),
    CAMERA_STATUS: ({"state": "down", "reason": "no answer"}, "camera down: no answer"),
    COUNT_WINDOW: (
        {
            "groups": {"person": {"occupancy_mean": 1.25, "occupancy_max": 3}},
            "lines": {"kerb": {"person": {"left": 1, "right": 0}, "vehicle": {"left": 0, "right": 0}}},
            "coverage": 0.5,
        },
        "1.2 people (at most 3); crossed kerb person 1L 0R; seen 50\u202f%",
    ),
}  # fmt: skip


@pytest.mark.parametrize("type_", EVENT_TYPES)
def test_every_type_has_words(type_: str) -> None:
    data, words = SAMPLES[type_]
    event = Event("1", type_, "gate", BASE, {"class_id": "car", "group": "vehicle", "track_id": "gate/1/7", **data})
    assert in_words(event) == words


def test_a_type_of_a_newer_version_is_named() -> None:
    assert "io.passerby.new.v1" in in_words(Event("1", "io.passerby.new.v1", "gate", BASE, {}))


def _total(totals: RunningTotals) -> dict[str, int] | None:
    kinds = totals.of("gate", "kerb")
    return None if kinds is None else dict(kinds.get("person", {"left": 0, "right": 0}))


@pytest.mark.parametrize("early", [set(each) for n in range(5) for each in itertools.combinations(range(4), n)])
def test_totals_do_not_depend_on_how_counts_and_crossings_interleave(early: set[int]) -> None:
    """Two crossings before the count window's end, one at it (it belongs to the next), one after."""
    crossings = [crossing(BASE + at * S, n=n) for n, at in enumerate((1, 2, 10, 11))]
    counts = told(window(BASE, BASE + 10 * S), totals={"kerb": {"person": {"left": 40, "right": 3}}})
    assert counts.time_us == BASE + 10 * S
    totals = RunningTotals()
    before = [crossings[n] for n in sorted(early)]
    for event in (*before, counts, *(each for each in crossings if each not in before)):
        totals.take(event)
    assert _total(totals) == {"left": 42, "right": 3}


def test_totals_are_not_told_before_they_are_known() -> None:
    totals = RunningTotals()
    totals.take(crossing(BASE))
    assert _total(totals) is None


def test_a_line_tells_time_camera_words_and_totals() -> None:
    lines = EventLines()
    counts = told(window(BASE, BASE + 10 * S), totals={"kerb": {"person": {"left": 4, "right": 3}}})
    after = crossing(BASE + 12 * S + 250_000)
    for event in (counts, after):
        lines.totals.take(event)
    assert str(lines.day(after)) == "── 2026-01-01 (UTC) ──"
    assert lines.day(after) is None
    assert lines.line(after).plain == "08:00:12.250  gate  ● person 1 crossed kerb to the left   total person 5L 3R"


def test_wrong_wishes_are_told_before_anything_is_opened() -> None:
    app, runner = build(), CliRunner()
    for arguments, words in (
        (["--type", "line.crosed"], "there is no 'line.crosed'"),
        (["--direction", "up"], "neither left nor right"),
        (["--since", "yesterday"], "is no time"),
    ):
        found = runner.invoke(app, ["tail", *arguments])
        assert words in str(found.exception)
        assert found.exception.exit_code == 2  # type: ignore[union-attr]
