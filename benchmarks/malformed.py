"""Records that were damaged on their way: each is a dead letter or malformed, none a crash, and good ones go on.

    python -m benchmarks.malformed                       10^5 mutations of a good record of every topic, decoded
    python -m benchmarks.malformed --records 1000000     more of them
    python -m benchmarks.malformed --broker --records 2000   on a real broker, read by real workers (see below)

A mutation is one or several of: bits flipped, bytes replaced, cut short, bytes put in or taken out, pieces swapped or
doubled, a number or a word of the JSON replaced by another kind of value, the key or a header changed or left out, no
value at all. What decodes although it was mutated must decode to a value that encodes again (so it is whole).

With --broker: the mutated records are sent into the real topics among good ones; a real inference worker and a real
ingest worker read them. Counted is what came out: dead letters by reason, and the results of the good records, which
must be those of a run without the bad ones.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.bus.base import Message, Topic
from pipeline.bus.dead_letters import DeadLetter
from pipeline.bus.topics import Topics
from pipeline.errors import RecordMalformed
from tests.bus.samples import (
    CAMERA_STATE,
    COUNTED,
    CROSSED,
    DEAD,
    DOCUMENT,
    INGEST_STATE,
    PARTITION_STATE,
    STATUS,
    window,
)

RESEALED = "windows, checksum made right"
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 2**64, 10**400, 1.5, -0.0, 1e308, "", "\ud800", "\x00", "a" * 5000, [], {}, [[]],
)  # fmt: skip
_ODD_BYTES = (b"", b"\x00", b"\xff\xfe", b"null", b"[]", b"{}", b"NaN", b"[" * 2000, b'{"a":' * 500, b"9" * 5000)


@dataclass
class Outcome:
    """What became of the mutated records of one topic."""

    malformed: int = 0
    decoded: int = 0
    unchanged: int = 0
    crashed: list[str] = field(default_factory=list)
    unharmed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def mutated(message: Message, rng: random.Random) -> Message:
    """``message`` with one to three things wrong with it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message = rng.choice(_MUTATIONS)(message, rng)
    return message


def _bytes(change: Callable[[bytearray, random.Random], Any]) -> Callable[[Message, random.Random], Message]:
    def mutate(message: Message, rng: random.Random) -> Message:
        value = bytearray(message.value or b"")
        told = change(value, rng)
        return Message(message.key, bytes(value if told is None else told), message.headers)

    return mutate


def _flip(value: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 8))):
        if value:
            value[_place(value, rng)] ^= 1 << rng.randrange(8)


def _put_in(value: bytearray, rng: random.Random) -> None:
    at = _place(value, rng)
    value[at:at] = rng.choice((rng.randbytes(rng.randint(1, 20)), rng.choice(_ODD_BYTES)))


def _take_out(value: bytearray, rng: random.Random) -> None:
    at = _place(value, rng)
    del value[at : at + rng.randint(1, 40)]


def _double(value: bytearray, rng: random.Random) -> None:
    at = _place(value, rng)
    value[at:at] = value[at : at + rng.randint(1, 200)]


def _cut(value: bytearray, rng: random.Random) -> None:
    del value[_place(value, rng) :]


def _replace_all(value: bytearray, rng: random.Random) -> bytes:
    return rng.choice((rng.choice(_ODD_BYTES), rng.randbytes(rng.randint(0, len(value) + 1))))


def _digit(value: bytearray, rng: random.Random) -> None:
    digits = [at for at, byte in enumerate(value[:4000]) if 48 <= byte <= 57]
    if digits:
        value[rng.choice(digits)] = rng.choice(b"0123456789-.eE")


def _place(value: bytearray, rng: random.Random) -> int:
    """Half of the time near the beginning, where the structure is."""
    return rng.randrange(min(len(value), rng.choice((64, 600, len(value) or 1))) or 1)


def _json(message: Message, rng: random.Random) -> Message:
    """One value of the JSON, however deep, replaced by one of another kind, taken out, or with another name."""
    try:
        told = json.loads(message.value or b"")
    except (ValueError, RecursionError):
        return _bytes(_flip)(message, rng)
    holder, key = None, None
    node = told
    while isinstance(node, dict | list) and node and (holder is None or rng.random() < 0.7):
        holder, key = node, rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node = holder[key]
    if holder is None or key is None:
        return Message(message.key, b"[]", message.headers)
    match rng.randrange(3):
        case 0:
            holder[key] = rng.choice(_ODD)
        case 1:
            del holder[key]
        case _ if isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        case _:
            holder.append(rng.choice(_ODD))
    return Message(message.key, json.dumps(told).encode(), message.headers)


def _key(message: Message, rng: random.Random) -> Message:
    keys = ("", "yard", "Gate", "partition/x", "partition/99999999999", "ingest/", "\x00", "a" * 300, message.key + "x")
    return Message(rng.choice(keys), message.value, message.headers)


