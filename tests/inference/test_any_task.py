"""``passerby models add``, ``promote`` and the gate for classifiers and scene models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from onnx import helper
from typer.testing import CliRunner, Result

from pipeline.cli import models
from pipeline.errors import ModelError, UsageError
from pipeline.inference.classifier import Classifier
from pipeline.inference.manifest import MANIFEST_NAME, Manifest
from pipeline.inference.models import AnyModel, load_any, sha256_of
from pipeline.inference.scene import SceneFiles, load_scene_files
from pipeline.inference.store import Model, load_model
from tests.inference.networks import answering, convolving_model, kept, manifest_for
from tests.inference.scene_networks import encoder, head, scene_model, told

SURE = np.array([0.9, 0.1], np.float32)
INPUT = {"name": "image", "layout": "nhwc", "dtype": "uint8", "color": "rgb", "scale": "0-255", "resize": "stretch"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def labelling(answer: np.ndarray[Any, Any] = SURE, sides: tuple[int | str, ...] = (32, 48), **other: Any) -> bytes:
    """A classifier that always answers the same."""
    return answering({"probabilities": answer}, ("batch", *sides, 3), **({"dtype": "uint8", "name": "image"} | other))


def weather(folder: Path, data: bytes = b"", **changes: Any) -> Model:
    """A model of task classification that tells rain from dry."""
    data = data or labelling()
    told_input = INPUT | {"shapes": [{"width": 48, "height": 32}]}
    manifest: Manifest = manifest_for(
        data,
        **{
            "name": "weather", "task": "classification", "family": "classifier", "nms": "none", "input": told_input,
            "outputs": {"probabilities": "probabilities"}, "classes": ["rain", "dry"], **changes,
        },
    )  # fmt: skip
    return kept(folder, data, manifest)


def passerby(*arguments: object) -> Result:
    app = typer.Typer()
    models.register(app)
    return CliRunner().invoke(app, ["models", *(str(each) for each in arguments)])


def refused(result: Result, *said: str) -> str:
    assert isinstance(result.exception, ModelError | UsageError), result.output
    text = str(result.exception)
    assert "\n" not in text
    for each in said:
        assert each in text
    return text


# ---- add: files


def test_a_classifiers_file_becomes_a_model(home: Path) -> None:
    (home / "w.onnx").write_bytes(labelling())
    result = passerby("add", "w.onnx", "--family", "classifier", "--name", "weather", "--classes", "rain,dry")
    assert result.exit_code == 0, result.output
    assert "a classifier, written to models/weather; use it with labels: {model: weather}" in result.output
    model = load_model("weather")
    assert (model.manifest.task, model.manifest.classes, model.manifest.thresholds.score) == (
        "classification", ["rain", "dry"], 0.7,
    )  # fmt: skip
    assert Classifier(model).classify(np.zeros((90, 160, 3), np.uint8)).tolist() == pytest.approx([0.9, 0.1])


def test_a_classifier_of_any_size_wants_one_named(home: Path) -> None:
    (home / "w.onnx").write_bytes(labelling(sides=("height", "width")))
    arguments = ("add", "w.onnx", "--family", "classifier", "--name", "weather", "--classes", "rain,dry")
    refused(passerby(*arguments), "w.onnx", "takes any size", "--shapes 96x64")
    assert passerby(*arguments, "--shapes", "96x64", "--score-threshold", "0.8").exit_code == 0
    manifest = load_model("weather").manifest
    assert [(each.width, each.height) for each in manifest.input.shapes] == [(96, 64)]
    assert manifest.thresholds.score == 0.8


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (labelling(np.array([2.0, -1.0], np.float32)), (), "gives 2, -1 for a picture: no probabilities that sum to 1"),
        (labelling(np.array([np.nan, 1.0], np.float32)), (), "no probabilities"),
        (labelling(np.ones(3, np.float32) / 3), (), "has 3 classes, but 2 are named: rain, dry"),
        (labelling(np.ones((4, 2), np.float32)), (), "is 1x4x2 for one picture, not 1 x classes: no classifier"),
        (labelling(dtype="float32"), (), "takes one input, uint8 batch x height x width x 3; this network has image"),
        (
            answering({"p": SURE}, ("batch", 3, 32, 48), dtype="uint8"),
            (),
            "this network has images uint8 batchx3x32x48",
        ),
        (answering({"p": SURE}, (8, 32, 48, 3), dtype="uint8"), (), "runs 8 pictures at a time, fixed"),
        (labelling(), ("--shapes", "96x64"), "takes 48x32 and nothing else"),
        (labelling(), ("--shapes", "96x64,48x32"), "a classifier runs at one"),
        (labelling(), ("--nms-iou", "0.5"), "--nms-iou is not for classifiers"),
        (labelling()[:-40], (), "is cut short"),
        (b"text", (), "is not an ONNX file"),
    ],
)
def test_a_file_that_is_no_classifier_is_one_clear_line(
    home: Path, data: bytes, options: tuple[str, ...], said: str
) -> None:
    (home / "w.onnx").write_bytes(data)
    arguments = ("add", "w.onnx", "--family", "classifier", "--name", "weather", "--classes", "rain,dry", *options)
    refused(passerby(*arguments), said)
    assert not (home / "models").exists()


def test_the_names_of_the_classes_come_from_the_file_or_from_the_user(home: Path) -> None:
    (home / "w.onnx").write_bytes(labelling())
    refused(passerby("add", "w.onnx", "--family", "classifier", "--name", "w"), "names are not known", "--classes a,b")
    (home / "w.onnx").write_bytes(labelling(metadata={"names": "{0: 'rain', 1: 'dry'}"}))
    assert passerby("add", "w.onnx", "--family", "classifier", "--name", "w").exit_code == 0
    assert load_model("w").manifest.classes == ["rain", "dry"]


def test_a_file_needs_family_and_name(home: Path) -> None:
    (home / "w.onnx").write_bytes(labelling())
    refused(passerby("add", "w.onnx", "--name", "w"), "--family is missing")
    refused(passerby("add", "w.onnx", "--family", "classifier"), "--name is missing")


# ---- add: folders


def test_a_folder_of_any_task_is_checked_and_copied(home: Path) -> None:
    weather(home / "theirs" / "w")
    convolving_model(home / "theirs" / "d")
    made = scene_model(home / "theirs" / "s", card="card.md")
    (made.folder / "card.md").write_text("# Tiny\n")
    for each, name in (("w", "weather"), ("d", "tiny"), ("s", "tiny-scene")):
        result = passerby("add", home / "theirs" / each)
        assert result.exit_code == 0, result.output
        assert f"written to models/{name}" in result.output
    assert load_model("weather").manifest.task == "classification"
    copied = load_scene_files("tiny-scene")
    assert copied.sha256 == made.sha256
    assert (copied.folder / "card.md").read_text() == "# Tiny\n"
    renamed = passerby("add", home / "theirs" / "s", "--name", "mine")
    assert "a scene model, written to models/mine; use it with scene: {model: mine}" in renamed.output
    assert load_scene_files("mine").manifest.name == "mine"
    refused(passerby("add", "models/mine"), "is there already")
    refused(passerby("add", home / "theirs" / "s", "--name", "../x"), "name:")
    refused(passerby("add", home / "theirs" / "s", "--classes", "a,b"), "a folder's manifest says all")


def fixed_encoder() -> bytes:
    """One that takes pictures of one size alone."""
    model = onnx.load_from_string(encoder())
    for dimension, side in zip(model.graph.input[0].type.tensor_type.shape.dim[1:3], (20, 32), strict=True):
        dimension.dim_value = side
    return bytes(model.SerializeToString())


def foreign_head() -> bytes:
    """One that needs somebody's library."""
    model = onnx.load_from_string(head())
    model.graph.node.append(helper.make_node("Special", ["features"], ["special"], domain="com.theirs"))
    model.opset_import.append(helper.make_opsetid("com.theirs", 1))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("networks", "changes", "said"),
    [
        ({}, {"encoder.size": 4}, "the head takes features float32 1xtimex3, the manifest's clips are 1x16x4"),
        ({}, {"kinds": {"fight": {"start": 0.6}}}, "the head gives 1x2, not 1x1, one score a kind"),
        ({}, {"head.scores": "logits"}, "the head has no output logits"),
        ({"head_data": head(factor=9.0)}, {}, "the head's scores are not 0..1"),
        ({"head_data": foreign_head()}, {}, "asks for Special of 'com.theirs'"),
        ({"encoder_data": fixed_encoder()}, {}, "its sides are fixed, and crops have any"),
        ({"encoder_data": b"text"}, {}, "encoder.onnx: is not an ONNX file"),
        ({}, {"encoder.sha256": "0" * 64}, "the manifest says 000000000000"),
        ({}, {"clip": {"frames": 8, "stride": 9, "interval_s": 0.125}}, "stride (9) is above frames (8)"),
        ({}, {"clasp": {}}, "clasp: unknown key"),
        ({}, {"task": "detection"}, "unknown key"),
    ],
)
def test_a_scene_folder_that_cannot_work_is_one_clear_line(
    home: Path, networks: dict[str, bytes], changes: dict[str, Any], said: str
) -> None:
    data = {"encoder_data": encoder(), "head_data": head()} | networks
    manifest = told(**data)
    for key, value in changes.items():
        part, _, inner = key.partition(".")
        if inner:
            manifest[part][inner] = value
        else:
            manifest[part] = value
    folder = home / "theirs"
    folder.mkdir()
    (folder / "encoder.onnx").write_bytes(data["encoder_data"])
    (folder / "head.onnx").write_bytes(data["head_data"])
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")  # JSON is YAML
    refused(passerby("add", folder), said)
    assert not (home / "models").exists()


