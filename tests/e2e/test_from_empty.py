"""The README's five steps, run as written: from nothing to events in a consumer and counts in Prometheus.

Prints what each step takes and writes it to out/benchmarks/from_empty.json (docs/benchmarks.md).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.bus.kafka  # noqa: F401  (imports kafka-python without its deprecation warning)
from tests import broker as brokers
from tests.conftest import ROOT, _missing
from tests.deploy.readme import block_after, steps
from tests.prometheus_server import free_port, require_prometheus

pytestmark = [pytest.mark.kafka, pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(600)]

README = ROOT / "README.md"
MARK = "tests/e2e/test_from_empty.py runs this block"
KAFKA, INGEST, INFER, PROMETHEUS = 9092, 9464, 9465, 9090
CLIP_S = 16
_TRIES_S = 180.0


class Place:
    """An empty folder with only what a clone has at its top, and processes that end with it.

    The ports of the page are used where they are free; one that something else has is replaced everywhere.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        self.ports = {port: port if _is_free(port) else free_port() for port in (KAFKA, INGEST, INFER, PROMETHEUS)}
        self._groups: list[int] = []
        local = folder / "deploy/prometheus/local.yml"
        local.write_text(self.written(local.read_text()))
        self.surroundings = {
            **{key: value for key, value in os.environ.items() if not key.startswith("KAFKA_")},
            "XDG_STATE_HOME": str(folder / "state"),  # the broker's data; its jars stay in the user's cache
            "COLUMNS": "160",
        }
        if self.ports[KAFKA] != KAFKA:
            self.surroundings["KAFKA_BOOTSTRAP_SERVERS"] = f"localhost:{self.ports[KAFKA]}"

    def written(self, text: str) -> str:
        """``text`` with the ports that are really used."""
        text = re.sub(r"\b(\d{4})\b", lambda found: str(self.ports.get(int(found[1]), found[1])), text)
        if self.ports[KAFKA] != KAFKA:
            text = text.replace("broker start", f"broker start --port {self.ports[KAFKA]}")
            text = text.replace("broker stop", f"broker stop --port {self.ports[KAFKA]}")
        if self.ports[PROMETHEUS] != PROMETHEUS:
            text = text.replace(
                "prometheus --config", f"prometheus --web.listen-address=:{self.ports[PROMETHEUS]} --config"
            )
        return text

    def run(self, commands: str, name: str) -> str:
        """Run a step's commands in a shell; what they printed. Those with & go on until the place is left."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            shell = subprocess.Popen(
                ["bash", "-euc", self.written(commands)], cwd=self.folder, env=self.surroundings,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            self._groups.append(shell.pid)
            code = shell.wait(_TRIES_S)
        told = log.read_text(errors="replace")
        assert code == 0, f"{commands}\n{told}"
        return told

    def leave(self) -> None:
        for group in self._groups:
            _end(group)
        self.run("deploy/kafka/broker stop", "stop")


def _end(group: int) -> None:
    """SIGTERM to all of a process group, SIGKILL to what is left after 20 s."""
    until = time.monotonic() + 20
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if lacking := brokers.missing():
        _missing(f"{lacking}, which a Kafka broker needs,")
    require_prometheus()
    made = Place(tmp_path)
    yield made
    made.leave()


def fetched(url: str) -> tuple[int, bytes]:
    """Status (0: nobody answers) and body."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def until(what: str, found: Callable[[], Any], logs: Path, timeout_s: float = _TRIES_S) -> Any:
    """What ``found`` gives, as soon as it is something."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    told = "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')}" for log in sorted(logs.glob("*.log")))
    raise AssertionError(f"not within {timeout_s:g} s: {what}\n{told}")


def query(place: Place, expression: str) -> float:
    """The value of an expression in the Prometheus of step 5; 0 while it has none."""
    address = f"http://localhost:{place.ports[PROMETHEUS]}/api/v1/query"
    status, body = fetched(f"{address}?query={urllib.request.quote(expression)}")
    found = json.loads(body)["data"]["result"] if status == 200 else []
    return float(found[0]["value"][1]) if found else 0.0


def test_the_five_steps_of_the_readme(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    from kafka import KafkaConsumer

    told = steps(block_after(README, MARK))
    assert len(told) == 6, "what to watch, and five steps"
    film = [sys.executable, str(ROOT / "deploy/demo-camera/film.py"), "--only", "street", "--duration", str(CLIP_S)]
    subprocess.run([*film, "--out", str(place.folder / "out/demo")], check=True, timeout=300, stdout=subprocess.DEVNULL)
    took: dict[str, float] = {}

    def timed(number: int, done: Callable[[], Any] = lambda: True) -> None:
        title, commands = told[number]
        began = time.monotonic()
        place.run(commands, f"step-{number}")
        until(title, done, place.folder)
        took[f"{number}. {title}"] = round(time.monotonic() - began, 1)

    def ready() -> bool:
        return all(fetched(f"http://localhost:{place.ports[port]}/readyz")[0] == 200 for port in (INGEST, INFER))

    def read() -> list[Any]:
        return [record for batch in consumer.poll(1000).values() for record in batch]

    timed(0)
    timed(1)
    timed(2)
    timed(3)
    timed(4, ready)
    began = time.monotonic()
    consumer = KafkaConsumer(
        "passerby.events", bootstrap_servers=f"localhost:{place.ports[KAFKA]}", auto_offset_reset="earliest",
        isolation_level="read_committed", group_id=None,
    )  # fmt: skip
    try:
        crossed: list[Any] = []
        until("a line crossed", lambda: crossed.extend(filter(_is_crossing, read())) or crossed, place.folder)
        took["the first crossing, read by a consumer"] = round(time.monotonic() - began, 1)
        timed(5, lambda: query(place, "sum(passerby_objects_crossed_total)") > 0)
        until("the clip's end", lambda: _ended(read(), crossed), place.folder)
    finally:
        consumer.close()
    count = until(
        "as many in Prometheus as in the log",
        lambda: query(place, "sum(passerby_objects_crossed_total)") == len(crossed) and len(crossed),
        place.folder,
    )
    kinds = ("captured", "sampled_out", "analysed", "dropped")

    def balanced() -> bool:
        """Of ingest and infer, each scraped at its own time."""
        frames = {kind: query(place, f"sum(passerby_frames_{kind}_total)") for kind in kinds}
        return frames["captured"] == frames["sampled_out"] + frames["analysed"] + frames["dropped"] > 0

    until("the ledger balances in Prometheus", balanced, place.folder)
    assert query(place, 'count(up{job=~"passerby.*"} == 1)') == 2
    with capsys.disabled():
        _report(took, count)


def _is_crossing(record: Any) -> bool:
    return dict(record.headers)["ce_type"] == b"io.passerby.line.crossed.v1"


def _ended(records: list[Any], crossed: list[Any]) -> bool:
    """Keep the crossings; whether the camera says it is at its end."""
    crossed.extend(filter(_is_crossing, records))
    statuses = [r for r in records if dict(r.headers)["ce_type"] == b"io.passerby.camera.status.v1"]
    return any(json.loads(record.value)["state"] == "ended" for record in statuses)


def _report(took: dict[str, float], count: int) -> None:
    print("\nfrom empty to data in Prometheus (README, five steps)")
    for title, seconds in took.items():
        print(f"  {seconds:6.1f} s  {title}")
    print(f"  {count} crossings in the log and in Prometheus")
    out = ROOT / "out/benchmarks"
    out.mkdir(parents=True, exist_ok=True)
    (out / "from_empty.json").write_text(json.dumps({"seconds": took, "crossings": count}, indent=1) + "\n")
