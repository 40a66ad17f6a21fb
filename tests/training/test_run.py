"""The whole way on generated pictures: train, resume, evaluate, export, run."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from typer.testing import CliRunner  # noqa: E402

from pipeline.cli import build as passerby  # noqa: E402
from pipeline.core.detections import Detections  # noqa: E402
from pipeline.errors import ModelError, UsageError  # noqa: E402
from pipeline.inference.detector import Detector as Runner  # noqa: E402
from pipeline.inference.store import load_model  # noqa: E402
from pipeline.sources.synthetic import street, write_video  # noqa: E402
from training.card import ORIGINS  # noqa: E402
from training.cli import Architecture, app  # noqa: E402
from training.datasets import CLASSES  # noqa: E402
from training.evaluate import VIEWS, Picture, ap50, named_right  # noqa: E402
from training.export import export_onnx  # noqa: E402
from training.models.architectures import ARCHITECTURES  # noqa: E402
from training.models.backbone import ConvUnit  # noqa: E402
from training.models.picodet import PicoDet  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.release import shapes_of  # noqa: E402
from training.session import Start, train_detector  # noqa: E402
from training.trainer import Recipe, Training, load_weights, read_checkpoint  # noqa: E402

TINY = Recipe(epochs=1, pictures=8, batch=4, workers=0, warmup=1, shapes={(96, 64): 0.5, (64, 64): 0.5})


def _invoke(*args: object) -> str:
    told = CliRunner().invoke(app, [str(each) for each in args], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.output


def test_train_resume_evaluate_export_run(data_file: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "models" / "tiny"
    train_detector(data_file, None, Start(), run, TINY)
    assert read_checkpoint(run / "last.pt")["epoch"] == 1
    train_detector(data_file, None, Start(), run, Recipe(epochs=2), resume=True)
    state = read_checkpoint(run / "last.pt")
    assert state["epoch"] == 2
    assert state["step"] == 4
    assert state["recipe"]["shapes"] == TINY.shapes
    shapes = ("--shapes", "64x64,96x64")
    _invoke("export", "--checkpoint", run / "best.pt", "--to", model, "--data", data_file, *shapes)
    assert [(each.width, each.height) for each in load_model(model).manifest.input.shapes] == [(64, 64), (96, 64)]
    scores = tmp_path / "scores.json"
    said = _invoke("evaluate", f"{model}@64x64", "--data", data_file, "--out", scores)
    assert "| 16:9 | tiny | 64x64 |" in said
    assert {each["view"] for each in json.loads(scores.read_text("utf-8"))} == set(VIEWS)
    _invoke("card", model, "--scores", scores, "--checkpoint", run / "best.pt", "--command", "it", "--data", data_file)
    card = (model / "card.md").read_text("utf-8")
    assert "YOLOX-nano-shaped anchor-free detector (0.9 million weights)" in card
    assert "Megvii, Apache-2.0" in card
    detector = Runner(load_model(model))
    fit = detector.fit(160, 90)
    found = detector.detect([np.zeros((fit.height, fit.width, 3), np.uint8)], [(160, 90)])
    assert found[0].classes == CLASSES
    _counted_with(model, tmp_path)


def test_the_other_network_is_trained_resumed_and_exported_too(data_file: Path, tmp_path: Path) -> None:
    assert {each.value for each in Architecture} == set(ARCHITECTURES) == set(ORIGINS)
    run, model = tmp_path / "run", tmp_path / "small"
    train_detector(data_file, None, Start(architecture="picodet-s"), run, TINY)
    train_detector(data_file, None, Start(), run, Recipe(epochs=2), resume=True)
    state = read_checkpoint(run / "last.pt")
    assert (state["architecture"], state["activation"], state["step"]) == ("picodet-s", "hardswish", 4)
    assert isinstance(load_weights(run / "best.pt"), PicoDet)
    _invoke("export", "--checkpoint", run / "best.pt", "--to", model, "--data", data_file, "--shapes", "96x64")
    assert load_model(model).manifest.input.shapes[0].width == 96
    state["architecture"] = "picodet-m"
    torch.save(state, run / "other.pt")
    with pytest.raises(ModelError, match="no network of ours"):
        load_weights(run / "other.pt")


def _counted_with(model: Path, tmp_path: Path) -> None:
    """The whole pipeline, as a user calls it, with the model that was just trained."""
    clip, out = tmp_path / "street.mp4", tmp_path / "out"
    write_video(street(11, duration_s=12.0, width=320, height=180), clip, 2)
    told = CliRunner().invoke(
        passerby(), ["run", str(clip), "--model", str(model), "--line", "0,0.6,1,0.6", "--out", str(out), "--quiet"],
        catch_exceptions=False,
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    counts = [json.loads(line) for line in (out / "counts.jsonl").read_text("utf-8").splitlines()]
    made_by = {each["data"]["provenance"]["model_sha256"] for each in counts}
    assert made_by == {load_model(model).manifest.sha256}
    ledger = json.loads((out / "ledger.json").read_text("utf-8"))["cameras"]["street"]
    assert (ledger["analysed"], ledger["balanced"]) == (24, True)


def test_silu_weights_become_a_relu_network_taught_by_them(data_file: Path, tmp_path: Path) -> None:
    train_detector(data_file, None, Start(), tmp_path / "first", TINY)
    first = Start(checkpoint=tmp_path / "first" / "best.pt")
    quick = replace(TINY, pictures=16, activation="relu", ramp=2, taught=0.5)
    with pytest.raises(UsageError, match="--start"):
        train_detector(data_file, None, Start(), tmp_path / "none", quick)
    train_detector(data_file, None, first, tmp_path / "quick", quick)
    network = load_weights(tmp_path / "quick" / "best.pt")
    assert network.activation == "relu"
    operators = [node.op_type for node in onnx.load_from_string(export_onnx(network)).graph.node]
    units = sum(isinstance(module, ConvUnit) for module in network.modules())
    assert operators.count("Relu") == units
    # Sigmoid is left only where scores are made: twice a level.
    assert operators.count("Sigmoid") == 6


def test_silu_weights_become_hardswish_weights_that_say_nearly_the_same() -> None:
    torch.manual_seed(3)
    network = YoloxNano(len(CLASSES)).eval()
    pictures = torch.rand(2, 3, 64, 96) * 255
    with torch.no_grad():
        before, _ = network(pictures)
        plain, scaled = copy.deepcopy(network), copy.deepcopy(network)
        plain.activation = "hardswish"
        plain.bend(1.0)
        scaled.become("hardswish")
        apart = [(each(pictures)[0] - before).abs().mean().item() for each in (plain, scaled)]
    assert 0 < apart[1] < apart[0]
    operators = [node.op_type for node in onnx.load_from_string(export_onnx(scaled)).graph.node]
    assert operators.count("HardSwish") == sum(isinstance(module, ConvUnit) for module in network.modules())
    assert operators.count("Sigmoid") == 6
    again = copy.deepcopy(scaled)
    again.become("hardswish")  # it is one already: nothing changes
    with torch.no_grad():
        assert torch.equal(again(pictures)[0], scaled(pictures)[0])


def test_shapes_are_read_and_typos_refused() -> None:
    assert shapes_of("704x416=0.7, 544x544=.3,64x32") == {(704, 416): 0.7, (544, 544): 0.3, (64, 32): 1.0}
    for wrong in ("704", "700x416", "0x32", "704x416=", "704x416;544x544", ""):
        with pytest.raises(UsageError, match="multiples of 32"):
            shapes_of(wrong)


def test_a_run_is_not_overwritten(data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"")
    with pytest.raises(UsageError, match="--resume"):
        train_detector(data_file, None, Start(), tmp_path / "run", TINY)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no checkpoint"):
        load_weights(tmp_path / "best.pt")
    (tmp_path / "best.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is no checkpoint"):
        load_weights(tmp_path / "best.pt")


def test_training_stops_when_validation_gets_no_better(tmp_path: Path) -> None:

    training = Training(YoloxNano(1), Recipe(patience=2), tmp_path)
    training.history = [0.5, 0.6, 0.6, 0.55]
    assert training._stuck()
    training.history = [0.5, 0.6, 0.55]
    assert not training._stuck()


def _picture(boxes: list[list[float]], ignored: list[bool]) -> Picture:
    n = len(boxes)
    return Picture(
        np.zeros((100, 100, 3), np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(n, 2, np.int64),
        np.array(ignored, np.bool_),
        np.ones(len(CLASSES), np.bool_),
        "set",
    )


def _found(boxes: list[list[float]], scores: list[float], names: tuple[str, ...]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.arange(len(boxes)), names
    )


def test_average_precision_counts_a_truck_for_a_car_and_ignores_what_is_cut() -> None:
    pictures = [_picture([[0, 0, 40, 40], [50, 50, 90, 90]], [False, True])]
    both = _found([[0, 0, 40, 40], [50, 50, 90, 90]], [0.9, 0.8], ("truck", "bus"))
    assert ap50(pictures, [both], "vehicle") == pytest.approx(1)
    assert ap50(pictures, [_found([], [], ())], "vehicle") == 0
    wrong_first = _found([[60, 0, 80, 20], [0, 0, 40, 40]], [0.9, 0.8], ("car", "car"))
    assert ap50(pictures, [wrong_first], "vehicle") == pytest.approx(0.5)
    assert np.isnan(ap50(pictures, [both], "person"))


def test_a_vehicle_under_a_wrong_name_is_found_but_not_named_right() -> None:
    pictures = [_picture([[0, 0, 40, 40], [50, 50, 90, 90], [60, 0, 90, 30]], [False, False, True])]  # cars
    boxes = [[0, 0, 40, 40], [1, 1, 40, 40], [50, 50, 90, 90], [60, 0, 90, 30]]
    told = _found(boxes, [0.9, 0.95, 0.8, 0.9], ("car", "bus", "car", "truck"))
    assert named_right(pictures, [told], 0.5) == 0.5, "the best box of the first says bus; what is ignored is not asked"
    assert named_right(pictures, [told], 0.92) == 0
    assert named_right(pictures, [told], 0.99) is None
    assert named_right(pictures, [_found(boxes[:1], [0.9], ("person",))], 0.5) is None


def test_help_teaches_with_examples() -> None:
    for command in ("detector", "classifier", "data", "evaluate", "export", "quantise", "explain", "tune", "card"):
        assert "Example" in _invoke(command, "--help")
