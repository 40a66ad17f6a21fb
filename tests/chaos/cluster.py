"""A small cluster on a real broker: topics, cameras, windows that keep coming, workers as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.straight_pass import Output, Verdict, judge, published, straight_pass
from pipeline.bus.declared import declared
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import CameraDocument, Topics
from pipeline.config import KafkaConfig, camera_from_document
from pipeline.core.frame import FrameWindow
from pipeline.services.plans import Plans
from tests.chaos.world import PixelEngine, document, window

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Cluster:
    """Cameras ``camera-0`` ... of a prefix of their own. partitions: of cameras, windows and state."""

    settings: KafkaConfig
    folder: Path
    cameras: int = 4
    partitions: int = 4
    config: Path = field(init=False)
    bus: KafkaBus = field(init=False)
    topics: Topics = field(init=False)
    fed: int = 0
    quota: int = 10**9  # windows of each camera that ``keep_feeding`` may reach

    def __post_init__(self) -> None:
        self.topics = Topics(self.settings.prefix)
        self.bus = KafkaBus(self.settings, client_id="test")
        self.config = self.folder / "worker.yaml"
        kafka = {
            "bootstrap_servers": self.settings.bootstrap_servers, "prefix": self.settings.prefix,
            "commit_interval_s": 0.2, "session_timeout_s": 6, "transaction_timeout_s": 4,
        }  # fmt: skip
        self.config.write_text(yaml.safe_dump({"kafka": kafka}), encoding="utf-8")
        admin = self.bus.admin()
        for spec in declared(self.settings):
            admin.create(spec.name, self.partitions, 1, spec.settings(1))
        admin.close()
        producer = self.bus.producer(self.topics.cameras)
        for n in range(self.cameras):
            told = document(0.3 + 0.1 * n, zone=n % 2 == 0)
            producer.send(f"camera-{n}", CameraDocument(f"camera-{n}", told))
        producer.flush()
        producer.close()
        self._producer = self.bus.producer(self.topics.windows_as("raw"))
        self._feeding = threading.Event()
        self._feeder: threading.Thread | None = None

    def feed(self, windows: int) -> None:
        """So many more windows of each camera."""
        for n in range(self.fed, self.fed + windows):
            for camera in range(self.cameras):
                self._send(window(f"camera-{camera}", n, revision=-1, writer=""))
        self.fed += windows
        self._producer.flush()

    def _send(self, told: FrameWindow) -> None:
        self._producer.send(told.camera_id, told)

    def keep_feeding(self, every_s: float) -> None:
        """A window of each camera every so often, until ``stop_feeding``."""

        def work() -> None:
            while not self._feeding.wait(every_s):
                if self.fed < self.quota:
                    self.feed(1)

        self._feeding.clear()
        self._feeder = threading.Thread(target=work, name="feeder", daemon=True)
        self._feeder.start()

    def stop_feeding(self) -> None:
        self._feeding.set()
        if self._feeder is not None:
            self._feeder.join(30)

    def worker(self, worker_id: str, *more: str) -> subprocess.Popen[bytes]:
        """A worker as a process; its log in ``folder``."""
        with (self.folder / f"{worker_id}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker_process", str(self.config), worker_id, *more],
                cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    def committed(self) -> dict[int, int]:
        return self.bus.committed(self.settings.infer_group_name, self.topics.windows.name)

    def wait_until_done(self, timeout_s: float) -> None:
        """Until everything fed is committed."""
        reader = self.bus.reader(self.topics.windows_raw)
        ends = {p: end for p, end in reader.ends(reader.partitions()).items() if end}
        reader.close()
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            done = self.committed()
            if all(done.get(partition, 0) >= end for partition, end in ends.items()):
                return
            time.sleep(0.2)
        raise AssertionError(f"not done after {timeout_s} s: {self.committed()} of {ends}")

    def expected(self) -> Output:
        """What an undisturbed pass over the windows gives."""
        engine = PixelEngine()
        plans = Plans(
            self.bus.reader(self.topics.cameras),
            lambda camera_id, told: camera_from_document(camera_id, told, {}, Path(), secrets=False),
            lambda _: engine,
        )
        with self.bus.reader(self.topics.windows_raw) as reader:
            return straight_pass(reader, self.topics, plans).output

    def verdict(self) -> Verdict:
        return judge(self.expected(), published(self.bus, self.topics))

    def close(self) -> None:
        self.stop_feeding()
        self.bus.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM, timeout_s: float = 120) -> int:
    """Send a signal and wait."""
    if process.poll() is None:
        process.send_signal(how)
    return process.wait(timeout_s)
