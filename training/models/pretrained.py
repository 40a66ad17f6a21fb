"""The convolutions of an ONNX file into our network: a published YOLOX-nano or PicoDet-S, or one that we exported.

An ONNX file keeps no module names worth matching, but it keeps the order in which convolutions are called; ours are
called in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from pipeline.errors import ModelError
from training.models.architectures import ARCHITECTURES
from training.models.backbone import Activation
from training.models.network import Network
from training.models.picodet import STD_BGR, PicoDet
from training.models.yolox import YoloxNano

COCO_COLUMNS = {"person": 0, "bicycle": 1, "car": 2, "motorcycle": 3, "bus": 5, "truck": 7}
"""Where our classes stand among COCO's 80."""

Convolution = tuple[NDArray[np.float32], NDArray[np.float32]]


def onnx_convolutions(path: Path) -> list[Convolution]:
    """Weight and bias of every convolution of an ONNX file, in the order of the calls."""
    try:
        graph = onnx.load(str(path)).graph
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file", mend="YOLOX-nano or PicoDet-S as ONNX is wanted") from None
    except Exception as error:
        raise ModelError(f"{path}: not an ONNX file: {error}") from None
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for node in graph.node:  # where some exporters put biases, and what is the same twice
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    if any(len(node.input) < 3 or not values.keys() >= set(node.input[1:]) for node in nodes):
        raise ModelError(f"{path}: its convolutions have no folded bias", mend="export it with BatchNorm folded")
    return [(values[node.input[1]], values[node.input[2]]) for node in nodes]


def called_convolutions(network: Network) -> list[nn.Conv2d]:
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


def load_coco(path: Path) -> Network:
    """A published network with COCO's 80 classes, as in the file.

    Raises ModelError when it is none of ours.
    """
    return _filled(path, 80, _published_stem)


def load_exported(path: Path, classes: int) -> Network:
    """A network that ``training.export`` wrote, to train on. Raises ModelError when it is none of ours."""
    network = _filled(path, classes, lambda network, weight: network.own_stem(weight))
    network.activation = activation_in(path)
    network.bend(1.0)
    return network


def activation_in(path: Path) -> Activation:
    """Which activation a file that we exported has, or the published YOLOX-nano."""
    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    if "HardSwish" in operators:
        return "hardswish"
    return "relu" if "Relu" in operators else "silu"


def _filled(path: Path, classes: int, stem: Callable[[Network, Tensor], Tensor]) -> Network:
    """The architecture that has as many convolutions, with the file's. stem: the first one's weights, as ours are."""
    told = onnx_convolutions(path)
    networks = [made(classes) for made in ARCHITECTURES.values()]
    called = {id(each): called_convolutions(each) for each in networks}
    network = next((each for each in networks if len(called[id(each)]) == len(told)), None)
    if network is None:
        known = ", ".join(f"{each.architecture} {len(called[id(each)])}" for each in networks)
        raise ModelError(f"{path}: {len(told)} convolutions", mend=f"known are {known}")
    for i, (conv, (array, bias)) in enumerate(zip(called[id(network)], told, strict=True)):
        weight = torch.from_numpy(array.copy())
        weight = stem(network, weight) if i == 0 else weight
        if conv.weight.shape != weight.shape:
            raise ModelError(f"{path}: convolution {i} is {array.shape}, ours {tuple(conv.weight.shape)}")
        with torch.no_grad():
            conv.weight.copy_(weight)
            conv.bias.copy_(torch.from_numpy(bias.copy()))  # type: ignore[union-attr]
    return network


def _published_stem(network: Network, weight: Tensor) -> Tensor:
    """YOLOX-nano's is ours; PicoDet's reads RGB divided by the deviation, ours BGR 0..255."""
    if not isinstance(network, PicoDet):
        return weight
    return weight.flip(1) / weight.new_tensor(STD_BGR).reshape(3, 1, 1)


def load_pretrained(path: Path, classes: tuple[str, ...]) -> Network:
    """The network for ``classes``, each taken from the COCO class of that name."""
    unknown = [name for name in classes if name not in COCO_COLUMNS]
    if unknown:
        raise ModelError(f"{path}: COCO has no class {', '.join(unknown)}", mend=f"known: {', '.join(COCO_COLUMNS)}")
    rows = [COCO_COLUMNS[name] for name in classes]
    whole = load_coco(path)
    network = ARCHITECTURES[whole.architecture](len(classes))
    state = whole.state_dict()
    for i in range(len(network.heads)):
        last = f"heads.{i}.class_logits" if isinstance(network, YoloxNano) else f"heads.{i}.numbers"
        kept = rows if isinstance(network, YoloxNano) else rows + list(range(80, len(state[f"{last}.bias"])))
        for part in ("weight", "bias"):
            state[f"{last}.{part}"] = state[f"{last}.{part}"][torch.tensor(kept)]
    network.load_state_dict(state)
    return network
