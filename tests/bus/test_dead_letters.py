"""Dead letters: everything about the bad record, in a record that is always good and never too large."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.base import Message
from pipeline.bus.dead_letters import MAX_VALUE_BYTES, DeadLetter, decode_dead_letter, encode_dead_letter
from pipeline.errors import RecordMalformed
from tests.bus.samples import DEAD


def test_it_holds_the_bytes_and_their_story() -> None:
    message = encode_dead_letter(DEAD)
    assert (message.key, message.value) == ("gate", b"\x00not a window")
    assert dict(message.headers) == {
        "dead_reason": b"not a frame window: begins with b'\\x00not'",
        "dead_error": b"RecordMalformed",
        "dead_by": b"infer-1",
        "dead_size": b"13",
        "origin_topic": b"passerby.windows",
        "origin_partition": b"3",
        "origin_offset": b"4711",
        "origin_timestamp_ms": b"1767254400123",
        "header.epoch": b"3",
    }
    assert decode_dead_letter(message) == DEAD


def test_a_record_without_a_value_stays_without() -> None:
    letter = replace(DEAD, message=Message("gate", None), size_bytes=-2)
    assert letter.size_bytes == -1
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


def test_a_large_record_is_cut_and_says_so() -> None:
    letter = replace(DEAD, message=Message("k" * 300, b"x" * (MAX_VALUE_BYTES + 5)), size_bytes=-2)
    message = encode_dead_letter(letter)
    assert message.value is not None
    assert len(message.value) == MAX_VALUE_BYTES
    assert decode_dead_letter(message).size_bytes == MAX_VALUE_BYTES + 5


@given(
    st.text(max_size=20), st.none() | st.binary(max_size=50), st.text(), st.text(),
    st.lists(st.tuples(st.text(max_size=300), st.binary(max_size=20_000)), max_size=6),
)  # fmt: skip
def test_whatever_the_record_was_its_letter_can_be_sent_and_read(
    key: str, value: bytes | None, reason: str, topic: str, headers: list[tuple[str, bytes]]
) -> None:
    letter = DeadLetter(Message(key, value, tuple(headers)), reason, "X", topic, 0, 0, -1, "w")
    message = encode_dead_letter(letter)
    size = sum(len(name.encode()) + len(told) for name, told in message.headers)
    assert size <= 40 * 2**10
    back = decode_dead_letter(message)
    assert back.message.value == value
    assert back.reason == reason[:1000].encode(errors="replace").decode()
    assert back.message.headers == tuple(headers)[: len(back.message.headers)]


@given(st.binary(max_size=20), st.lists(st.tuples(st.text(max_size=12), st.binary(max_size=12)), max_size=4))
def test_any_bytes_are_a_letter_or_malformed(value: bytes, added: list[tuple[str, bytes]]) -> None:
    for headers in (tuple(added), (*encode_dead_letter(DEAD).headers, *added)):
        try:
            decode_dead_letter(Message("k", value, headers))
        except RecordMalformed as error:
            assert str(error)


def test_a_letter_that_lacks_its_story_is_malformed() -> None:
    message = encode_dead_letter(DEAD)
    for left_out in ("dead_reason", "origin_topic", "origin_offset", "dead_size"):
        headers = tuple(header for header in message.headers if header[0] != left_out)
        with pytest.raises(RecordMalformed, match=left_out):
            decode_dead_letter(replace(message, headers=headers))
    with pytest.raises(RecordMalformed, match="another size"):
        decode_dead_letter(replace(message, value=b"short"))
