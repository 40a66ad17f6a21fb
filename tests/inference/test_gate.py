"""The gate of ``passerby models promote``: a model takes another's place only when it was shown not to be worse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.cli import models
from pipeline.errors import ModelError, UsageError
from pipeline.inference.gate import judge, parity_of
from pipeline.inference.store import Model, keep_model, load_model
from tests.inference.networks import convolving_model

PARITY = "# tiny\n\n## Parity\n\nONNX Runtime and torch differ\nby at most 0.001.\n\n## Thresholds\n\nscore 0.4\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def candidate(home: Path) -> Model:
    """A model with a card that states its parity."""
    made = convolving_model(home / "made" / "tiny")
    manifest = made.manifest.model_copy(update={"card": "card.md", "version": "2"})
    return keep_model(made.read(), manifest, PARITY, home / "models" / "tiny-2")


def score(model: Model, *, person: float, vehicle: float, **other: Any) -> dict[str, Any]:
    """As ``passerby-train evaluate --out`` writes it (training.evaluate.Score.as_dict)."""
    return {
        "model": model.name, "shape": [416, 256], "view": "16:9", "mean": {"person": person, "vehicle": vehicle},
        "by_kind": {}, "pictures": {"person": {"coco": 40}, "vehicle": {"coco": 30}}, "cost_ms": 9.0,
        "version": model.manifest.version, "sha256": model.manifest.sha256, **other,
    }  # fmt: skip


def written(home: Path, *scores: dict[str, Any]) -> Path:
    path = home / "scores.json"
    path.write_text(json.dumps(scores), encoding="utf-8")
    return path


def passerby(*arguments: str) -> Result:
    app = typer.Typer()
    models.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_what_is_not_worse_is_promoted(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    path = written(home, score(candidate, person=0.70, vehicle=0.745), score(shipped, person=0.68, vehicle=0.75))
    result = passerby("models", "promote", str(candidate.folder), "--gate", str(path))
    assert result.exit_code == 0, result.output
    assert "16:9, 416x256, person: 0.700, before 0.680 (+0.020)" in result.output
    assert "parity: ONNX Runtime and torch differ by at most 0.001." in result.output
    assert load_model(candidate.name, [home / "promoted"]).manifest.sha256 == candidate.manifest.sha256


def test_what_is_worse_in_one_group_is_refused(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    path = written(home, score(candidate, person=0.80, vehicle=0.735), score(shipped, person=0.68, vehicle=0.75))
    result = passerby("models", "promote", str(candidate.folder), "--gate", str(path))
    assert isinstance(result.exception, ModelError)
    assert "vehicle: 0.735, before 0.750: worse by more than 0.01" in str(result.exception)
    assert "person" not in str(result.exception)
    assert not (home / "promoted").exists()
    wider = passerby("models", "promote", str(candidate.folder), "--gate", str(path), "--margin", "0.02")
    assert wider.exit_code == 0, wider.output


def test_exactly_the_margin_is_not_more_than_it(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    path = written(home, score(candidate, person=0.5, vehicle=0.25), score(shipped, person=0.75, vehicle=0.25))
    assert judge(path, candidate, shipped, 0.25).refusals == ()
    assert len(judge(path, candidate, shipped, 0.24).refusals) == 1


def test_without_a_comparison_it_is_refused(home: Path, candidate: Model) -> None:
    result = passerby("models", "promote", str(candidate.folder))
    assert isinstance(result.exception, UsageError)
    assert "nothing shows that" in str(result.exception)
    assert "passerby-train evaluate" in result.exception.mend
    assert not (home / "promoted").exists()


def test_the_present_model_is_the_one_that_has_the_name(home: Path, candidate: Model) -> None:
    """Not the shipped one, once a model of that name is promoted."""
    network = onnx.load_model_from_string(candidate.read())
    network.doc_string = "the one before"
    data = network.SerializeToString()
    manifest = candidate.manifest.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "version": "1"})
    before = keep_model(data, manifest, PARITY, home / "promoted" / candidate.name)
    shipped = score(load_model("passerby-nano"), person=0.4, vehicle=0.4)
    path = written(home, score(candidate, person=0.5, vehicle=0.5), shipped)
    refused = passerby("models", "promote", str(candidate.folder), "--gate", str(path))
    assert "holds no score of tiny 1" in str(refused.exception)
    assert load_model("tiny", [home / "promoted"]).read() == before.read()
    written(home, score(candidate, person=0.5, vehicle=0.5), score(before, person=0.5, vehicle=0.5), shipped)
    passed = passerby("models", "promote", str(candidate.folder), "--gate", str(path))
    assert passed.exit_code == 0, passed.output
    assert load_model("tiny", [home / "promoted"]).manifest.version == "2"


def test_scores_of_another_file_do_not_count(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    other = score(candidate, person=0.9, vehicle=0.9, sha256="0" * 64)
    with pytest.raises(ModelError, match="holds no score of"):
        judge(written(home, other, score(shipped, person=0.1, vehicle=0.1)), candidate, shipped, 0.01)
    nameless = {key: value for key, value in other.items() if key != "sha256"}
    with pytest.raises(ModelError, match="holds no score of"):
        judge(written(home, nameless, score(shipped, person=0.1, vehicle=0.1)), candidate, shipped, 0.01)


def test_other_pictures_or_another_input_are_no_comparison(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    ours = score(candidate, person=0.9, vehicle=0.9)
    fewer = score(shipped, person=0.1, vehicle=0.1, pictures={"person": {"coco": 39}, "vehicle": {"coco": 30}})
    with pytest.raises(ModelError, match="not scored on the same pictures"):
        judge(written(home, ours, fewer), candidate, shipped, 0.01)
    larger = score(shipped, person=0.1, vehicle=0.1, shape=[544, 320])
    with pytest.raises(ModelError, match="not scored at one input"):
        judge(written(home, ours, larger), candidate, shipped, 0.01)


def test_a_group_without_truth_is_left_out_and_one_that_lost_its_figure_is_not(home: Path, candidate: Model) -> None:
    shipped, nan = load_model("passerby-nano"), float("nan")
    ours, theirs = score(candidate, person=0.9, vehicle=nan), score(shipped, person=0.8, vehicle=nan)
    gate = judge(written(home, ours, theirs), candidate, shipped, 0.01)
    assert [each.figure for each in gate.compared] == ["person"]
    assert gate.refusals == ()
    theirs["mean"]["vehicle"] = 0.5
    assert len(judge(written(home, ours, theirs), candidate, shipped, 0.01).refusals) == 1


def test_a_model_trained_here_must_state_its_parity(home: Path, candidate: Model) -> None:
    shipped = load_model("passerby-nano")
    (candidate.folder / "card.md").write_text("# tiny\n\nNothing of it.\n", encoding="utf-8")
    path = written(home, score(candidate, person=0.9, vehicle=0.9), score(shipped, person=0.1, vehicle=0.1))
    ours = Model(candidate.manifest.model_copy(update={"family": "passerby"}), candidate.folder, candidate.path)
    assert judge(path, ours, shipped, 0.01).refusals == ("its card states no parity of ONNX and torch",)
    assert candidate.manifest.family == "yolox"
    brought = judge(path, candidate, shipped, 0.01)
    assert (brought.refusals, brought.parity) == ((), "not stated: it was not trained here")


@pytest.mark.parametrize("name", ["passerby-nano", "passerby-small", "passerby-falls"])
def test_the_shipped_cards_state_their_parity(name: str) -> None:
    told = parity_of(load_model(name))
    assert told is not None
    assert told.startswith("ONNX Runtime and torch differ by at most 0.001 in a score and 0.1 px in a box")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"model": "x"}]', '[{"shape": "ab", "mean": {}}]'])
def test_a_file_that_holds_no_scores_is_told(home: Path, candidate: Model, text: str) -> None:
    (home / "scores.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"scores\.json"):
        judge(home / "scores.json", candidate, load_model("passerby-nano"), 0.01)
