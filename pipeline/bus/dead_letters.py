"""Dead letters: records that could not be used, as they came, with where they lay and what was wrong with them.

    key      as the record's
    value    the record's bytes, cut at ``MAX_VALUE_BYTES`` (or none, if it had none)
    headers  dead_reason, dead_error, dead_by, dead_size (of the whole value; -1: none), origin_topic,
             origin_partition, origin_offset, origin_timestamp_ms; the record's own headers behind ``header.``

All in text, so that ``kcat -C -t passerby.dead-letters -f '%h %k\\n'`` tells the story.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bus.base import Message
from pipeline.bus.json_values import shown
from pipeline.errors import RecordMalformed

MAX_VALUE_BYTES = 8 * 2**20
MAX_HEADERS_BYTES = 32 * 2**10  # of the record's own headers: what comes after is left out
_MAX_REASON = 1000
_OWN = "header."
_NUMBERS = ("origin_partition", "origin_offset", "origin_timestamp_ms", "dead_size")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used.

    reason: one line for people. error: the error's type. by: the worker that found it.
    topic, partition, offset, timestamp_ms: where it lay, and when it was sent (-1: unknown).
    size_bytes: of the whole value (-1: it had none); ``message.value`` may hold less of a large one.
    """

    message: Message
    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    by: str
    size_bytes: int = -2

    def __post_init__(self) -> None:
        if self.size_bytes == -2:
            value = self.message.value
            object.__setattr__(self, "size_bytes", -1 if value is None else len(value))


def encode_dead_letter(letter: DeadLetter) -> Message:
    """The record of a dead letter; never larger than the record it is about plus 40 KiB."""
    told = {
        "dead_reason": letter.reason[:_MAX_REASON],
        "dead_error": letter.error[:200],
        "dead_by": letter.by[:200],
        "dead_size": str(letter.size_bytes),
        "origin_topic": letter.topic[:249],
        "origin_partition": str(letter.partition),
        "origin_offset": str(letter.offset),
        "origin_timestamp_ms": str(letter.timestamp_ms),
    }
    headers = [(name, value.encode(errors="replace")) for name, value in told.items()]
    room = MAX_HEADERS_BYTES
    for name, value in letter.message.headers:
        room -= len(name.encode(errors="replace")) + len(value)
        if room < 0:
            break
        headers.append((_OWN + name, value))
    kept = letter.message.value
    return Message(letter.message.key, kept if kept is None else kept[:MAX_VALUE_BYTES], tuple(headers))


def decode_dead_letter(message: Message) -> DeadLetter:
    """The dead letter that a record holds. Raises RecordMalformed."""
    told: dict[str, str] = {}
    own: list[tuple[str, bytes]] = []
    for name, value in message.headers:
        if name.startswith(_OWN):
            own.append((name.removeprefix(_OWN), value))
            continue
        try:
            told[name] = value.decode()
        except UnicodeDecodeError:
            raise RecordMalformed(f"a dead letter: the header {shown(name)} is not UTF-8") from None
    numbers = {name: _number(told, name) for name in _NUMBERS}
    for name in ("dead_reason", "dead_error", "dead_by", "origin_topic"):
        if name not in told:
            raise RecordMalformed(f"a dead letter: the header {name} is missing")
    size = numbers["dead_size"]
    if (size == -1) != (message.value is None) or min(size, MAX_VALUE_BYTES) != len(message.value or b"") - (size < 0):
        raise RecordMalformed(f"a dead letter: dead_size is {size}, the value is of another size")
    return DeadLetter(
        Message(message.key, message.value, tuple(own)), told["dead_reason"], told["dead_error"], told["origin_topic"],
        numbers["origin_partition"], numbers["origin_offset"], numbers["origin_timestamp_ms"], told["dead_by"], size,
    )  # fmt: skip


def _number(told: dict[str, str], name: str) -> int:
    value = told.get(name, "")
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        raise RecordMalformed(f"a dead letter: the header {name} must be a whole number, not {shown(value)}")
    return int(value)
