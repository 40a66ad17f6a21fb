"""The loop closes: harvest, training reads it, the gate decides, the promoted model makes the next events."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from pipeline.cli import build
from pipeline.errors import UsageError
from pipeline.inference.store import Model, keep_model, load_model

pytest.importorskip("torch")
from training import evaluate
from training.datasets import CLASSES, DataSpec, Sample, read_data_spec, read_samples

CONFIG = """
sample_fps: 2
model: {model}
output: {{report: false}}
cameras:
  gate:
    source: synthetic://street?seed=3&duration=12&width=640&height=360
    masks: [[[0, 0], [0.45, 0], [0.45, 1], [0, 1]]]
    lines: {{kerb: {{points: [[0, 0.6], [1, 0.6]]}}}}
  yard:
    source: synthetic://street?seed=5&duration=12&width=640&height=360
    lines: {{kerb: {{points: [[0, 0.6], [1, 0.6]]}}}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "passerby.yaml").write_text(CONFIG.format(model="passerby-nano"), "utf-8")
    return tmp_path


def passerby(*arguments: str) -> Result:
    return CliRunner().invoke(build(), list(arguments))


def trained_copy(folder: Path) -> Model:
    """What a training run would give: other bytes, which happen to say the same."""
    shipped = load_model("passerby-nano")
    network = onnx.load_model_from_string(shipped.read())
    network.doc_string = "trained further"
    data = network.SerializeToString()
    manifest = shipped.manifest.model_copy(
        update={"name": "street-2", "version": "2", "sha256": hashlib.sha256(data).hexdigest()}
    )
    card = (shipped.folder / str(shipped.manifest.card)).read_text("utf-8")
    return keep_model(data, manifest, card, folder / "street-2")


def scored(models: list[Model], samples: list[Sample], spec: DataSpec) -> str:
    """What ``passerby-train evaluate --out`` writes, in one view and without measuring time."""
    pictures = [evaluate.picture_of(each, spec, "as it is") for each in samples]
    scores = []
    for model in models:
        one = evaluate.Contender(model.name, model, (416, 256))
        found = evaluate.detect_all(one.detector(evaluate.MIN_SCORE), pictures)
        scores.append(evaluate.score_found(one, "as it is", pictures, found, 1.0).as_dict())
    return json.dumps(scores)


def test_from_doubt_to_the_next_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = home / "said.jsonl"
    line = {"camera": "gate", "time": "1970-01-01T00:00:06Z", "verdict": "missed: car", "bbox": [0.6, 0.5, 0.8, 0.7]}
    said.write_text(json.dumps(line), "utf-8")
    options = ("harvest", "-c", "passerby.yaml", "--offline", "--per-hour", "1800")
    result = passerby(*options, "--corrections", str(said), "--teacher", "passerby-nano", "--out", "harvest")
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((home / "harvest" / "manifest.csv").read_text("utf-8").splitlines()))
    assert {row["camera"] for row in rows} == {"gate", "yard"}
    assert any(row["reason"] == "missed" for row in rows)
    for row in rows:
        picture = np.asarray(Image.open(home / "harvest" / row["file"]))
        left = picture[:, : round(0.45 * picture.shape[1])]
        assert (left.max() == 0) == (row["camera"] == "gate"), "the mask is black to its last pixel"
    again = passerby(*options, "--out", "harvest")
    assert isinstance(again.exception, UsageError)

    spec = read_data_spec(home / "harvest" / "data.yaml")
    samples = read_samples(spec)
    told = {row["file"]: row for row in rows if row["labelled_classes"]}
    assert {str(each.path.relative_to(home / "harvest")) for each in samples} == set(told)
    for each in samples:
        row = told[str(each.path.relative_to(home / "harvest"))]
        assert len(each.boxes) == int(row["boxes"])
        known = [name for name, is_known in zip(CLASSES, each.known, strict=True) if is_known]
        assert known == row["labelled_classes"].split()
    (missed,) = [each for each in samples if told[str(each.path.relative_to(home / "harvest"))]["reason"] == "missed"]
    assert any(np.allclose(box, [0.6, 0.5, 0.8, 0.7], atol=1e-4) for box in missed.boxes)

    candidate = trained_copy(home / "models")
    monkeypatch.setattr(evaluate, "MIN_PICTURES", 1)
    whole = [each for each in samples if len(each.boxes)]
    (home / "scores.json").write_text(scored([candidate, load_model("passerby-nano")], whole, spec), "utf-8")
    assert passerby("models", "promote", "models/street-2").exit_code != 0
    promoted = passerby("models", "promote", "models/street-2", "--gate", "scores.json")
    assert promoted.exit_code == 0, promoted.output
    (home / "next.yaml").write_text(CONFIG.format(model="street-2"), "utf-8")
    (home / "models").rename(home / "elsewhere")
    assert passerby("run", "-c", "next.yaml", "--out", "out", "--quiet").exit_code == 0
    counts = [json.loads(line) for line in (home / "out" / "counts.jsonl").read_text("utf-8").splitlines()]
    assert counts
    for each in counts:
        provenance = each["data"]["provenance"]
        assert (provenance["model"], provenance["model_sha256"]) == ("street-2", candidate.manifest.sha256)


def test_calls_that_cannot_work_are_told(home: Path) -> None:
    for arguments, told in (
        (("clip.mp4", "-c", "passerby.yaml"), "VIDEO and -c cannot go together"),
        (("--offline",), "--offline wants -c"),
        (("-c", "passerby.yaml", "--offline", "--camera", "gaet"), "has no such camera"),
        (("-c", "passerby.yaml", "--model", "passerby-nano"), "--model is for VIDEO"),
    ):
        result = passerby("harvest", *arguments, "--out", "new")
        assert isinstance(result.exception, UsageError), result.output
        assert told in str(result.exception)
        assert sorted(path.name for path in home.iterdir()) == ["passerby.yaml"], "nothing is left over"


def test_a_stream_is_not_a_recording(home: Path) -> None:
    result = passerby("harvest", "rtsp://gate.example/stream", "--out", "new")
    assert isinstance(result.exception, UsageError)
    assert "is a stream, not a recording" in str(result.exception)
