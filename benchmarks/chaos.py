"""``python -m benchmarks.chaos``: workers are killed, stalled and scaled while windows keep coming; nothing is counted
twice, lost, or otherwise than in an undisturbed run.

    1. a real broker, 8 cameras (real clips, looped, played as cameras play, 2 frames a second analysed by the shipped
       detector), 2 ingest and 3 inference workers: the commands people use
    2. at seeded random moments: kill -9, SIGSTOP for longer than the session timeout (then SIGCONT: a zombie), and
       inference scaled 1 -> 3 -> 1
    3. ingest ends, inference finishes what lies in the log
    4. one straight pass over the same windows, undisturbed; a read_committed consumer must have seen the same
       counts and events: values, headers, order a camera, each once

Ends with exit code 1 when anything was lost, doubled or different.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.local_cluster import MIDDLE, PLAZA, LocalCluster, broker, end_all, long_clips
from benchmarks.straight_pass import Pass, doubles, judge, published, straight_pass
from pipeline.config import camera_from_document
from pipeline.inference.batching import Batcher
from pipeline.services.plans import Models, Plans

SESSION_S, STALL_S = 6.0, (8.0, 12.0)
INFER, INGEST = ("infer-1", "infer-2", "infer-3"), ("ingest-1", "ingest-2")


@dataclass
class Chaos:
    """The workers, and what is done to them. due: (when, what) still to come."""

    cluster: LocalCluster
    dice: random.Random
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    due: list[tuple[float, str, str]] = field(default_factory=list)

    def start(self, worker: str) -> None:
        """Start a worker that does not run."""
        if worker not in self.running or self.running[worker].poll() is not None:
            begin = self.cluster.infer if worker in INFER else self.cluster.ingest
            self.running[worker] = begin(worker)

    def trouble(self) -> None:
        """One fault, at random."""
        kind = self.dice.choices(("kill", "stall", "scale"), (5, 4, 1))[0]
        if kind == "scale":
            self._scale()
            return
        busy = {worker for _, _, worker in self.due}
        there = [name for name, one in self.running.items() if one.poll() is None and name not in busy]
        if not there:
            return
        worker = self.dice.choice(there)
        role = worker.partition("-")[0]
        now = time.monotonic()
        if kind == "kill":
            self.running[worker].kill()
            self.due.append((now + self.dice.choice((0.2, 3.0, SESSION_S + 3)), "start", worker))
        else:
            self.running[worker].send_signal(signal.SIGSTOP)
            self.due.append((now + self.dice.uniform(*STALL_S), "go on", worker))
        self.faults[f"{kind} {role}"] += 1

    def _scale(self) -> None:
        """Down to one inference worker, or up to three again."""
        alive = [name for name in INFER if name in self.running and self.running[name].poll() is None]
        if len(alive) > 1:
            for name in alive[1:]:
                self.running[name].send_signal(signal.SIGCONT)
                self.running[name].send_signal(signal.SIGTERM)
                self.due.append((time.monotonic() + self.dice.uniform(6, 12), "start", name))
            self.faults[f"scale {len(alive)} -> 1 -> 3"] += 1
        else:
            for name in INFER:
                self.start(name)
            self.faults["scale 1 -> 3"] += 1

    def tend(self) -> None:
        """What is due by now."""
        now = time.monotonic()
        for item in [item for item in self.due if item[0] <= now]:
            self.due.remove(item)
            _, what, worker = item
            if what == "go on" and self.running[worker].poll() is None:
                self.running[worker].send_signal(signal.SIGCONT)
            self.start(worker)

    def mend(self) -> None:
        """Everybody runs again."""
        self.due = [(0.0, what, worker) for _, what, worker in self.due]
        self.tend()


SAID = {
    "going back to what is committed": "a commit was refused or not confirmed: went back",
    "that nothing counts twice": "the state was further than the offsets",
    "the state is lost": "the state was behind the offsets",
    "open transaction": "waited in vain for a transaction to be decided",
}
"""What they log, and what it means: where the first is 0, the faults did not hit what they were meant to."""


def undisturbed(cluster: LocalCluster) -> Pass:
    """The straight pass over the windows topic, with the models the cameras name."""

    def make_batcher(detector: object) -> Batcher:
        return Batcher(detector, workers=os.cpu_count() or 1, wait_s=0.01)  # type: ignore[arg-type]

    with Models(cluster.config, make_batcher=make_batcher) as models:
        plans = Plans(
            cluster.bus.reader(cluster.topics.cameras),
            lambda camera_id, told: camera_from_document(camera_id, told, {}, cluster.folder, secrets=False),
            models.engine,
        )
        with cluster.bus.reader(cluster.topics.windows_raw) as reader:
            return straight_pass(reader, cluster.topics, plans)


def run(cluster: LocalCluster, *, faults: int, every_s: float, seed: int, calm_s: float) -> bool:
    """The whole of it; whether it held."""
    cluster.prepare()
    chaos = Chaos(cluster, random.Random(seed))
    began_s = time.monotonic()
    for worker in (*INGEST, *INFER):
        chaos.start(worker)
    try:
        _until(chaos, time.monotonic() + calm_s)
        while sum(chaos.faults.values()) < faults:
            chaos.trouble()
            _until(chaos, time.monotonic() + chaos.dice.uniform(0.5, 2 * every_s - 0.5))
            _tell(chaos, began_s)
        chaos.mend()
        _until(chaos, time.monotonic() + SESSION_S + 4)
        end_all([chaos.running[worker] for worker in INGEST])
        finished = cluster.wait_until_done(300)
        codes = end_all([chaos.running[worker] for worker in INFER])
    finally:
        for process in chaos.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    worked_s = time.monotonic() - began_s
    print(f"\nafter {worked_s:.0f} s; exit codes of the inference workers: {codes}; everything committed: {finished}")
    return _compare(cluster, chaos, worked_s) and finished


def _until(chaos: Chaos, when_s: float) -> None:
    while time.monotonic() < when_s:
        chaos.tend()
        time.sleep(0.1)


def _tell(chaos: Chaos, began_s: float) -> None:
    done = sum(chaos.faults.values())
    if done % 5 == 0:
        print(
            f"  {time.monotonic() - began_s:5.0f} s  {done:3} faults  {chaos.cluster.behind()} windows behind",
            flush=True,
        )


def _compare(cluster: LocalCluster, chaos: Chaos, worked_s: float) -> bool:
    began_s = time.monotonic()
    straight = undisturbed(cluster)
    found = published(cluster.bus, cluster.topics)
    verdict = judge(straight.output, found)
    print(f"straight pass: {straight.windows} windows, {straight.frames} frames, {straight.void} void windows, "
          f"{len(straight.refused)} refused, {time.monotonic() - began_s:.0f} s\n")  # fmt: skip
    print("| fault | times |\n| --- | --- |")
    for kind, times in sorted(chaos.faults.items()):
        print(f"| {kind} | {times} |")
    print("\n| faults | records | lost | doubled | different | seconds |\n| --- | --- | --- | --- | --- | --- |")
    print(f"| {sum(chaos.faults.values())} | {verdict.records} | {verdict.lost} | {verdict.doubled} | "
          f"{verdict.different} | {worked_s:.0f} |")  # fmt: skip
    for told in doubles(straight.output, found):
        print(told)
    logs = [log.read_text(errors="replace") for log in cluster.folder.glob("*.log")]
    print("\n| the workers said | times |\n| --- | --- |")
    for text, meaning in SAID.items():
        print(f"| {meaning} | {sum(log.count(text) for log in logs)} |")
    return verdict.good and verdict.records > 0


def main() -> None:
    """Run, print the table, exit 1 where it did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=50, help="how many (default 50)")
    parser.add_argument("--every", type=float, default=8.0, metavar="SECONDS", help="one fault about so often (8)")
    parser.add_argument("--calm", type=float, default=20.0, metavar="SECONDS", help="before the first fault (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (1)")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--servers", help="a broker that runs already; default KAFKA_BOOTSTRAP_SERVERS, or an own one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as told, broker(servers=given.servers) as servers:
        folder = Path(told)
        clips = long_clips(given.cameras, given.calm + given.faults * given.every * 2 + 300, folder)
        cameras = {
            f"camera-{n}": {
                "source": {"url": str(clip), "mode": "realtime"}, "sample_fps": 2, "counts": {"window_s": 2},
                "lines": MIDDLE, "zones": PLAZA,
            }
            for n, clip in enumerate(clips)
        }  # fmt: skip
        kafka = {
            "session_timeout_s": SESSION_S, "transaction_timeout_s": 6, "commit_interval_s": 0.3,
            "spool": {"dir": str(folder / "spool")},
        }  # fmt: skip
        top = {"inference": {"threads": 1}}
        cluster = LocalCluster(servers, f"chaos{os.getpid()}", folder, cameras, kafka, top)
        with cluster.bus:
            held = run(cluster, faults=given.faults, every_s=given.every, seed=given.seed, calm_s=given.calm)
        if not held:
            for log in sorted(folder.glob("*.log")):
                sys.stderr.write(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}\n")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
