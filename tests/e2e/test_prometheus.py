"""A real Prometheus against real workers, a real broker and a real camera: every query of every panel and every
expression of every alert has data, and what is told agrees with what lies in the log."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.bus.base import Message
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import Topics
from pipeline.config import KafkaConfig
from pipeline.errors import RecordMalformed
from pipeline.sources.synthetic import street, write_video
from tests.broker import Broker
from tests.metrics.dashboards import ALERTS, alerts, panel_queries
from tests.prometheus_server import PrometheusServer, free_port, require_prometheus
from tests.rtsp_server import RtspServer, require_rtsp

pytestmark = [pytest.mark.kafka, pytest.mark.rtsp, pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(480)]

PASSERBY = (sys.executable, "-c", "from pipeline.cli import main; main()")
PASSWORD = "canary-4711"
_OPERAND = re.compile(r"\s+(?:and|unless) on \([^)]*\)\s+|\s(?:==|!=|>=|<=|>|<)\s+[\d.]+")


@dataclass
class World:
    """Everything that runs."""

    prometheus: PrometheusServer
    kafka: KafkaConfig
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    began_s: float

    def page(self, worker: str, path: str = "/metrics") -> str:
        """What a worker answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[worker]}{path}", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def world(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A street over RTSP (with a password), a camera that is not there, ingest, infer, Prometheus; under load."""
    require_prometheus()
    require_rtsp()
    folder = tmp_path_factory.mktemp("seen")
    scene = street(11, duration_s=12)
    write_video(scene, folder / "street.mp4", fps=12.5)
    prefix = f"seen{os.getpid()}"
    with ExitStack() as stack:
        camera = stack.enter_context(
            RtspServer("--loop", f"cam={folder / 'street.mp4'}", "--user", "viewer", "--password", PASSWORD)
        )
        config = folder / "passerby.yaml"
        config.write_text(json.dumps(_configuration(broker, prefix, camera.port, folder)), encoding="utf-8")
        ports = {"ingest": free_port(), "infer": free_port()}
        jobs = {f"passerby-{name}": [f"127.0.0.1:{port}"] for name, port in ports.items()}
        prometheus = stack.enter_context(PrometheusServer(folder / "prometheus", jobs, [ALERTS]))
        began_s = time.time()
        for command in (("topics", "apply"), ("apply",)):
            subprocess.run([*PASSERBY, *command, "-c", str(config)], check=True, timeout=60, env=_environment())
        processes = {name: stack.enter_context(_worker(name, config, port)) for name, port in ports.items()}
        world = World(prometheus, broker.settings(prefix), ports, processes, began_s)
        prometheus.wait_for('passerby_events_total{type="line.crossed"} > 0', 240)
        _send_nonsense(world)
        prometheus.wait_for('sum(passerby_dead_letters_total{topic="windows"}) > 0')
        prometheus.wait_for('sum(passerby_camera_reconnects_total{camera="nobody"}) > 1')
        time.sleep(5)  # of ordinary load
        yield world


def _configuration(broker: Broker, prefix: str, port: int, folder: Path) -> dict[str, Any]:
    scene = street(11, duration_s=12)
    rules = {
        "lines": {line.name: {"points": line.points, "classes": list(line.classes)} for line in scene.lines},
        "zones": {"all": {"points": [[0, 0], [1, 0], [1, 1], [0, 1]], "dwell_s": 1, "crowded_at": 2}},
    }
    return {
        "kafka": {
            "bootstrap_servers": broker.bootstrap_servers, "prefix": prefix, "spool": {"dir": str(folder / "spool")},
        },
        "counts": {"window_s": 2},
        "source": {"open_timeout_s": 3, "stall_timeout_s": 3, "retry_initial_s": 0.2, "retry_max_s": 1},
        "cameras": {
            "gate": {"source": f"rtsp://viewer:${{GATE_PASSWORD}}@127.0.0.1:{port}/cam", **rules},
            "nobody": {"source": "rtsp://127.0.0.1:9/cam"},
        },
    }  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "GATE_PASSWORD": PASSWORD}


def _worker(name: str, config: Path, port: int) -> subprocess.Popen[bytes]:
    log = (config.parent / f"{name}.log").open("wb")
    with log:
        return _Reaped(
            [*PASSERBY, name, "-c", str(config), "--metrics-port", str(port), "--worker-id", name],
            stdout=log, stderr=subprocess.STDOUT, env=_environment(),
        )  # fmt: skip


class _Reaped(subprocess.Popen[bytes]):
    """Killed when its block ends."""

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait(20)


def _send_nonsense(world: World) -> None:
    topics = Topics(world.kafka.prefix)
    with KafkaBus(world.kafka, client_id="nonsense") as bus:
        producer = bus.producer(topics.windows_raw)
        producer.send_message(Message("gate", b"\xff\xd8 no window"))
        producer.flush(20)


def _data(world: World, expression: str) -> list[float]:
    """Every finite value of an expression since the beginning, at every scrape."""
    now_s = time.time()
    series = world.prometheus.ask("query_range", query=expression, start=world.began_s, end=now_s, step="1s")["result"]
    values = [float(value) for each in series for _, value in each["values"]]
    return [value for value in values if math.isfinite(value)]