def _headers(message: Message, rng: random.Random) -> Message:
    headers = list(message.headers)
    at = rng.randrange(len(headers) + 1)
    match rng.randrange(4):
        case 0 if at < len(headers):
            del headers[at]
        case 1 if at < len(headers):
            headers[at] = (headers[at][0], rng.choice((b"", b"\xff", b"x" * 2000, b"-1", rng.randbytes(8))))
        case 2 if at < len(headers):
            headers.append(headers[at])
        case _:
            headers.insert(at, (rng.choice(("ce_id", "x", "", "content-type")), rng.randbytes(4)))
    return Message(message.key, message.value, tuple(headers))


def _no_value(message: Message, rng: random.Random) -> Message:
    return Message(message.key, None, message.headers) if rng.random() < 0.2 else _key(message, rng)


_MUTATIONS: tuple[Callable[[Message, random.Random], Message], ...] = (
    _bytes(_flip), _bytes(_put_in), _bytes(_take_out), _bytes(_double), _bytes(_cut), _bytes(_replace_all),
    _bytes(_digit), _json, _json, _key, _headers, _no_value,
)  # fmt: skip


def resealed(message: Message, rng: random.Random) -> Message:
    """A window mutated below its checksum, and the checksum made right: what is behind it must not trust it either."""
    body = (message.value or b"")[8:]
    length = int.from_bytes(body[:4], "big")
    parts = [Message("gate", body[4 : 4 + length]), Message("gate", body[4 + length :])]
    part = rng.choice((0, 0, 1))
    parts[part] = mutated(parts[part], rng)
    header, pictures = (each.value or b"" for each in parts)
    if rng.random() < 0.9:
        length = len(header)
    body = length.to_bytes(4, "big") + header + pictures
    return Message(message.key, b"PBW1" + zlib.crc32(body).to_bytes(4, "big") + body, message.headers)


def good_records() -> dict[str, tuple[Topic[Any], list[Message]]]:
    """Of every topic its codec and some records that are right."""
    topics = Topics("passerby")
    values: tuple[tuple[str, Topic[Any], tuple[Any, ...]], ...] = (
        ("cameras", topics.cameras, (DOCUMENT,)),
        ("windows", topics.windows, (window(2), window(0))),
        (RESEALED, topics.windows_as("raw"), (window(2), window(0))),
        ("state", topics.state, (CAMERA_STATE, PARTITION_STATE, INGEST_STATE)),
        ("events", topics.events, (CROSSED, STATUS)),
        ("counts", topics.counts, (COUNTED,)),
        ("dead-letters", topics.dead_letters, (DEAD,)),
    )
    return {
        name: (topic, [topic.encode(getattr(value, "key", "gate"), value) for value in of_it])
        for name, topic, of_it in values
    }


def decode_mutated(topic: Topic[Any], good: list[Message], records: int, seed: int, *, reseal: bool) -> Outcome:
    """Decode ``records`` mutated records, with a good one between, and account for each."""
    rng = random.Random(seed)
    mutate = resealed if reseal else mutated
    outcome = Outcome()
    began = time.perf_counter()
    for _ in range(records):
        whole = rng.choice(good)
        bad = mutate(whole, rng)
        _decode_one(topic, whole, bad, outcome)
        topic.decode(whole)  # raises if anything was left behind
        outcome.unharmed += 1
    outcome.seconds = time.perf_counter() - began
    return outcome


def _decode_one(topic: Topic[Any], whole: Message, bad: Message, outcome: Outcome) -> None:
    try:
        value = topic.decode(bad)
    except RecordMalformed as error:
        outcome.malformed += 1
        outcome.reasons[str(error).split(":")[0][:50]] += 1
        letter = DeadLetter(bad, str(error), type(error).__name__, topic.name, 0, 0, -1, "benchmark")
        back = _dead_letters().decode(_dead_letters().encode(bad.key, letter))
        if back.message.value != bad.value:
            outcome.crashed.append(f"the dead letter of {bad!r} is not whole"[:300])
        return
    except Exception as error:
        outcome.crashed.append(f"{type(error).__name__}: {error} for {bad!r}"[:300])
        return
    if bad == whole:
        outcome.unchanged += 1
        return
    outcome.decoded += 1
    try:
        topic.encode(bad.key, value)
    except Exception as error:
        outcome.crashed.append(f"decoded, but not whole: {type(error).__name__}: {error} for {bad!r}"[:300])


def _dead_letters() -> Topic[DeadLetter]:
    return Topics("passerby").dead_letters


def main() -> int:
    """Print a table; exit 1 if anything crashed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="mutated records a topic (100000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broker", action="store_true", help="through a real broker and real workers")
    args = parser.parse_args()
    if args.broker:
        from benchmarks.malformed_on_kafka import run

        return run(args.records, args.seed)
    print("| topic | mutated | malformed | still right | decoded otherwise | crashed | good ones between | records/s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    crashed: list[str] = []
    for name, (topic, good) in good_records().items():
        told = decode_mutated(topic, good, args.records, args.seed, reseal=name == RESEALED)
        crashed += told.crashed
        print(
            f"| {name} | {args.records} | {told.malformed} | {told.unchanged} | {told.decoded} | {len(told.crashed)} "
            f"| {told.unharmed} unharmed | {args.records / told.seconds:.0f} |",
            flush=True,
        )
    for line in crashed[:20]:
        print(line, file=sys.stderr)
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
