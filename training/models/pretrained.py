"""The convolutions of somebody's exported YOLOX-nano, into our network.

An ONNX file keeps no module names worth matching, but it keeps the order in which convolutions are called; ours are
called in the same order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from pipeline.errors import ModelError
from training.models.detector import Detector, Head

COCO_COLUMNS = {"person": 0, "bicycle": 1, "car": 2, "motorcycle": 3, "bus": 5, "truck": 7}
"""Where our classes stand among COCO's 80."""

Convolution = tuple[NDArray[np.float32], NDArray[np.float32]]


def onnx_convolutions(path: Path) -> list[Convolution]:
    """Weight and bias of every convolution of an ONNX file, in the order of the calls."""
    try:
        graph = onnx.load(str(path)).graph
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file", mend="--init wants YOLOX-nano as ONNX") from None
    except Exception as error:
        raise ModelError(f"{path}: not an ONNX file: {error}") from None
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    if any(len(node.input) < 3 or not values.keys() >= set(node.input[1:]) for node in nodes):
        raise ModelError(f"{path}: its convolutions have no folded bias", mend="export it with BatchNorm folded")
    return [(values[node.input[1]], values[node.input[2]]) for node in nodes]


def called_convolutions(network: Detector) -> list[nn.Conv2d]:
    """Our convolutions in the order of the calls, as one forward pass on an empty picture shows it."""
    called: list[nn.Conv2d] = []

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        assert isinstance(module, nn.Conv2d)
        called.append(module)

    hooks = [one.register_forward_hook(note) for one in network.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return called


def load_coco(path: Path) -> Detector:
    """The network with COCO's 80 classes, as in the file. Raises ModelError when the shapes differ."""
    network = Detector(80)
    told, ours = onnx_convolutions(path), called_convolutions(network)
    if len(told) != len(ours):
        raise ModelError(f"{path}: {len(told)} convolutions, YOLOX-nano has {len(ours)}")
    for i, (conv, (weight, bias)) in enumerate(zip(ours, told, strict=True)):
        if tuple(conv.weight.shape) != weight.shape:
            raise ModelError(f"{path}: convolution {i} is {weight.shape}, ours {tuple(conv.weight.shape)}")
        with torch.no_grad():
            conv.weight.copy_(torch.from_numpy(weight.copy()))
            conv.bias.copy_(torch.from_numpy(bias.copy()))  # type: ignore[union-attr]
    return network


def load_pretrained(path: Path, classes: tuple[str, ...]) -> Detector:
    """The network for ``classes``, each taken from the COCO class of that name."""
    unknown = [name for name in classes if name not in COCO_COLUMNS]
    if unknown:
        raise ModelError(f"{path}: COCO has no class {', '.join(unknown)}", mend=f"known: {', '.join(COCO_COLUMNS)}")
    rows = torch.tensor([COCO_COLUMNS[name] for name in classes])
    whole = load_coco(path)
    network = Detector(len(classes))
    network.backbone.load_state_dict(whole.backbone.state_dict())
    for ours, theirs in zip(network.heads, whole.heads, strict=True):
        assert isinstance(ours, Head)
        state = theirs.state_dict()
        for key in ("class_logits.weight", "class_logits.bias"):
            state[key] = state[key][rows]
        ours.load_state_dict(state)
    return network
