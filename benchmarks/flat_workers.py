"""Workers as processes while cameras come and go, and what each of them takes every two seconds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.local_cluster import PASSERBY
from pipeline.sources.synthetic import street, write_video
from tests import broker as brokers
from tests.prometheus_server import free_port
from tests.rtsp_server import RtspServer

_EVERY_S = 2.0
_BREAK_S = 9.0
_APPLY_S = 20.0
_LINES = {"middle": {"points": [[0, 0.6], [1, 0.6]]}}
_ZONES = {"all": {"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "dwell_s": 1, "crowded_at": 3}}


@dataclass(frozen=True)
class Allowance:
    """What may be more at the end: ``least``, or this share of the median where that is more."""

    least: float
    share: float = 0.0

    def of(self, median: float) -> float:
        return max(self.least, self.share * median)


@dataclass(frozen=True)
class Verdict:
    """low, high: 95 % interval of the slope, an hour. second, last: medians of those quarters."""

    median: float
    second: float
    last: float
    low: float
    high: float
    grows: bool


@dataclass
class Watched:
    """One figure of one process over time."""

    process: str
    what: str
    at_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def judged(self, allowed: Allowance) -> Verdict:
        """Whether it grows. The first third is warming up."""
        at_s, values = np.asarray(self.at_s), np.asarray(self.values)
        if len(values) < 12:
            raise RuntimeError(f"{self.process}: too few samples of {self.what} ({len(values)}): did it end?")
        second, last = (float(np.median(part)) for part in (np.array_split(values, 4)[1], np.array_split(values, 4)[3]))
        settled = at_s >= at_s[0] + (at_s[-1] - at_s[0]) / 3
        at_s, values = at_s[settled], values[settled]
        slope = stats.theilslopes(values, at_s, 0.95)
        median, span_s = float(np.median(values)), float(at_s[-1] - at_s[0])
        room = allowed.of(median)
        grows = slope.low_slope * span_s > room and last - second > room
        return Verdict(median, second, last, 3600 * slope.low_slope, 3600 * slope.high_slope, bool(grows))


class Process:
    """A worker, and what it takes."""

    def __init__(
        self, name: str, command: list[str], log: Path, port: int, env: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.port, self._log = name, port, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*PASSERBY, *command], stdout=out, stderr=out, env={**os.environ, **(env or {})}
            )

    def sample(self) -> dict[str, float]:
        """What it takes now. Raises RuntimeError when it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self._log.read_text(errors='replace')[-2000:]}")
        proc = Path("/proc") / str(self._process.pid)
        told = dict(line.split(":", 1) for line in (proc / "smaps_rollup").read_text().splitlines()[1:])
        private_kb = sum(int(told[key].split()[0]) for key in ("Private_Clean", "Private_Dirty"))
        taken = {
            "private memory, MB": private_kb / 1024,
            "open files": float(len(os.listdir(proc / "fd"))),
            "threads": float(len(os.listdir(proc / "task"))),
        }
        series = self._series()
        return taken if series is None else {**taken, "series": series}

    def _series(self) -> float | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return float(sum(not line.startswith(b"#") for line in answer))
        except (urllib.error.URLError, OSError):
            return None  # a busy machine: the next time

    def until_ready(self, timeout_s: float = 240) -> None:
        """Wait until /readyz says so: models loaded, a broker reached, partitions assigned."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise RuntimeError(f"{self.name} is not ready: {self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """SIGTERM, and no longer than half a minute."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def watch_run(folder: Path, seconds: float) -> list[Watched]:
    """``passerby run`` on a looped street, and on cameras that break off."""
    with ExitStack() as stack:
        sources = _cameras(stack, folder)
        config = _write(folder / "run.yaml", {"cameras": _configured(sources), "output": {"report": False}})
        port = free_port()
        command = ["run", "-c", str(config), "--out", str(folder / "out"), "-q", "--metrics-port", str(port)]
        return _watch(stack, [Process("run", command, folder / "run.log", port)], seconds)


def watch_cluster(folder: Path, seconds: float) -> list[Watched]:
    """``passerby ingest`` and ``infer``, with cameras of ever new names beside those that stay."""
    with ExitStack() as stack:
        sources = _cameras(stack, folder)
        broker = brokers.existing()
        if broker is None:
            broker = brokers.start(folder / "kafka")
            stack.callback(broker.kill)
        kafka = {
            "bootstrap_servers": broker.bootstrap_servers, "prefix": f"flat{os.getpid()}",
            "spool": {"dir": str(folder / "spool")},
        }  # fmt: skip
        config = folder / "cluster.yaml"
        names = (f"visitor-{n}" for n in itertools.count())

        def apply() -> None:
            fleet = _configured({**sources, **{next(names): sources["street"] for _ in range(2)}})
            _write(config, {"kafka": kafka, "counts": {"window_s": 2}, "cameras": fleet})
            _passerby("apply", "-c", str(config), "--prune")

        _write(config, {"kafka": kafka, "cameras": _configured(sources)})
        _passerby("topics", "apply", "-c", str(config))
        apply()
        workers = []
        for name in ("ingest", "infer"):
            port = free_port()
            command = [name, "-c", str(config), "--worker-id", name, "--metrics-port", str(port)]
            workers.append(Process(name, command, folder / f"{name}.log", port))
        stack.enter_context(_again(apply, _APPLY_S))
        return _watch(stack, workers, seconds)


def _cameras(stack: ExitStack, folder: Path) -> dict[str, str]:
    """A street that loops for ever, and two cameras that die and come back; name -> URL."""
    film = folder / "street.mp4"
    if not film.exists():
        write_video(street(11, duration_s=12), film, fps=12.5)
    steady = stack.enter_context(RtspServer("--loop", f"cam={film}"))
    breaking = [stack.enter_context(RtspServer("--loop", f"cam={film}")) for _ in range(2)]

    def break_off() -> None:
        for server in breaking:
            server.kill()
        time.sleep(1.0)
        for server in breaking:
            server.start()

    stack.enter_context(_again(break_off, _BREAK_S))
    return {"street": steady.url(), **{f"breaking-{n}": server.url() for n, server in enumerate(breaking)}}


def _configured(sources: Mapping[str, str]) -> dict[str, Any]:
    retry = {"retry_initial_s": 0.2, "retry_max_s": 1, "open_timeout_s": 5, "stall_timeout_s": 3}
    return {
        name: {"source": {"url": url, **retry}, "sample_fps": 4, "lines": _LINES, "zones": _ZONES}
        for name, url in sources.items()
    }


def _watch(stack: ExitStack, processes: list[Process], seconds: float) -> list[Watched]:
    for process in processes:
        stack.callback(process.stop)
    for process in processes:
        process.until_ready()
    watched: dict[tuple[str, str], Watched] = {}
    began_s = time.monotonic()
    while (now_s := time.monotonic()) < began_s + seconds:
        for process in processes:
            for what, value in process.sample().items():
                one = watched.setdefault((process.name, what), Watched(process.name, what))
                one.at_s.append(now_s)
                one.values.append(value)
        time.sleep(_EVERY_S)
    return list(watched.values())


@contextmanager
def _again(work: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do ``work`` every so often on a thread of its own while the block runs; its failure ends the block, too."""
    stop, failed = threading.Event(), list[BaseException]()

    def loop() -> None:
        while not stop.wait(every_s):
            try:
                work()
            except BaseException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(90)
    if failed:
        raise failed[0]


def _write(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return path


def _passerby(*arguments: str) -> None:
    done = subprocess.run([*PASSERBY, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"passerby {' '.join(arguments)}: {done.stderr or done.stdout}")
