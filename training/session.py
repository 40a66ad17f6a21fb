"""What the commands do: data, split, training, choice of thresholds, release."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.classes import group_of
from pipeline.core.detections import Detections
from pipeline.errors import ModelError, UsageError
from pipeline.inference.detector import Detector as Runner
from pipeline.inference.manifest import Thresholds
from pipeline.inference.store import Model, keep_model, load_model
from training.augment import AugmentedPictures
from training.card import Told, model_card
from training.checkpoints import is_checkpoint
from training.datasets import CLASSES, DataSpec, Sample, read_data_spec, read_samples
from training.devices import CPU
from training.evaluate import (
    GROUPS,
    MIN_SCORE,
    Contender,
    Picture,
    Score,
    detect_all,
    fitted,
    labels_group,
    picture_of,
    score_found,
    truth_of,
)
from training.export import COMPARED, Difference, Precision, export_onnx, parity_told, precision_of
from training.models.architectures import network_of
from training.models.network import Network
from training.models.pretrained import load_exported, load_pretrained
from training.models.yolox import YoloxNano
from training.overlap import iou
from training.release import SHAPES, Release, Shape, manifest_of, write_release
from training.scenes import Split, split_by_scene
from training.trainer import CHECKPOINT, Learns, Recipe, Training, interpolated, load_weights, mean_of, read_checkpoint

NMS_IOU = 0.6


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data, divided."""

    spec: DataSpec
    samples: list[Sample]
    split: Split

    @property
    def train(self) -> list[Sample]:
        """The training pictures."""
        return [self.samples[i] for i in self.split.train]

    @property
    def validation(self) -> list[Sample]:
        """The validation pictures."""
        return [self.samples[i] for i in self.split.validation]


def prepare(data: Path, root: Path | None) -> Prepared:
    """Read the data file and its sets, and divide them by scene."""
    spec = read_data_spec(data, root)
    samples = read_samples(spec)
    return Prepared(spec, samples, split_by_scene(samples, spec))


@dataclass(frozen=True, slots=True)
class Start:
    """The weights to start from.

    init: YOLOX-nano or PicoDet-S as ONNX. checkpoint: of this program, or a model that it exported, by name or folder;
    ``share`` of it and the rest of init, if both are given. also: further checkpoints, the mean of all is taken.
    architecture: what to start untrained, if neither is.
    """

    init: Path | None = None
    checkpoint: Path | None = None
    share: float = 1.0
    architecture: str = YoloxNano.architecture
    also: tuple[Path, ...] = ()

    def network(self) -> Network:
        """A network with these weights; untrained where none are named."""
        if self.checkpoint is None:
            if self.init is None:
                return network_of(self.architecture, len(CLASSES))
            return load_pretrained(self.init, CLASSES)
        network = mean_of({str(each): _weights(each) for each in (self.checkpoint, *self.also)})
        if self.share < 1:
            if self.init is None:
                raise UsageError("--share below 1 mixes with other weights", mend="name them with --init")
            network = interpolated(load_pretrained(self.init, CLASSES), network, self.share)
        return network


def _weights(told: Path) -> Network:
    """Of a checkpoint, or of a model of ours by its name or folder. Raises ModelError."""
    if is_checkpoint(told):
        return load_weights(told)
    model = load_model(str(told))
    if model.manifest.family != "passerby" or tuple(model.manifest.classes) != CLASSES:
        known = ", ".join(model.manifest.classes)
        raise ModelError(
            f"{model.name}: its family is {model.manifest.family} and its classes are {known}",
            mend=f"a detector that passerby-train exported is wanted, with the classes {', '.join(CLASSES)}",
        )
    return load_exported(model.path, len(CLASSES))


def knows_lying(told: Path) -> bool:
    """Whether a checkpoint, or a model of ours by its name or folder, was taught people who lie."""
    if is_checkpoint(told):
        return float(read_checkpoint(told)["recipe"].get("turned", 0.0)) > 0
    return load_model(str(told)).manifest.lying


def train_detector(
    data: Path,
    root: Path | None,
    start: Start,
    out: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    device: torch.device = CPU,
) -> float:
    """Train, or go on. Returns the best validation score."""
    if not resume and (out / CHECKPOINT).exists():
        raise UsageError(f"{out}: there is a run in it already", mend="add --resume, or name another --out")
    prepared = prepare(data, root)
    if resume:
        training = Training.resume(out, recipe.epochs, device)
        recipe = training.recipe
    else:
        training = Training(start.network(), recipe, out, device)
    if recipe.taught or recipe.learns == "names":
        training.teacher = _teacher(start, recipe).to(device)
    pictures = AugmentedPictures(
        prepared.train, prepared.spec, recipe.shapes,
        count=recipe.pictures, batch=recipe.batch, seed=recipe.seed, strides=training.network.strides,
        turned=recipe.turned,
    )  # fmt: skip
    views = [picture_of(each, prepared.spec, "16:9") for each in prepared.validation]
    shape = next(iter(recipe.shapes))
    training.run(pictures, lambda network: validation_score(network, views, shape, recipe.learns))
    return max(training.history)


def _teacher(start: Start, recipe: Recipe) -> Network:
    """The start, of which a network that is taught may not go far."""
    if start.init is None and start.checkpoint is None:
        wanting = "--learns names" if recipe.learns == "names" else "--taught"
        raise UsageError(f"{wanting} needs the weights of the teacher", mend="name them with --start or --init")
    network = start.network()
    if recipe.learns == "names" and recipe.taught:
        raise UsageError("--learns names holds everything else already", mend="leave out --taught")
    if recipe.learns == "names" and recipe.activation not in {None, network.activation}:
        raise UsageError("--learns names leaves the activation as it is", mend="leave out --activation")
    return network


