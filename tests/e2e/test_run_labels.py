"""``passerby run`` with a classifier: day, then night, the same at any number of threads; and what cannot run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import build
from pipeline.config import load_config
from pipeline.core.events import SCENE_EVENT
from pipeline.errors import ConfigError, ModelError
from pipeline.services.run import RunOptions, run
from tests.inference.classifier_networks import brightness_classifier, day_and_night_clip

CONFIG = """
inference: {{threads: {threads}}}
condition: {{kinds: []}}
labels: {{model: light, every_s: 0.5}}
cameras:
  yard: {{source: clip.mp4, start: 2026-01-01T08:00:00Z}}
  hall: {{source: clip.mp4, start: 2026-01-01T08:00:00Z, labels: {{kinds: []}}}}
  gate: {{source: clip.mp4, start: 2026-01-01T08:00:00Z, labels: {{kinds: [night], votes: 2}}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    day_and_night_clip(folder / "clip.mp4")
    brightness_classifier(folder / "light")
    return folder


def _run(folder: Path, out: Path, threads: int) -> tuple[bytes, list[dict[str, Any]]]:
    path = folder / f"passerby-{threads}.yaml"
    path.write_text(CONFIG.format(threads=threads), encoding="utf-8")
    assert run(load_config(path, {}), RunOptions(out, live_view=False)).exit_code == 0
    data = (out / "events.jsonl").read_bytes()
    return data, [event for line in data.splitlines() if (event := json.loads(line))["type"] == SCENE_EVENT]


def test_day_turns_into_night(folder: Path, tmp_path: Path) -> None:
    first, told = _run(folder, tmp_path / "one", 1)
    of = {camera: [e["data"] for e in told if e["subject"] == camera] for camera in ("yard", "hall", "gate")}
    phases = {camera: [(data["kind"], data["phase"]) for data in found] for camera, found in of.items()}
    day, night = [("day", "start"), ("day", "end")], [("night", "start"), ("night", "end")]
    assert phases == {"yard": day + night, "hall": [], "gate": night}
    day_end, night_start = of["yard"][1:3]
    assert "2026-01-01T08:00:03" < day_end["ended_at"] < "2026-01-01T08:00:04"
    assert "2026-01-01T08:00:06" <= night_start["started_at"] < "2026-01-01T08:00:06.6"
    assert night_start["provenance"]["model"] == "light"
    assert (night_start["attention"], len(night_start["provenance"]["frames"])) == ([1.0], 1)
    assert len({event["id"] for event in told}) == len(told)
    assert "night: start (score 1.00)" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    second, _ = _run(folder, tmp_path / "three", 3)
    assert first == second


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        ("model: passerby-nano", ModelError, "its task is detection: it gives no label"),
        ("model: light, kinds: [dusk]", ConfigError, "knows no class 'dusk'"),
    ],
)
def test_what_cannot_judge_is_refused_before_anything_runs(
    folder: Path, tmp_path: Path, labels: str, error: type[Exception], said: str
) -> None:
    path = folder / "wrong.yaml"
    path.write_text(f"cameras: {{yard: {{source: clip.mp4, labels: {{{labels}}}}}}}\n", encoding="utf-8")
    with pytest.raises(error, match=said):
        run(load_config(path, {}), RunOptions(tmp_path / "out", live_view=False))
    refused = CliRunner().invoke(build(), ["check", "-c", str(path), "--no-open"])
    assert refused.exit_code == 2
