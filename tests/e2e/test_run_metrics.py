"""``passerby run --metrics-port``: what it tells while it works, and that it stops telling when it ends."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_run import PASSERBY
from tests.prometheus_server import free_port
from tests.sources.material import write_clip


def _page(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def test_a_run_tells_what_it_does_until_it_ends(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "street.mp4", frames=2500)
    config = tmp_path / "passerby.yaml"
    source = {"url": str(clip), "mode": "realtime"}
    config.write_text(json.dumps({"counts": {"window_s": 1}, "cameras": {"street": {"source": source}}}))
    port = free_port()
    run = subprocess.Popen(
        [*PASSERBY, "run", "-c", str(config), "--out", str(tmp_path / "out"), "-q", "--metrics-port", str(port)],
        stderr=subprocess.PIPE,
    )
    try:
        told: dict[tuple[str, str], float] = {}
        until_s = time.monotonic() + 120
        while told.get(("passerby_capture_to_event_seconds_count", "street"), 0) < 2 and time.monotonic() < until_s:
            page = _page(port, "/metrics") or ""
            told = {
                (sample.name, sample.labels.get("camera", "")): sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if "cause" not in sample.labels
            }
            assert run.poll() is None, run.communicate()
            time.sleep(0.2)
        assert told["passerby_capture_to_event_seconds_count", "street"] >= 2
        assert told["passerby_camera_up", "street"] == 1
        assert told["passerby_frames_analysed_total", "street"] >= 16
        assert told["passerby_stage_duration_seconds_count", ""] > 0
        assert told["passerby_worker_ready", ""] == 1
        assert (_page(port, "/readyz"), _page(port, "/livez")) == ("ready\n", "alive\n")
    finally:
        run.terminate()
        _, words = run.communicate(timeout=60)
    assert run.returncode == 0, words
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_in_use_is_told_in_one_line_and_before_anything_is_written(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "street.mp4", frames=5)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*PASSERBY, "run", str(clip), "--line", "0,0.5,1,0.5", "--out", str(tmp_path / "out")]
        told = subprocess.run(
            [*command, "--metrics-port", str(port)], capture_output=True, text=True, timeout=120, check=False
        )
    assert told.returncode == 2
    assert [line for line in told.stderr.splitlines() if "INFO" not in line] == [
        f"passerby: --metrics-port {port}: cannot listen there: Address already in use "
        "(choose another port, or 0 for a free one)"
    ]
    assert not (tmp_path / "out").exists()
