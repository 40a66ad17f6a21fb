"""INT8 by static quantisation (QDQ), kept only where it is measured to be as good and worth it.

ONNX Runtime's quantiser puts QuantizeLinear and DequantizeLinear around the operators; ranges of activations come from
calibration pictures. What follows the last convolutions (exponentials, sizes in pixels, products of probabilities)
spans ranges that 8 bits do not hold, so it stays float, and by default those last convolutions do as well.
Jacob et al.: "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from pipeline.errors import ModelError, UsageError
from pipeline.inference.store import keep_model
from training.datasets import CLASSES, DataSpec, Sample
from training.evaluate import GROUPS, Contender, Score, evaluate, fitted, picture_of, table
from training.export import COMPARED, Difference, compare
from training.models.pretrained import load_exported

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured. loss: the largest, in AP50. speedup: of the least sped-up view. kept: whether all suffices.

    difference: from the network in torch, on validation pictures; None where it is not one of ours.
    """

    settings: QuantiseSettings
    scores: list[Score]
    loss: float
    speedup: float
    bytes_before: int
    bytes_after: int
    difference: Difference | None
    kept: bool

    def verdict(self) -> str:
        """One line."""
        told = (
            f"INT8 loses {self.loss:.3f} of AP50 (allowed {self.settings.max_loss:g}), runs {self.speedup:.2f} times "
            f"as fast (wanted {self.settings.min_speedup:g}), has {self.bytes_after / 1e6:.2f} MB "
            f"(fp32 {self.bytes_before / 1e6:.2f})"
        )
        if self.difference is not None:
            told += f", is {self.difference.told()} (allowed {self.settings.max_difference:g} in a score)"
        return told + (": kept" if self.kept else ": not kept")


def quantise(data: bytes, feeds: Sequence[dict[str, NDArray[Any]]], settings: QuantiseSettings) -> bytes:
    """The network with 8-bit weights and activations. feeds: inputs of the network, for calibration.

    Raises UsageError for a calibration that does not exist, ModelError where the quantiser gives up.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod
    from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    if settings.calibration not in methods:
        raise UsageError(f"--calibration {settings.calibration!r}", mend=f"one of {', '.join(get_args(Calibration))}")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[dict[str, NDArray[Any]]] = iter(feeds)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, ready, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "small"))
        whole.write_bytes(data)
        try:
            quant_pre_process(whole, ready, skip_symbolic_shape=True)
            quantize_static(
                ready, small, Reader(), quant_format=QuantFormat.QDQ, per_channel=settings.per_channel,
                reduce_range=settings.reduce_range, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=methods[settings.calibration],
                nodes_to_exclude=left_float(onnx.load(str(ready)), head=settings.float_head),
                extra_options={"CalibPercentile": settings.percentile, "ActivationSymmetric": False},
            )  # fmt: skip
        except Exception as error:
            raise ModelError(f"the network cannot be quantised: {type(error).__name__}: {error}") from None
        return small.read_bytes()


def left_float(model: onnx.ModelProto, *, head: bool) -> list[str]:
    """Names of the nodes behind the last convolutions; ``head``: and of those convolutions themselves."""
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(model.graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(i)
    nodes = list(model.graph.node)
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


def quantised_model(
    contender: Contender,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    spec: DataSpec,
    to: Path,
    settings: QuantiseSettings,
    *,
    show: bool = False,
) -> Outcome:
    """Quantise, score beside fp32 in one run, and write ``to`` where the result passes the gate.

    What was measured is written beside it in any case, as ``to``.json.
    """
    before = contender.model.read()
    data = quantise(before, calibration_feeds(contender, train, spec, settings.pictures), settings)
    manifest = contender.model.manifest.model_copy(
        update={"name": to.name, "sha256": hashlib.sha256(data).hexdigest(), "file": "model.onnx", "card": None}
    )
    with tempfile.TemporaryDirectory() as folder:
        candidate = keep_model(data, manifest, None, Path(folder) / to.name)
        rival = Contender(f"{to.name} {contender.shape[0]}x{contender.shape[1]}", candidate, contender.shape)
        scores = evaluate([contender, rival], validation, spec, show=show)
    sizes = (len(before), len(data))
    outcome = _judged(settings, scores, sizes, _from_torch(contender, data, validation, spec))
    to.parent.mkdir(parents=True, exist_ok=True)
    told = asdict(outcome) | {"verdict": outcome.verdict()}
    to.with_name(f"{to.name}.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    if outcome.kept:
        card = f"# {manifest.name} {manifest.version}\n\n{outcome.verdict()}\n\n{table(scores)}\n"
        keep_model(data, manifest.model_copy(update={"card": "card.md"}), card, to)
    return outcome


def _from_torch(contender: Contender, data: bytes, samples: Sequence[Sample], spec: DataSpec) -> Difference | None:
    """How far the quantised network is from torch, on some of the samples."""
    manifest = contender.model.manifest
    if manifest.family != "passerby" or tuple(manifest.classes) != CLASSES:
        return None
    network = load_exported(contender.model.path, len(CLASSES))
    feeds = calibration_feeds(contender, samples, spec, COMPARED)
    return compare(data, network, [np.asarray(feed[manifest.input.name][0], np.uint8) for feed in feeds])


def _judged(
    settings: QuantiseSettings, scores: list[Score], sizes: tuple[int, int], difference: Difference | None
) -> Outcome:
    """scores: of each view fp32, then INT8. sizes: bytes, before and after."""
    pairs = list(zip(scores[::2], scores[1::2], strict=True))
    losses = [whole.mean[group] - small.mean[group] for whole, small in pairs for group in GROUPS]
    loss = max((each for each in losses if np.isfinite(each)), default=float("nan"))
    speedup = min(whole.cost_ms / max(small.cost_ms, 1e-9) for whole, small in pairs)
    near = difference is None or difference.score <= settings.max_difference
    kept = bool(loss <= settings.max_loss and speedup >= settings.min_speedup and near)
    return Outcome(settings, scores, loss, speedup, *sizes, difference, kept)
