"""A small classifier with a known answer: a picture is as surely ``day`` as it is bright, else ``night``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.encoding import VideoWriter
from pipeline.inference.manifest import Manifest
from pipeline.inference.store import Model
from tests.inference.networks import kept


def brightness_classifier(
    folder: Path, classes: Sequence[str] = ("day", "night"), *, version: str = "1", score: float = 0.7
) -> Model:
    """The model in ``folder``: softmax of (m - 128) / 20 and its negative, m the mean of the picture, 0..255.

    So 128 is as much the one as the other, and 160 is day with 0.96.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["over"]),
        helper.make_node("Unsqueeze", ["over", "last"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    tensors = [
        numpy_helper.from_array(np.float32(128), "middle"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(np.array([[0.05, -0.05]], np.float32), "slopes"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 48, 3])
    told = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "brightness", [image], [told], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    manifest = Manifest.model_validate(
        {
            "schema": 1,
            "name": folder.name,
            "version": version,
            "task": "classification",
            "family": "classifier",
            "sha256": hashlib.sha256(data).hexdigest(),
            "input": {
                "name": "image",
                "layout": "nhwc",
                "dtype": "uint8",
                "color": "rgb",
                "scale": "0-255",
                "resize": "stretch",
                "shapes": [{"width": 48, "height": 32}],
            },
            "outputs": {"probabilities": "probabilities"},
            "classes": list(classes),
            "thresholds": {"score": score},
            "nms": "none",
        }
    )
    return kept(folder, data, manifest)


def day_and_night_clip(path: Path) -> Path:
    """A clip of 10 s: light for 4 s, neither for 2, dark for 4 with a flash of half a second; something moves in it."""
    fps = 10.0
    with VideoWriter(path, 320, 180, fps) as writer:
        for n in range(round(10 * fps)):
            t_s = n / fps
            level = 210 if t_s < 4 else 128 if t_s < 6 else 210 if 8 <= t_s < 8.5 else 30
            picture = np.full((180, 320, 3), level, np.uint8)
            picture[40:60, n * 3 % 280 :][:, :20] = 255 - level
            writer.write(picture, t_s)
    return path
