"""A user's ONNX: recognised, tried, measured and kept, or refused in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.detections import Detections
from pipeline.errors import ModelError
from pipeline.inference.adding import Wanted, drawn_picture, examine
from pipeline.inference.detector import Detector
from pipeline.inference.families import COCO_80, COCO_91
from pipeline.inference.manifest import Family, read_manifest
from pipeline.inference.store import load_model
from tests.inference.networks import answering, convolving, echoing, with_external_weights

CLASSES = ("person", "car", "dog")


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(data)
    return path


def added(tmp_path: Path, data: bytes, family: Family, **changes: Any) -> Detector:
    """Through ``examine``, the written folder and ``load_model``, as a user's model goes."""
    changes.setdefault("classes", CLASSES)
    examined = examine(written(tmp_path, data), Wanted(family, "theirs", **changes))
    examined.keep(tmp_path / "to")
    model = load_model(tmp_path / "to")
    assert model.manifest == examined.manifest
    assert model.read() == data, "the file is kept as it was brought"
    return Detector(model)


def seen(detector: Detector, width: int = 128, height: int = 128) -> list[tuple[str, float, list[float]]]:
    """What it says about a grey picture, in pixels of a frame of this size."""
    fit = detector.fit(width, height)
    grey = np.full((fit.height, fit.width, 3), 128, np.uint8)
    (found,) = detector.detect([grey], [(width, height)])
    assert isinstance(found, Detections)
    rows = zip(found.class_ids, found.scores, found.boxes, strict=True)
    return [(found.classes[i], round(float(score), 4), np.round(box, 2).tolist()) for i, score, box in rows]


def test_ultralytics(tmp_path: Path) -> None:
    table = np.zeros((7, 84), np.float32)
    table[:, 10] = [32, 16, 20, 10, 0.1, 0.8, 0.2]
    table[:, 11] = [32, 16, 20, 11, 0.0, 0.7, 0.2]  # the same car
    table[:, 50] = [10, 40, 8, 20, 0.6, 0.1, 0.1]
    metadata = {"names": "{0: 'person', 1: 'car', 2: 'dog'}"}
    data = answering({"output0": table}, ("batch", 3, 64, 64), metadata=metadata)
    detector = added(tmp_path, data, "ultralytics", classes=None)
    spec = detector.manifest.input
    assert (spec.color, spec.scale, spec.resize, spec.pad) == ("rgb", "0-1", "letterbox", 114)
    assert seen(detector) == [("car", 0.8, [44, 22, 84, 42]), ("person", 0.6, [12, 60, 28, 100])]


def test_ultralytics_with_rows_and_columns_exchanged_and_boxes_in_fractions(tmp_path: Path) -> None:
    table = np.zeros((84, 7), np.float32)
    table[10] = [0.5, 0.25, 0.25, 0.125, 0.1, 0.8, 0.2]
    detector = added(tmp_path, answering({"output0": table}), "ultralytics")
    assert detector.manifest.options.transposed
    assert detector.manifest.options.box_units == "normalized"
    assert seen(detector) == [("car", 0.8, [48, 24, 80, 40])]


def test_detr_with_no_object(tmp_path: Path) -> None:
    probabilities = np.full((20, 4), [0.01, 0.01, 0.01, 0.97])
    probabilities[4] = [0.1, 0.8, 0.05, 0.05]
    probabilities[5] = [0.9, 0.04, 0.03, 0.03]
    boxes = np.full((20, 4), 0.5, np.float32)
    boxes[5] = [0.25, 0.25, 0.125, 0.25]
    tables = {"pred_logits": np.log(probabilities).astype(np.float32), "pred_boxes": boxes}
    detector = added(tmp_path, answering(tables), "detr")
    spec, options = detector.manifest.input, detector.manifest.options
    assert (spec.resize, spec.scale, options.activation, options.background) == ("stretch", "imagenet", "softmax", -1)
    assert detector.manifest.nms == "none"
    assert seen(detector) == [("person", 0.9, [24, 16, 40, 48]), ("car", 0.8, [32, 32, 96, 96])]


