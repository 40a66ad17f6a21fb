"""Whether anything grows while cameras and objects come and go. Exit code 1 when something does.

    python -m benchmarks.flat                          everything: a million tracks, then 30 minutes of workers
    python -m benchmarks.flat --only tracks [--tracks 100000]
    python -m benchmarks.flat --only workers [--minutes 10] [--run-only]

tracks    objects walk through one camera's analytics (lines, zones, counts), four frames each. What the analytics hold
          once all are gone, after the first hundredth of them and after the last: objects reachable, their bytes, and
          the bytes of the snapshot. Grows: more than 64 objects or 16 KB more (a number may gain a digit).
workers   `run`, then `ingest` and `infer` with a broker, against a camera that loops a scripted street (objects come
          and go), cameras that break off every few seconds and come back, and (cluster) cameras of ever new names that
          are applied and removed every 20 s. Every 2 s: private memory, open files, threads, series on /metrics.
          Of the last two thirds of the time: Theil and Sen's slope with its 95 % interval. Grows: when the lower end
          of the interval times the time watched is above the allowance (memory: 5 % of the median, or 8 MB; files,
          threads: 2; series: 20) and the last quarter's median is above that of the second by as much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.flat_workers import Allowance, Watched, watch_cluster, watch_run
from benchmarks.short_tracks import ShortTracks

_MOST_OBJECTS = 64
_MOST_BYTES = 16_384
ALLOWED = {
    "private memory, MB": Allowance(least=8.0, share=0.05),
    "open files": Allowance(least=2.0),
    "threads": Allowance(least=2.0),
    "series": Allowance(least=20.0),
}


def main() -> int:
    """Run what was asked for, print a table, say whether something grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("tracks", "workers"))
    parser.add_argument("--tracks", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--run-only", action="store_true", help="workers: `run` alone, without a broker")
    args = parser.parse_args()
    grew = False
    if args.only != "workers":
        grew |= tracks_leave_something(args.tracks)
    if args.only != "tracks":
        grew |= workers_grow(args.minutes, run_only=args.run_only)
    print("something grows" if grew else "flat")
    return int(grew)


def tracks_leave_something(tracks: int) -> bool:
    """Whether the analytics of a camera hold more after ``tracks`` than after the first hundredth."""
    camera = ShortTracks()
    took_s = camera.run(max(1, tracks // 100))
    heads = ("tracks", "confirmed", "objects held", "bytes held", "snapshot bytes", "events", "s")
    print(" ".join(f"{head:>14}" for head in heads))
    first = last = camera.kept()
    for share in (0.01, 0.1, 0.5, 1.0):
        if share > 0.01:
            took_s += camera.run(round(tracks * share))
            last = camera.kept()
        held = last.held
        row = (last.tracks, last.confirmed, held.objects, held.size_bytes, last.snapshot_bytes, camera.events.total())
        print(" ".join(f"{cell:>14}" for cell in (*row, round(took_s))), flush=True)
    return (
        last.held.objects - first.held.objects > _MOST_OBJECTS
        or last.held.size_bytes - first.held.size_bytes > _MOST_BYTES
        or last.snapshot_bytes - first.snapshot_bytes > _MOST_BYTES
    )


def workers_grow(minutes: float, *, run_only: bool) -> bool:
    """Whether a process grows while cameras come and go for ``minutes``."""
    print(f"{'process':<8} {'what':<20} {'median':>8} {'2nd quarter':>11} {'last':>8} {'an hour more':>26}", flush=True)
    with tempfile.TemporaryDirectory(prefix="passerby-flat-") as folder:
        grew = _told(watch_run(Path(folder), minutes * 60 / (1 if run_only else 2)))
        if not run_only:
            grew |= _told(watch_cluster(Path(folder), minutes * 60 / 2))
    return grew


def _told(watched: list[Watched]) -> bool:
    """Print a row for each figure; whether one of them grows."""
    grew = False
    for one in watched:
        verdict = one.judged(ALLOWED[one.what])
        grew |= verdict.grows
        interval = f"{verdict.low:+.2f} .. {verdict.high:+.2f}"
        print(
            f"{one.process:<8} {one.what:<20} {verdict.median:>8.1f} {verdict.second:>11.1f} {verdict.last:>8.1f} "
            f"{interval:>26}{'  GROWS' if verdict.grows else ''}",
            flush=True,
        )
    return grew


if __name__ == "__main__":
    sys.exit(main())
