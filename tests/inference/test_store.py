"""Finding a model by name or folder, and refusing what is not what its manifest says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import ModelError
from pipeline.inference.models import copy_model
from pipeline.inference.store import (
    SHIPPED,
    default_search,
    keep_model,
    list_models,
    load_model,
    promoted_folder,
)
from tests.inference.networks import convolving, convolving_model, kept, manifest_for, with_external_weights


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without models, and a place of its own for promoted ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    return tmp_path


def test_a_folder_is_a_model(home: Path) -> None:
    convolving_model(home / "here")
    assert load_model(home / "here").path == home / "here" / "model.onnx"
    assert load_model("here").name == "tiny"


def test_a_folder_that_holds_one_model_is_that_model(home: Path) -> None:
    convolving_model(home / "all" / "one")
    assert load_model("all").folder.name == "one"
    convolving_model(home / "all" / "two")
    with pytest.raises(ModelError, match=r"all: holds 2 models .*one, .*two"):
        load_model("all")


def test_a_name_is_found_here_then_promoted_then_shipped(home: Path) -> None:
    assert default_search() == (Path("models"), home / "promoted", SHIPPED)
    convolving_model(home / "promoted" / "mine")
    assert load_model("mine").folder == home / "promoted" / "mine"
    convolving_model(home / "models" / "mine")
    assert load_model("mine").folder == Path("models/mine")
    assert [folder for folder in list_models() if folder.name == "mine"] == [Path("models/mine")]


def test_without_a_setting_promoted_models_lie_in_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSERBY_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert promoted_folder() == Path("/data/passerby/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert promoted_folder() == Path("/home/someone/.local/share/passerby/models")


def test_an_unknown_name_says_what_there_is(home: Path) -> None:
    convolving_model(home / "models" / "traffic-night")
    with pytest.raises(ModelError, match=r"no model 'trafic-nite' \(did you mean traffic-night\?\)"):
        load_model("trafic-nite")
    with pytest.raises(ModelError, match=r"no model 'zzz' \(there are traffic-night\)"):
        load_model("zzz", search=[Path("models")])
    with pytest.raises(ModelError, match=r"there is none yet"):
        load_model("zzz", search=[])
    with pytest.raises(ModelError, match=r"no model '../models/traffic-night'"):
        load_model("../models/traffic-night")


def test_a_bare_onnx_file_says_how_to_add_it(home: Path) -> None:
    (home / "mine.onnx").write_bytes(convolving())
    with pytest.raises(ModelError, match=r"passerby models add mine.onnx --family … --name mine"):
        load_model("mine.onnx")
    (home / "folder").mkdir()
    (home / "folder" / "model.onnx").write_bytes(convolving())
    with pytest.raises(ModelError, match=r"holds model.onnx without manifest.yaml"):
        load_model("folder")


def test_a_changed_file_is_refused(home: Path) -> None:
    model = convolving_model(home / "mine")
    data = bytearray(model.path.read_bytes())
    data[len(data) // 2] ^= 1
    model.path.write_bytes(data)
    with pytest.raises(ModelError, match=r"sha256 is [0-9a-f]{12}…, the manifest says [0-9a-f]{12}… \(.* add it again"):
        load_model("mine")


def test_a_truncated_file_is_called_truncated(home: Path) -> None:
    model = convolving_model(home / "mine")
    model.path.write_bytes(model.path.read_bytes()[:-500])
    with pytest.raises(ModelError, match=r"model.onnx: is cut short"):
        load_model("mine")


def test_a_file_that_needs_another_is_refused(home: Path) -> None:
    data = with_external_weights("/etc/passwd")
    kept(home / "mine", data, manifest_for(data, classes=["a", "b", "c"]))
    with pytest.raises(ModelError, match=r"keeps weights in another file \(/etc/passwd\)"):
        load_model("mine")


def test_a_missing_file_is_named(home: Path) -> None:
    model = convolving_model(home / "mine")
    model.path.unlink()
    with pytest.raises(ModelError, match=r"mine/model.onnx: there is no such file"):
        load_model("mine")


def test_promoting_copies_a_model_whole_and_replaces_it_whole(home: Path) -> None:
    model = convolving_model(home / "work", card="card.md", version="1")
    (home / "work" / "card.md").write_text("# Tiny\n")
    copy_model(model, promoted_folder() / "tiny")
    found = load_model("tiny")
    assert found.folder == home / "promoted" / "tiny"
    assert found.manifest == model.manifest
    assert (found.folder / "card.md").read_text() == "# Tiny\n"
    newer = convolving_model(home / "work", version="2")
    copy_model(newer, promoted_folder() / "tiny")
    assert load_model("tiny").manifest.version == "2"
    assert [each.name for each in (home / "promoted").iterdir()] == ["tiny"], "nothing is left over"


def test_a_failed_write_leaves_the_old_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convolving_model(home / "models" / "tiny", version="1")
    newer = convolving_model(home / "work", version="2")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.inference.store._swap", full)
    with pytest.raises(ModelError, match=r"models/tiny: cannot be written: No space left on device"):
        keep_model(newer.read(), newer.manifest, None, Path("models/tiny"))
    assert load_model("tiny").manifest.version == "1"
    assert os.listdir(home / "models") == ["tiny"]


def test_something_else_is_never_overwritten(home: Path) -> None:
    model = convolving_model(home / "work")
    (home / "notes").mkdir()
    (home / "notes" / "text.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"notes: is there and is not a model's folder"):
        keep_model(model.read(), model.manifest, None, home / "notes")
    assert (home / "notes" / "text.txt").read_text() == "mine"
