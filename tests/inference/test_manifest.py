"""The manifest: what is written reads back equal, and what is wrong is named with its mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ModelError
from pipeline.inference.manifest import Manifest, manifest_yaml, read_manifest
from tests.inference.networks import manifest_for


def gfl() -> Manifest:
    return manifest_for(
        b"x",
        family="gfl",
        outputs={"cls": ["a", "b"], "reg": ["c", "d"]},
        options={"strides": [8, 16], "bins": 8, "center": "pixel_half"},
        input={"shapes": [{"width": 416, "height": 256, "cost_ms": 1.5, "aspect": 1.6}, {"width": 256, "height": 256}]},
        card="card.md",
    )


@pytest.mark.parametrize("manifest", [manifest_for(b"x"), gfl()])
def test_what_is_written_reads_back_equal(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(manifest_yaml(manifest), encoding="utf-8")
    assert read_manifest(tmp_path / "manifest.yaml") == manifest


def test_a_version_that_yaml_reads_as_a_number_is_text(tmp_path: Path) -> None:
    text = manifest_yaml(manifest_for(b"x")).replace("version: '1'", "version: 1.2")
    (tmp_path / "manifest.yaml").write_text(text)
    assert read_manifest(tmp_path / "manifest.yaml").version == "1.2"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  layout:", "  layuot:", "input.layuot: unknown key (and 1 more) (did you mean layout?)"),
        ("sha256:", "sha265:", "sha265: unknown key (and 1 more) (did you mean sha256?)"),
        ("{width: 64", "{widht: 64", "input.shapes.0.widht: unknown key (and 1 more) (did you mean width?)"),
        ("nms_iou: 0.6", "nms_iuo: 0.6", "thresholds.nms_iuo: unknown key (did you mean nms_iou?)"),
        ("nms: group", "zebra: 1", "zebra: unknown key (known here: schema, name, version"),
        ("family: yolox", "family: yolo", "family: Input should be 'passerby', 'yolox'"),
        ("width: 64", "width: '64'", "input.shapes.0.width: Input should be a valid integer, not '64'"),
        ("width: 64", "width: 0", "input.shapes.0.width: Input should be greater than or equal to 32, not 0"),
        ("name: tiny", "name: ../tiny", "name: String should match pattern"),
        ("file: model.onnx", "file: ../../etc/passwd", "file: String should match pattern"),
        ("{output: output}", "{boxes: output}", "outputs of family yolox are output, not boxes"),
        ("{output: output}", "{output: [a, b]}", "outputs.output is one name"),
        ("[person, car, dog]", "[person, car, car]", "a class is listed twice"),
        ("[person, car, dog]", "[]", "classes: List should have at least 1 item"),
        ("low: 0.1", "low: 0.9", "thresholds: low (0.9) is above score (0.4)"),
        ("dtype: float32", "dtype: uint8\n  scale: imagenet\n  #", "input: a uint8 input holds 0-255"),
        ("schema: 1", "schema: 2", "schema: 2 is not known (this version reads schema 1)"),
        ("nms: group", "nms: [", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_file_key_and_mend(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = manifest_yaml(manifest_for(b"x")).replace("  scale: 0-255\n", "" if "uint8" in new else "  scale: 0-255\n")
    assert old in text
    path = tmp_path / "manifest.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError) as error:
        read_manifest(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gfl_model_has_as_many_scores_as_distances(tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(manifest_yaml(gfl()).replace("reg: [c, d]", "reg: [c]"))
    with pytest.raises(ModelError, match=r"outputs\.cls and outputs\.reg"):
        read_manifest(path)


@pytest.mark.parametrize("content", ["- a\n- b\n", "just words", "", b"\xff\xfe\x00"])
def test_a_file_that_is_no_mapping_is_refused_in_one_line(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ModelError) as error:
        read_manifest(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="passerby models add"):
        read_manifest(tmp_path / "manifest.yaml")


def test_outputs_come_in_the_order_of_the_roles() -> None:
    assert gfl().output_names() == ["a", "b", "c", "d"]
    boxes = manifest_for(b"x", family="boxes_scores", outputs={"scores": "s", "boxes": "b"})
    assert boxes.output_names() == ["b", "s"]
