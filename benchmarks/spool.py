"""The spool against what else could hold windows on disk: SQLite, and persist-queue where it is installed.

    python -m benchmarks.spool            400 windows of 300 KB through each: in, out, a restart in between

Printed are messages a second (median of three rounds), how long a restart takes with everything in it, and the bytes on
disk for the bytes put in. Each is as safe as the spool: a kill -9 loses nothing, a power cut at most a second
(SQLite: WAL with synchronous=NORMAL, one transaction a message). Fsyncs make the figures of a shared machine jump.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.bus.base import Message
from pipeline.bus.spool import Spool

MIB = 1 << 20


class Queue(Protocol):
    """What is measured."""

    def put(self, message: Message) -> None: ...
    def take(self, count: int) -> int: ...
    def close(self) -> None: ...


class OurSpool:
    """``pipeline.bus.spool``."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, max_bytes=4096 * MIB)

    def put(self, message: Message) -> None:
        assert self._spool.append(message, frames=8, keep=False).stored

    def take(self, count: int) -> int:
        found = self._spool.read("gate", limit=count)
        if found:
            self._spool.done("gate", found[-1].sequence)
        return len(found)

    def close(self) -> None:
        self._spool.close()


class Sqlite:
    """A table of blobs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._db = sqlite3.connect(folder / "spool.db", isolation_level=None)
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS q (id INTEGER PRIMARY KEY, key TEXT, headers BLOB, value BLOB)")

    def put(self, message: Message) -> None:
        row = (message.key, pickle.dumps(message.headers), message.value)
        self._db.execute("INSERT INTO q (key, headers, value) VALUES (?, ?, ?)", row)

    def take(self, count: int) -> int:
        rows = self._db.execute("SELECT * FROM q WHERE key = 'gate' ORDER BY id LIMIT ?", (count,)).fetchall()
        if rows:
            self._db.execute("DELETE FROM q WHERE key = 'gate' AND id <= ?", (rows[-1][0],))
            self._db.execute("PRAGMA incremental_vacuum")
        return len(rows)

    def close(self) -> None:
        self._db.close()


class PersistQueue:
    """persist-queue's SQLite queue with acknowledgements (its file queue cannot be acknowledged)."""

    def __init__(self, folder: Path) -> None:
        import persistqueue

        self._queue: Any = persistqueue.SQLiteAckQueue(str(folder), auto_commit=True)

    def put(self, message: Message) -> None:
        self._queue.put(message)

    def take(self, count: int) -> int:
        taken = [self._queue.get(block=False) for _ in range(min(count, self._queue.size))]
        for each in taken:
            self._queue.ack(each)
        return len(taken)

    def close(self) -> None:
        self._queue.clear_acked_data(max_delete=100_000, keep_latest=0)
        self._queue.close()


def measure(make: Callable[[Path], Queue], messages: list[Message]) -> tuple[float, float, float, float]:
    """Messages a second in and out, seconds of a restart, bytes on disk for each byte put in."""
    folder = Path(tempfile.mkdtemp(prefix="spool-bench-"))
    try:
        queue = make(folder)
        began = time.perf_counter()
        for message in messages:
            queue.put(message)
        in_s = time.perf_counter() - began
        queue.close()
        put = sum(len(message.value or b"") for message in messages)
        on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / put
        began = time.perf_counter()
        queue = make(folder)
        restart_s = time.perf_counter() - began
        began = time.perf_counter()
        taken = 0
        while found := queue.take(4):
            taken += found
        out_s = time.perf_counter() - began
        queue.close()
        assert taken == len(messages)
        return len(messages) / in_s, len(messages) / out_s, restart_s, on_disk
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=400)
    parser.add_argument("--bytes", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    values = [rng.bytes(args.bytes) for _ in range(20)]
    messages = [Message("gate", values[n % 20], (("epoch", b"1"),)) for n in range(args.messages)]
    queues: dict[str, Callable[[Path], Queue]] = {"pipeline.bus.spool": OurSpool, "SQLite, WAL": Sqlite}
    try:
        import persistqueue  # noqa: F401

        queues["persist-queue, SQLiteAckQueue"] = PersistQueue
    except ImportError:
        print("(persist-queue is not installed: pip install persist-queue)\n")
    print("| queue | in, messages/s | out, messages/s | restart, ms | bytes on disk for a byte |")
    print("| --- | --- | --- | --- | --- |")
    for name, make in queues.items():
        rounds = [measure(make, messages) for _ in range(args.rounds)]
        in_rate, out_rate, restart_s, on_disk = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {in_rate:.0f} | {out_rate:.0f} | {restart_s * 1000:.0f} | {on_disk:.2f} |", flush=True)


if __name__ == "__main__":
    main()
