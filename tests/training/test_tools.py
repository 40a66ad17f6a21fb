"""What stands around training: the data check, explanations, the search."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from typer.testing import CliRunner, Result  # noqa: E402

from pipeline.errors import ConfigError, UsageError  # noqa: E402
from tests.training.conftest import draw_scene  # noqa: E402
from training.annotations import read_labelled  # noqa: E402
from training.checking import check_set, contact_sheet, perceptual_hash, summary  # noqa: E402
from training.classifier.network import Classifier  # noqa: E402
from training.cli import app  # noqa: E402
from training.datasets import CLASSES  # noqa: E402
from training.explain import classifier_heat, detector_heat, weighted  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.tune import table, tune  # noqa: E402


def _invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in args])


def test_every_kind_of_broken_label_is_found_with_its_line(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for k in range(3):
        draw_scene(k, folder, f"a{k}")
    (folder / "labels" / "a0.txt").write_text("0 0.5 0.5 0.2 0.2\n9 0.5 0.5 0.1 0.1\n0 0.9 0.5 0.5 0.1\n")
    (folder / "labels" / "a1.txt").write_text("0 0.5 0.5 0 0.1\nperson 1 2\n0 nan 0.5 0.1 0.1\n")
    (folder / "labels" / "a2.txt").unlink()
    (folder / "images" / "a3.png").write_bytes(b"no picture")
    (folder / "labels" / "a3.txt").write_text("")
    data = tmp_path / "data.yaml"
    data.write_text("sets: {set: {labelled: [person]}}", encoding="utf-8")
    checked = check_set(data, None, None)
    found = {(each.kind, Path(each.place).name) for each in checked.findings}
    assert found == {
        ("unknown class", "a0.txt:2"), ("outside the picture", "a0.txt:3"), ("no area", "a1.txt:1"),
        ("not a label", "a1.txt:2"), ("outside the picture", "a1.txt:3"), ("no labels", "a2.png"),
        ("no labels", "a3.txt"), ("unreadable picture", "a3.png"),
    }  # fmt: skip
    assert "| unknown class | 1 |" in summary(checked)
    sheet = contact_sheet(checked, 4)
    assert sheet.shape == (150, 1600, 3)
    red = (sheet[2, ::200] == (0, 0, 255)).all(1)  # the frame of what is wrong, which comes first
    assert red[:3].all()
    told = _invoke("data", data, "--no-split", "--sheet", tmp_path / "sheet.png")
    assert isinstance(told.exception, ConfigError)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (150, 1600, 3)


def test_a_picture_on_both_sides_is_found_though_scaled_and_compressed(data_file: Path) -> None:
    original = data_file.parent / "all" / "images" / "a03.png"
    twin = data_file.parent / "people" / "images" / "twin.jpg"
    image = cv2.imread(str(original))
    cv2.imwrite(str(twin), cv2.resize(image, (320, 240)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    checked = check_set(data_file, None, frozenset({original}))
    assert [(each.first, each.second) for each in checked.twins or []] == [(original, twin)]
    assert check_set(data_file, None, frozenset({original, twin})).twins == []


def test_hashes_of_other_pictures_are_far_apart(tmp_path: Path) -> None:
    told = [perceptual_hash(cv2.imread(str(draw_scene(k, tmp_path, f"x{k}")))) for k in range(8)]
    apart = [(a ^ b).bit_count() for i, a in enumerate(told) for b in told[:i]]
    assert min(apart) > 8


def test_coco_findings_name_their_annotation(tmp_path: Path) -> None:
    draw_scene(1, tmp_path, "x")
    told = {
        "images": [
            {"id": 1, "file_name": "x.png", "width": 160, "height": 120},
            {"id": 2, "file_name": "gone.png", "width": 160, "height": 120},
        ],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [150, 0, 40, 10]},
            {"image_id": 1, "category_id": 5, "bbox": [0, 0, 4, 4]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 4]},
        ],
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    read = read_labelled(path, tmp_path / "images")
    assert [(each.kind, each.place.rpartition(": ")[2]) for each in read.findings] == [
        ("outside the picture", "annotations[0]"), ("unknown class", "annotations[1]"),
        ("not a label", "annotations[2]"), ("missing file", "images"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"annotations\[1\]: unknown class"):
        read.strict()


@pytest.fixture(scope="module")
def network() -> YoloxNano:
    torch.manual_seed(0)
    return YoloxNano(len(CLASSES), "hardswish").eval()


def test_grad_cam_looks_where_the_answer_comes_from() -> None:
    """A network that sees red alone: the heat is on the red square."""
    network = Classifier(2, 4).eval()
    with torch.no_grad():
        for module in network.convolutions:
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                module.weight[0, 0] = 1 / 9
        network.head[0].weight.zero_()
        network.head[0].weight[0, 0] = 1
        network.head[0].bias.zero_()  # a chance one may keep its ReLU shut
        network.head[3].weight.zero_()
        network.head[3].weight[1, 0] = 1
    image = np.zeros((64, 96, 3), np.uint8)
    image[32:, 48:, 0] = 255
    heat = classifier_heat(network, image, (96, 64), 1)
    assert heat.shape == (64, 96)
    assert heat[48:, 64:].mean() > 5 * heat[:24, :32].mean()
    maps, gradient = torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)
    assert torch.all(weighted(maps, gradient) == 0)  # what speaks against it is not shown


def test_a_detector_is_explained_by_group(network: YoloxNano) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    heat = detector_heat(network, image, (160, 96), "vehicle")
    assert heat.shape == (90, 160)
    assert 0 <= float(heat.min()) <= float(heat.max()) <= 1
    with pytest.raises(UsageError, match="no group"):
        detector_heat(network, image, (160, 96), "cat")


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    journal = tmp_path / "search" / "study.journal"

    def objective(trial: object) -> float:
        return -abs(trial.suggest_float("step", 0.0, 1.0) - 0.3)  # type: ignore[attr-defined]

    first = tune(journal, objective, 4, seed=0)
    assert len(first.trials) == 4
    again = tune(journal, objective, 5, seed=0)
    assert len(again.trials) == 9
    assert len({each.params["step"] for each in again.trials}) == 9
    assert again.best_value >= first.best_value
    assert "9 trials" in table(again)
