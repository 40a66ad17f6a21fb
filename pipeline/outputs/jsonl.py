"""Events and counts as JSON Lines: what was counted is on the disk before the next event is taken.

Three promises, each kept by the shape of the code:

- A line is handed to the operating system whole, by one unbuffered write. A process killed at any point leaves
  complete lines, and at most one torn line at the very end, which ``read_lines`` knows to leave out.
- Results of an earlier run are never touched: they are moved to ``previous-1/``, ``previous-2/``, … first.
- ``finish(order=True)`` puts the lines in the order of (time, camera, arrival), so that two runs over the same files
  are byte-equal however their cameras' threads took turns. The sorted file replaces the other atomically.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.core import events as _events
from pipeline.core.event_json import encode_json, ordered
from pipeline.core.events import COUNT_WINDOW, Event
from pipeline.core.ledger import LedgerLine
from pipeline.errors import OutputError

EVENTS = "events.jsonl"
COUNTS = "counts.jsonl"
LEDGER = "ledger.json"
RESULTS = (EVENTS, COUNTS, LEDGER, "report.html", "annotated")
"""The names of what a run leaves in its folder."""

_SORT_BYTES = 64 * 2**20


def encode_line(event: Event) -> bytes:
    """One structured CloudEvent as a line of UTF-8 JSON with its newline; equal events give equal bytes."""
    return encode_json({**event.attributes(), "data": ordered(event.data)}) + b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, in order. A torn last line (a crash) is left out; another bad line is an error.

    Raises OutputError naming file and line.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except ValueError as error:
                raise OutputError(f"{path}:{number}: not a line of JSON: {error}") from error
            if not isinstance(value, dict):
                raise OutputError(f"{path}:{number}: not a JSON object")
            yield value


def move_earlier_results(folder: Path) -> Path | None:
    """Move what an earlier run left in ``folder`` to a new ``previous-N`` beside it; that folder, or None if none."""
    earlier = [path for path in sorted(folder.iterdir()) if path.name.split(".sorting", maxsplit=1)[0] in RESULTS]
    if not earlier:
        return None
    number = 1
    while True:
        aside = folder / f"previous-{number}"
        try:
            aside.mkdir()
            break
        except FileExistsError:
            number += 1
    for path in earlier:
        path.rename(aside / path.name)
    return aside


class _Lines:
    """One file of whole lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("xb", buffering=0)
        self._size = 0
        self._last: tuple[str, str] = ("", "")
        self._in_order = True

    def append(self, event: Event) -> None:
        line = encode_line(event)
        try:
            sent = 0
            while sent < len(line):
                sent += self._file.write(line[sent:])
        except OSError:
            # A full disk may have taken half a line: whatever follows must not be glued to it.
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += len(line)
        key = (_events.rfc3339(event.time_us), event.camera_id)
        self._in_order = self._in_order and self._last <= key
        self._last = key

    def close(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def sort(self, limit_bytes: int) -> None:
        if not self._in_order:
            _sort_file(self.path, limit_bytes)


def _key(line: bytes) -> tuple[str, str]:
    told = json.loads(line)
    return told["time"], told["subject"]


def _sort_file(path: Path, limit_bytes: int) -> None:
    """Sort the lines by (time, subject), equal ones as they came, with about ``limit_bytes`` in memory."""
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run) for run in _sorted_runs(path, limit_bytes)]
        # heapq.merge is stable over its inputs, and the runs are in the order of arrival.
        merged = heapq.merge(*runs, key=_key)
        _replace(path, merged)


def _sorted_runs(path: Path, limit_bytes: int) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        while lines := file.readlines(limit_bytes):
            run: BinaryIO = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115
            run.writelines(sorted(lines, key=_key))
            run.seek(0)
            yield run


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Write ``lines`` beside ``path`` and put the new file in its place at one stroke."""
    beside = path.with_name(f"{path.name}.sorting")
    try:
        with beside.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


class JsonLinesWriter:
    """``counts.jsonl`` and ``events.jsonl`` of one run; may be written from several threads.

    Raises OutputError when the folder cannot be made or written.
    """

    def __init__(self, folder: Path, *, sort_bytes: int = _SORT_BYTES) -> None:
        """Begin a run's results in ``folder`` (made if missing); ``previous`` is where earlier ones went, or None."""
        self._folder, self._sort_bytes = folder, sort_bytes
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.previous = move_earlier_results(folder)
            self._events, self._counts = _Lines(folder / EVENTS), _Lines(folder / COUNTS)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error

    def write(self, event: Event) -> None:
        """Append the event to its file: count windows to counts.jsonl, all else to events.jsonl."""
        lines = self._counts if event.type == COUNT_WINDOW else self._events
        with self._lock:
            try:
                lines.append(event)
            except OSError as error:
                raise OutputError(f"cannot write {lines.path}: {error.strerror or error}") from error

    def finish(self, order: bool) -> None:
        """Close both files; with ``order``, sort their lines by (time, camera_id, arrival). May be called twice."""
        with self._lock:
            for lines in (self._events, self._counts):
                try:
                    lines.close()
                    if order:
                        lines.sort(self._sort_bytes)
                except OSError as error:
                    raise OutputError(f"cannot finish {lines.path}: {error.strerror or error}") from error

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish(order=False)


def write_ledger(folder: Path, lines: Mapping[str, LedgerLine], extra: Mapping[str, Any] | None = None) -> None:
    """Write ``ledger.json``: each camera's frames, where they went and whether the sum is right, and the totals.

    ``extra`` is laid beside ``cameras`` and ``totals`` (JSON values). Raises OutputError.
    """
    cameras = {camera_id: _account(line) for camera_id, line in lines.items()}
    told = {"cameras": cameras, "totals": _account(total_of(lines.values())), **(extra or {})}
    path = folder / LEDGER
    try:
        text = json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
        _replace(path, [text.encode()])
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def total_of(lines: Iterable[LedgerLine]) -> LedgerLine:
    """The sum of several accounts."""
    captured = analysed = sampled_out = in_flight = 0
    dropped: dict[str, int] = {}
    for line in lines:
        captured, analysed = captured + line.captured, analysed + line.analysed
        sampled_out, in_flight = sampled_out + line.sampled_out, in_flight + line.in_flight
        for cause, frames in line.dropped.items():
            dropped[cause] = dropped.get(cause, 0) + frames
    return LedgerLine(captured, analysed, sampled_out, dropped, in_flight)


def _account(line: LedgerLine) -> dict[str, Any]:
    return {
        "captured": line.captured,
        "analysed": line.analysed,
        "sampled_out": line.sampled_out,
        "dropped": dict(sorted(line.dropped.items())),
        "in_flight": line.in_flight,
        "balanced": line.balanced,
    }