def test_detr_with_sigmoids_and_coco_by_number(tmp_path: Path) -> None:
    logits = np.full((20, 91), -8, np.float32)
    logits[3, COCO_91.index("truck")] = math.log(0.75 / 0.25)
    boxes = np.full((20, 4), 0.5, np.float32)
    detector = added(tmp_path, answering({"a": boxes, "b": logits}), "detr", classes=None)
    assert detector.manifest.outputs == {"logits": "b", "boxes": "a"}
    assert seen(detector) == [("truck", 0.75, [32, 32, 96, 96])]


def test_coco_by_number_is_the_known_list() -> None:
    assert len(COCO_80) == 80
    assert [COCO_91[i] for i in (1, 3, 8, 13, 44, 90)] == [
        "person",
        "car",
        "truck",
        "stop sign",
        "bottle",
        "toothbrush",
    ]
    assert set(COCO_80) < set(COCO_91)


def test_yolox_as_logits_and_as_decoded_boxes(tmp_path: Path) -> None:
    table = np.full((84, 8), -9, np.float32)
    table[:, :4] = 0
    table[9] = [0.5, 0.5, math.log(2), math.log(3), 4, -3, 5, -3]  # cell x 1, y 1 of stride 8
    detector = added(tmp_path, answering({"output": table}), "yolox")
    assert detector.manifest.options.activation == "sigmoid"
    score = round(1 / (1 + math.exp(-4)) / (1 + math.exp(-5)), 4)
    ((name, got, box),) = seen(detector)
    assert (name, box) == ("car", [8, 0, 40, 48])
    assert got == pytest.approx(score, abs=2e-4)

    table = np.zeros((84, 8), np.float32)
    table[9] = [100, 12, 16, 24, 0.9, 0, 0.5, 0]
    table[10] = [32, 32, 16, 24, 0.9, 1, 0.5, 0]
    detector = added(tmp_path, answering({"output": table}), "yolox")
    assert detector.manifest.options.decoded
    assert seen(detector)[0] == ("person", 0.9, [48, 40, 80, 88])


