"""``passerby models``: what a person types and sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.cli import detect, models
from pipeline.errors import ModelError, UsageError
from pipeline.inference.store import SHIPPED, load_model
from tests.inference.networks import answering, convolving_model, with_external_weights


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    monkeypatch.setenv("COLUMNS", "200")
    table = np.zeros((84, 8), np.float32)
    table[9] = [0.5, 0.5, 0.7, 0.7, 0.9, 0, 0.9, 0]
    (tmp_path / "theirs.onnx").write_bytes(answering({"output": table}))
    return tmp_path


def passerby(*arguments: str) -> Result:
    app = typer.Typer()
    models.register(app)
    detect.register(app)
    return CliRunner().invoke(app, list(arguments))


ADD = ("models", "add", "theirs.onnx", "--family", "yolox", "--name", "mine", "--classes", "person,car,dog")


def test_add_says_what_it_found_and_where_it_is(home: Path) -> None:
    result = passerby(*ADD)
    assert result.exit_code == 0, result.output
    for told in ("images float32 batchx3x64x64", "output float32 batchx84x8", "84 cells of strides [8, 16, 32]"):
        assert told in result.output
    assert "use it with model: mine" in result.output
    assert load_model("mine").manifest.classes == ["person", "car", "dog"]
    assert sorted(each.name for each in (home / "models" / "mine").iterdir()) == ["manifest.yaml", "model.onnx"]


def test_add_to_a_folder_is_usable_by_both_names(home: Path) -> None:
    result = passerby(*ADD, "--to", "elsewhere", "--score-threshold", "0.25", "--nms-iou", "0.45", "--scale", "0-1")
    assert result.exit_code == 0, result.output
    assert "use it with model: elsewhere/mine" in result.output
    thresholds = load_model("elsewhere/mine").manifest.thresholds
    assert load_model("elsewhere").manifest.thresholds == thresholds
    assert (thresholds.score, thresholds.nms_iou) == (0.25, 0.45)
    with pytest.raises(ModelError, match="there is no model 'mine'"):
        load_model("mine")


def test_adding_again_replaces(home: Path) -> None:
    passerby(*ADD)
    assert passerby(*ADD, "--version", "2").exit_code == 0
    assert load_model("mine").manifest.version == "2"


@pytest.mark.parametrize(
    "data", [b"text", with_external_weights("x.bin"), answering({"output": np.zeros((9, 9), np.float32)})]
)
def test_what_cannot_work_leaves_nothing_behind(data: bytes, home: Path) -> None:
    (home / "theirs.onnx").write_bytes(data)
    result = passerby(*ADD)
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 2
    assert str(result.exception).startswith("theirs.onnx: ")
    assert not (home / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--classes", "person,,dog"), "holds an empty name"),
        (("--shapes", "64by64"), "'64by64' is not WIDTHxHEIGHT"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(arguments: tuple[str, ...], said: str, home: Path) -> None:
    result = passerby(*ADD, *arguments)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)


def test_list_shows_what_a_name_finds_and_warns_of_what_is_broken(home: Path) -> None:
    passerby(*ADD)
    convolving_model(home / "promoted" / "tiny")
    (home / "models" / "broken").mkdir()
    (home / "models" / "broken" / "manifest.yaml").write_text("name: [")
    result = passerby("models", "list")
    assert result.exit_code == 0
    assert "mine" in result.stdout
    assert "tiny" in result.stdout
    assert "64x64 (" in result.stdout
    assert "warning: models/broken/manifest.yaml" in result.stderr


def test_no_name_in_the_list_is_cut_short(home: Path) -> None:
    listed = passerby("models", "list").stdout
    for path in SHIPPED.iterdir():
        assert f"{path.name} " in listed


def test_list_says_so_when_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.inference.store.SHIPPED", home / "nothing")
    result = passerby("models", "list")
    assert result.exit_code == 0
    assert "no model in models, " in result.stdout


def test_a_card_that_is_missing_is_said(home: Path) -> None:
    convolving_model(home / "models" / "tiny", card="card.md")
    result = passerby("models", "inspect", "tiny")
    assert result.exit_code == 0
    assert "its card models/tiny/card.md is missing" in result.stderr


def test_inspect_shows_the_manifest_and_the_card(home: Path) -> None:
    convolving_model(home / "models" / "tiny", card="card.md")
    (home / "models" / "tiny" / "card.md").write_text("# Tiny\n\nTrained on *noise*.\n")
    result = passerby("models", "inspect", "tiny")
    assert result.exit_code == 0, result.output
    for told in ("yolox", "64x64", "score 0.3, low 0.2", "person, car, dog", "Trained on noise."):
        assert told in result.stdout


def test_inspect_refuses_a_changed_file(home: Path) -> None:
    path = convolving_model(home / "models" / "tiny").path
    path.write_bytes(path.read_bytes() + b"\x08\x09")
    result = passerby("models", "inspect", "tiny")
    assert isinstance(result.exception, ModelError)
    assert "sha256" in str(result.exception)


def test_promote_makes_a_model_findable_by_name(home: Path) -> None:
    passerby(*ADD, "--to", "elsewhere")
    result = passerby("models", "promote", "elsewhere/mine", "--without-gate")
    assert result.exit_code == 0, result.output
    assert "use it with model: mine" in result.output
    assert load_model("mine").folder == home / "promoted" / "mine"
    again = passerby("models", "promote", "mine")
    assert isinstance(again.exception, UsageError)
    assert "promoted already" in str(again.exception)


def test_every_command_has_an_example() -> None:
    for command in ("add", "list", "inspect", "promote"):
        assert f"passerby models {command}" in passerby("models", command, "--help").output
