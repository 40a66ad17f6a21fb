"""What the scene model and the classifier cost beside the detector: CPU milliseconds, one thread, in turns in one run.

    python -m benchmarks.scene_cost [--model passerby-scene] [--classifier passerby-daylight] [--rounds 20]
                                   [--keep 0.8 0.5]

A camera-second is 8 frames of a 1920x1080 camera at the size ingest sends: the detector looks at all of them, the scene
model at one clip: the crop's rule, 8 encoded crops (16 where the crop moves and nothing can be kept), the head. A
judgement of the classifier is one of those pictures, stretched to its input and judged.

What lies between 8 and 16 is counted on the ordinary videos of ``training/scene/scene.yaml``, clip by clip, by the
pipeline's own crop and gates; the first clip of each video, all of it new, is among them. --keep: shares of the best
place's weight at which the crop stays, in place of the model's own; a table each, at the same milliseconds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.progress import track

from pipeline.analytics.clips import MOST_PERSONS, Clip, ClipFrame, gate_is_open
from pipeline.core.clip_crop import best_crop, clip_weights, cut, gray_grid
from pipeline.core.rules import ClipRule, SceneKind, SceneRules
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel, load_scene_files
from pipeline.inference.store import load_model
from pipeline.services.labels import Labeller
from pipeline.services.wiring import build_classifier, scene_rules_of
from training.costs import interleaved_ms
from training.scene.data import DATA, read_scene_data
from training.scene.frames import People, default_cache, people_of

_FEATURES = np.zeros(1, np.float32)  # stands for what a network would give: only whether it is there counts


@dataclass(frozen=True, slots=True)
class Looked:
    """One clip of a real video. moved: whether its crop is not that of the clip before. encoded: pictures that were
    encoded for it; None: nobody looked."""

    moved: bool
    encoded: int | None


def looked_at(people: People, rule: ClipRule, kinds: Sequence[SceneKind], low_score: float) -> list[Looked]:
    """What the pipeline does with each clip of a video. kinds: whose gates are asked; none: every clip is looked at."""
    clip, told = Clip(), []
    for n, at_us in enumerate(people.times_us.tolist()):
        if clip.frames and at_us - clip.frames[-1].at_us > (1 + rule.tolerance) * rule.interval_s * 1e6:
            clip = Clip()
        sure = people.scores[n] >= np.float32(low_score)
        persons = np.hstack([people.boxes[n][sure], people.scores[n][sure, None]])[:MOST_PERSONS]
        clip = replace(clip, frames=(*clip.frames, ClipFrame(n, at_us, 0, persons, gray=people.grays[n])))
        if not clip.is_whole(rule):
            continue
        placed, encoded = clip.placed(rule), None
        moved = clip.followed and placed.crop != clip.crop
        if not kinds or any(gate_is_open(clip, kind) for kind in kinds):
            missing = [i for i, frame in enumerate(placed.frames) if frame.features is None]
            placed, encoded = placed.encoded(dict.fromkeys(missing, _FEATURES)), len(missing)
        told.append(Looked(moved, encoded))
        clip = placed.stridden(rule)
    return told


def on_real_videos(costs: Mapping[str, float], detector: Detector, rules: SceneRules) -> None:
    """Print what the scene model costs on real videos, at these milliseconds a camera-second."""
    videos = [
        people_of(each.path, detector, default_cache())
        for each in track(read_scene_data(DATA).ordinary, description="real videos", transient=True)
    ]
    gated = [each for people in videos for each in looked_at(people, rules.clip, rules.kinds, rules.low_score)]
    every = [each for people in videos for each in looked_at(people, rules.clip, (), rules.low_score)]
    behind = [each for each in gated if each.encoded is not None]
    print(f"\n| {len(videos)} ordinary videos | clips | looked at | crop moved | encoded | scene model |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, clips in (("all their seconds", gated), ("gate open", behind), ("without gates", every)):
        encoded = [each.encoded for each in clips if each.encoded is not None]
        look = costs["head"] + np.mean(encoded) * costs["encoder"] / rules.clip.stride
        cost = costs["crop"] + look * len(encoded) / len(clips)
        print(
            f"| {name} | {len(clips)} | {len(encoded)} | {np.mean([each.moved for each in clips]):.0%} "
            f"| {np.mean(encoded):.1f} a clip looked at | {cost:.1f} ms ({cost / costs['detector']:.0%}) |"
        )


def timed(detector: Detector, scene: SceneModel, labeller: Labeller, rounds: int) -> dict[str, float]:
    """CPU milliseconds of each part for a camera-second, and of one judgement."""
    clip, place = scene.manifest.clip, scene.manifest.crop
    fit = detector.fit(1920, 1080)
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (fit.height, fit.width, 3), np.uint8) for _ in range(clip.frames)]
    corners = [random.uniform(0, 0.5, (4, 2)) for _ in pictures]
    boxes = [np.hstack([each, each + np.array((0.3, 0.4))]).astype(np.float32) for each in corners]
    scores = [np.full(4, 0.5, np.float32) for _ in pictures]
    grays = np.stack([gray_grid(each) for each in pictures])
    crop = best_crop(clip_weights(grays, boxes, scores), place.width, place.height)
    crops = [cut(each, crop) for each in pictures]
    features = scene.encode(crops)
    new = clip.stride

    def rule() -> None:
        for each in pictures[:new]:
            gray_grid(each)
        best_crop(clip_weights(grays, boxes, scores), place.width, place.height, crop, place.keep)

    return interleaved_ms(
        {
            "detector": lambda: [detector.detect([each], [(1920, 1080)]) for each in pictures[:new]],
            "crop": rule,
            "encoder": lambda: scene.encode(crops[:new]),
            "head": lambda: scene.score(features),
            "judgement": lambda: labeller.judge(pictures[0]),
        },
        rounds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="passerby-scene")
    parser.add_argument("--classifier", default="passerby-daylight")
    parser.add_argument("--detector", default="passerby-nano")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--keep", type=float, nargs="+", default=[])
    told = parser.parse_args()
    detector = Detector(load_model(told.detector))
    scene = SceneModel(load_scene_files(told.model))
    costs = timed(detector, scene, Labeller(build_classifier(told.classifier)), told.rounds)
    judgement = costs.pop("judgement")
    kept = costs["crop"] + costs["encoder"] + costs["head"]
    moved = kept + costs["encoder"]
    print("| part | CPU ms a camera-second |\n| --- | --- |")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.1f} |")
    print(f"| scene, crop kept | {kept:.1f} ({kept / costs['detector']:.0%} of the detector) |")
    print(f"| scene, crop moved | {moved:.1f} ({moved / costs['detector']:.0%}) |")
    rules = scene_rules_of(scene, detector.manifest.thresholds.low)
    for keep in told.keep or [rules.clip.keep]:
        print(f"\nThe crop stays while it holds {keep:g} of what the best place holds.")
        on_real_videos(costs, detector, replace(rules, clip=replace(rules.clip, keep=keep)))
    fit = detector.fit(1920, 1080)
    print(f"\nA judgement of {told.classifier} ({fit.width}x{fit.height} in): {judgement:.2f} ms")


if __name__ == "__main__":
    main()
