"""Windows on our own disk while no broker answers: a bounded queue of messages for each key, oldest first.

    folder/lock                         held by the process that uses it
    folder/k-<key>/00000000000000000017.seg    records of one key, by the sequence of the first (see ``spool_files``)

- Order is kept within a key. A key may be read while it is written.
- A record is handed to the operating system whole before ``append`` returns: a kill -9 at any point leaves all of them,
  and at most one torn record at the end of a file, which the next start cuts off.
- A power cut costs at most what was appended in the last ``sync_s`` seconds (0: nothing, since every append then waits
  for the disk). While nothing is appended or read, the operating system's own delay counts instead.
- ``done`` forgets records from the front; a file that holds nothing any more is deleted. What was sent but not yet
  ``done`` when the process died is read again.
- Full (``max_bytes``, or only ``min_free_bytes`` left on the disk): for a message that may be dropped, the oldest
  of the key that holds most of such go, a file at a time, and it is told how many frames that cost. A message that must
  be kept (videos are read whole) drops nothing: it is refused, and its reader waits; such messages take half of the
  room at most, so that live cameras have the rest.
- A damaged record is passed over and counted; those around it are not touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote, unquote

from pipeline.bus.base import Message
from pipeline.bus.spool_files import (
    HEAD_BYTES,
    Entry,
    Queue,
    Segment,
    lock_folder,
    mark_done,
    pack,
    read_message,
    remove_empty,
    scan,
    sync_folder,
    write_all,
)
from pipeline.errors import BusError

MIB = 1 << 20
_PREFIX, _SUFFIX = "k-", ".seg"


@dataclass(frozen=True, slots=True)
class Spooled:
    """A message of the spool. sequence: names it to ``done``. frames: as told to ``append``."""

    message: Message
    sequence: int
    frames: int
    appended_ms: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a message. stored: False when there was no room.

    dropped: frames by key that are gone, its own among them if it could be dropped and was not stored.
    """

    stored: bool
    dropped: dict[str, int] = field(default_factory=dict)


