"""A real Prometheus and its promtool for tests: Debian's package ``prometheus``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml


def require_prometheus() -> None:
    """Skip where Prometheus is missing; fail where CI promises that it is there."""
    if shutil.which("prometheus") and shutil.which("promtool"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail("Prometheus or promtool is missing, and CI=true says they must be here")
    pytest.skip("Prometheus and promtool (Debian: prometheus) are not here")


def promtool(*arguments: str | Path, given: bytes = b"", cwd: Path | None = None) -> str:
    """Run promtool; its words when it is content, a failed test when it is not."""
    require_prometheus()
    told = subprocess.run(
        ["promtool", *map(str, arguments)], input=given, capture_output=True, check=False, cwd=cwd, timeout=60
    )
    words = (told.stdout + told.stderr).decode()
    assert told.returncode == 0, words
    return words


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PrometheusServer:
    """A real Prometheus that scrapes ``jobs`` (job -> targets) every ``every_s`` and evaluates the given rules."""

    def __init__(
        self, folder: Path, jobs: dict[str, Sequence[str]], rules: Sequence[Path] = (), every_s: float = 1
    ) -> None:
        self._folder = folder
        self._every = f"{round(every_s * 1000)}ms"
        self._jobs = jobs
        self._rules = [str(path) for path in rules]
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        scrapes = [{"job_name": job, "static_configs": [{"targets": list(t)}]} for job, t in self._jobs.items()]
        spans = {"scrape_interval": self._every, "scrape_timeout": self._every, "evaluation_interval": self._every}
        config.write_text(yaml.safe_dump({"global": spans, "rule_files": self._rules, "scrape_configs": scrapes}))
        log = (self._folder / "prometheus.log").open("wb")
        with log:
            self._process = subprocess.Popen(
                [
                    "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn",
                ],
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.stop()
        raise AssertionError((self._folder / "prometheus.log").read_text())

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def ask(self, path: str, **parameters: str | float) -> Any:
        """``data`` of an answer of its API; a failed test when it says no."""
        request = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """The one value of an expression, now; a failed test when it is not one."""
        series = self.query(expression)
        assert len(series) == 1, f"{expression}: {series}"
        return float(series[0]["value"][1])

    def wait_for(self, expression: str, timeout_s: float = 60) -> list[dict[str, Any]]:
        """The series of an expression, as soon as there are any."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if series := self.query(expression):
                return series
            time.sleep(0.3)
        raise AssertionError(f"no data within {timeout_s:g} s: {expression}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
