"""What ``passerby-train scene train|evaluate --trunk resnet50`` does: clips as pixels, training, cross-validation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.core.clip_crop import cut
from pipeline.errors import UsageError
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from training.models.imagenet import ImageTrunk, image_trunk
from training.scene.data import SceneClip, read_scene_data
from training.scene.evaluate import SceneScore, Scored, folds_of, score_assignments
from training.scene.features import ClipPlan, VideoClips, clip_crops, clip_indices, video_clips
from training.scene.folds import FOLDS
from training.scene.frames import default_cache, people_of, pictures_of
from training.scene.head import SceneHead
from training.scene.session import GATE, Place, check_kinds
from training.scene.trainer import CHECKPOINT
from training.scene.transfer import Shown, TransferRecipe, TransferTraining, head_shape, rows_of, transfer_logits
from training.scene.trunk import GRID


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """The labelled clips and the trunk that has not learnt from them. videos: those with a clip. owner: N, the video
    of each clip."""

    videos: list[VideoClips]
    owner: NDArray[np.int64]
    shown: Shown
    trunk: ImageTrunk


def gather(place: Place, kinds: Sequence[str], recipe: TransferRecipe, init: Path | None) -> Material:
    """Decode every labelled clip (whole frames) and look at it once with the untouched trunk.

    init: the trunk's weights, a state dict; None: those that torchvision fetches. Raises ModelError, UsageError.
    """
    trunk = image_trunk(recipe.trunk, init, recipe.side, GRID)
    detector = Detector(load_model(place.detector))
    data = read_scene_data(place.data, place.root)
    check_kinds(data, kinds)
    made = list({each.path: each for kind in kinds for each in data.labelled(kind)}.values())
    head = SceneHead(head_shape(trunk, recipe, len(kinds)))
    cache = place.cache or default_cache()
    videos, pictures, rows = [], [], []
    for clip in tqdm(made, desc="clips", unit="video"):
        video, seen = _clips_of(clip, detector, trunk, cache)
        if len(seen):
            videos.append(video)
            pictures.append(seen)
            rows.append(rows_of(trunk, head, seen))
    counts = [len(each) for each in pictures]
    labels = np.repeat([[kind in each.clip.kinds for kind in kinds] for each in videos], counts, 0)
    known = np.repeat([[kind in each.clip.known for kind in kinds] for each in videos], counts, 0)
    if not videos:
        raise UsageError(
            f"{place.data}: no clip of {', '.join(kinds)} is long enough", mend="a second of video, or more"
        )
    shown = Shown(
        np.concatenate(pictures), torch.cat(rows), torch.from_numpy(labels).float(), torch.from_numpy(known).float()
    )
    return Material(videos, np.repeat(np.arange(len(videos)), counts), shown, trunk)


def _clips_of(
    clip: SceneClip, detector: Detector, trunk: ImageTrunk, cache: Path
) -> tuple[VideoClips, NDArray[np.uint8]]:
    """A video's clips without features, and their pictures: n x T x S x S x 3 uint8 RGB."""
    plan = ClipPlan(place="whole")
    people = people_of(clip.path, detector, cache)
    indices = list(clip_indices(people.times_us, plan))
    crops = clip_crops(people, indices, plan)
    video = video_clips(
        clip, people, indices, np.zeros((len(indices), plan.frames, 0), np.float32),
        np.array(crops, np.float64).reshape(-1, 4), plan,
    )  # fmt: skip
    if not indices:
        return video, np.zeros((0, plan.frames, trunk.side, trunk.side, 3), np.uint8)
    pictures = pictures_of(clip.path, detector)
    shown = []
    for index, crop in zip(indices, crops, strict=True):
        fed = torch.from_numpy(np.stack([cut(pictures[int(i)], crop) for i in index]))
        shown.append(trunk.resized(fed).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return video, np.stack(shown)


def train_transfer(
    place: Place, kinds: Sequence[str], recipe: TransferRecipe, init: Path | None, out: Path, *, resume: bool = False
) -> TransferTraining:
    """Train on every labelled clip, or go on; the checkpoint lies in ``out``."""
    if not resume and (out / CHECKPOINT).exists():
        raise UsageError(f"{out}: there is a run in it already", mend="add --resume, or name another --out")
    material = gather(place, kinds, recipe, init)
    if resume:
        training = TransferTraining.resume(out, material.shown)
    else:
        training = TransferTraining(recipe, material.trunk, material.shown, tuple(kinds), out)
    return training.run(show=recipe.trunk)


def evaluate_transfer(
    material: Material, kind: str, recipe: TransferRecipe, assignments: int
) -> list[tuple[str, SceneScore]]:
    """Cross-validate by scene as every head is: a row after phase one, and one after phase two."""
    told: dict[str, list[Scored]] = {}
    for assignment in range(assignments):
        for name, scored in _assignment(material, kind, recipe, assignment).items():
            told.setdefault(name, []).append(scored)
    return [(name, score_assignments(each, kind, GATE)) for name, each in told.items()]


def _assignment(material: Material, kind: str, recipe: TransferRecipe, assignment: int) -> dict[str, Scored]:
    fold = folds_of(material.videos, kind, assignment)
    phases = {f"{recipe.trunk}, ImageNet, frozen; LSTM with attention": recipe.epochs}
    if recipe.fine_epochs:
        phases[f"the same, then unfrozen ({recipe.fine_epochs} epochs)"] = recipe.epochs + recipe.fine_epochs
    logits = {name: np.zeros(len(material.owner)) for name in phases}
    for k in tqdm(range(FOLDS), desc=f"assignment {assignment + 1}", unit="fold"):
        mine = fold[material.owner] == k
        seeded = replace(recipe, seed=recipe.seed + 10 * assignment + k)
        training = TransferTraining(seeded, copy.deepcopy(material.trunk), material.shown.part(~mine), (kind,))
        for name, until in phases.items():
            training.run(until=until, show=f"fold {k + 1}")
            logits[name][mine] = transfer_logits(training, material.shown.part(mine))[:, 0]
    labels = np.array([kind in each.clip.kinds for each in material.videos], np.bool_)
    scored = {}
    for name, each in logits.items():
        scores = 1 / (1 + np.exp(-each))
        by_video = [scores[material.owner == i] for i in range(len(material.videos))]
        scored[name] = Scored(material.videos, by_video, fold, labels)
    return scored
