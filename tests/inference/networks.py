"""Small ONNX networks with known answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.inference.manifest import MANIFEST_NAME, Manifest, manifest_yaml
from pipeline.inference.store import Model

_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "float16": TensorProto.FLOAT16}


def answering(
    outputs: Mapping[str, np.ndarray[Any, Any]],
    shape: Sequence[int | str | None] = ("batch", 3, 64, 64),
    *,
    dtype: str = "float32",
    name: str = "images",
    metadata: Mapping[str, str] | None = None,
    extra_inputs: Sequence[str] = (),
) -> bytes:
    """A network that gives the same tables (without the batch axis) for every picture, whatever is in it."""
    nodes = [
        helper.make_node("Cast", [name], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["nothings"]),
    ]
    tensors = [numpy_helper.from_array(np.float32(0), "nothing")]
    told = []
    for output, table in outputs.items():
        column = np.array([-1] + [1] * table.ndim, np.int64)
        tensors += [
            numpy_helper.from_array(column, f"{output}_axes"),
            numpy_helper.from_array(table[None], f"{output}_is"),
        ]
        nodes += [
            helper.make_node("Reshape", ["nothings", f"{output}_axes"], [f"{output}_nothing"]),
            helper.make_node("Add", [f"{output}_nothing", f"{output}_is"], [output]),
        ]
        told.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], *table.shape]))
    inputs = [helper.make_tensor_value_info(name, _TYPES[dtype], list(shape))]
    inputs += [helper.make_tensor_value_info(extra, TensorProto.FLOAT, [1, 2]) for extra in extra_inputs]
    return _finished(nodes, inputs, told, tensors, metadata)


def echoing(
    shape: Sequence[int | str | None] = ("batch", 3, "height", "width"), *, dtype: str = "float32", layout: str = "nchw"
) -> bytes:
    """A passerby network: a box a cell of 8 x 8 pixels, its score the mean of channel ``class`` in the cell / 255."""
    nodes = [helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT)]
    planes = "as_float"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["as_float"], ["planes"], perm=[0, 3, 1, 2]))
        planes = "planes"
    nodes += [
        helper.make_node("AveragePool", [planes], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Div", ["cells", "most"], ["shares"]),
        helper.make_node("Reshape", ["shares", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros", "last"], ["zero_column"], keepdims=1),
        helper.make_node("Add", ["zero_column", "box"], ["boxes"]),
    ]
    tensors = [
        numpy_helper.from_array(np.float32(255), "most"),
        numpy_helper.from_array(np.array([0, 3, -1], np.int64), "flat"),
        numpy_helper.from_array(np.float32(0), "zero"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
        numpy_helper.from_array(np.array([8, 8, 24, 40], np.float32), "box"),
    ]
    inputs = [helper.make_tensor_value_info("images", _TYPES[dtype], list(shape))]
    told = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [shape[0], None, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], None, 3]),
    ]
    return _finished(nodes, inputs, told, tensors, None)


def convolving(classes: int = 3, seed: int = 0) -> bytes:
    """A yolox network of one level (stride 8) with random weights: its answers depend on every pixel."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.0015, (5 + classes, 3, 8, 8)).astype(np.float32)
    weights -= weights.mean(axis=(1, 2, 3), keepdims=True)  # so that answers spread around 0 for any picture
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["cells"], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "flat"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["output"], perm=[0, 2, 1]),
    ]
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array([0, 5 + classes, -1], np.int64), "flat"),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    told = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", None, 5 + classes])]
    return _finished(nodes, inputs, told, tensors, None)


def with_external_weights(location: str) -> bytes:
    """A network whose weights lie in another file."""
    model = onnx.load_from_string(answering({"output": np.zeros((84, 8), np.float32)}))
    tensor = next(each for each in model.graph.initializer if each.name == "output_is")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


def manifest_for(data: bytes, **changes: Any) -> Manifest:
    """A yolox manifest for ``data``, with some keys changed (``input`` is merged)."""
    told: dict[str, Any] = {
        "schema": 1,
        "name": "tiny",
        "version": "1",
        "family": "yolox",
        "sha256": hashlib.sha256(data).hexdigest(),
        "input": {
            "name": "images",
            "layout": "nchw",
            "dtype": "float32",
            "color": "rgb",
            "scale": "0-255",
            "resize": "letterbox",
            "shapes": [{"width": 64, "height": 64}],
        },
        "outputs": {"output": "output"},
        "classes": ["person", "car", "dog"],
    }
    told["input"] |= changes.pop("input", {})
    return Manifest.model_validate(told | changes)


def kept(folder: Path, data: bytes, manifest: Manifest) -> Model:
    """The model written into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest.file).write_bytes(data)
    (folder / MANIFEST_NAME).write_text(manifest_yaml(manifest), encoding="utf-8")
    return Model(manifest, folder, folder / manifest.file)


def convolving_model(folder: Path, shapes: Sequence[tuple[int, int]] = ((64, 64),), **changes: Any) -> Model:
    """The ``convolving`` network as a model that finds many boxes."""
    data = convolving()
    spec = {"shapes": [{"width": width, "height": height} for width, height in shapes]}
    options = {"strides": [8], "activation": "sigmoid"}
    thresholds = {"score": 0.3, "low": 0.2, "nms_iou": 0.5}
    return kept(folder, data, manifest_for(data, input=spec, options=options, thresholds=thresholds, **changes))


def _finished(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    tensors: list[onnx.TensorProto],
    metadata: Mapping[str, str] | None,
) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()
