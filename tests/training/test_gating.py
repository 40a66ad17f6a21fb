"""What ``passerby-train evaluate`` writes of classifiers and scene models is what ``passerby models promote`` reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import typer
from typer.testing import CliRunner, Result

from pipeline.cli import models
from pipeline.encoding import VideoWriter
from pipeline.errors import ConfigError, ModelError, UsageError
from pipeline.inference.store import Model
from tests.inference.networks import answering, kept, manifest_for
from tests.inference.scene_networks import head, scene_model
from training.cli import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    return tmp_path


def train(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def promote(*arguments: object) -> Result:
    passerby = typer.Typer()
    models.register(passerby)
    return CliRunner().invoke(passerby, ["models", "promote", *(str(each) for each in arguments)])


def saying(folder: Path, day: float) -> Model:
    """A classifier that calls every picture day with this probability."""
    answer = {"probabilities": np.array([day, 1 - day], np.float32)}
    data = answering(answer, ("batch", 32, 48, 3), dtype="uint8", name="image")
    shapes = [{"width": 48, "height": 32}]
    told = {"name": "image", "layout": "nhwc", "dtype": "uint8", "resize": "stretch", "shapes": shapes}
    manifest = manifest_for(
        data, name=folder.name, task="classification", family="classifier", nms="none", input=told,
        outputs={"probabilities": "probabilities"}, classes=["day", "night"],
    )  # fmt: skip
    return kept(folder, data, manifest)


def test_classifiers_from_pictures_to_the_gate(home: Path) -> None:
    for scene in range(6):
        label = "day" if scene < 3 else "night"
        path = home / "pictures" / label / f"s{scene}" / "0.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.random.default_rng(scene).integers(0, 255, (40, 60, 3), np.uint8))
    before, ours = saying(home / "models" / "before", 0.9), saying(home / "models" / "ours", 0.8)
    worse = saying(home / "models" / "worse", 0.2)
    told = train("evaluate", ours.folder, worse.folder, before.folder, "--data", "pictures", "--everything",
                 "--out", "scores.json")  # fmt: skip
    assert told.exit_code == 0, told.output
    written = json.loads((home / "scores.json").read_text("utf-8"))
    assert [each["sha256"] for each in written] == [each.manifest.sha256 for each in (ours, worse, before)]
    assert [each["scene_accuracy"] for each in written] == [0.5, 0.5, 0.5]
    refused = promote("worse", "--present", "before", "--gate", "scores.json")
    assert isinstance(refused.exception, ModelError)
    assert "class day: 0.000, before 1.000: worse by more than 0.01" in str(refused.exception)
    passed = promote("ours", "--present", "before", "--gate", "scores.json")
    assert passed.exit_code == 0, passed.output
    assert (home / "promoted" / "ours" / "model.onnx").read_bytes() == ours.read()


def red_clip(path: Path, red: int) -> None:
    """Two and a half seconds, with something that moves."""
    with VideoWriter(path, 160, 96, 8.0) as writer:
        for n in range(20):
            picture = np.full((96, 160, 3), 16, np.uint8)
            picture[..., 0] = red
            picture[30:50, 4 * n : 4 * n + 20, 2] = 200
            writer.write(picture, n / 8)


def test_scene_models_from_clips_to_the_gate(home: Path) -> None:
    rows = ["file,label,scene_group"]
    (home / "clips").mkdir()
    for k in range(4):
        red_clip(home / "clips" / f"{k}.mp4", 230 if k < 2 else 60)
        rows.append(f"clips/{k}.mp4,{'fight' if k < 2 else 'none'},{k}")
    (home / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    before = scene_model(home / "models" / "fights")
    blind = scene_model(home / "models" / "blind", name="blind", head_data=head(factor=0.0))
    ours = scene_model(home / "models" / "fights-2", name="fights-2", head_data=head(factor=0.9))
    told = train("evaluate", "fights-2", "blind", "fights", "--data", "clips.csv", "--out", "scores.json")
    assert told.exit_code == 0, told.output
    assert "| fights-2 1 | fight | 2 / 2 | 1.000 | 1.000 |" in told.output
    assert "| blind 1 | fight | 2 / 2 | 0.500 | 0.500 |" in told.output
    assert "fall" not in told.output, "no clip shows it"
    refused = promote("blind", "--present", "fights", "--gate", "scores.json")
    assert isinstance(refused.exception, ModelError)
    assert "fight, AUC: 0.500, before 1.000" in str(refused.exception)
    passed = promote("fights-2", "--present", "fights", "--gate", "scores.json")
    assert passed.exit_code == 0, passed.output
    assert (home / "promoted" / "fights-2" / "head.onnx").read_bytes() == (ours.folder / "head.onnx").read_bytes()
    assert blind.sha256 != before.sha256


def test_what_cannot_be_scored_is_told(home: Path) -> None:
    scene_model(home / "models" / "fights")
    mixed = train("evaluate", "fights", "passerby-daylight")
    assert isinstance(mixed.exception, UsageError)
    assert "models for classification and for scene are not scored together" in str(mixed.exception)
    (home / "clips").mkdir()
    red_clip(home / "clips" / "0.mp4", 99)
    (home / "clips.csv").write_text("file,label\nclips/0.mp4,quarrel\n", encoding="utf-8")
    none = train("evaluate", "fights", "--data", "clips.csv")
    assert isinstance(none.exception, ConfigError)
    assert "none of its clips shows fight, fall" in str(none.exception)
