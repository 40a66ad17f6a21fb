"""The very commands of docker-compose.yml as plain processes, with their own surroundings and health checks.

Where the file says kafka:9092, a worker's name or a container's path, the test says where that is on this machine;
nothing else is changed. Broker, camera and Prometheus are real.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.broker import BrokerMaker
from tests.conftest import ROOT
from tests.deploy.compose import FILE, resolved, stages
from tests.deploy.test_files import JOBS, WORKERS
from tests.prometheus_server import PrometheusServer, free_port, require_prometheus
from tests.rtsp_server import SYSTEM_PYTHON, require_rtsp

pytestmark = [
    pytest.mark.kafka, pytest.mark.rtsp, pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(900)
]  # fmt: skip

_PATIENCE_S = 240.0
# What belongs to the container's network, not to how the broker works.
_NETWORK = re.compile(r"KAFKA_(NODE_ID|PROCESS_ROLES|.*LISTENER.*|CONTROLLER_.*|LOG_DIRS|HEAP_OPTS)$")


def broker_settings(surroundings: dict[str, Any]) -> list[str]:
    """The settings that Kafka's image makes of its environment, as key=value."""
    return [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={value}"
        for name, value in surroundings.items()
        if not _NETWORK.match(name)
    ]


class Containers:
    """Runs services of the compose file as processes; ``address`` says where on this machine each name is."""

    def __init__(self, folder: Path, broker_port: int, stack: ExitStack) -> None:
        self.services: dict[str, dict[str, Any]] = resolved(FILE)["services"]
        self.folder = folder
        self.ports = {name: free_port() for name in (*WORKERS, "camera")}
        self._broker_port = broker_port
        self._stack = stack
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "bin").mkdir()
        (folder / "bin/healthy").symlink_to(ROOT / "deploy/docker/healthy.py")

    def here(self, service: str, word: str) -> str:
        """A word of the file as it is on this machine."""
        word = word.replace("kafka:9092", f"localhost:{self._broker_port}")
        word = word.replace("camera:8554", f"127.0.0.1:{self.ports['camera']}")
        word = word.replace("/usr/local/bin/serve.py", str(ROOT / "deploy/demo-camera/serve.py"))
        return word.replace("9464" if service in WORKERS else "8554", str(self.ports.get(service, "")))

    def surroundings(self, service: str) -> dict[str, str]:
        """Nothing but what the file says, and where programs are."""
        told = self.services[service].get("environment", {})
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.folder)} | {k: self.here(service, str(v)) for k, v in told.items()}

    def command(self, service: str) -> list[str]:
        """ENTRYPOINT of the image, then the file's command or the image's CMD."""
        stage = stages()[self.services[service]["build"]["target"]]
        told = self.services[service].get("command") or stage.command("CMD")
        words = [self.here(service, word) for word in (*stage.command("ENTRYPOINT"), *told)]
        return [SYSTEM_PYTHON, *words[1:]] if words[0] == "python3" else words

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service in a working folder with what the file mounts there."""
        folder = self.folder / service
        folder.mkdir()
        for volume in self.services[service].get("volumes", ()):
            source, target, _ = volume.split(":")
            if target.startswith("/var/lib/passerby/"):
                copy = folder / Path(target).relative_to("/var/lib/passerby")
                shutil.copy(source, copy) if source.startswith("/") else copy.mkdir()
        if service == "camera":
            for clip in (self.folder / "clips").iterdir():
                shutil.copy(clip, folder)
        with (self.folder / f"{service}.log").open("wb") as log:
            command = self.command(service)
            program = shutil.which(command[0], path=self.surroundings(service)["PATH"])
            process = subprocess.Popen(
                [str(program), *command[1:]], cwd=folder, env=self.surroundings(service),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._stack.callback(_kill, process)
        self.running[service] = process
        return process

    def is_healthy(self, service: str) -> bool:
        """Run the image's health check where the service runs."""
        check = stages()[self.services[service]["build"]["target"]].health_check()
        words = [self.here(service, word) for word in check]
        words = [SYSTEM_PYTHON, *words[1:]] if words[0] == "python3" else words
        surroundings = self.surroundings(service)
        program = shutil.which(words[0], path=surroundings["PATH"])
        try:
            done = subprocess.run(
                [str(program), *words[1:]], env=surroundings, capture_output=True, check=False, timeout=20
            )
        except subprocess.TimeoutExpired:  # as an engine sees it
            return False
        return done.returncode == 0

    def logs(self) -> str:
        """The last words of everybody."""
        return "\n".join(
            f"--- {log.stem}\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log")
        )

    def wait(self, what: str, good: Callable[[], Any]) -> None:
        """Return once it is; a failed test when it is not in time, or when a service has ended meanwhile."""
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            ended = [name for name in self.running if name not in JOBS and self.running[name].poll() is not None]
            assert not ended, f"{ended} ended\n{self.logs()}"
            if good():
                return
            time.sleep(0.3)
        raise AssertionError(f"not within {_PATIENCE_S:g} s: {what}\n{self.logs()}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait(20)


@pytest.fixture
def containers(tmp_path: Path, own_broker: BrokerMaker) -> Iterator[Containers]:
    require_rtsp()
    require_prometheus()
    settings = broker_settings(resolved(FILE)["services"]["kafka"]["environment"])
    assert "auto.create.topics.enable=false" in settings
    broker = own_broker(config=settings)
    with ExitStack() as stack:
        yield Containers(tmp_path, broker.port, stack)


def test_the_commands_of_the_compose_file(containers: Containers, tmp_path: Path) -> None:
    film = [sys.executable, str(ROOT / "deploy/demo-camera/film.py"), "--only", "street", "--duration", "12"]
    subprocess.run([*film, "--out", str(tmp_path / "clips")], check=True, timeout=300, stdout=subprocess.DEVNULL)
    for other in ("avenue", "square", "night"):  # one clip does for all: drawing takes its time
        shutil.copy(tmp_path / "clips/street.mp4", tmp_path / f"clips/{other}.mp4")

    kafka_check = containers.services["kafka"]["healthcheck"]["test"][1:]
    here = [word.replace("127.0.0.1/9092", f"127.0.0.1/{containers._broker_port}") for word in kafka_check]
    assert subprocess.run(here, check=False, timeout=20).returncode == 0
    assert subprocess.run(
        [*here[:2], "exec 3<>/dev/tcp/127.0.0.1/9"], check=False, stderr=subprocess.DEVNULL
    ).returncode

    containers.start("camera")
    containers.wait("the camera answers", lambda: containers.is_healthy("camera"))
    for job in JOBS:
        process = containers.start(job)
        assert process.wait(_PATIENCE_S) == 0, containers.logs()
    for worker in WORKERS:
        containers.start(worker)
        assert not containers.is_healthy(worker), "ready before it can be"
    for worker in WORKERS:
        containers.wait(f"{worker} is healthy", lambda worker=worker: containers.is_healthy(worker))

    jobs = {
        job: [f"localhost:{containers.ports[name]}" for name in WORKERS if name.startswith(kind)]
        for job, kind in (("passerby-ingest", "ingest"), ("passerby-infer", "infer"))
    }
    with PrometheusServer(tmp_path / "prometheus", jobs) as prometheus:
        analysed = "count(max by (camera) (passerby_frames_analysed_total) > 16) == 4"
        containers.wait("all four cameras are analysed", lambda: prometheus.query(analysed))
        containers.wait("lines are crossed", lambda: prometheus.query("sum(passerby_objects_crossed_total) > 0"))
        # Scrapes are spread over their interval: the cameras may be seen at work before all workers are.
        up = 'count(up{job=~"passerby-.*"} == 1) == 4'
        containers.wait("all four workers are scraped", lambda: prometheus.query(up))
        assert prometheus.value("sum(passerby_camera_up)") == 4

    # What `docker compose down` does: SIGTERM, and the time that the file gives for draining.
    for worker in WORKERS:
        containers.running[worker].send_signal(signal.SIGTERM)
    for worker in WORKERS:
        grace_s = float(containers.services[worker]["stop_grace_period"].removesuffix("s"))
        assert containers.running[worker].wait(grace_s) == 0, containers.logs()


def test_the_health_check_says_what_is_missing(tmp_path: Path) -> None:
    surroundings = {"PATH": os.environ["PATH"], "PASSERBY_METRICS_PORT": str(free_port())}
    told = subprocess.run(
        [sys.executable, str(ROOT / "deploy/docker/healthy.py")], env=surroundings, capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert told.returncode == 1
    assert "refused" in told.stdout
