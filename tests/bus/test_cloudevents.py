"""Events as Kafka records: CloudEvents 1.0 in binary mode, there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.base import Message
from pipeline.bus.cloudevents import decode_event, encode_event
from pipeline.bus.topics import Topics
from pipeline.core.events import Event, rfc3339
from pipeline.errors import RecordMalformed
from tests.bus.samples import COUNTED, CROSSED, STATUS

EVENTS = pytest.mark.parametrize("event", [CROSSED, COUNTED, STATUS], ids=lambda event: event.type)


def test_the_bytes_are_those_of_the_contract() -> None:
    message = encode_event(STATUS)
    assert message == Message(
        "gate",
        b'{"camera_id":"gate","epoch":3,"state":"up","reason":"first frame"}',
        (
            ("ce_specversion", b"1.0"),
            ("ce_id", b"0" * 32),
            ("ce_source", b"/passerby/gate"),
            ("ce_type", b"io.passerby.camera.status.v1"),
            ("ce_subject", b"gate"),
            ("ce_time", b"2026-01-01T08:00:00.123456Z"),
            ("content-type", b"application/json"),
        ),
    )


@EVENTS
def test_an_event_comes_back_equal(event: Event) -> None:
    back = decode_event(encode_event(event))
    assert back == event
    assert encode_event(back) == encode_event(event)


@EVENTS
def test_the_bytes_do_not_depend_on_the_order_in_which_data_were_put_together(event: Event) -> None:
    shuffled = replace(event, data=dict(reversed(event.data.items())))
    assert encode_event(shuffled) == encode_event(event)


def test_the_value_is_utf8_without_spaces_in_declared_order() -> None:
    value = encode_event(CROSSED).value
    assert value is not None
    assert value.startswith(b'{"camera_id":"gate","epoch":3,')
    assert "Straße".encode() in value
    assert b'"bbox":{"x_min":0.1,"y_min":1e-09,"x_max":0.5,"y_max":1.0}' in value
    assert b", " not in value
    assert json.loads(value) == CROSSED.data


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda key: key != "camera_id"),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=5,
    ),
    st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(lambda us: max(us, -30_000_000_000_000_000)),
)
def test_any_data_and_any_time_come_back_equal(data: dict[str, Any], time_us: int) -> None:
    event = Event("id-1", "io.passerby.line.crossed.v1", "gate", time_us, data)
    assert decode_event(encode_event(event)) == event


def test_not_a_number_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_event(replace(STATUS, data={"x": float("nan")}))


def headers(**changed: bytes | None) -> tuple[tuple[str, bytes], ...]:
    told: dict[str, bytes | None] = dict(encode_event(STATUS).headers)
    told |= {name.replace("__", "-"): value for name, value in changed.items()}
    return tuple((name, value) for name, value in told.items() if value is not None)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("gate", b"{}"), "content-type"),
        (Message("gate", None, headers()), "has no value"),
        (Message("gate", b"[]", headers()), "not a JSON object but list"),
        (Message("gate", b"{", headers()), "is not JSON"),
        (Message("gate", b'{"a":1,"a":2}', headers()), "a key is there twice"),
        (Message("gate", b'{"a":NaN}', headers()), "NaN"),
        (Message("gate", b'{"a":1e999}', headers()), "no number a float can hold"),
        (Message("gate", b'{"a":"\\ud800"}', headers()), "surrogate"),
        (Message("gate", b"\xff{}", headers()), "not UTF-8"),
        (Message("gate", b"[" * 100_000, headers()), "is not JSON"),
        (Message("gate", b"1" * 5000, headers()), "is not JSON"),
        (Message("gate", b"{}", headers(ce_id=None)), "ce_id is missing"),
        (Message("gate", b"{}", headers(ce_id=b"")), "ce_id is missing"),
        (Message("gate", b"{}", headers(ce_id=b"\xff")), "not UTF-8"),
        (Message("gate", b"{}", (*headers(), ("ce_id", b"2"))), "there twice"),
        (Message("gate", b"{}", headers(ce_specversion=b"0.3")), "version '0.3'"),
        (Message("gate", b"{}", headers(ce_source=b"/passerby/yard")), "ce_source"),
        (Message("yard", b"{}", headers()), "differ"),
        (Message("gate", b'{"camera_id":"yard"}', headers()), "another camera"),
        (Message("gate", b"{}", headers(ce_time=b"yesterday")), "ce_time"),
        (Message("gate", b"{}", headers(ce_time=b"2026-01-01T08:00:00Z")), "ce_time"),
        (Message("gate", b"{}", headers(ce_time=b"2026-01-01T08:00:00.123456+00:00")), "ce_time"),
        (Message("gate", b"{}", headers(ce_time=b"2026-01-01T08:00:00.123456")), "ce_time"),
        (Message("gate", b"{}", headers(content__type=b"application/cloudevents+json")), "content-type"),
    ],
)
def test_what_is_odd_is_malformed(message: Message, reason: str) -> None:
    with pytest.raises(RecordMalformed, match=reason):
        decode_event(message)


def test_what_a_newer_writer_adds_is_left_alone() -> None:
    added = Message("gate", b'{"camera_id":"gate","new":[1]}', headers(ce_traceparent=b"00-x", x__other=b"\xff"))
    assert decode_event(added).data["new"] == [1]
    with_charset = Message("gate", b"{}", headers(content__type=b"application/json; charset=utf-8"))
    assert decode_event(with_charset).id == STATUS.id


def test_counts_and_events_have_each_their_topic() -> None:
    topics = Topics("p")
    assert (topics.of_event(COUNTED), topics.of_event(STATUS)) == (topics.counts, topics.events)
    with pytest.raises(RecordMalformed, match="among the counts"):
        topics.counts.decode(encode_event(STATUS))
    with pytest.raises(RecordMalformed, match="among the events"):
        topics.events.decode(encode_event(COUNTED))


@given(st.binary(max_size=60), st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=12)), max_size=4))
def test_any_bytes_are_an_event_or_malformed(value: bytes, added: list[tuple[str, bytes]]) -> None:
    for message in (Message("gate", value, tuple(added)), Message("gate", value, (*headers(), *added))):
        try:
            decode_event(message)
        except RecordMalformed as error:
            assert str(error)


def test_times_beyond_the_calendar_are_told_as_such() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    with pytest.raises(RecordMalformed):
        decode_event(Message("gate", b"{}", headers(ce_time=b"12026-01-01T08:00:00.123456Z")))
