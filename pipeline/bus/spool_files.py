"""The files of a spool: records one behind the other, each of which says by itself whether it is whole.

    4 bytes   magic "PBS1"
    1 byte    state: 0 waits, 1 done (the only byte that is ever changed; outside both checksums)
    1 byte    kind: 0 may be dropped, 1 must be kept
    2 bytes   nothing
    4 bytes   length of the body
    4 bytes   frames
    8 bytes   sequence: rises from record to record of the spool
    8 bytes   UTC milliseconds when it was appended
    4 bytes   CRC-32 of the body
    4 bytes   CRC-32 of this head from ``kind`` on
    body      key, headers and value of the message

All numbers big-endian. A head with a checksum of its own lets a restart walk from head to head without reading the
bodies, and tells the frames of a record whose body is damaged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bus.base import Message
from pipeline.errors import BusMisconfigured

MAGIC = b"PBS1"
_HEAD = struct.Struct(">4sBBHIIQQII")
HEAD_BYTES = _HEAD.size
_CHECKED_FROM = 5
_STATE_AT = 4
_NO_VALUE = 0xFFFF_FFFF
_LENGTH = struct.Struct(">I")
DONE = 1


@dataclass(slots=True)
class Entry:
    """Where a record lies, and what its head says."""

    sequence: int
    offset: int
    body_bytes: int
    frames: int
    appended_ms: int
    keep: bool
    done: bool = False

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + HEAD_BYTES + self.body_bytes


def pack(message: Message, sequence: int, frames: int, appended_ms: int, *, keep: bool) -> bytes:
    """The record of a message."""
    body = _pack_message(message)
    fields = (0, int(keep), 0, len(body), frames, sequence, appended_ms, zlib.crc32(body))
    head = _HEAD.pack(MAGIC, *fields, 0)[:-4]
    return head + _LENGTH.pack(zlib.crc32(head[_CHECKED_FROM:])) + body


def read_head(data: bytes, at: int, offset: int) -> Entry | None:
    """The head that begins at ``data[at]``, whose place in the file is ``offset``; None if there is no whole one."""
    if at + HEAD_BYTES > len(data):
        return None
    magic, state, kind, _, length, frames, sequence, appended_ms, _, checksum = _HEAD.unpack_from(data, at)
    if magic != MAGIC or zlib.crc32(data[at + _CHECKED_FROM : at + HEAD_BYTES - 4]) != checksum:
        return None
    return Entry(sequence, offset, length, frames, appended_ms, kind == 1, state == DONE)


def read_message(file: int, entry: Entry) -> Message | None:
    """The message of a record; None when its body is damaged or cut short."""
    record = os.pread(file, HEAD_BYTES + entry.body_bytes, entry.offset)
    head = read_head(record, 0, entry.offset)
    if head is None or head.sequence != entry.sequence or len(record) != HEAD_BYTES + head.body_bytes:
        return None
    body = record[HEAD_BYTES:]
    return _unpack_message(body) if zlib.crc32(body) == _HEAD.unpack_from(record)[8] else None


def mark_done(file: int, entry: Entry) -> None:
    """Let a restart know that the record is not needed any more: one byte, in place."""
    os.pwrite(file, bytes([DONE]), entry.offset + _STATE_AT)


def scan(path: Path, *, bodies: bool) -> tuple[list[Entry], int, int]:
    """The records of a file in order, where its last whole record ends, and how many bytes before that make no sense.

    bodies: also check every body (else a damaged one is found when it is read).
    """
    entries: list[Entry] = []
    lost = end = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while end + HEAD_BYTES <= size:
            entry = read_head(os.pread(file.fileno(), HEAD_BYTES, end), 0, end)
            whole = entry is not None and entry.end <= size
            if entry is None or not whole:
                found = _next_head(file.fileno(), end + 1, size)
                if found is None:
                    break
                lost += found - end
                end = found
                continue
            if bodies and entry.end == size and read_message(file.fileno(), entry) is None:
                break  # the last one was being written when the machine went down
            entries.append(entry)
            end = entry.end
    return entries, end, lost


def _next_head(file: int, start: int, size: int) -> int | None:
    """Where the next whole record begins; what is between is damaged."""
    data = os.pread(file, size - start, start)
    at = data.find(MAGIC)
    while at >= 0:
        entry = read_head(data, at, start + at)
        if entry is not None and entry.end <= size:
            return start + at
        at = data.find(MAGIC, at + 1)
    return None


def _pack_message(message: Message) -> bytes:
    parts: list[bytes] = []
    _put(parts, message.key.encode("utf-8", "surrogatepass"))
    parts.append(_LENGTH.pack(len(message.headers)))
    for name, value in message.headers:
        _put(parts, name.encode("utf-8", "surrogatepass"))
        _put(parts, value)
    if message.value is None:
        parts.append(_LENGTH.pack(_NO_VALUE))
    else:
        _put(parts, message.value)
    return b"".join(parts)


def _put(parts: list[bytes], value: bytes) -> None:
    parts += (_LENGTH.pack(len(value)), value)


def _unpack_message(body: bytes) -> Message:
    """The checksum was right: the body is as ``_pack_message`` made it."""
    at = 0

    def take() -> bytes | None:
        nonlocal at
        (length,) = _LENGTH.unpack_from(body, at)
        at += _LENGTH.size
        if length == _NO_VALUE:
            return None
        at += length
        return body[at - length : at]

    key = (take() or b"").decode("utf-8", "surrogatepass")
    (count,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    headers = tuple(((take() or b"").decode("utf-8", "surrogatepass"), take() or b"") for _ in range(count))
    return Message(key, take(), headers)


@dataclass(slots=True, eq=False)
class Segment:
    """A file and what waits in it. full: nothing more is written to it, and it is open only while it is used."""

    path: Path
    entries: deque[Entry]
    size: int
    file: int = -1
    full: bool = False

    def open(self) -> int:
        """Its descriptor."""
        if self.file < 0:
            self.file = os.open(self.path, os.O_RDWR)
        return self.file

    def close_if_full(self) -> None:
        """Keep only those open that are written to: there may be thousands."""
        if self.full:
            self.close()

    def close(self) -> None:
        """Close its descriptor, if it is open."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


@dataclass(slots=True, eq=False)
class Queue:
    """The files of one key. reading: the highest sequence handed out."""

    folder: Path
    segments: deque[Segment] = field(default_factory=deque)
    active: Segment | None = None
    reading: int = 0

    @property
    def droppable(self) -> list[Segment]:
        """The files that may go, oldest first: nothing in them must be kept, or is being sent."""
        return [s for s in self.segments if not s.entries[-1].keep and s.entries[0].sequence > self.reading]


def lock_folder(folder: Path) -> int:
    """Lock the folder until the descriptor that comes back is closed (or the process ends, however it does)."""
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(file, 20, 0).decode(errors="replace").strip()
        os.close(file)
        raise BusMisconfigured(
            f"the spool in {folder} is in use by process {owner or 'unknown'}",
            mend="give each worker a worker_id, and so a spool, of its own",
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def write_all(file: int, data: bytes, offset: int) -> None:
    """Write at ``offset``, however often the system takes only a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Have the names of its files on the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def remove_empty(folder: Path) -> None:
    """Remove a folder, if nothing is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()
