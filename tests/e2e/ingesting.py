"""Ingest workers as real processes, and what lies in the log of windows, told independently of the code under test."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import KafkaConfig
from pipeline.core.frame import FrameWindow

PASSERBY = (sys.executable, "-c", "from pipeline.cli import main; main()")

Told = tuple[int, int, int, str]
"""A frame: index, pts_us, captured_at_us, sha256 of its picture."""


@dataclass(frozen=True)
class Kept:
    """A window as it lies in the log."""

    offset: int
    window: FrameWindow
    void: bool

    @property
    def frames(self) -> list[Told]:
        return told(self.window)


def told(window: FrameWindow) -> list[Told]:
    """The frames of a window as plain values."""
    return [
        (f.index, f.pts_us, f.captured_at_us, hashlib.sha256(f.picture.tobytes()).hexdigest()) for f in window.frames
    ]


def log_of(settings: KafkaConfig) -> dict[str, list[Kept]]:
    """Every window in the log by camera; ``void``: sent by a reader that was replaced already (decision 0070)."""
    found: dict[str, list[Kept]] = {}
    fence: dict[str, tuple[int, str]] = {}
    topics = Topics(settings.prefix)
    with KafkaBus(settings, client_id="look") as bus:
        reader = bus.reader(topics.windows)
        for partition in reader.partitions():
            for record in reader.read(partition, 0, reader.end(partition)):
                window = record.value
                assert isinstance(window, FrameWindow), window
                epoch, writer = fence.get(record.key, (0, ""))
                void = window.epoch < epoch or (window.epoch == epoch and window.writer != writer)
                if not void:
                    fence[record.key] = (window.epoch, window.writer)
                found.setdefault(record.key, []).append(Kept(record.offset, window, void))
    return found


def valid(kept: list[Kept]) -> list[FrameWindow]:
    """The windows that count."""
    return [one.window for one in kept if not one.void]


def frames_of(windows: list[FrameWindow]) -> list[Told]:
    """All frames of windows, in the order of the log."""
    return [frame for window in windows for frame in told(window)]


def statuses_of(windows: list[FrameWindow]) -> list[tuple[str, str]]:
    """All changes of status, in the order of the log."""
    return [(w.status.state, w.status.reason) for w in windows if w.status is not None]


class Worker:
    """``passerby ingest`` in a process of its own; its log lines go to ``log``."""

    def __init__(self, config: Path, name: str, *options: str, env: dict[str, str] | None = None) -> None:
        self.log = config.parent / f"{name}.log"
        command = [*PASSERBY, "ingest", "-c", str(config), "--worker-id", name, *options]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(env or {})})

    def says(self, text: str) -> bool:
        """Whether its log holds ``text``."""
        return text in self.log.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(20)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Its exit code, once it ends by itself."""
        return self.process.wait(timeout_s)


@contextmanager
def workers(config: Path, *options: str) -> Iterator[Callable[..., Worker]]:
    """Starts workers; none outlives the block."""
    made: list[Worker] = []

    def start(name: str, *more: str, env: dict[str, str] | None = None) -> Worker:
        made.append(Worker(config, name, *options, *more, env=env))
        return made[-1]

    try:
        yield start
    except BaseException:
        for worker in made:
            sys.stderr.write(f"--- {worker.log.name}\n{worker.log.read_text(errors='replace')[-4000:]}\n")
        raise
    finally:
        for worker in made:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()


def passerby(*arguments: str, expect: int = 0) -> str:
    """Run a command to its end; what it said."""
    done = subprocess.run([*PASSERBY, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def write_config(path: Path, kafka: KafkaConfig, cameras: dict[str, Any], **more: Any) -> Path:
    """A configuration file (JSON is YAML), its spool beside it. Few partitions: tests look into every one."""
    topics = path.parent / "topics.yaml"
    topics.write_text(json.dumps({kind: {"partitions": 4} for kind in ("cameras", "windows", "state")}))
    told_kafka = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "prefix": kafka.prefix,
        "spool": {"dir": str(path.parent / "spool"), "min_free_bytes": 0},
        "topics": str(topics),
    }
    path.write_text(json.dumps({"kafka": told_kafka, "cameras": cameras, **more}))
    return path


def set_up(config: Path) -> None:
    """Topics and cameras."""
    passerby("topics", "apply", "-c", str(config))
    passerby("apply", "-c", str(config), "--prune")


def until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Wait for something to become true."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.2)