def validation_score(
    network: Network,
    pictures: list[Picture],
    shape: Shape,
    learns: Learns = "all",
    *,
    exported: Callable[[Network], bytes] = export_onnx,
) -> float:
    """Mean AP50 over people and vehicles, 16:9 views at ``shape`` (0 for a group without truth).

    Where only names are learned: the share of the vehicles found that are named rightly, the mean over the kinds.
    exported: the network as the ONNX file that is scored.
    """
    with tempfile.TemporaryDirectory() as folder:
        contender = _contender(exported(network), Path(folder), shape)
        found = detect_all(contender.detector(MIN_SCORE), pictures)
    scores = score_found(contender, "16:9", pictures, found, 0.0)
    told = scores.named if learns == "names" else scores.mean
    return float(np.nan_to_num(list(told.values()) or [0.0]).mean())


def release_checkpoint(
    checkpoint: Path,
    to: Path,
    data: Path,
    root: Path | None,
    init: Path | None,
    share: float,
    version: str,
    shapes: Sequence[Shape] = SHAPES,
    precision: Precision = "fp32",
    also: Sequence[Path] = (),
) -> tuple[Model, Difference]:
    """Export a checkpoint (or a model of ours, or the mean with others), mixed with the start weights, with thresholds
    chosen on validation at the first shape; and how far it is from torch."""
    network = Start(init, checkpoint, share, also=tuple(also)).network()
    prepared = prepare(data, root)
    pictures = [picture_of(each, prepared.spec, "16:9") for each in prepared.validation]
    with tempfile.TemporaryDirectory() as folder:
        contender = _contender(export_onnx(network), Path(folder), shapes[0])
        whole = contender.detector(MIN_SCORE)
        thresholds = choose_thresholds(pictures, detect_all(whole, pictures))
        shown = [_letterboxed(whole, each) for each in pictures[:: max(1, len(pictures) // COMPARED)]]
    parity = f"## Parity\n\n{parity_told(precision)}"
    card = f"# {to.name} {version}\n\nThe whole card is written by `passerby-train card`.\n\n{parity}\n"
    release = Release(to.name, version, CLASSES, thresholds, card, knows_lying(checkpoint))
    return write_release(network, release, to, shown, shapes, precision)


def choose_thresholds(pictures: list[Picture], found: list[Detections]) -> Thresholds:
    """score: where F1 at IoU 0.5, the mean of the two groups, is best. low: a third of it, for the tracker."""
    steps = np.round(np.arange(0.15, 0.61, 0.05), 2)
    means = [float(np.mean([_f1(pictures, found, group, float(step)) for group in GROUPS])) for step in steps]
    score = float(steps[int(np.argmax(means))])
    return Thresholds(score=score, low=round(max(0.08, score / 3), 2), nms_iou=NMS_IOU)


def _f1(pictures: list[Picture], found: list[Detections], group: str, threshold: float) -> float:
    right = shown = there = 0
    for picture, detections in zip(pictures, found, strict=True):
        if not labels_group(picture, group):
            continue
        truth = truth_of(picture, group)
        of_group = np.array([group_of(name) == group for name in detections.classes], np.bool_)
        boxes = detections.boxes[of_group[detections.class_ids] & (detections.scores >= threshold)]
        right += _matched(boxes, truth)
        shown += len(boxes)
        there += len(truth)
    return 2 * right / max(1, shown + there)


def _matched(boxes: NDArray[np.float32], truth: NDArray[np.float32]) -> int:
    """How many boxes, best first, find a truth of their own."""
    overlaps = iou(torch.from_numpy(boxes)[:, None], torch.from_numpy(truth)[None]).numpy()
    matched = 0
    for row in range(len(boxes)):
        column = int(overlaps[row].argmax()) if len(truth) else -1
        if column >= 0 and overlaps[row, column] >= 0.5:
            overlaps[:, column] = 0
            matched += 1
    return matched


def write_card(
    folder: Path,
    scores: Path,
    checkpoint: Path,
    command: str,
    data: Path,
    root: Path | None,
    share: float,
    remarks: str,
) -> Model:
    """Write the card into a model's folder, beside unchanged weights."""
    model = load_model(folder)
    try:
        told = [Score(**(each | {"shape": tuple(each["shape"])})) for each in json.loads(scores.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{scores}: no scores: {error}", mend="write them with `evaluate --out`") from None
    prepared = prepare(data, root)
    recipe, network = read_checkpoint(checkpoint)["recipe"], load_weights(checkpoint)
    facts = Told(
        model.name, model.manifest.version, command, recipe, share, model.manifest.thresholds,
        network.architecture, sum(each.numel() for each in network.parameters()), precision_of(model.read()), remarks,
    )  # fmt: skip
    text = model_card(facts, prepared.spec, prepared.samples, prepared.split, told)
    return keep_model(model.read(), model.manifest, text, folder)


def _contender(data: bytes, folder: Path, shape: Shape) -> Contender:
    """An exported network as a model in a folder."""
    release = Release("candidate", "0", CLASSES, Thresholds(nms_iou=NMS_IOU), "")
    model = keep_model(data, manifest_of(release, data, [shape], {}), None, folder / "candidate")
    return Contender("candidate", model, shape)


def _letterboxed(detector: Runner, picture: Picture) -> NDArray[np.uint8]:
    """The picture as the network is fed it."""
    fit = detector.fit(picture.image.shape[1], picture.image.shape[0])
    return np.asarray(fit.tensor([fitted(detector, picture.image)])[0], np.uint8)
