"""A small scene model with known answers: ``fight`` is as sure as its clip is red, ``fall`` as it is green."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.inference.manifest import MANIFEST_NAME
from pipeline.inference.scene import SceneFiles, load_scene_files
from pipeline.inference.scene_manifest import SceneManifest, scene_manifest_yaml


def encoder() -> bytes:
    """N x H x W x 3 uint8 -> N x 3: the mean of each channel, 0..1."""
    nodes = [
        helper.make_node("Cast", ["pictures"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["means", "most"], ["features"]),
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["batch", "height", "width", 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])
    return _finished(nodes, [pictures], [features], [numpy_helper.from_array(np.float32(255), "most")])


def head(*, steps: bool = False, factor: float = 1.0) -> bytes:
    """1 x T x 3 -> the mean of the first two channels times ``factor``, and attention to what is red.

    steps: one weight for each step from frame to frame, T - 1.
    """
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["means"], axes=[1], keepdims=0),
        helper.make_node("Gather", ["means", "first_two"], ["plain"], axis=1),
        helper.make_node("Mul", ["plain", "factor"], ["scores"]),
        helper.make_node("Gather", ["features", "red"], ["reds"], axis=2),
        helper.make_node("Slice", ["reds", "begin", "end", "of_time"], ["looked"]),
        helper.make_node("Softmax", ["looked"], ["attention"], axis=1),
    ]
    tensors = [
        numpy_helper.from_array(np.array([0, 1], np.int64), "first_two"),
        numpy_helper.from_array(np.float32(factor), "factor"),
        numpy_helper.from_array(np.array(0, np.int64), "red"),
        numpy_helper.from_array(np.array([1 if steps else 0], np.int64), "begin"),
        numpy_helper.from_array(np.array([10_000], np.int64), "end"),
        numpy_helper.from_array(np.array([1], np.int64), "of_time"),
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, "time", 3])
    told = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
        helper.make_tensor_value_info("attention", TensorProto.FLOAT, [1, None]),
    ]
    return _finished(nodes, [features], told, tensors)


def told(encoder_data: bytes, head_data: bytes, **changes: Any) -> dict[str, Any]:
    """What stands in the manifest of these networks, with some keys changed."""
    plain: dict[str, Any] = {
        "schema": 1,
        "name": "tiny-scene",
        "version": "1",
        "task": "scene",
        "encoder": {
            "file": "encoder.onnx",
            "sha256": hashlib.sha256(encoder_data).hexdigest(),
            "input": {"name": "pictures", "width": 32, "height": 20, "color": "rgb"},
            "output": "features",
            "size": 3,
        },
        "head": {
            "file": "head.onnx",
            "sha256": hashlib.sha256(head_data).hexdigest(),
            "input": "features",
            "scores": "scores",
            "attention": "attention",
        },
        "clip": {"frames": 16, "stride": 8, "interval_s": 0.125, "tolerance": 1.0},
        "crop": {"rule": "motion", "width": 0.5, "height": 0.5, "keep": 0.8},
        "kinds": {"fight": {"start": 0.6, "end": 0.4}, "fall": {"start": 0.6, "end": 0.4, "persons": 1}},
    }
    return plain | changes


def scene_model(folder: Path, *, encoder_data: bytes = b"", head_data: bytes = b"", **changes: Any) -> SceneFiles:
    """The model written into ``folder``."""
    encoder_data, head_data = encoder_data or encoder(), head_data or head()
    folder.mkdir(parents=True, exist_ok=True)
    manifest = SceneManifest.model_validate(told(encoder_data, head_data, **changes))
    (folder / manifest.encoder.file).write_bytes(encoder_data)
    (folder / manifest.head.file).write_bytes(head_data)
    (folder / MANIFEST_NAME).write_text(scene_manifest_yaml(manifest), encoding="utf-8")
    return load_scene_files(folder)


def _finished(nodes: list[Any], inputs: list[Any], outputs: list[Any], tensors: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
