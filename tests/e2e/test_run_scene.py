"""``passerby run`` with a scene model: events with start, update and end, the same at any number of threads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_config
from pipeline.core.events import SCENE_EVENT
from pipeline.services.run import RunOptions, run
from tests.cli.test_scene import red_clip
from tests.inference.scene_networks import scene_model

CONFIG = """
inference: {{threads: {threads}}}
output: {{report: true}}
scene: {{model: tiny-scene}}
cameras:
  hall: {{source: clip.mp4, start: 2026-01-01T08:00:00Z}}
  yard: {{source: clip.mp4, start: 2026-01-01T08:00:00Z, scene: {{kinds: []}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    red_clip(folder / "clip.mp4", [20, 20, 190, 190, 230, 230, 60, 20, 20])
    scene_model(folder / "tiny-scene", kinds={"fight": {"start": 0.6, "end": 0.4}, "fall": {"start": 0.9}})
    return folder


def _run(folder: Path, out: Path, threads: int) -> tuple[bytes, list[dict[str, Any]]]:
    path = folder / f"passerby-{threads}.yaml"
    path.write_text(CONFIG.format(threads=threads), encoding="utf-8")
    assert run(load_config(path, {}), RunOptions(out, live_view=False)).exit_code == 0
    data = (out / "events.jsonl").read_bytes()
    events = [json.loads(line) for line in data.splitlines()]
    return data, [e for e in events if e["type"] == SCENE_EVENT and e["data"]["kind"] in ("fight", "fall")]


def test_scene_events_of_a_clip(folder: Path, tmp_path: Path) -> None:
    first, told = _run(folder, tmp_path / "one", 1)
    assert {event["subject"] for event in told} == {"hall"}, "the other camera switched it off"
    assert [event["data"]["phase"] for event in told] == ["start", "update", "end"]
    start, _, end = (event["data"] for event in told)
    assert start["started_at"][:19] in ("2026-01-01T08:00:01", "2026-01-01T08:00:02")
    assert end["ended_at"] > start["started_at"]
    assert end["score"] == pytest.approx(0.9, abs=0.05)
    assert len(end["attention"]) == len(end["provenance"]["frames"]) == 16
    assert sum(end["attention"]) == pytest.approx(1, abs=1e-4)
    assert end["provenance"]["model"] == "tiny-scene"
    report = (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert "fight: end (score 0.9" in report
    second, _ = _run(folder, tmp_path / "three", 3)
    assert first == second