def test_a_classifiers_folder_that_cannot_work_is_one_clear_line(home: Path) -> None:
    weather(home / "logits", labelling(np.array([2.0, -1.0], np.float32)))
    refused(passerby("add", "logits"), "gives 2, -1 for a picture")
    refused(passerby("inspect", "logits"), "gives 2, -1 for a picture")
    weather(home / "three", classes=["rain", "dry", "snow"])
    refused(passerby("add", "three"), "gives 1x2 for 3 classes")
    changed = weather(home / "changed")
    changed.path.write_bytes(labelling(np.array([0.5, 0.5], np.float32)))
    refused(passerby("add", "changed"), "its sha256 is")
    assert not (home / "models").exists()


def test_a_task_that_does_not_fit_is_told(home: Path) -> None:
    weather(home / "theirs" / "w")
    scene_model(home / "theirs" / "s")
    refused(passerby("add", "theirs/w", "--family", "yolox"), "is of family classifier, not of family yolox")
    refused(passerby("add", "theirs/s", "--family", "yolox"), "is a scene model, not of family yolox")
    assert passerby("add", "theirs/s", "--name", "mine").exit_code == 0
    refused(passerby("add", "theirs/w", "--name", "mine"), "it cannot take the place of mine, which is a scene model")
    (home / "w.onnx").write_bytes(labelling())
    arguments = ("add", "w.onnx", "--family", "classifier", "--name", "mine", "--classes", "rain,dry")
    refused(passerby(*arguments), "mine is a classifier: it cannot take the place of mine, which is a scene model")
    assert load_scene_files("mine").manifest.name == "mine"


