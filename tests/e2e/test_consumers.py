"""Those who read the log, on a real broker: the snippets of docs/consuming.md as written, and the commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import Config
from pipeline.core.events import LINE_CROSSED
from tests.broker import Broker
from tests.conftest import ROOT
from tests.e2e.feeding import apply_cameras, configured, next_epoch, send, windows_of
from tests.e2e.test_run import PASSERBY
from tests.outputs.samples import crossing, window

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]  # most of it are processes that start

CONFIG = """
kafka: {{bootstrap_servers: "{servers}", prefix: {prefix}, topics: topics.yaml}}
inference: {{threads: 2}}
counts: {{window_s: 4}}
cameras:
  street:
    source: synthetic://street?seed=3&duration=12&width=640&height=360
    start: 2026-01-01T08:00:00Z
    lines:
      kerb: {{points: [[0.0, 0.6], [1.0, 0.6]]}}
"""
TOPICS = "".join(f"{kind}: {{partitions: 2}}\n" for kind in ("cameras", "windows", "state", "counts", "events"))


def passerby(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PASSERBY, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=os.environ | (env or {})
    )


@dataclass
class Cluster:
    """A street that was filmed twice, and everything inference published of it."""

    file: Path
    config: Config
    windows: int

    @property
    def topics(self) -> Topics:
        return Topics(self.config.kafka.prefix)


@pytest.fixture(scope="module")
def cluster(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    folder = tmp_path_factory.mktemp("cluster")
    file = folder / "passerby.yaml"
    prefix = f"consumers{os.getpid()}"
    file.write_text(CONFIG.format(servers=broker.bootstrap_servers, prefix=prefix), encoding="utf-8")
    (folder / "topics.yaml").write_text(TOPICS, encoding="utf-8")
    config = configured(file)
    done = passerby("topics", "apply", "-c", file)
    assert done.returncode == 0, done.stderr
    windows = windows_of(config, "street")
    windows = [*windows, *next_epoch(windows, 2, 60_000_000, "second")]
    with KafkaBus(config.kafka, client_id="test") as bus:
        apply_cameras(bus, Topics(prefix), config)
        send(bus, Topics(prefix), windows)
    waits = passerby("lag", "-c", file, "--json", "--fail-above", "1")
    assert waits.returncode == 1, waits.stderr
    told = json.loads(waits.stdout)
    assert sum(partition["records_behind"] for partition in told["partitions"]) == len(windows)
    assert told["behind_s"] == pytest.approx(72, abs=1)
    done = passerby("infer", "-c", file, "--worker-id", "w", "--until-idle", "2")
    assert done.returncode == 0, done.stderr
    return Cluster(file, config, len(windows))


def tailed(cluster: Cluster, *arguments: str) -> list[dict[str, Any]]:
    done = passerby("tail", "-c", cluster.file, "--beginning", "--until-idle", "1", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_who_reads_the_log_finds_everything_once_and_as_it_was_published(cluster: Cluster, tmp_path: Path) -> None:
    events = tailed(cluster)
    assert len({event["id"] for event in events}) == len(events) > 20
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)

    done = passerby("lag", "-c", cluster.file, "--fail-above", "0")
    assert done.returncode == 0
    assert re.search(r"street +0\.0 s", done.stdout), done.stdout

    out = tmp_path / "again"
    done = passerby("replay", "-c", cluster.file, "--camera", "street", "--verify", "--out", out, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["verified"]["equal"], told["verified"]["differences"]) == (len(events), [])
    again = [
        json.loads(line)
        for name in ("events.jsonl", "counts.jsonl")
        for line in (out / name).read_text(encoding="utf-8").splitlines()
    ]
    assert sorted(again, key=lambda event: event["id"]) == sorted(events, key=lambda event: event["id"])

    crossed = next(event for event in events if event["type"] == LINE_CROSSED and event["data"]["epoch"] == 2)
    done = passerby("evidence", crossed["id"], "-c", cluster.file, "--camera", "street", "--out", tmp_path / "evidence")
    assert done.returncode == 0, done.stderr
    assert [Path(line).suffix for line in done.stdout.split()] == [".mp4", ".png", ".json"]
    sidecar = json.loads(Path(done.stdout.split()[-1]).read_text(encoding="utf-8"))
    assert [frame["frame"] for frame in sidecar["frames"] if frame["named"]] == crossed["data"]["provenance"]["frames"]
    assert sidecar["drawn"]["object"]["overlap_with_published_box"] > 0.7
    done = passerby("evidence", "0" * 32, "-c", cluster.file)
    assert (done.returncode, "no event 0000" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_tail_filters_counts_lines_and_ends_with_ctrl_c(cluster: Cluster) -> None:
    assert {event["type"] for event in tailed(cluster, "--counts")} == {"io.passerby.count.window.v1"}
    done = passerby("tail", "-c", cluster.file, "--beginning", "--type", "line.crossed", "--class", "person", "-n", "2")
    day, *lines = done.stdout.splitlines()
    assert day == "── 2026-01-01 (UTC) ──"
    assert len(lines) == 2
    pattern = r"08:0[01]:\d\d\.\d{3}  street  ● person \d+ crossed kerb to the (left|right)"
    assert [line for line in lines if not re.match(pattern, line)] == []
    watched = [*PASSERBY, "tail", "-c", str(cluster.file), "--beginning"]
    with subprocess.Popen(watched, stdout=subprocess.PIPE, text=True) as live:
        try:
            assert live.stdout is not None
            assert live.stdout.readline()
            live.send_signal(signal.SIGINT)
            live.communicate(timeout=60)
            assert live.returncode == 0
        finally:
            live.kill()


def test_a_published_event_that_was_changed_is_found(cluster: Cluster) -> None:
    """Somebody writes an event again, with another direction. The last test of this cluster, where it stays."""
    crossed = next(event for event in tailed(cluster, "--type", "line.crossed"))
    from pipeline.core.events import Event, microseconds

    forged = Event(
        crossed["id"], crossed["type"], "street", microseconds(crossed["time"]), crossed["data"] | {"direction": "up"}
    )
    with KafkaBus(cluster.config.kafka, client_id="forger") as bus:
        producer = bus.producer(cluster.topics.events)
        producer.send("street", forged)
        producer.flush(30)
        producer.close()
    done = passerby("replay", "-c", cluster.file, "--camera", "street", "--verify", "-q")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"street {crossed['id']} {LINE_CROSSED}: published 2 times" in done.stdout
    assert "1 of" in done.stdout


# ---------------------------------------------------------------------------------------------- docs/consuming.md


CAMERA = f"snippets{os.getpid()}"  # a broker of somebody else's may hold those of an earlier test


def snippet(language: str, first: str) -> str:
    """The code block of docs/consuming.md that begins with ``first``."""
    text = (ROOT / "docs" / "consuming.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    block = next(block for block in blocks if block.startswith(first))
    assert block in (ROOT / "README.md").read_text(encoding="utf-8"), "README says the same"
    return block


@pytest.fixture(scope="module")
def published(broker: Broker) -> tuple[Broker, str, str]:
    """One crossing and one count window in the topics of the default prefix, as inference sends them."""
    at_us = time.time_ns() // 1000
    event, counts = crossing(at_us, CAMERA), window(at_us - 10_000_000, at_us, CAMERA)
    settings = broker.settings()
    topics = Topics()
    with KafkaBus(settings, client_id="test") as bus:
        for topic, value in ((topics.events, event), (topics.counts, counts)):
            bus.admin().create(topic.name, 1, 1, {})
            producer = bus.producer(topic, compression="zstd")
            producer.send(CAMERA, value)
            producer.flush(30)
            producer.close()
    return broker, event.id, counts.id


def test_the_python_snippet_prints_events_and_counts(published: tuple[Broker, str, str], tmp_path: Path) -> None:
    broker, _, _ = published
    program = tmp_path / "consumer.py"
    program.write_text(snippet("python", "import json"), encoding="utf-8")
    assert len(program.read_text(encoding="utf-8").rstrip().splitlines()) == 10
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    running = subprocess.Popen(
        [sys.executable, "-u", str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
    )
    assert running.stdout is not None
    try:
        seen = set()
        for line in running.stdout:
            if line.startswith(f"{CAMERA} "):
                seen.add(line.split()[1])
            if len(seen) == 2:
                break
        assert seen == {"io.passerby.line.crossed.v1", "io.passerby.count.window.v1"}
    finally:
        running.kill()
        running.communicate()


def test_the_kcat_line_prints_events(published: tuple[Broker, str, str]) -> None:
    if shutil.which("kcat") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("kcat is missing, and CI=true says it must be here")
        pytest.skip("kcat is not here")
    broker, event_id, _ = published
    env = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    done = subprocess.run(["sh", "-c", snippet("sh", "kcat")], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if event_id in line)
    key, headers, value = line.split(" ", 2)
    assert key == CAMERA
    assert "ce_type=io.passerby.line.crossed.v1" in headers
    assert json.loads(value)["direction"] == "left"
