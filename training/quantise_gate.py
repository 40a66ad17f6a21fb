"""INT8 is kept only where it is measured to be as good as fp32 and worth it; it can be trained to be as good.

Static quantisation comes first. Where it fails by its accuracy and epochs are asked for, the network is trained with
its convolutions in 8 bits (``training.quantise_training``) and judged beside fp32 and the static one, in one run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.inference.manifest import Manifest
from pipeline.inference.store import keep_model
from training.datasets import CLASSES
from training.evaluate import GROUPS, Contender, Score, evaluate, table
from training.export import COMPARED, Difference, compare
from training.models.network import Network
from training.models.pretrained import load_exported
from training.quantise import QuantiseSettings, calibration_feeds, quantise
from training.quantise_training import Planned, ours, train_quantised
from training.session import Prepared


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured. loss: the largest, in AP50. speedup: of the least sped-up view. kept: whether all suffices.

    difference: from the network in torch, on validation pictures; None where it is not one of ours. Of a trained one:
    from the network as it was trained, its convolutions in 8 bits. epochs: that it was trained for, 0: not at all.
    """

    settings: QuantiseSettings
    scores: list[Score]
    loss: float
    speedup: float
    bytes_before: int
    bytes_after: int
    difference: Difference | None
    kept: bool
    epochs: int = 0

    @property
    def as_good(self) -> bool:
        """Whether it suffices but for the speed, which no training changes."""
        near = self.difference is None or self.difference.score <= self.settings.max_difference
        return self.loss <= self.settings.max_loss and near

    def verdict(self) -> str:
        """One line."""
        told = (
            f"INT8 loses {self.loss:.3f} of AP50 (allowed {self.settings.max_loss:g}), runs {self.speedup:.2f} times "
            f"as fast (wanted {self.settings.min_speedup:g}), has {self.bytes_after / 1e6:.2f} MB "
            f"(fp32 {self.bytes_before / 1e6:.2f})"
        )
        if self.epochs:
            told += f", was trained for {self.epochs} epochs"
        if self.difference is not None:
            told += f", is {self.difference.told()} (allowed {self.settings.max_difference:g} in a score)"
        return told + (": kept" if self.kept else ": not kept")

    def mend(self) -> str:
        """What to try next, where it was not kept."""
        if self.as_good:
            return "a CPU with VNNI, a network with ReLU (detector --activation relu), or stay with fp32 or fp16"
        if self.difference is None:  # it is not ours to train
            return "another --calibration, or stay with fp32 or fp16"
        if not self.epochs:
            return "train it in 8 bits (--epochs 2), or another --calibration"
        return "more --epochs, a smaller --step, or another --calibration"


@dataclass(frozen=True, slots=True)
class _Made:
    """An INT8 network to be judged. network: what it is to say the same as, in torch; None where there is none."""

    name: str
    data: bytes
    network: Network | None
    epochs: int = 0


def quantised_model(
    contender: Contender,
    prepared: Prepared,
    to: Path,
    settings: QuantiseSettings,
    planned: Planned | None = None,
    *,
    show: bool = False,
) -> Outcome:
    """Quantise, score beside fp32 in one run, and write ``to`` where the result passes the gate.

    planned: how to train where it is not as good without. What was measured is written beside it in any case, as
    ``to``.json. Raises ModelError for a network that cannot be trained so, UsageError for a run that is there already.
    """
    if planned is not None:
        planned.check(contender)
    feeds = calibration_feeds(contender, prepared.train, prepared.spec, settings.pictures)
    network = load_exported(contender.model.path, len(CLASSES)) if ours(contender) else None
    made = [_Made(to.name, quantise(contender.model.read(), feeds, settings), network)]
    outcome = _measured(contender, prepared, made, settings, show)
    if planned is not None and not outcome.as_good:
        tqdm.write(f"without training: {outcome.verdict()}")
        trained = train_quantised(contender, prepared, feeds, made[0].data, settings, planned)
        made = [
            _Made(f"{to.name}-static", made[0].data, network),
            _Made(to.name, trained.data, trained.network, trained.epochs),
        ]
        outcome = _measured(contender, prepared, made, settings, show)
    to.parent.mkdir(parents=True, exist_ok=True)
    told = asdict(outcome) | {"verdict": outcome.verdict()}
    to.with_name(f"{to.name}.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    if outcome.kept:
        manifest = _manifest(contender, made[-1])
        card = f"# {manifest.name} {manifest.version}\n\n{outcome.verdict()}\n\n{table(outcome.scores)}\n"
        keep_model(made[-1].data, manifest.model_copy(update={"card": "card.md"}), card, to)
    return outcome


def _manifest(contender: Contender, made: _Made) -> Manifest:
    told = {"name": made.name, "sha256": hashlib.sha256(made.data).hexdigest(), "file": "model.onnx", "card": None}
    return contender.model.manifest.model_copy(update=told)


def _measured(
    contender: Contender, prepared: Prepared, made: Sequence[_Made], settings: QuantiseSettings, show: bool
) -> Outcome:
    """All beside fp32 in one run; it is the last that is judged."""
    with tempfile.TemporaryDirectory() as folder:
        rivals = [
            Contender(
                f"{each.name} {contender.shape[0]}x{contender.shape[1]}",
                keep_model(each.data, _manifest(contender, each), None, Path(folder) / str(i)),
                contender.shape,
            )
            for i, each in enumerate(made)
        ]
        scores = evaluate([contender, *rivals], prepared.validation, prepared.spec, show=show)
    last = made[-1]
    difference = None
    if last.network is not None:
        name = contender.model.manifest.input.name
        pictures = calibration_feeds(contender, prepared.validation, prepared.spec, COMPARED)
        difference = compare(last.data, last.network, [np.asarray(each[name][0], np.uint8) for each in pictures])
    sizes = (len(contender.model.read()), len(last.data))
    return replace(_judged(settings, scores, sizes, difference, len(made)), epochs=last.epochs)


def _judged(
    settings: QuantiseSettings,
    scores: list[Score],
    sizes: tuple[int, int],
    difference: Difference | None,
    rivals: int = 1,
) -> Outcome:
    """scores: of each view fp32, then ``rivals`` in INT8; the last is judged. sizes: bytes, before and after."""
    pairs = list(zip(scores[:: rivals + 1], scores[rivals :: rivals + 1], strict=True))
    losses = [whole.mean[group] - small.mean[group] for whole, small in pairs for group in GROUPS]
    loss = max((each for each in losses if np.isfinite(each)), default=float("nan"))
    speedup = min(whole.cost_ms / max(small.cost_ms, 1e-9) for whole, small in pairs)
    outcome = Outcome(settings, scores, loss, speedup, *sizes, difference, kept=False)
    return replace(outcome, kept=outcome.as_good and speedup >= settings.min_speedup)