# ---- promote


def test_a_model_of_one_task_never_takes_the_place_of_another(home: Path) -> None:
    weather(home / "models" / "weather")
    scene = scene_model(home / "models" / "s")
    wrong = refused(passerby("promote", "weather", "--present", "passerby-nano"), "weather is a classifier")
    assert "cannot take the place of passerby-nano, which is a detector" in wrong
    refused(passerby("promote", "s", "--present", "weather"), "tiny-scene is a scene model", "which is a classifier")
    weather(home / "other" / "w", name="passerby-scene")
    shipped = passerby("promote", "other/w", "--without-gate")
    refused(
        shipped, "passerby-scene is a classifier: it cannot take the place of passerby-scene, which is a scene model"
    )
    assert passerby("promote", scene.folder, "--without-gate").exit_code == 0
    weather(home / "other" / "w", name="tiny-scene")
    refused(passerby("promote", "other/w", "--without-gate"), "which is a scene model", "a name of its own")
    assert load_scene_files(home / "promoted" / "tiny-scene").sha256 == scene.sha256


def classifier_score(model: AnyModel, by_class: dict[str, float], scenes: float, **other: Any) -> dict[str, Any]:
    """As ``passerby-train evaluate --out`` writes it (training.classifier.scores)."""
    by_scene = {"rain, gate": [by_class.get("rain", 0.0), 8], "dry, yard": [by_class.get("dry", 0.0), 4]}
    return {
        "task": "classification", "model": model.name, "version": "1", "sha256": sha256_of(model), "pictures": 12,
        "accuracy": 0.5, "scene_accuracy": scenes, "by_class": by_class, "by_scene": by_scene, "brightness": 0.5,
        **other,
    }  # fmt: skip


def scene_score(model: SceneFiles, kinds: dict[str, tuple[float, float]], **other: Any) -> dict[str, Any]:
    """As ``passerby-train evaluate --out`` writes it (training.scene.scoring)."""
    told = {kind: {"AUC": auc, "accuracy": right, "shown": 4, "others": 4} for kind, (auc, right) in kinds.items()}
    return {
        "task": "scene", "model": model.name, "version": "1", "sha256": model.sha256, "detector": "nano 1a",
        "clips": "c0ffee", "kinds": told, **other,
    }  # fmt: skip


