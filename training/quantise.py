"""A network in INT8 (QDQ): by ranges from calibration pictures, or by those it was trained with.

ONNX Runtime's quantiser puts QuantizeLinear and DequantizeLinear around the convolutions; what is between them
(shortcuts, concatenations, activations) stays float: in 8 bits it was neither quicker nor better (docs/benchmarks.md).
What follows the last convolutions (exponentials, sizes in pixels, products of probabilities) spans ranges that 8 bits
do not hold, and by default those last convolutions stay float as well.
Jacob et al.: "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.errors import ModelError, UsageError
from training.datasets import DataSpec, Sample
from training.evaluate import Contender, fitted, picture_of
from training.models.fake_quantised import Affine, Ranges

Calibration = Literal["minmax", "percentile", "entropy"]
_CONVOLUTIONS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class QuantiseSettings:
    """calibration: how ranges come from pictures. pictures: so many of the training split. percentile: kept of them.

    float_head: leave the last convolutions float, too. reduce_range: weights of 7 bits, without which CPUs that have
    AVX2 but no VNNI overflow in their 16-bit sums. per_channel: a scale for each channel of the weights.
    max_loss: of AP50 in any group and view. min_speedup: against fp32 in the same run. max_difference: of a score, from
    torch's, where the network is one of ours.
    """

    calibration: Calibration = "percentile"
    pictures: int = 64
    percentile: float = 99.99
    float_head: bool = True
    reduce_range: bool = True
    per_channel: bool = True
    max_loss: float = 0.01
    min_speedup: float = 1.5
    max_difference: float = 0.2

    @property
    def largest_weight(self) -> int:
        """Weights are held as -this..this."""
        return 64 if self.reduce_range else 127


def quantise(
    data: bytes,
    feeds: Sequence[dict[str, NDArray[Any]]],
    settings: QuantiseSettings,
    ranges: Sequence[Ranges | None] | None = None,
) -> bytes:
    """The network with convolutions of 8-bit weights and activations. feeds: inputs of the network, for calibration.

    ranges: of its convolutions, in their order, in place of calibrated ones; one feed is then enough.
    Raises UsageError for a calibration that does not exist, ModelError where the quantiser gives up.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    if settings.calibration not in methods:
        raise UsageError(f"--calibration {settings.calibration!r}", mend=f"one of {', '.join(get_args(Calibration))}")

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")  # and the calibration prints its progress
        whole, ready, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "small"))
        whole.write_bytes(data)
        try:
            quant_pre_process(whole, ready, skip_symbolic_shape=True)
            plain = onnx.load(str(ready))
            options: dict[str, Any] = {"CalibPercentile": settings.percentile, "ActivationSymmetric": False}
            if ranges is not None:
                told = dict(zip(convolutions_in(onnx.load_from_string(data)), ranges, strict=True))
                options["TensorQuantOverrides"] = _overrides(plain, told)
            quantize_static(
                ready, small, reader_of(feeds), quant_format=QuantFormat.QDQ, per_channel=settings.per_channel,
                reduce_range=settings.reduce_range, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=methods[settings.calibration if ranges is None else "minmax"],
                op_types_to_quantize=[*sorted(_CONVOLUTIONS), "Relu"],
                nodes_to_exclude=left_float(plain, head=settings.float_head), extra_options=options,
            )  # fmt: skip
        except Exception as error:
            raise ModelError(f"the network cannot be quantised: {type(error).__name__}: {error}") from None
        return bytes(_float_between(onnx.load(str(small))).SerializeToString())


def reader_of(feeds: Sequence[dict[str, NDArray[Any]]]) -> Any:
    """The feeds, once through, as ONNX Runtime's calibration wants them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[dict[str, NDArray[Any]]] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._left, None)

    return Reader()


def convolutions_in(model: onnx.ModelProto) -> list[str]:
    """The names of its convolutions, in their order."""
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def ranges_in(quantised: bytes, names: Sequence[str]) -> list[Ranges | None]:
    """The ranges of the convolutions ``names`` of a quantised network; None: of one that is float."""
    graph = onnx.load_from_string(quantised).graph
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    quantisers = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes = {node.name: node for node in graph.node if node.op_type == "Conv"}

    def held(node: onnx.NodeProto) -> Affine:
        return Affine(float(values[node.input[1]]), int(values[node.input[2]]))

    told: list[Ranges | None] = []
    for name in names:
        before, after = (makers.get(nodes[name].input[0]), quantisers.get(nodes[name].output[0]))
        quantised_ = before is not None and before.op_type == "DequantizeLinear" and after is not None
        told.append(Ranges(held(before), held(after)) if quantised_ else None)  # type: ignore[arg-type]
    return told


def _overrides(model: onnx.ModelProto, ranges: Mapping[str, Ranges | None]) -> dict[str, list[dict[str, Any]]]:
    """The ranges as ONNX Runtime's quantiser wants them, by the tensors' names."""
    readers = _readers(model)
    told: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        known = ranges.get(node.name) if node.op_type == "Conv" else None
        if known is None:
            continue
        following = [model.graph.node[k] for k in readers.get(node.output[0], [])]
        merged = len(following) == 1 and following[0].op_type == "Relu"  # it becomes the lower end of the range
        output = following[0].output[0] if merged else node.output[0]
        for name, held in ((node.input[0], known.input), (output, known.output)):
            told[name] = [{"scale": np.array(held.scale, np.float32), "zero_point": np.array(held.zero, np.uint8)}]
    return told


def _float_between(model: onnx.ModelProto) -> onnx.ModelProto:
    """What else reads a convolution's input (a shortcut, say) reads it before it is rounded, as in training."""
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in _CONVOLUTIONS or node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        for i, name in enumerate(node.input):
            rounded = makers.get(name)
            if rounded is None or rounded.op_type != "DequantizeLinear" or rounded.input[0] not in makers:
                continue
            source = makers[rounded.input[0]].input[0]
            if source not in makers or makers[source].op_type not in _CONVOLUTIONS:
                node.input[i] = source
    return model


def _readers(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Tensor -> the numbers of the nodes that read it."""
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(model.graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(i)
    return readers


def left_float(model: onnx.ModelProto, *, head: bool) -> list[str]:
    """Names of the nodes behind the last convolutions; ``head``: and of those convolutions themselves."""
    readers, nodes = _readers(model), list(model.graph.node)
    after: dict[int, set[int]] = {}
    for i in reversed(range(len(nodes))):  # an ONNX graph is sorted: who reads comes later
        following = {k for name in nodes[i].output for k in readers.get(name, [])}
        after[i] = following.union(*(after[k] for k in following))
    last = [
        i
        for i, node in enumerate(nodes)
        if node.op_type in _CONVOLUTIONS and not any(nodes[k].op_type in _CONVOLUTIONS for k in after[i])
    ]
    behind = set().union(*(after[i] for i in last)) | (set(last) if head else set())
    return [nodes[i].name for i in sorted(behind)]


def calibration_feeds(
    contender: Contender, samples: Sequence[Sample], spec: DataSpec, count: int, seed: int = 0
) -> list[dict[str, NDArray[Any]]]:
    """Inputs of the network made of ``count`` of the samples, in their 16:9 view, as the pipeline feeds them."""
    detector = contender.detector()
    chosen = np.random.default_rng(seed).permutation(len(samples))[:count]
    feeds = []
    for i in chosen.tolist():
        picture = picture_of(samples[i], spec, "16:9")
        fit = detector.fit(picture.image.shape[1], picture.image.shape[0])
        feeds.append({detector.manifest.input.name: fit.tensor([fitted(detector, picture.image)])})
    return feeds
