"""Replay: the same windows give the same bytes, from any epoch's beginning on, and what differs is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.bus.base import Message
from pipeline.core.events import COUNT_WINDOW, LINE_CROSSED, Event
from pipeline.errors import ModelError, OffsetGone, UsageError
from pipeline.services.published import PublishedEvent, compare, published_from
from pipeline.services.replay import Replay, Replayed, ReplayRequest
from pipeline.services.spans import index_camera
from tests.services.logged import EPOCH_2_LATER_US, TOPICS, Logged


def replayed(replay: Replay, **request: int) -> tuple[Replayed, list[Event]]:
    events: list[Event] = []
    told = replay.run(ReplayRequest("street", exact=True, **request), events.append)
    return told, events


def published(street: Logged, told: Replayed) -> list[PublishedEvent]:
    sent_ms = told.index.windows[told.span.first].timestamp_ms
    return published_from(street.log, TOPICS, "street", told.span_offsets, sent_ms)


def test_the_whole_log_gives_what_was_published_byte_for_byte(street: Logged, replay: Replay) -> None:
    told, events = replayed(replay)
    assert {event.type for event in events} >= {LINE_CROSSED, COUNT_WINDOW}
    assert {event.data["epoch"] for event in events} == {1, 2}
    found = compare(published(street, told), events)
    assert (found.differences, found.equal) == ([], len(street.events))
    assert events == street.events
    assert (told.refused, told.notes) == ([], [])


def test_what_a_replaced_reader_sent_is_in_no_index(street: Logged) -> None:
    index = index_camera(street.log, TOPICS, "street")
    assert len(index.windows) == len(street.windows) - 2
    assert [index.windows[n].offset for n in index.begins] == [0, street.offset_of_epoch(2)]
    assert index.is_whole


def test_from_the_second_epoch_on_totals_come_from_what_was_published_before(street: Logged, replay: Replay) -> None:
    log = street.log
    gone = street.offset_of_epoch(2) - 3
    kept = dict(log.topics[TOPICS.windows.name][0].records)
    log.delete_before(TOPICS.windows.name, 0, gone)
    try:
        told, events = replayed(replay)
        assert told.span_offsets[0] == street.offset_of_epoch(2)
        (note,) = told.notes
        assert "begins in the middle of epoch 1" in note
        assert f"comparing from offset {street.offset_of_epoch(2)}" in note
        found = compare(published(street, told), events)
        assert found.differences == []
        assert found.equal == sum(event.data["epoch"] == 2 for event in street.events) > 10
        totals = next(event for event in events if event.type == COUNT_WINDOW).data["totals"]
        assert sum(sum(sides.values()) for sides in totals["kerb"].values()) > 0, "the first epoch counts in them"
    finally:
        log.topics[TOPICS.windows.name][0].records = kept
        log.topics[TOPICS.windows.name][0].beginning = 0


def test_a_log_without_the_beginning_of_any_epoch_compares_nothing(street: Logged, replay: Replay) -> None:
    log = street.log
    kept = dict(log.topics[TOPICS.windows.name][0].records)
    log.delete_before(TOPICS.windows.name, 0, street.offset_of_epoch(2) + 2)
    try:
        with pytest.raises(UsageError, match="no later epoch begins"):
            replayed(replay)
        events: list[Event] = []
        told = replay.run(ReplayRequest("street"), events.append)
        assert "tracks and totals begin anew" in told.notes[0]
        assert events
    finally:
        log.topics[TOPICS.windows.name][0].records = kept
        log.topics[TOPICS.windows.name][0].beginning = 0


def test_a_span_in_the_middle_begins_its_analytics_with_the_epoch(street: Logged, replay: Replay) -> None:
    first = street.offset_of_epoch(2) + 4
    told, events = replayed(replay, from_offset=first, to_offset=first + 6)
    assert told.span_offsets == (first, first + 6)
    assert told.span.start == street.offset_of_epoch(2)
    assert events == [event for event in street.events if first <= event.data["origin"]["offset"] < first + 6]
    assert compare(published(street, told), events).differences == []


def test_a_span_up_to_the_end_of_an_epoch_has_what_the_next_one_closes(street: Logged, replay: Replay) -> None:
    until = street.offset_of_epoch(2)
    told, events = replayed(replay, to_offset=until)
    assert events == [event for event in street.events if event.data["origin"]["offset"] < until]
    assert told.span.until > told.span.last


def test_times_are_those_of_the_video(street: Logged, replay: Replay) -> None:
    at_us = street.windows[0].frames[0].captured_at_us + EPOCH_2_LATER_US
    told, events = replayed(replay, from_us=at_us)
    assert {event.data["epoch"] for event in events} == {2}
    assert told.index.windows[told.span.first].headers.epoch == 2
    with pytest.raises(UsageError, match="no window lies in this span"):
        replayed(replay, from_us=at_us + 10 * EPOCH_2_LATER_US)


def test_nothing_behind_the_committed_offset_is_compared(street: Logged, replay: Replay) -> None:
    group = street.config.kafka.infer_group_name
    try:
        street.log.offsets[group] = {0: 5}
        told, _ = replayed(replay)
        assert told.span_offsets == (0, 5)
        assert "inference has come to offset 5" in told.notes[0]
        street.log.offsets[group] = {}
        with pytest.raises(OffsetGone, match="has published nothing"):
            replayed(replay)
    finally:
        street.log.offsets[group] = {0: len(street.windows)}


def test_progress_reaches_its_end(street: Logged, replay: Replay) -> None:
    steps: list[tuple[int, int]] = []
    events: list[Event] = []
    replay.run(ReplayRequest("street", to_offset=6), events.append, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(n, 7) for n in range(1, 8)]


def test_no_camera_of_that_name(replay: Replay) -> None:
    with pytest.raises(OffsetGone, match="no window of camera 'yard'"):
        replay.run(ReplayRequest("yard"), lambda _: None)


def _mutated(event: PublishedEvent, **data: object) -> PublishedEvent:
    value = json.dumps(json.loads(event.message.value or b"") | data, separators=(",", ":")).encode()
    return replace(event, message=replace(event.message, value=value))


def test_each_kind_of_difference_is_named(street: Logged, replay: Replay) -> None:
    told, events = replayed(replay)
    there = published(street, told)
    wrong = next(event for event in there if event.event.type == LINE_CROSSED)
    counts = [event for event in there if event.event.type == COUNT_WINDOW]
    headers = tuple(
        (name, b"2026-01-01T00:00:00.000000Z" if name == "ce_time" else v) for name, v in counts[0].message.headers
    )
    spoiled = {
        wrong.event.id: [_mutated(wrong, direction="up")],
        counts[0].event.id: [replace(counts[0], message=replace(counts[0].message, headers=headers))],
        counts[1].event.id: [],
        counts[2].event.id: [counts[2], counts[2]],
        counts[3].event.id: [
            replace(counts[3], message=replace(counts[3].message, value=(counts[3].message.value or b"") + b" "))
        ],
    }
    stranger = replace(there[0].event, id="f" * 32)
    mutated = [one for event in there for one in spoiled.get(event.event.id, [event])]
    mutated.append(replace(there[0], event=stranger))
    found = compare(mutated, events)
    by_id = {difference.event_id: difference for difference in found.differences}
    assert len(found.differences) == 6
    assert (by_id[wrong.event.id].field, by_id[wrong.event.id].published) == ("data.direction", "up")
    assert "data.direction was published as up, replayed as " in by_id[wrong.event.id].told()
    assert by_id[counts[0].event.id].field == "ce_time"
    assert by_id[counts[1].event.id].what == "missing"
    assert (by_id[counts[2].event.id].what, by_id[counts[2].event.id].published) == ("doubled", 2)
    assert by_id[counts[3].event.id].field == "bytes of the value"
    assert by_id["f" * 32].what == "added"
    assert all(difference.told().startswith("street ") for difference in found.differences)


def test_a_nested_difference_is_told_by_its_path() -> None:
    from pipeline.services.published import first_difference

    one, other = Message("k", b'{"a":{"b":[1,2]}}'), Message("k", b'{"a":{"b":[1,3]}}')
    assert first_difference(one, other) == ("data.a.b[1]", 2, 3)
    assert first_difference(one, Message("k", b'{"a":{"b":[1,2],"c":1}}')) == ("data.a.c", None, 1)
    assert first_difference(Message("k", b'{"a":1}'), Message("k", b'{"a":1.0}')) == ("data.a", 1, 1.0)
    assert first_difference(Message("a", b""), Message("b", b"")) == ("key", "a", "b")


def test_another_model_judges_and_is_named(street: Logged, replay: Replay) -> None:
    events: list[Event] = []
    replay.run(ReplayRequest("street", to_offset=4, model="passerby-nano"), events.append)
    assert events
    assert {event.data["provenance"]["model"] for event in events if "provenance" in event.data} == {"passerby-nano"}
    with pytest.raises(ModelError, match="no-such-model"):
        replay.run(ReplayRequest("street", to_offset=3, model="no-such-model"), lambda _: None)