@pytest.mark.parametrize(("levels", "resize", "color"), [(3, "letterbox", "bgr"), (4, "stretch", "rgb")])
def test_gfl_is_told_by_its_levels_and_its_scores_by_their_range(
    levels: int, resize: str, color: str, tmp_path: Path
) -> None:
    tables: dict[str, np.ndarray] = {}
    for stride in (8, 16, 32, 64)[:levels]:
        cells = (64 // stride) ** 2
        reg = np.full((cells, 32), -20, np.float32)
        reg.reshape(cells, 4, 8)[:, :, 2] = 20  # every distance is two strides
        tables[f"reg{stride}"] = reg  # the distances come first: only their range tells
        tables[f"cls{stride}"] = np.full((cells, 3), 0.01, np.float32)
    tables["cls16"][5, 0] = 0.9  # cell x 1, y 1: centre 16 + 7.5
    detector = added(tmp_path, answering(tables), "gfl")
    spec = detector.manifest.input
    assert (spec.resize, spec.color, spec.scale) == (resize, color, "imagenet")
    assert detector.manifest.options.strides == [8, 16, 32, 64][:levels]
    assert seen(detector, 64, 64) == [("person", 0.9, [0, 0, 55.5, 55.5])]


def test_boxes_in_fractions_and_scores_as_logits(tmp_path: Path) -> None:
    scores = np.full((6, 3), -6, np.float32)
    scores[2] = [-1, 0.5, 3]
    boxes = np.tile(np.array([0.25, 0.5, 0.75, 1], np.float32), (6, 1))
    detector = added(tmp_path, answering({"dets": scores, "boxes": boxes}), "boxes_scores", classes=None)
    assert detector.classes == ("vehicle", "person", "bicycle")
    ((name, score, box),) = seen(detector)
    assert (name, box) == ("bicycle", [32, 64, 96, 128])
    assert score == pytest.approx(1 / (1 + math.exp(-3)), abs=1e-4)


def test_passerby_takes_pictures_as_they_are(tmp_path: Path) -> None:
    data = echoing(("batch", "height", "width", 3), dtype="uint8", layout="nhwc")
    detector = added(tmp_path, data, "passerby", shapes=((128, 64), (64, 64)))
    spec = detector.manifest.input
    assert (spec.dtype, spec.layout, spec.scale, spec.color) == ("uint8", "nhwc", "0-255", "rgb")
    assert [(shape.width, shape.height) for shape in spec.shapes] == [(128, 64), (64, 64)]
    assert all(shape.cost_ms is not None and 0 < shape.cost_ms < 1000 for shape in spec.shapes)
    assert detector.fit(1920, 1080).input_width == 128


def test_a_network_of_any_size_gets_a_wide_and_a_square_shape(tmp_path: Path) -> None:
    examined = examine(written(tmp_path, echoing()), Wanted("boxes_scores", "theirs", classes=CLASSES))
    assert [(shape.width, shape.height) for shape in examined.manifest.input.shapes] == [(640, 384), (512, 512)]
    assert examined.inputs == ("images float32 batchx3xheightxwidth",)


def test_what_the_user_says_overrules_the_family(tmp_path: Path) -> None:
    table = np.zeros((84, 8), np.float32)
    wanted = Wanted(
        "yolox", "theirs", CLASSES, "stretch", "rgb", "0-1", score_threshold=0.05, nms_iou=0.33, version="7"
    )
    manifest = examine(written(tmp_path, answering({"output": table})), wanted).manifest
    spec, thresholds = manifest.input, manifest.thresholds
    assert (spec.resize, spec.color, spec.scale, manifest.version) == ("stretch", "rgb", "0-1", "7")
    assert (thresholds.score, thresholds.low, thresholds.nms_iou) == (0.05, 0.05, 0.33)


def test_what_will_never_count_and_what_will_be_slow_is_said(tmp_path: Path) -> None:
    table = np.zeros((84, 8), np.float32)
    data = answering({"output": table}, (4, 3, 64, 64))
    examined = examine(written(tmp_path, data), Wanted("yolox", "theirs", ("cat", "dog", "cow")))
    assert "nothing will be counted by default" in examined.warnings[0]
    assert "runs 4 pictures at a time" in examined.warnings[1]


YOLOX = {"output": np.zeros((84, 8), np.float32)}


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        (answering(YOLOX)[:-300], {}, "is cut short"),
        (b"not a network", {}, "is not an ONNX file"),
        (b"", {}, "is empty"),
        (with_external_weights("w.bin"), {}, r"keeps weights in another file \(w.bin\)"),
        (answering(YOLOX, ("batch", 3, 64, 64), dtype="float16"), {}, "neither float32 nor uint8"),
        (answering(YOLOX, ("batch", 1, 64, 64)), {}, "images float32 batchx1x64x64 has three colour channels neither"),
        (answering(YOLOX, extra_inputs=["size"]), {}, r"one input, .*; this network has images .*; size float32 1x2"),
        (answering(YOLOX), {"classes": None}, r"has 3 classes whose names are not known \(name them with --classes"),
        (answering(YOLOX), {"classes": ("a", "b")}, r"has 3 classes, but 2 are named: a, b \(mend --classes\)"),
        (answering(YOLOX), {"classes": ("a", "a", "b")}, "a class is listed twice"),
        (
            answering(YOLOX),
            {"classes": ("coco80",)},
            "has 3 classes, but 80 are named: person, bicycle, .* and 72 more",
        ),
        (answering(YOLOX), {"name": "../up"}, "name: String should match pattern"),
        (answering(YOLOX), {"family": "gfl"}, "not those of family gfl: a pair of tables"),
        (
            answering(YOLOX),
            {"family": "boxes_scores"},
            "not those of family boxes_scores: .*; a picture gives output 84x8",
        ),
        (answering(YOLOX), {"shapes": ((96, 96),)}, r"takes 64x64 and nothing else \(leave --shapes out\)"),
        (answering({"output": np.zeros((90, 8), np.float32)}), {}, "with 84 cells of strides 8, 16, 32"),
        (answering({"output": np.zeros((84, 8, 2), np.float32)}), {}, "one table of cells x"),
        (
            answering({"output": np.full((84, 8), np.nan, np.float32)}),
            {},
            "output output holds numbers that are not finite",
        ),
        (
            answering({"o": np.zeros((300, 6), np.float32)}),
            {"family": "ultralytics"},
            "ends with its own suppression: export it with nms=False",
        ),
        (
            answering({"o": np.zeros((116, 84), np.float32), "p": np.zeros((32, 16), np.float32)}),
            {"family": "ultralytics"},
            "a network for masks or poses has more",
        ),
        (
            answering({"l": np.zeros((9, 3), np.float32), "b": np.full((9, 4), 30, np.float32)}),
            {"family": "detr"},
            r"in 0..1, are wanted; .* \(it looks like --family boxes_scores\)",
        ),
        (
            answering({"output": np.zeros((84, 85), np.float32)}),
            {"family": "ultralytics"},
            r"\(it looks like --family yolox\)",
        ),
        (
            echoing(("batch", "height", "width", 3), dtype="uint8", layout="nhwc"),
            {"family": "passerby", "scale": "0-1"},
            r"takes 0-255 \(leave --scale out\)",
        ),
        (convolving(), {"shapes": ((32, 2048),)}, "its outputs are not those of family yolox"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    data: bytes, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, data)
    told = {"family": "yolox", "name": "theirs", "classes": CLASSES} | changes
    with pytest.raises(ModelError, match=said) as error:
        examine(path, Wanted(**told))
    assert "\n" not in str(error.value)


def test_a_dynamic_network_that_refuses_a_size_says_how_to_choose_one(tmp_path: Path) -> None:
    """Its cells are added to a table for 64x64 alone."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Add", ["cells", "for_64"], ["sums"]),
        helper.make_node("Reshape", ["sums", "flat"], ["output"]),
    ]
    tensors = [
        numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32), "for_64"),
        numpy_helper.from_array(np.array([0, -1, 8], np.int64), "flat"),
    ]
    sides = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", None, 8])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(ModelError, match=r"the network failed: .*\(640x384 may not suit it: --shapes\)"):
        examine(written(tmp_path, model.SerializeToString()), Wanted("yolox", "theirs", CLASSES))


def test_the_drawn_picture_is_the_same_everywhere() -> None:
    assert np.array_equal(drawn_picture(96, 64), drawn_picture(96, 64))
    assert drawn_picture(96, 64).shape == (64, 96, 3)
    assert len(np.unique(drawn_picture(96, 64).reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(
    ("file", "family", "spec", "nms_iou"),
    [
        ("yolox_nano_416_coco", "yolox", ("letterbox", "bgr", "0-255", 114), 0.5),
        ("picodet_s_416_coco", "gfl", ("stretch", "rgb", "imagenet", 114), 0.6),
        ("nanodet_m_416_coco", "gfl", ("letterbox", "bgr", "imagenet", 0), 0.6),
        ("pvb2003_864x480", "boxes_scores", ("stretch", "bgr", "0-255", 114), 0.6),
    ],
)
def test_the_third_party_models_need_no_flag(
    file: str, family: Family, spec: tuple[Any, ...], nms_iou: float, shared: Path, tmp_path: Path
) -> None:
    examined = examine(shared / "models" / f"{file}.onnx", Wanted(family, "theirs"))
    told = examined.manifest.input
    assert (told.resize, told.color, told.scale, told.pad) == spec
    assert examined.manifest.thresholds.nms_iou == nms_iou
    assert tuple(examined.manifest.classes) == (
        COCO_80 if family != "boxes_scores" else ("vehicle", "person", "bicycle")
    )
    model = examined.keep(tmp_path)
    assert read_manifest(model.folder / "manifest.yaml") == examined.manifest
