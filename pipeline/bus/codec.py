"""A frame window as the bytes of one record.

    4 bytes   magic "PBW1"
    4 bytes   CRC-32 (as zlib's) of all that follows, big-endian
    4 bytes   length of the header, big-endian
    header    JSON: camera, epoch, sequence, source size, clock, encoding, and for each frame its index, times,
              picture size and byte length
    pictures  one after the other

Previews never leave the process and are not encoded. The checksum stands for what Kafka's own cannot see: a record that
was changed before it was sent or on its way through another program would be counted on as if it were true.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.bus.images import Encoding, decode, encode
from pipeline.bus.json_values import parse_object, shown, text, whole
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.errors import RecordMalformed

_MAGIC = b"PBW1"
_PREFIX = struct.Struct(">4sII")
_CHECKED_FROM = 8
_WHAT = "a frame window"
_KEYS = {"camera_id", "epoch", "sequence", "size", "sample_fps", "time_source", "encoding", "frames"}
_MORE_KEYS = {"revision", "writer", "status"}
_MAX_SIDE = 2**16
_MAX_US = 253_402_300_800_000_000  # the year 10000, where RFC 3339 ends


def encode_window(window: FrameWindow, encoding: Encoding = "jpeg", quality: int = 85) -> bytes:
    """The record of ``window``."""
    pictures = [encode(frame.picture, encoding, quality) for frame in window.frames]
    header: dict[str, Any] = {
        "camera_id": window.camera_id,
        "epoch": window.epoch,
        "sequence": window.sequence,
        "size": [window.width, window.height],
        "sample_fps": window.sample_fps,
        "time_source": window.time_source,
        "encoding": encoding,
        "frames": [
            [frame.index, frame.pts_us, frame.captured_at_us, frame.picture.shape[1], frame.picture.shape[0], len(data)]
            for frame, data in zip(window.frames, pictures, strict=True)
        ],
    }
    if window.revision >= 0:
        header["revision"] = window.revision
    if window.writer:
        header["writer"] = window.writer
    if window.status is not None:
        header["status"] = [window.status.state, window.status.reason, window.status.at_us]
    return _record(header, pictures)


def decode_window(record: bytes) -> FrameWindow:
    """The window a record holds; RecordMalformed, with the reason, when it holds none."""
    header, offset = _header(record)
    told = header.get("status")
    return FrameWindow(
        text(header, "camera_id", _WHAT), whole(header, "epoch", _WHAT), whole(header, "sequence", _WHAT),
        tuple(_frames(record, offset, header)), *_size(header["size"]), _sample_fps(header),
        _one_of(header, "time_source", ("pts", "wall", "ntp")), None if told is None else _status(told),
        whole(header, "revision", _WHAT) if "revision" in header else -1,
        text(header, "writer", _WHAT) if "writer" in header else "",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What a record says beside its pictures. last_us: ``captured_at_us`` of its last frame, None without frames."""

    camera_id: str
    epoch: int
    sequence: int
    writer: str
    frames: int
    last_us: int | None
    status: StreamStatus | None


def window_facts(record: bytes) -> WindowFacts:
    """The facts of a record, its pictures left alone. Raises RecordMalformed."""
    header, _ = _header(record)
    rows, told = _rows(header), header.get("status")
    return WindowFacts(
        text(header, "camera_id", _WHAT), whole(header, "epoch", _WHAT), whole(header, "sequence", _WHAT),
        text(header, "writer", _WHAT) if "writer" in header else "",
        len(rows), rows[-1][2] if rows else None, None if told is None else _status(told),
    )  # fmt: skip


def renumbered(record: bytes, epoch: int, sequence: int) -> bytes:
    """The record of the same window with another place in the order of its camera. Raises RecordMalformed."""
    header, offset = _header(record)
    return _record(header | {"epoch": epoch, "sequence": sequence}, [record[offset:]])


def frame_times(record: bytes) -> list[tuple[int, int, int]]:
    """(index, pts_us, captured_at_us) of each frame of a record, its pictures left alone. Raises RecordMalformed."""
    header, _ = _header(record)
    return [(index, pts_us, captured_at_us) for index, pts_us, captured_at_us, *_ in _rows(header)]


def frame_pictures(record: bytes) -> list[tuple[int, bytes]]:
    """Index and encoded picture of each frame of a record, as they lie there. Raises RecordMalformed."""
    header, offset = _header(record)
    found = []
    for index, *_, length in _rows(header):
        if offset + length > len(record):
            raise RecordMalformed(f"{_WHAT} is cut short: {len(record)} bytes of at least {offset + length}")
        found.append((index, record[offset : offset + length]))
        offset += length
    return found


