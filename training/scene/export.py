"""Encoder and head as ONNX, compared with torch on real crops before anything is written."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.inference.onnx import RunSettings, Session
from training.scene.head import SceneHead
from training.scene.trunk import Trunk

OPSET = 17
MAX_FEATURE_DIFFERENCE = 1e-3
"""Of the encoder, relative to the mean absolute feature."""
MAX_SCORE_DIFFERENCE = 1e-4
"""Of the head's scores and attention, fed with the encoder's own features: from pixels to scores."""


@dataclass(frozen=True, slots=True)
class SceneDifference:
    """The largest differences between ONNX Runtime and torch on the clips compared.

    feature: relative to the mean absolute feature. score: of scores and attention.
    """

    feature: float
    score: float
    clips: int

    def check(self) -> None:
        """Raise ModelError when the export may not be used."""
        if not (self.feature <= MAX_FEATURE_DIFFERENCE and self.score <= MAX_SCORE_DIFFERENCE):
            raise ModelError(
                f"ONNX Runtime and torch differ by {self.feature:.2g} in features and {self.score:.2g} in scores; "
                f"allowed are {MAX_FEATURE_DIFFERENCE:g} and {MAX_SCORE_DIFFERENCE:g}: nothing was written",
                mend="check the exporter's version and the weights (nan means a broken run)",
            )


class _Scored(nn.Module):
    """The head as the file holds it: probabilities in place of logits."""

    def __init__(self, heads: Sequence[SceneHead]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits, attention = mean_of_heads(list(self.heads), features)
        return torch.sigmoid(logits), attention


def mean_of_heads(heads: Sequence[nn.Module], features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean logits and the mean attention of heads that were trained from different seeds."""
    told = [head(features) for head in heads]
    return torch.stack([each[0] for each in told]).mean(0), torch.stack([each[1] for each in told]).mean(0)


def export_encoder(trunk: Trunk) -> bytes:
    """``pictures`` uint8 batch x height x width x 3 RGB to ``features`` float32 batch x D."""
    axes = {"pictures": {0: "batch", 1: "height", 2: "width"}, "features": {0: "batch"}}
    example = torch.zeros(2, 98, 146, 3, dtype=torch.uint8)
    return _export(trunk.eval(), example, ["pictures"], ["features"], axes)


def export_head(heads: Sequence[SceneHead], frames: int, features: int) -> bytes:
    """``features`` float32 1 x T x D to ``scores`` 1 x K (0..1) and ``attention`` 1 x T-1 (sums to 1)."""
    example = torch.zeros(1, frames, features)
    return _export(_Scored(heads).eval(), example, ["features"], ["scores", "attention"], {})


def _export(
    module: nn.Module, example: Tensor, inputs: list[str], outputs: list[str], axes: dict[str, dict[int, str]]
) -> bytes:
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is the one that keeps the dimensions' names
        torch.onnx.export(
            module, (example,), buffer, input_names=inputs, output_names=outputs,
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def compare_scene(
    encoder: bytes, head: bytes, trunk: Trunk, heads: Sequence[SceneHead], clips: Sequence[NDArray[np.uint8]]
) -> SceneDifference:
    """Run both on clips (each T x H x W x 3 uint8 RGB crops) from pixels to scores, and tell how far they are apart."""
    ours = Session(encoder, name="the encoder", settings=RunSettings(), fixed={"batch": 1})
    theirs = Session(head, name="the head", settings=RunSettings())
    feature = score = 0.0
    for clip in clips:
        rows = np.concatenate([ours.run({"pictures": one[None]}, ["features"])[0] for one in clip])[None]
        scores, attention = theirs.run({"features": rows}, ["scores", "attention"])
        with torch.no_grad():
            wanted = trunk.eval()(torch.from_numpy(clip))[None]
            logits, weights = mean_of_heads([each.eval() for each in heads], wanted)
        feature = _worst(feature, np.abs(rows - wanted.numpy()) / np.abs(wanted.numpy()).mean())
        score = _worst(score, np.abs(scores - torch.sigmoid(logits).numpy()))
        score = _worst(score, np.abs(attention - weights.numpy()))
    return SceneDifference(feature, score, len(clips))


def _worst(so_far: float, differences: NDArray[np.float32]) -> float:
    worst = float(differences.max()) if differences.size else 0.0
    return max(so_far, worst) if math.isfinite(worst) else math.inf
