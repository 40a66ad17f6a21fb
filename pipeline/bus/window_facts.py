"""The header of a frame window's record, read and rewritten without touching its pictures."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass

from pipeline.bus import codec
from pipeline.bus.base import Message
from pipeline.core.frame import StreamStatus
from pipeline.errors import RecordMalformed


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What the header of a record says; ``last_us``: ``captured_at_us`` of its last frame, None where it has none."""

    camera_id: str
    epoch: int
    sequence: int
    writer: str
    frames: int
    last_us: int | None
    status: StreamStatus | None


def window_facts(record: bytes) -> WindowFacts:
    """The facts of a record. Raises RecordMalformed."""
    header, _ = codec._header(record)
    times, told = codec.frame_times(record), header.get("status")
    try:
        return WindowFacts(
            str(header["camera_id"]), int(header["epoch"]), int(header["sequence"]), str(header.get("writer", "")),
            len(times), times[-1][2] if times else None, None if told is None else codec._status(told),
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise RecordMalformed(f"not a frame window: {type(error).__name__}: {error}") from error


def renumbered(message: Message, epoch: int, sequence: int) -> Message:
    """The record of the same window with another epoch and sequence; the pictures stay as they are encoded.

    Raises RecordMalformed.
    """
    record = message.value or b""
    header, body = codec._header(record)
    header["epoch"], header["sequence"] = epoch, sequence
    told = {"epoch": str(epoch).encode(), "sequence": str(sequence).encode()}
    headers = tuple((name, told.get(name, value)) for name, value in message.headers)
    again = json.dumps(header, separators=(",", ":")).encode()
    checked = b"".join([struct.pack(">I", len(again)), again, memoryview(record)[body:]])
    return Message(message.key, struct.pack(">4sI", codec._MAGIC, zlib.crc32(checked)) + checked, headers)