class Spool:
    """See the module. Safe for several threads; the folder is locked against other processes.

    clock: UTC seconds, for the age of records. ticks: seconds that only rise, for ``sync_s``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        min_free_bytes: int = 0,
        sync_s: float = 1.0,
        segment_bytes: int = MIB,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open (or make) the spool in ``folder`` with what an earlier process left in it.

        Raises BusMisconfigured when another process uses it, BusError when the folder cannot be used.
        """
        self._folder, self._max_bytes, self._min_free_bytes = folder, max_bytes, min_free_bytes
        self._sync_s, self._segment_bytes, self._clock, self._ticks = sync_s, segment_bytes, clock, ticks
        self._mutex = threading.RLock()
        self._queues: dict[str, Queue] = {}
        self._unsynced: dict[Path, Segment] = {}
        self._synced_at = ticks()
        self._next = 1
        self._bytes = self._kept_bytes = 0
        self.dropped: Counter[str] = Counter()
        """Frames dropped since the start, by key."""
        self._unread: Counter[str] = Counter()
        self.damaged = 0
        """Records that could not be read back since the start."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(folder)
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._load()
        except OSError as error:
            os.close(self._lock)
            raise self._failed(error) from error

    # -- what it holds

    @property
    def size_bytes(self) -> int:
        """Size of its files."""
        return self._bytes

    @property
    def records(self) -> int:
        """Messages that wait."""
        with self._mutex:
            return sum(len(segment.entries) for queue in self._queues.values() for segment in queue.segments)

    @property
    def age_s(self) -> float:
        """Seconds since the oldest message was appended; 0 when there is none."""
        with self._mutex:
            heads = [queue.segments[0].entries[0].appended_ms for queue in self._queues.values()]
            return max(0.0, self._clock() - min(heads) / 1000) if heads else 0.0

    def keys(self) -> list[str]:
        """The keys that have messages waiting, the one with the oldest first."""
        with self._mutex:
            heads = [(queue.segments[0].entries[0].sequence, key) for key, queue in self._queues.items()]
            return [key for _, key in sorted(heads)]

    def waiting(self, key: str) -> int:
        """Messages of ``key`` that wait."""
        with self._mutex:
            queue = self._queues.get(key)
            return sum(len(segment.entries) for segment in queue.segments) if queue else 0

    def frames_of(self, key: str) -> int:
        """Frames in the messages of ``key`` that wait."""
        with self._mutex:
            queue = self._queues.get(key)
            return sum(entry.frames for segment in queue.segments for entry in segment.entries) if queue else 0

    # -- in and out

    def append(self, message: Message, *, frames: int, keep: bool) -> Appended:
        """Put a message at the end of its key's queue.

        frames: how many it holds, for the account. keep: it must never be dropped (a video's window). Without room
        nothing is raised: see ``Appended``. Raises BusError when the disk fails.
        """
        with self._mutex:
            record = pack(message, self._next, frames, round(self._clock() * 1000), keep=keep)
            dropped: Counter[str] = Counter()
            stored = self._try_write(message.key, record, frames, keep)
            while not stored and not keep and len(record) <= self._max_bytes:
                key = self._most_droppable()
                if key is None:
                    break
                dropped[key] += self._drop_oldest(key)
                stored = self._try_write(message.key, record, frames, keep)
            if not stored and not keep:
                dropped[message.key] += frames
            self.dropped += dropped
            self._sync_if_due()
            return Appended(stored, dict(dropped))

    def read(self, key: str, *, after: int = 0, limit: int = 1) -> list[Spooled]:
        """Up to ``limit`` messages of ``key`` behind the sequence ``after``, in order; they stay until ``done``.

        What was read is not dropped: it is being sent.
        """
        with self._mutex:
            found: list[Spooled] = []
            queue = self._queues.get(key)
            for segment in tuple(queue.segments) if queue is not None else ():
                assert queue is not None
                if segment.entries[-1].sequence <= after:
                    continue
                for entry in [entry for entry in segment.entries if entry.sequence > after]:
                    if len(found) == limit:
                        break
                    message = self._message(segment, entry)
                    if message is None:
                        self._skip_damaged(key, segment, entry)
                    else:
                        found.append(Spooled(message, entry.sequence, entry.frames, entry.appended_ms))
                if len(found) == limit:
                    break
            if queue is not None and found:
                queue.reading = max(queue.reading, found[-1].sequence)
            self._sync_if_due()
            return found

    def take_damaged(self) -> dict[str, int]:
        """Frames by key of records that ``read`` passed over since the last call, for the account."""
        with self._mutex:
            told, self._unread = dict(self._unread), Counter()
            return told

    def done(self, key: str, sequence: int) -> None:
        """The messages of ``key`` up to ``sequence`` are in the log: forget them."""
        with self._mutex:
            queue = self._queues.get(key)
            while queue is not None and queue.segments:
                segment = queue.segments[0]
                try:
                    while segment.entries[0].sequence <= sequence:
                        if len(segment.entries) == 1:
                            self._delete(key, segment)
                            break
                        mark_done(segment.open(), segment.entries.popleft())
                    else:
                        return
                except OSError as error:
                    raise self._failed(error) from error

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        with self._mutex:
            try:
                for segment in self._unsynced.values():
                    os.fsync(segment.open())
                    segment.close_if_full()
                for folder in {path.parent for path in self._unsynced}:
                    sync_folder(folder)
            except OSError as error:
                raise self._failed(error) from error
            self._unsynced.clear()
            self._synced_at = self._ticks()

    def close(self) -> None:
        """Sync, and let others have the folder; closing twice is harmless."""
        with self._mutex:
            if self._lock < 0:
                return
            try:
                self.sync()
            finally:
                for segment in [s for queue in self._queues.values() for s in queue.segments]:
                    segment.close()
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside; the mutex is held

    def _load(self) -> None:
        for folder in sorted(path for path in self._folder.iterdir() if path.name.startswith(_PREFIX)):
            paths = sorted(folder.glob(f"*{_SUFFIX}"))
            queue = Queue(folder)
            for path in paths:
                self._load_segment(queue, path, last=path is paths[-1])
            if queue.segments:
                self._queues[unquote(folder.name.removeprefix(_PREFIX))] = queue
            else:
                remove_empty(folder)

    def _load_segment(self, queue: Queue, path: Path, *, last: bool) -> None:
        entries, end, lost = scan(path, bodies=last)
        if end < path.stat().st_size:
            os.truncate(path, end)  # a record that was being written when the process was killed
        self.damaged += lost > 0
        self._next = max([self._next, *(entry.sequence + 1 for entry in entries)])
        waiting = deque(entry for entry in entries if not entry.done)
        if not waiting:
            path.unlink()
            return
        queue.segments.append(Segment(path, waiting, end, full=True))
        self._count(queue.segments[-1], end)

    def _try_write(self, key: str, record: bytes, frames: int, keep: bool) -> bool:
        """Append a record if there is room; say whether there was."""
        if self._bytes + len(record) > self._max_bytes:
            return False
        if keep and self._kept_bytes + len(record) > self._max_bytes // 2:
            return False
        if self._min_free_bytes and shutil.disk_usage(self._folder).free - len(record) < self._min_free_bytes:
            return False
        try:
            self._write(key, record, frames, keep)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise self._failed(error) from error
        return True

    def _write(self, key: str, record: bytes, frames: int, keep: bool) -> None:
        queue = self._queues.get(key)
        if queue is None:
            queue = Queue(self._folder / (_PREFIX + quote(key, safe="")))
            queue.folder.mkdir(exist_ok=True)
            self._queues[key] = queue
        segment = queue.active
        # What may be dropped and what may not never share a file: a file goes as a whole.
        if segment is None or segment.size + len(record) > self._segment_bytes or segment.entries[-1].keep != keep:
            path = queue.folder / f"{self._next:020d}{_SUFFIX}"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            segment = Segment(path, deque(), 0, file)
        try:
            write_all(segment.open(), record, segment.size)
        except OSError:
            self._undo(segment)
            raise
        if segment is not queue.active:
            if queue.active is not None:
                queue.active.full = True
                queue.active.close()
            queue.segments.append(segment)
            queue.active = segment
        head = Entry(self._next, segment.size, len(record) - HEAD_BYTES, frames, round(self._clock() * 1000), keep)
        segment.entries.append(head)
        segment.size += len(record)
        self._count(segment, len(record))
        self._next += 1
        self._unsynced[segment.path] = segment

    def _undo(self, segment: Segment) -> None:
        """Take back half a record: what comes next must not be glued to it."""
        with contextlib.suppress(OSError):
            os.ftruncate(segment.open(), segment.size)
        if not segment.entries:
            segment.close()
            segment.path.unlink(missing_ok=True)

    def _count(self, segment: Segment, size: int) -> None:
        self._bytes += size
        self._kept_bytes += size if segment.entries[-1].keep else 0

    def _most_droppable(self) -> str | None:
        """The key with most bytes in files that may be dropped."""
        sizes = {key: sum(segment.size for segment in queue.droppable) for key, queue in self._queues.items()}
        key = max(sizes, key=lambda each: sizes[each], default=None)
        return key if key is not None and sizes[key] > 0 else None

    def _drop_oldest(self, key: str) -> int:
        segment = self._queues[key].droppable[0]
        frames = sum(entry.frames for entry in segment.entries)
        self._delete(key, segment)
        return frames

    def _message(self, segment: Segment, entry: Entry) -> Message | None:
        try:
            return read_message(segment.open(), entry)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            segment.close_if_full()

    def _skip_damaged(self, key: str, segment: Segment, entry: Entry) -> None:
        self.damaged += 1
        self.dropped[key] += entry.frames
        self._unread[key] += entry.frames
        if len(segment.entries) == 1:
            self._delete(key, segment)
        else:
            segment.entries.remove(entry)

    def _delete(self, key: str, segment: Segment) -> None:
        queue = self._queues[key]
        segment.close()
        self._unsynced.pop(segment.path, None)
        segment.path.unlink(missing_ok=True)
        queue.segments.remove(segment)
        self._count(segment, -segment.size)
        segment.entries.clear()
        if queue.active is segment:
            queue.active = None
        if not queue.segments:
            del self._queues[key]
            remove_empty(queue.folder)

    def _sync_if_due(self) -> None:
        if self._unsynced and self._ticks() - self._synced_at >= self._sync_s:
            self.sync()

    def _failed(self, error: OSError) -> BusError:
        return BusError(f"the spool in {self._folder} cannot be used: {error.strerror or error}")
