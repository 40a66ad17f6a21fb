"""A cluster on this machine for benchmarks: a real broker, topics, cameras, and workers as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.clips import ROOT, VIDEOS
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import Config, load_config
from pipeline.errors import BusUnavailable

PASSERBY = (sys.executable, "-c", "from pipeline.cli import main; main()")
BROKER = ROOT / "deploy" / "kafka" / "broker"
MIDDLE = {"middle": {"points": [[0.0, 0.55], [1.0, 0.55]], "anchor": "center"}}
PLAZA = {"plaza": {"points": [[0.05, 0.3], [0.95, 0.3], [0.95, 0.98], [0.05, 0.98]], "dwell_s": 4, "crowded_at": 4}}


@contextmanager
def broker(port: int = 9492, servers: str | None = None) -> Iterator[str]:
    """The bootstrap servers of ``servers``, or of a broker that lives as long as the block."""
    there = servers or os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if there:
        yield there
        return
    with tempfile.TemporaryDirectory() as folder:
        where = ["--dir", folder, "--port", str(port)]
        subprocess.run([str(BROKER), "start", *where], check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"localhost:{port}"
        finally:
            subprocess.run([str(BROKER), "stop", "--kill", *where], check=True, stdout=subprocess.DEVNULL)


def long_clips(count: int, seconds: float, folder: Path) -> list[Path]:
    """Real clips looped (their packets copied, not coded anew) to ``seconds``; ``count`` of them, all different."""
    names = (
        "suburban_street_cars.mp4", "tfl_jamcam_625_201709281431.mp4", "pedestrians_square.mp4", "shop_door_cctv.mp4",
        "indoor_one_by_one_person.mp4", "topdown_cars.mp4", "uk_dual_carriageway_mpeg4.avi",
        "tfl_jamcam_625_201709171311.mp4",
    )  # fmt: skip
    made = []
    for name in names[:count]:
        long = folder / f"{Path(name).stem}.mkv"
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-fflags", "+genpts", "-stream_loop", "-1", "-i", str(VIDEOS / name),
             "-t", str(seconds), "-map", "0:v:0", "-c", "copy", str(long)],
            check=True,
        )  # fmt: skip
        made.append(long)
    return made


@dataclass
class LocalCluster:
    """Topics of a prefix and the workers on them; ``kafka``: more of the configuration's section."""

    servers: str
    prefix: str
    folder: Path
    cameras: Mapping[str, Mapping[str, Any]]
    kafka: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = self.folder / "passerby.yaml"
        told = {
            **self.top,
            "kafka": {"bootstrap_servers": self.servers, "prefix": self.prefix, **self.kafka},
            "cameras": {camera_id: dict(camera) for camera_id, camera in self.cameras.items()},
        }
        self.file.write_text(yaml.safe_dump(told), encoding="utf-8")
        self.config: Config = load_config(self.file)
        self.topics = Topics(self.prefix)
        self.bus = KafkaBus(self.config.kafka, client_id="benchmark")

    def prepare(self) -> None:
        """``passerby topics apply`` and ``passerby apply``."""
        self.passerby("topics", "apply", "-c", str(self.file))
        self.passerby("apply", "-c", str(self.file), "--prune")

    def passerby(self, *arguments: str) -> None:
        """Run a command to its end."""
        done = subprocess.run([*PASSERBY, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"passerby {' '.join(arguments)}: {done.stderr or done.stdout}")

    def start(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """Start a command; what it says goes to ``folder/log``."""
        with (self.folder / f"{log}.log").open("ab") as out:
            return subprocess.Popen([*PASSERBY, *arguments], cwd=ROOT, stdout=out, stderr=out)

    def ingest(self, worker_id: str, *more: str) -> subprocess.Popen[bytes]:
        return self.start("ingest", "-c", str(self.file), "--worker-id", worker_id, *more, log=worker_id)

    def infer(self, worker_id: str, *more: str) -> subprocess.Popen[bytes]:
        return self.start("infer", "-c", str(self.file), "--worker-id", worker_id, *more, log=worker_id)

    def ends(self) -> dict[int, int]:
        """The end of each partition of windows that holds any."""
        with self.bus.reader(self.topics.windows_raw) as reader:
            return {partition: end for partition, end in reader.ends(reader.partitions()).items() if end}

    def behind(self) -> int:
        """Windows that are not committed."""
        try:
            done = self.bus.committed(self.config.kafka.infer_group_name, self.topics.windows.name)
        except BusUnavailable:
            return -1
        return sum(max(0, end - done.get(partition, 0)) for partition, end in self.ends().items())

    def wait_until_done(self, timeout_s: float) -> bool:
        """Until everything in windows is committed; whether it was in time."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.behind() == 0:
                return True
            time.sleep(1)
        return False


def end_all(processes: Sequence[subprocess.Popen[bytes]], timeout_s: float = 60) -> list[int]:
    """SIGTERM to all (a stopped one goes on first), then wait; their exit codes."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
    codes = []
    for process in processes:
        try:
            codes.append(process.wait(timeout_s))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(process.wait())
    return codes
