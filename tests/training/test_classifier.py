"""The classifier: train, resume, evaluate, export, card, run; and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import typer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from pipeline.cli import models  # noqa: E402
from pipeline.errors import ConfigError, ModelError, UsageError  # noqa: E402
from pipeline.inference.classifier import Classifier as Runner  # noqa: E402
from pipeline.inference.detector import Detector  # noqa: E402
from pipeline.inference.store import load_model  # noqa: E402
from training.classifier.network import Classifier  # noqa: E402
from training.classifier.pictures import divide, folds, read_pictures, without_bars  # noqa: E402
from training.classifier.release import write_classifier  # noqa: E402
from training.classifier.session import Source, train_classifier  # noqa: E402
from training.classifier.trainer import Recipe, load_classifier, loss_of, read_classifier_checkpoint  # noqa: E402
from training.cli import app  # noqa: E402

TINY = Recipe(epochs=2, pictures=64, batch=16, channels=4, shape=(48, 32), step=1e-2, patience=0)


def _picture(path: Path, *, night: bool, scene: int, shift: int) -> None:
    """A street of grey blocks under a sky, bright by day, with lamps by night."""
    random = np.random.default_rng(scene)
    image = np.full((60, 90, 3), 20 if night else 150, np.uint8)
    for _ in range(6):
        x, y = int(random.integers(0, 80)) + shift, int(random.integers(20, 50))
        level = int(random.integers(10, 40)) + (0 if night else 90)
        cv2.rectangle(image, (x, y), (x + 14, y + 10), (level, level, level), -1)
    if night:
        for x in range(10, 90, 20):
            cv2.circle(image, (x + shift, 12), 3, (120, 220, 255), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """day and night, each of five scenes of three pictures."""
    root = tmp_path / "pictures"
    for scene in range(5):
        for shift in range(3):
            _picture(root / "day" / f"s{scene}" / f"{shift}.png", night=False, scene=scene, shift=shift)
            _picture(root / "night" / f"s{scene}" / f"{shift}.png", night=True, scene=10 + scene, shift=shift)
    return root


def _invoke(*args: object) -> str:
    told = CliRunner().invoke(app, [str(each) for each in args], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


def test_train_resume_evaluate_export_card_run(folders: Path, tmp_path: Path) -> None:
    run, model, scores = tmp_path / "run", tmp_path / "models" / "daylight", tmp_path / "scores.json"
    options = ("--pictures", 96, "--batch", 16, "--channels", 8, "--step", 0.01)
    _invoke("classifier", "--data", folders, "--out", run, "--epochs", 4, *options)
    said = _invoke("classifier", "--data", folders, "--out", run, "--resume", "--epochs", 8)
    assert "right, mean of the classes: 1.000" in said
    lines = [json.loads(line) for line in (run / "scalars.jsonl").read_text("utf-8").splitlines()]
    assert [each["epoch"] for each in lines] == list(range(len(lines)))
    assert lines[-1]["val/loss"] < lines[0]["val/loss"]
    _invoke("export", "--checkpoint", run / "best.pt", "--to", model, "--data", folders)
    said = _invoke("evaluate", model, "--data", folders, "--everything", "--out", scores)
    assert "30 pictures; right, mean of the classes: 1.000" in said
    _invoke(
        "card", model, "--scores", scores, "--checkpoint", run / "best.pt", "--command", "it", "--data", folders
    )  # fmt: skip
    card = (model / "card.md").read_text("utf-8")
    assert "| day | 5 | 15 | 3 |" in card
    loaded = load_model(model)
    assert loaded.manifest.task == "classification"
    runner = Runner(loaded)
    told = runner.classify(np.asarray(cv2.imread(str(folders / "night" / "s0" / "1.png"))[:, :, ::-1], np.uint8))
    assert told.dtype == np.float32
    assert told.sum() == pytest.approx(1, abs=1e-5)
    assert runner.classes[int(told.argmax())] == "night"
    passerby = typer.Typer()
    models.register(passerby)
    shown = CliRunner().invoke(passerby, ["models", "inspect", str(model)], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert "classifier" in shown.output
    with pytest.raises(ModelError, match=r"its task is classification: it finds no objects"):
        Detector(loaded)


def test_a_detector_gives_no_label() -> None:
    with pytest.raises(ModelError, match=r"its task is detection.*\(name a model of task classification"):
        Runner(load_model("passerby-nano"))


def test_resumed_is_the_same_as_in_one_go(folders: Path, tmp_path: Path) -> None:
    source = Source(folders)
    train_classifier(source, tmp_path / "whole", TINY, show=False)
    # As if it had been stopped after its first epoch: the checkpoint of then, trained on.
    state = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)
    stopped = tmp_path / "stopped"
    from training.classifier import session
    from training.classifier.trainer import Training

    data = source.read(TINY)
    held = divide(data, session.SHARE, TINY.seed)
    training = Training(data.classes, TINY, stopped)
    pictures = session.VariedPictures(data.of(held, inside=False), TINY.shape, count=TINY.pictures, seed=TINY.seed)
    training.recipe = TINY
    training._stuck = lambda: training.epoch >= 1  # type: ignore[method-assign]
    training.run(pictures, data.of(held, inside=True), show=False)
    assert read_classifier_checkpoint(stopped / "last.pt")["epoch"] == 1
    train_classifier(source, stopped, TINY, resume=True, show=False)
    again = torch.load(stopped / "last.pt", weights_only=True)
    assert again["epoch"] == 2
    for name, weight in state["network"].items():
        assert torch.equal(weight, again["network"][name]), name


@pytest.mark.parametrize(
    ("optimizer", "loss"), [("sgd", "cross-entropy"), ("rmsprop", "mse"), ("adam", "cross-entropy"), ("adamw", "mse")]
)
def test_every_optimizer_and_loss_learns(folders: Path, tmp_path: Path, optimizer: str, loss: str) -> None:
    recipe = replace(TINY, optimizer=optimizer, loss=loss, epochs=4, step=0.05 if optimizer == "sgd" else 3e-3)  # type: ignore[arg-type]
    train_classifier(Source(folders), tmp_path / "run", recipe, show=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "scalars.jsonl").read_text("utf-8").splitlines()]
    assert lines[-1]["train/loss"] < 0.8 * lines[0]["train/loss"]
    state = read_classifier_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["recipe"]["optimizer"], state["recipe"]["loss"]) == (optimizer, loss)


def test_mse_is_the_brier_score_of_the_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])
    told = loss_of(replace(TINY, loss="mse", smoothing=0.0), logits, labels)
    wanted = ((logits.softmax(1) - torch.tensor([[1.0, 0.0], [1.0, 0.0]])) ** 2).mean()
    assert float(told) == pytest.approx(float(wanted))


def test_training_stops_when_validation_gets_no_better(folders: Path, tmp_path: Path) -> None:
    from training.classifier.trainer import Training

    training = Training(("day", "night"), replace(TINY, patience=2), tmp_path)
    training.history = [0.5, 0.4, 0.4, 0.45]
    assert training._stuck()
    training.history = [0.5, 0.4, 0.45]
    assert not training._stuck()


def test_scenes_stay_on_one_side(folders: Path) -> None:
    data = read_pictures(folders, None, (48, 32))
    assert (data.classes, len(data.scenes), len(data.pictures)) == (("day", "night"), 10, 30)
    held = divide(data, 0.2, 3)
    assert held == divide(data, 0.2, 3)
    assert {each.label for each in data.of(held, inside=True)} == {0, 1}
    parts = folds(data, 3, 0)
    assert sorted(scene for part in parts for scene in part) == list(range(10))


def test_pictures_without_a_named_scene_are_joined_by_likeness(folders: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for label in ("day", "night"):
        (flat / label).mkdir(parents=True)
        for path in (folders / label).rglob("*.png"):
            (flat / label / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    data = read_pictures(flat, None, (48, 32))
    by_scene = {(each.scene, each.label) for each in data.pictures}
    assert len(by_scene) == len(data.scenes)
    assert 2 <= len(data.scenes) <= 10


def test_bars_are_no_night() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40] = 130
    assert without_bars(image).shape == (20, 80, 3)


def test_what_cannot_be_trained_on_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 0 folders"):
        read_pictures(tmp_path / "pictures" / "day" / "s0", None, (48, 32))
    listed = tmp_path / "list.csv"
    listed.write_text("file,label,scene\nday/s0/0.png,day,a\nnight/s0/0.png,night,b\nnight/s1/0.png,night,c\n")
    with pytest.raises(ConfigError, match="class 'day' has a single scene"):
        train_classifier(Source(listed, folders), tmp_path / "run", TINY)
    listed.write_text("file,label\nday/s0/none.png,day\n")
    with pytest.raises(ConfigError, match=r"list.csv:2: missing file"):
        train_classifier(Source(listed, folders), tmp_path / "run", TINY)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "last.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="--resume"):
        train_classifier(Source(folders), tmp_path / "taken", TINY)
    with pytest.raises(ModelError, match="is no checkpoint of a classifier"):
        load_classifier(tmp_path / "taken" / "last.pt")


def test_an_export_that_differs_is_refused_and_nothing_is_written(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.classifier.release import export_classifier

    torch.manual_seed(0)
    one, other = Classifier(2, 4).eval(), Classifier(2, 4).eval()
    data = export_classifier(other, (48, 32))
    monkeypatch.setattr("training.classifier.release.export_classifier", lambda *_: data)
    pictures = read_pictures(folders, None, (48, 32)).pictures[:4]
    with pytest.raises(ModelError, match="differ"):
        write_classifier(one, ("day", "night"), (48, 32), pictures, tmp_path / "it", "1")
    assert not (tmp_path / "it").exists()
