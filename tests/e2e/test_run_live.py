"""``passerby run`` on live cameras: one that stays, one that is killed and comes back, one that never answers."""

from __future__ import annotations

import json
import subprocess
import time
from itertools import groupby
from pathlib import Path

import pytest
import yaml

from tests.e2e.test_run import PASSERBY, lines_of
from tests.rtsp_server import RtspServer, require_rtsp

pytestmark = [pytest.mark.rtsp, pytest.mark.timeout(240)]
PASSWORD = "canary-4711"


def test_a_camera_that_dies_comes_back_alone_and_every_frame_has_its_fate(tmp_path: Path) -> None:
    require_rtsp()
    with RtspServer() as steady, RtspServer("--user", "viewer", "--password", PASSWORD) as dying:
        source = {"open_timeout_s": 3, "stall_timeout_s": 1.5, "retry_initial_s": 0.2, "retry_max_s": 1}
        config = tmp_path / "passerby.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "source": source,
                    "counts": {"window_s": 2},
                    "condition": {"kinds": []},  # a small ball on black is a black picture
                    "cameras": {
                        "steady": {"source": steady.url()},
                        "dying": {"source": dying.url(f"viewer:{PASSWORD}")},
                        "nobody": {"source": "rtsp://127.0.0.1:9/cam"},
                    },
                }
            ),
            encoding="utf-8",
        )
        out = tmp_path / "out"
        process = subprocess.Popen(
            [*PASSERBY, "run", "-c", str(config), "--out", str(out), "--stop-after", "24", "--log-format", "json"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        _wait_for(out / "events.jsonl", '"subject":"dying"')
        dying.kill()
        _wait_for(out / "events.jsonl", '"state":"down"', subject="dying")
        dying.start()
        words, _ = process.communicate(timeout=120)
    assert process.returncode == 0, words
    events = lines_of(out / "events.jsonl")
    states = {
        name: [(e["data"]["state"], e["data"]["epoch"]) for e in events if e["subject"] == name]
        for name in ("steady", "dying", "nobody")
    }
    assert states["steady"][0][0] == "up"
    assert ("down", 1) not in states["steady"]
    # "down" is told again when its reason changes (vanished, then refused).
    assert [state for state, _ in groupby(state for state, _ in states["dying"])][:3] == ["up", "down", "up"]
    epochs_up = [epoch for state, epoch in states["dying"] if state == "up"]
    assert epochs_up == sorted(set(epochs_up))
    assert {state for state, _ in states["nobody"]} == {"down"}
    ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
    assert all(account["balanced"] and account["in_flight"] == 0 for account in ledger["cameras"].values())
    assert set(ledger["cameras"]["steady"]["dropped"]) <= {"shutdown"}
    assert ledger["cameras"]["nobody"]["captured"] == 0
    told = words + "".join(path.read_text(encoding="utf-8") for path in out.glob("*.*"))
    assert PASSWORD not in told


def _wait_for(path: Path, text: str, subject: str = "", timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if path.exists() and any(
            text in line and subject in line for line in path.read_text(encoding="utf-8").splitlines()
        ):
            return
        time.sleep(0.1)
    pytest.fail(f"{text} of {subject or 'any camera'} did not come within {timeout_s:.0f} s")
