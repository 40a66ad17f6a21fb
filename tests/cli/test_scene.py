"""``passerby scene`` and scene models among ``passerby models``, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli import build
from pipeline.encoding import VideoWriter
from pipeline.errors import PasserbyError
from tests.inference.scene_networks import scene_model

FPS = 25.0


def red_clip(path: Path, reds: list[int], per_red_s: float = 1.0) -> Path:
    """A clip whose pictures are more or less red; a square moves about in it."""
    frames = round(per_red_s * FPS)
    with VideoWriter(path, 320, 180, FPS) as writer:
        for n in range(frames * len(reds)):
            picture = np.full((180, 320, 3), 16, np.uint8)
            picture[..., 0] = reds[n // frames]
            x = 20 + n * 2 % 240
            picture[60:100, x : x + 40, 2] = 220
            writer.write(picture, n / FPS)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kinds = {"fight": {"start": 0.6, "end": 0.4}, "fall": {"start": 0.01, "persons": 9}}
    return scene_model(tmp_path_factory.mktemp("model") / "tiny-scene", kinds=kinds).folder


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_scores_and_events_of_clips(model: Path, tmp_path: Path) -> None:
    red_clip(tmp_path / "a.mp4", [20, 20, 230, 230, 230, 20, 20, 20])
    red_clip(tmp_path / "b.mp4", [20, 20, 20])
    out = tmp_path / "scores.jsonl"
    result = CliRunner().invoke(build(), ["scene", str(tmp_path), "--model", str(model), "--out", str(out), "-q"])
    assert result.exit_code == 0, result.output
    first, second = _lines(out)
    assert first["path"] == str(tmp_path / "a.mp4")
    assert first["windows"] == 7
    assert first["scores"]["fight"] == pytest.approx(0.9, abs=0.05)
    assert first["scores"]["fall"] > 0.05, "before gates"
    (event,) = first["events"]
    assert event["kind"] == "fight"
    assert (event["start_s"], event["end_s"]) == (pytest.approx(2.0, abs=0.1), pytest.approx(5.9, abs=0.1))
    assert (second["windows"], second["events"]) == (2, [])


@pytest.mark.parametrize(("seconds", "windows"), [(0.9, 0), (1.3, 1), (1.99, 1), (3.1, 2)])
def test_a_short_file_is_one_clip_whose_last_frame_is_repeated(
    model: Path, tmp_path: Path, seconds: float, windows: int
) -> None:
    clip = red_clip(tmp_path / "short.mp4", [200], seconds)
    out = tmp_path / "scores.jsonl"
    result = CliRunner().invoke(build(), ["scene", str(clip), "--model", str(model), "--out", str(out), "-q"])
    assert result.exit_code == 0, result.output
    (line,) = _lines(out)
    assert line["windows"] == windows
    assert line["scores"]["fight"] == pytest.approx(0.78 if windows else 0, abs=0.05)


def test_what_cannot_be_read_is_named_and_the_rest_is_written(model: Path, tmp_path: Path) -> None:
    red_clip(tmp_path / "good.mp4", [20, 20])
    (tmp_path / "bad.mp4").write_text("not a video", encoding="utf-8")
    out = tmp_path / "scores.jsonl"
    result = CliRunner().invoke(build(), ["scene", str(tmp_path), "--model", str(model), "--out", str(out), "-q"])
    assert result.exit_code == 3
    assert [Path(line["path"]).name for line in _lines(out)] == ["good.mp4"]


@pytest.mark.parametrize(
    ("model_told", "said"),
    [("no-such-scene", "no model 'no-such-scene'"), ("passerby-nano", "looks at single pictures")],
)
def test_a_model_that_is_none_is_one_clear_line(tmp_path: Path, model_told: str, said: str) -> None:
    clip = red_clip(tmp_path / "a.mp4", [20])
    result = CliRunner().invoke(build(), ["scene", str(clip), "--model", model_told, "--out", "-", "-q"])
    assert isinstance(result.exception, PasserbyError)
    assert said in str(result.exception)
    assert result.exception.exit_code == 2


def test_models_inspect_and_list_know_scene_models(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    shown = CliRunner().invoke(build(), ["models", "inspect", str(model)])
    assert shown.exit_code == 0, shown.output
    for words in ("16 frames, 0.125 s apart", "kind fight", "begins at 0.6 in 2 clips in a row, ends below 0.4",
                  "9 people in 25%", "motion, 0.5 x 0.5 of the picture"):  # fmt: skip
        assert words in shown.output
    monkeypatch.setenv("PASSERBY_MODELS", str(model.parent))
    listed = CliRunner().invoke(build(), ["models", "list"])
    assert "tiny-scene" in listed.output
    assert "fight, fall" in listed.output
    (model / "head.onnx").rename(tmp_path / "head.onnx")
    try:
        broken = CliRunner().invoke(build(), ["models", "inspect", str(model)])
    finally:
        (tmp_path / "head.onnx").rename(model / "head.onnx")
    assert isinstance(broken.exception, PasserbyError)
    assert "head.onnx: there is no such file" in str(broken.exception)
