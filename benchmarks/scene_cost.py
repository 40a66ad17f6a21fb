"""What the scene model and the classifier cost beside the detector: CPU milliseconds, one thread, in turns in one run.

    python -m benchmarks.scene_cost [--model passerby-scene] [--classifier passerby-daylight] [--rounds 20]

A camera-second is 8 frames of a 1920x1080 camera at the size ingest sends: the detector looks at all of them, the scene
model at one clip: the crop's rule, 8 encoded crops (16 where the crop moves and nothing can be kept), the head. A
judgement of the classifier is one of those pictures, stretched to its input and judged.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from pipeline.core.clip_crop import best_crop, clip_weights, cut, gray_grid
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel, load_scene_files
from pipeline.inference.store import load_model
from pipeline.services.labels import Labeller
from pipeline.services.wiring import build_classifier
from training.costs import interleaved_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="passerby-scene")
    parser.add_argument("--classifier", default="passerby-daylight")
    parser.add_argument("--detector", default="passerby-nano")
    parser.add_argument("--rounds", type=int, default=20)
    told = parser.parse_args()
    detector = Detector(load_model(told.detector))
    scene = SceneModel(load_scene_files(told.model))
    labeller = Labeller(build_classifier(told.classifier))
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

    costs = interleaved_ms(
        {
            "detector": lambda: [detector.detect([each], [(1920, 1080)]) for each in pictures[:new]],
            "crop": rule,
            "encoder": lambda: scene.encode(crops[:new]),
            "head": lambda: scene.score(features),
            "judgement": lambda: labeller.judge(pictures[0]),
        },
        told.rounds,
    )
    judgement = costs.pop("judgement")
    kept = costs["crop"] + costs["encoder"] + costs["head"]
    moved = kept + costs["encoder"]
    print("| part | CPU ms a camera-second |\n| --- | --- |")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.1f} |")
    print(f"| scene, crop kept | {kept:.1f} ({kept / costs['detector']:.0%} of the detector) |")
    print(f"| scene, crop moved | {moved:.1f} ({moved / costs['detector']:.0%}) |")
    print(f"A judgement of {told.classifier} ({fit.width}x{fit.height} in): {judgement:.2f} ms")


if __name__ == "__main__":
    main()