def gated(home: Path, name: object, present: object, *scores: dict[str, Any]) -> Result:
    (home / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    return passerby("promote", name, "--present", present, "--gate", "scores.json")


def test_a_classifier_is_gated_by_scene_and_by_class(home: Path) -> None:
    before = weather(home / "models" / "weather")
    ours = weather(home / "new" / "weather-2", labelling(np.array([0.8, 0.2], np.float32)), name="weather-2")
    was = classifier_score(before, {"rain": 0.9, "dry": 0.8}, 0.85)
    worse = classifier_score(ours, {"rain": 0.95, "dry": 0.78}, 0.86)
    text = refused(gated(home, ours.folder, "weather", worse, was), "class dry: 0.780, before 0.800")
    assert "scenes" not in text
    assert "rain" not in text
    scenes = classifier_score(ours, {"rain": 0.9, "dry": 0.8}, 0.8)
    refused(gated(home, ours.folder, "weather", scenes, was), "mean of the scenes: 0.800, before 0.850")
    assert not (home / "promoted").exists()
    good = classifier_score(ours, {"rain": 0.9, "dry": 0.795}, 0.85)
    passed = gated(home, ours.folder, "weather", good, was)
    assert passed.exit_code == 0, passed.output
    assert "class dry: 0.795, before 0.800 (-0.005)" in passed.output
    assert load_any("weather-2", [home / "promoted"]).manifest.task == "classification"


def test_classifiers_scored_apart_are_no_comparison(home: Path) -> None:
    before = weather(home / "models" / "weather")
    ours = weather(home / "new" / "weather-2", labelling(np.array([0.8, 0.2], np.float32)), name="weather-2")
    was = classifier_score(before, {"rain": 0.9, "dry": 0.8}, 0.85)
    now = classifier_score(ours, {"rain": 0.9, "dry": 0.8}, 0.85)
    other = now | {"by_scene": now["by_scene"] | {"dry, roof": [1.0, 3]}}
    refused(gated(home, ours.folder, "weather", other, was), "not scored on the same pictures or clips")
    folds = now | {"sha256": ""}
    refused(gated(home, ours.folder, "weather", folds, was), "holds no score of weather-2 1")
    lost = now | {"by_class": {"rain": 0.9}}
    refused(gated(home, ours.folder, "weather", lost, was), "class dry: nan, before 0.800")
    refused(gated(home, ours.folder, "weather", {"task": "scene"}), "holds no scores of models for classification")
    refused(passerby("promote", ours.folder, "--present", "weather"), "nothing shows that", "passerby-train evaluate")


def test_a_scene_model_is_gated_by_auc_and_accuracy_of_each_kind(home: Path) -> None:
    before = scene_model(home / "models" / "fights")
    ours = scene_model(home / "new" / "fights-2", name="fights-2", version="2")
    was = scene_score(before, {"fight": (0.9, 0.8), "fall": (float("nan"), float("nan"))})
    for fight, said in (((0.85, 0.8), "fight, AUC: 0.850, before 0.900"), ((0.9, 0.7), "fight, accuracy: 0.700")):
        refused(gated(home, ours.folder, "fights", scene_score(ours, {"fight": fight}), was), said)
    refused(gated(home, ours.folder, "fights", scene_score(ours, {"fall": (1.0, 1.0)}), was), "fight, AUC: nan")
    good = scene_score(ours, {"fight": (0.9, 0.795), "fall": (float("nan"), float("nan"))})
    refused(gated(home, ours.folder, "fights", good | {"clips": "other"}, was), "not scored on the same")
    refused(gated(home, ours.folder, "fights", good | {"detector": "other"}, was), "not scored on the same")
    assert not (home / "promoted").exists()
    passed = gated(home, ours.folder, "fights", good, was)
    assert passed.exit_code == 0, passed.output
    promoted = load_scene_files("fights-2", [home / "promoted"])
    assert promoted.sha256 == ours.sha256, "the next gate asks for the score of these very bytes"


def test_the_shipped_model_of_the_task_is_the_present_one_by_default(home: Path) -> None:
    scene_model(home / "models" / "fights", name="fights")
    refused(passerby("promote", "fights"), "not worse than passerby-scene")
    weather(home / "models" / "weather")
    refused(passerby("promote", "weather"), "not worse than passerby-daylight")