def test_every_query_of_every_panel_has_data(world: World) -> None:
    assert len(panel_queries()) > 60
    silent = [f"{query}: {query.expression}" for query in panel_queries() if not _data(world, query.filled(span="30s"))]
    assert silent == []


def test_every_side_of_every_alert_has_data(world: World) -> None:
    """What an alert compares is there (whether it fires is told by promtool's tests)."""
    silent = []
    for alert in alerts():
        bare = re.sub(r"^absent\((.*)\)$", r"\1", alert["expr"])
        silent += [f"{alert['alert']}: {side}" for side in _OPERAND.split(bare) if side and not _data(world, side)]
    assert silent == []


def test_prometheus_reads_the_alerts_and_reaches_the_workers(world: World) -> None:
    rules = [rule for group in world.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
    assert {(rule["name"], rule["health"]) for rule in rules} == {(rule["name"], "ok") for rule in rules}
    targets = world.prometheus.ask("targets")["activeTargets"]
    assert {target["health"] for target in targets} == {"up"}, targets
    assert [rule["name"] for rule in rules if rule["state"] == "firing" and "NoWorkers" in rule["name"]] == []
    pending = {alert["labels"]["camera"] for rule in rules if "CameraDown" in rule["name"] for alert in rule["alerts"]}
    assert pending == {"nobody"}


def test_what_is_told_is_plausible(world: World) -> None:
    value = world.prometheus.value
    assert value('passerby_camera_up{camera="gate"}') == 1
    assert value('passerby_camera_up{camera="nobody"}') == 0
    assert value('time() - passerby_camera_last_frame_timestamp_seconds{camera="gate"}') < 10
    assert value('rate(passerby_frames_captured_total{camera="gate"}[10s])') == pytest.approx(12.5, rel=0.35)
    assert value('sum(passerby_camera_reconnects_total{camera="nobody", reason="unavailable"})') > 1
    assert 0 < value("histogram_quantile(0.5, sum by (le) (rate(passerby_capture_to_event_seconds_bucket[20s])))") < 60
    assert 0 < value('max_over_time(passerby_camera_coverage_ratio{camera="gate"}[20s])') <= 1
    assert value('sum(passerby_scene_started_total{camera="gate", scene="covered"})') == 0
    assert value('passerby_worker_ready{job="passerby-infer"}') == 1
    assert value('passerby_worker_ready{job="passerby-ingest"}') == 1
    assert value('passerby_broker_reachable{job="passerby-infer"}') == 1
    assert value('passerby_dead_letters_total{topic="windows", reason="malformed"}') == 1
    assert world.page("infer", "/livez") == "alive\n"
    assert world.page("ingest", "/readyz") == "ready\n"


def test_no_password_and_no_text_of_an_error_is_in_a_label(world: World) -> None:
    for worker in world.ports:
        told = world.page(worker)
        assert PASSWORD not in told
        assert "rtsp://" not in told
        assert "127.0.0.1" not in told


def test_the_ledger_agrees_with_the_log_when_all_is_still(world: World) -> None:
    """Last: the ingest worker is stopped, and what inference tells is held against what a reader finds in the log."""
    before = _samples(world.page("ingest"))
    gate = {"camera": "gate"}
    captured, sent, out = (
        before[f"passerby_frames_{name}_total", _key(gate)] for name in ("captured", "sent", "sampled_out")
    )
    in_flight = before["passerby_frames_in_flight", _key(gate)]
    dropped = sum(
        v for (name, labels), v in before.items() if name == "passerby_frames_dropped_total" and "gate" in str(labels)
    )
    assert captured == sent + out + in_flight + dropped
    assert sent > 50
    world.processes["ingest"].send_signal(signal.SIGTERM)
    assert world.processes["ingest"].wait(40) == 0
    world.prometheus.wait_for("sum(passerby_lag_records) == 0 and on () sum(passerby_lag_seconds) == 0", 90)
    time.sleep(2)  # the last transaction
    after = _samples(world.page("infer"))
    told = {k[1]: v for k, v in after.items() if k[0] == "passerby_events_total" and v}
    published: dict[Any, float] = {}
    topics = Topics(world.kafka.prefix)
    frames = 0
    with KafkaBus(world.kafka, client_id="look") as bus:
        for topic in (topics.events, topics.counts):
            reader = bus.reader(topic)
            for partition in reader.partitions():
                for record in reader.read(partition, 0, reader.end(partition)):
                    kind = ".".join(record.value.type.split(".")[2:-1])
                    key = _key({"camera": record.value.camera_id, "type": kind})
                    published[key] = published.get(key, 0) + 1
        windows = bus.reader(topics.windows_raw)
        for partition in windows.partitions():
            for record in windows.read(partition, 0, windows.end(partition)):
                frames += _frames_in(topics, record)
    assert told == published
    assert after["passerby_frames_analysed_total", _key(gate)] == frames >= sent


def _frames_in(topics: Topics, record: Any) -> int:
    try:
        return len(topics.windows.decode(Message(record.key, record.value, record.headers)).frames)
    except RecordMalformed:
        return 0


def _key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def _samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, _key(sample.labels)): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
