"""The parts of ``benchmarks.cluster`` that measure time and bytes."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clips import ROOT, hd_clips
from benchmarks.local_cluster import MIDDLE, LocalCluster, end_all, long_clips
from benchmarks.whole_topics import as_it_lies, records
from pipeline.bus.topics import PartitionState
from pipeline.errors import BusError

CLIP_S = 60
_made = 0


@contextmanager
def fresh(servers: str, cameras: dict[str, dict[str, Any]], **kafka: Any) -> Iterator[LocalCluster]:
    """A cluster with topics of its own, and these cameras applied."""
    global _made  # noqa: PLW0603  (a number for the prefix)
    _made += 1
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        more = {"spool": {"dir": str(folder / "spool")}, **kafka}
        cluster = LocalCluster(servers, f"cost{os.getpid()}n{_made}", folder, cameras, more)
        with cluster.bus:
            cluster.prepare()
            yield cluster


def _hd_cameras(count: int = 4) -> dict[str, dict[str, Any]]:
    return {f"camera-{n}": {"source": str(clip), "lines": MIDDLE} for n, clip in enumerate(hd_clips(count, CLIP_S))}


def cost(servers: str, rounds: int) -> None:
    """Frames a second, embedded and through Kafka, in turns. Four 1080p25 files of 60 s, 8 fps, JPEG q85 windows."""
    alone, together = [], []
    print("\n| round | run: frames/s | cluster: frames/s | run: CPU s | ingest + infer: CPU s |")
    print("| --- | --- | --- | --- | --- |")
    for turn in range(rounds):
        run = _embedded(_hd_cameras())
        log = _through_kafka(servers, _hd_cameras())
        alone.append(run["frames"] / run["wall_s"])
        together.append(log["frames"] / log["wall_s"])
        print(
            f"| {turn + 1} | {alone[-1]:.1f} | {together[-1]:.1f} | {run['cpu_s']:.1f} | {log['cpu_s']:.1f} |",
            flush=True,
        )
    ratio = statistics.median(together) / statistics.median(alone)
    print(f"\ncluster over run, broker on the same {os.cpu_count()} cores: {ratio:.3f} (wanted: 0.8 or more)")


def _embedded(cameras: dict[str, dict[str, Any]]) -> dict[str, float]:
    """``passerby run`` from its start (models to be loaded) to its last result; imports are not in it."""
    with tempfile.TemporaryDirectory() as told:
        folder = Path(told)
        file = LocalCluster("localhost:1", "none", folder, cameras).file
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measured_run", str(file), str(folder / "out")],
            check=True, capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        ledger = json.loads((folder / "out" / "ledger.json").read_text(encoding="utf-8"))
        return figures | {"frames": ledger["totals"]["analysed"]}


def _through_kafka(servers: str, cameras: dict[str, dict[str, Any]]) -> dict[str, float]:
    """From the first window in the log to the last commit; workers that wait for cameras, as they do in a cluster."""
    with fresh(servers, cameras) as cluster:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        infer = cluster.infer("infer-1")
        _wait_for(cluster, "infer-1", "partitions assigned")
        ingest = cluster.ingest("ingest-1", "--once")
        if ingest.wait(900) or not cluster.wait_until_done(900):
            sys.exit((cluster.folder / "infer-1.log").read_text()[-2000:])
        end_all([infer])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_ms, frames, _ = _windows(cluster)
        return {
            "frames": frames, "wall_s": (_last_commit_ms(cluster) - began_ms) / 1000,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        }  # fmt: skip


def _wait_for(cluster: LocalCluster, log: str, words: str, timeout_s: float = 120) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if words in (cluster.folder / f"{log}.log").read_text(errors="replace"):
            return
        time.sleep(0.2)
    sys.exit(f"{log} did not say {words!r}:\n" + (cluster.folder / f"{log}.log").read_text()[-2000:])


def _windows(cluster: LocalCluster) -> tuple[int, int, int]:
    """When the first window was sent (ms since 1970), frames of all, and their bytes."""
    first, frames, size = sys.maxsize, 0, 0
    for record in records(cluster.bus, as_it_lies(cluster.topics.windows.name)):
        first = min(first, record.timestamp_ms)
        frames += int(dict(record.headers).get("frames", b"0"))
        size += len(record.value.value or b"")
    return first, frames, size


def _last_commit_ms(cluster: LocalCluster) -> int:
    """When the last marker of a partition was sent: with the last transaction."""
    return max(at_ms for at_ms, _ in _commits(cluster))


def _commits(cluster: LocalCluster) -> list[tuple[int, int]]:
    """(ms since 1970, next offset) of every commit of every partition."""
    return [
        (record.timestamp_ms, record.value.next_offset)
        for record in records(cluster.bus, cluster.topics.state)
        if isinstance(record.value, PartitionState)
    ]


def transactions(servers: str, rounds: int) -> None:
    """Windows a second over a topic that is full already: in transactions, and at least once, in turns."""
    with fresh(servers, _hd_cameras()) as source:
        source.passerby("ingest", "-c", str(source.file), "--worker-id", "ingest-1", "--once")
        print("\n| round | in transactions: windows/s | at least once: windows/s |\n| --- | --- | --- |")
        exactly, least = [], []
        for turn in range(rounds):
            exactly.append(
                _drained(servers, source, ["-c", "from pipeline.cli import main; main()", "infer", "-c"], "--worker-id")
            )
            least.append(_drained(servers, source, ["-m", "benchmarks.at_least_once"], ""))
            print(f"| {turn + 1} | {exactly[-1]:.1f} | {least[-1]:.1f} |", flush=True)
    ratio = statistics.median(exactly) / statistics.median(least)
    print(f"\ntransactions cost {100 * (1 - ratio):.1f} % (wanted: 5 % at most)")


def _drained(servers: str, source: LocalCluster, command: list[str], option: str) -> float:
    """Copy the windows of ``source`` to fresh topics and let one worker work on them; windows a second."""
    with fresh(servers, dict(source.cameras)) as cluster:
        windows = _copy(source, cluster)
        told = [str(cluster.file), *([option] if option else []), "infer-1"]
        with (cluster.folder / "infer-1.log").open("ab") as log:
            worker = subprocess.Popen([sys.executable, *command, *told], cwd=ROOT, stdout=log, stderr=log)
        if not cluster.wait_until_done(900):
            sys.exit((cluster.folder / "infer-1.log").read_text()[-2000:])
        end_all([worker])
        commits = sorted(_commits(cluster))
        # From the first commit on: joining the group and restoring are not the question.
        first_ms, last_ms = commits[0][0], commits[-1][0]
        done_first = sum(offset for at_ms, offset in commits if at_ms == first_ms)
        return (windows - done_first) / max(0.001, (last_ms - first_ms) / 1000)


def _copy(source: LocalCluster, target: LocalCluster) -> int:
    producer = target.bus.producer(as_it_lies(target.topics.windows.name))
    count = 0
    for record in records(source.bus, as_it_lies(source.topics.windows.name)):
        producer.send_message(record.value, record.partition)
        count += 1
    producer.flush()
    producer.close()
    return count


def latency(servers: str, seconds: float, cameras: int = 4) -> None:
    """Cameras played as live ones, at a rate that takes about half of these cores."""
    with tempfile.TemporaryDirectory() as told:
        clips = long_clips(cameras, seconds + 120, Path(told))
        settings = {
            f"camera-{n}": {
                "source": {"url": str(clip), "mode": "realtime"}, "lines": MIDDLE, "counts": {"window_s": 1},
            }
            for n, clip in enumerate(clips)
        }  # fmt: skip
        with fresh(servers, settings, commit_interval_s=0.2) as cluster:
            workers = [cluster.infer("infer-1")]
            _wait_for(cluster, "infer-1", "partitions assigned")
            workers.append(cluster.ingest("ingest-1"))
            try:
                seen_ms = _latencies_ms(cluster, seconds)
            finally:
                end_all(list(reversed(workers)))
    seen_ms.sort()
    at = {share: seen_ms[min(len(seen_ms) - 1, int(share * len(seen_ms)))] for share in (0.5, 0.95, 0.99)}
    print("\n| counts | p50 ms | p95 ms | p99 ms | cores busy (all processes here) |\n| --- | --- | --- | --- | --- |")
    print(f"| {len(seen_ms)} | {at[0.5]:.0f} | {at[0.95]:.0f} | {at[0.99]:.0f} | {_busy:.2f} of {os.cpu_count()} |")
    print(
        "\nwanted: p95 under 1000 ms. From captured_to of the window (a live camera's frames are stamped when they are"
    )
    print("decoded) to the return of a read_committed poll; commit_interval_s 0.2.")


_busy = 0.0


def _latencies_ms(cluster: LocalCluster, seconds: float) -> list[float]:
    """Milliseconds from the last frame of its window to here, of each event that comes within ``seconds``."""
    global _busy  # noqa: PLW0603
    seen: list[tuple[float, dict[str, Any]]] = []
    time.sleep(15)  # starting up is not the question
    busy_s, began_s = _cpu_s(), time.monotonic()
    with cluster.bus.reader(as_it_lies(cluster.topics.counts.name)) as reader:
        for record in reader.follow(reader.partitions(), timeout_s=0.02):
            if record is not None:
                seen.append((time.time() * 1000, json.loads(record.value.value)["origin"]))
            if time.monotonic() - began_s > seconds:
                break
    _busy = (_cpu_s() - busy_s) / (time.monotonic() - began_s)
    captured_ms: dict[tuple[int, int], float] = {}
    for window in records(cluster.bus, as_it_lies(cluster.topics.windows.name)):
        told = dict(window.headers)
        if "captured_to" in told:
            captured_ms[window.partition, window.offset] = int(told["captured_to"]) / 1000
    if not seen:
        raise BusError("no counts came: see the logs of the workers")
    return [at_ms - captured_ms[origin["partition"], origin["offset"]] for at_ms, origin in seen]


def _cpu_s() -> float:
    """Seconds of CPU that this machine has spent on anything."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def sizes(servers: str) -> None:
    """Bytes of the windows topic a camera and hour, at 8 fps and JPEG q85, by the kind of picture."""
    print("\n| clips | model's picture | bytes a frame | MB a camera-hour at 8 fps |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as told:
        small = {
            f"camera-{n}": {"source": str(clip), "lines": MIDDLE}
            for n, clip in enumerate(long_clips(4, 30, Path(told)))
        }
        for what, cameras in (("4 real clips at 1080p", _hd_cameras()), ("4 real clips as they are", small)):
            with fresh(servers, cameras) as cluster:
                cluster.passerby("ingest", "-c", str(cluster.file), "--worker-id", "ingest-1", "--once")
                _, frames, size = _windows(cluster)
                print(
                    f"| {what} | {_picture(cluster)} | {size / frames:.0f} | {size / frames * 8 * 3600 / 1e6:.0f} |",
                    flush=True,
                )


def _picture(cluster: LocalCluster) -> str:
    """The sizes of the pictures in the log."""
    found = set()
    with cluster.bus.reader(cluster.topics.windows) as reader:
        for partition in reader.partitions():
            begin = reader.beginning(partition)
            for record in reader.read(partition, begin, min(begin + 1, reader.end(partition))):
                found |= {frame.picture.shape[1::-1] for frame in getattr(record.value, "frames", ())}
    return ", ".join(f"{width}x{height}" for width, height in sorted(found))