def _record(header: dict[str, Any], pictures: Sequence[bytes]) -> bytes:
    told = json.dumps(header, separators=(",", ":")).encode()
    length = struct.pack(">I", len(told))
    checksum = zlib.crc32(told, zlib.crc32(length))
    for picture in pictures:
        checksum = zlib.crc32(picture, checksum)
    return b"".join([struct.pack(">4sI", _MAGIC, checksum), length, told, *pictures])


def _header(record: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the pictures begin."""
    if len(record) < _PREFIX.size:
        raise RecordMalformed(f"{_WHAT} is cut short: {len(record)} bytes")
    magic, checksum, length = _PREFIX.unpack_from(record)
    if magic != _MAGIC:
        raise RecordMalformed(f"not a frame window: begins with {magic!r}")
    found = zlib.crc32(memoryview(record)[_CHECKED_FROM:])
    if found != checksum:
        raise RecordMalformed(f"{_WHAT} is not as it was sent: checksum {found:08x}, not {checksum:08x}")
    if _PREFIX.size + length > len(record):
        raise RecordMalformed(f"{_WHAT} is cut short: {len(record)} bytes, a header of {length}")
    header = parse_object(record[_PREFIX.size : _PREFIX.size + length], f"the header of {_WHAT}")
    odd = (header.keys() - _MORE_KEYS) ^ _KEYS
    if odd:
        raise RecordMalformed(f"{_WHAT}: missing or unknown: {', '.join(sorted(odd))[:200]}")
    return header, _PREFIX.size + length


def _frames(record: bytes, offset: int, header: dict[str, Any]) -> list[Frame]:
    encoding: Encoding = _one_of(header, "encoding", ("raw", "jpeg"))
    body = memoryview(record)
    frames = []
    for index, pts_us, captured_at_us, width, height, length in _rows(header):
        if offset + length > len(body):
            raise RecordMalformed(f"{_WHAT} is cut short: {len(body)} bytes of at least {offset + length}")
        picture = decode(body[offset : offset + length], encoding, height, width)
        frames.append(Frame(index, pts_us, captured_at_us, picture))
        offset += length
    if offset != len(body):
        raise RecordMalformed(f"{_WHAT} has {len(body) - offset} bytes too many")
    return frames


def _rows(header: dict[str, Any]) -> list[list[int]]:
    """index, pts_us, captured_at_us, width, height, bytes of each frame."""
    rows = header["frames"]
    if not isinstance(rows, list):
        raise RecordMalformed(f"{_WHAT}: frames must be a list, not {shown(rows)}")
    for row in rows:
        if not isinstance(row, list) or len(row) != 6 or any(type(n) is not int or n < 0 for n in row):
            raise RecordMalformed(f"{_WHAT}: a frame must be six whole numbers")
        if max(row[1:3]) >= _MAX_US or not 0 < row[3] <= _MAX_SIDE or not 0 < row[4] <= _MAX_SIDE:
            raise RecordMalformed(f"{_WHAT}: a frame has times or a size out of any range")
    for before, after in pairwise(rows):
        if any(earlier >= later for earlier, later in zip(before[:3], after[:3], strict=True)):
            raise RecordMalformed(f"{_WHAT}: its frames are not in order")
    return rows


def _size(told: Any) -> tuple[int, int]:
    if not isinstance(told, list) or len(told) != 2 or any(type(n) is not int or not 0 <= n <= _MAX_SIDE for n in told):
        raise RecordMalformed(f"{_WHAT}: size must be two whole numbers up to {_MAX_SIDE}")
    return told[0], told[1]


def _sample_fps(header: dict[str, Any]) -> float:
    value = header["sample_fps"]
    if type(value) not in (int, float) or not 0 <= value <= 1e9:
        raise RecordMalformed(f"{_WHAT}: sample_fps must be a number, not {shown(value)}")
    return float(value)


def _status(told: Any) -> StreamStatus:
    if not isinstance(told, list) or len(told) != 3:
        raise RecordMalformed(f"{_WHAT}: status must be state, reason and time, not {shown(told)}")
    header = dict(zip(("state", "reason", "at_us"), told, strict=True))
    state = _one_of(header, "state", ("up", "down", "ended", "tampered"))
    return StreamStatus(state, text(header, "reason", _WHAT), whole(header, "at_us", _WHAT, 0, _MAX_US - 1))


def _one_of(header: dict[str, Any], key: str, words: tuple[str, ...]) -> Any:
    value = text(header, key, _WHAT)
    if value not in words:
        raise RecordMalformed(f"{_WHAT}: {key} must be {' or '.join(words)}, not {shown(value)}")
    return value
