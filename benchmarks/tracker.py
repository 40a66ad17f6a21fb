"""The tracker beside roboflow `trackers` ByteTrack: milliseconds a frame and identity switches, in the same scenes.

    python -m benchmarks.tracker [--seconds 20] [--fps 25 8]

Scenes are scripted: N people-sized objects walk straight through a picture, turn now and then, pass one another; the
box of each side jitters, one detection in twenty is missing, scores vary, and whoever is mostly hidden behind another
is not seen. An identity switch is counted whenever an object carries another track than the last one it carried.
Times are medians over the frames of one process on one thread; the two take turns frame by frame, so that a busy
machine treats them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator

import numpy as np
import supervision as sv
from trackers import ByteTrackTracker

from pipeline.analytics.settings import TrackerSettings
from pipeline.analytics.tracker import Tracker
from pipeline.core.detections import Detections
from pipeline.core.geometry import box_iou

WIDTH, HEIGHT = 1920, 1080
Shown = tuple[float, np.ndarray, np.ndarray, np.ndarray]


def scene(objects: int, fps: float, seconds: float, seed: int) -> Iterator[Shown]:
    """Time, boxes (N x 4), scores (N) and which object each box is of (N)."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(60, 160, objects)
    size = np.stack([height * rng.uniform(0.35, 0.5, objects), height], axis=1)
    at = rng.uniform([0, 0], [WIDTH, HEIGHT], (objects, 2))
    speed = rng.normal(0, 0.8, (objects, 2)) * height[:, None]
    for i in range(int(seconds * fps)):
        at = at + speed / fps
        for axis, edge in ((0, WIDTH), (1, HEIGHT)):
            out = ((at[:, axis] < 0) & (speed[:, axis] < 0)) | ((at[:, axis] > edge) & (speed[:, axis] > 0))
            speed[out, axis] *= -1
        turns = rng.random(objects) < 0.1 / fps
        speed[turns] = rng.normal(0, 0.8, (int(turns.sum()), 2)) * height[turns][:, None]
        boxes = np.hstack([at - size / 2, at + size / 2])
        covered = np.triu(box_iou(boxes, boxes), 1).max(axis=0) > 0.6
        scores = np.clip(rng.normal(0.75, 0.12, objects) - 0.4 * covered, 0.15, 0.99)
        seen = (rng.random(objects) > 0.05) & ~(covered & (rng.random(objects) < 0.7))
        noisy = boxes + rng.normal(0, 0.03, boxes.shape) * height[:, None]
        yield i / fps, noisy[seen].astype(np.float32), scores[seen].astype(np.float32), np.nonzero(seen)[0]


class Switches:
    """Counts changes of the track that an object carries."""

    def __init__(self) -> None:
        self.carried: dict[int, int] = {}
        self.count = 0

    def add(self, owners: dict[bytes, int], boxes: np.ndarray, numbers: list[int]) -> None:
        for corners, number in zip(boxes.astype(np.float32), numbers, strict=True):
            owner = owners[corners.tobytes()]
            self.count += self.carried.get(owner, number) != number
            self.carried[owner] = number


def compare(objects: int, fps: float, seconds: float, seed: int) -> tuple[list[float], list[float], int, int]:
    """Seconds a frame and identity switches: ours, theirs."""
    ours = Tracker(TrackerSettings.of({"high_score": 0.6, "low_score": 0.1}), ["person"])
    theirs = ByteTrackTracker(frame_rate=fps, track_activation_threshold=0.6, high_conf_det_threshold=0.6)
    ours_s, theirs_s, our_switches, their_switches = [], [], Switches(), Switches()
    for i, (t_s, boxes, scores, owner) in enumerate(scene(objects, fps, seconds, seed)):
        owners = {corners.tobytes(): int(who) for corners, who in zip(boxes, owner, strict=True)}
        seen = Detections(boxes, scores, np.zeros(len(scores), np.int64), ("person",))
        start = time.perf_counter()
        tracks, _ = ours.step(round(t_s * 1e6), i, seen, (WIDTH, HEIGHT))
        ours_s.append(time.perf_counter() - start)
        shown = tracks.confirmed & tracks.seen
        our_switches.add(owners, tracks.boxes[shown], np.array(tracks.numbers)[shown].tolist())
        told = sv.Detections(xyxy=boxes, confidence=scores, class_id=np.zeros(len(scores), int))
        start = time.perf_counter()
        found = theirs.update(told)
        theirs_s.append(time.perf_counter() - start)
        sure = found.tracker_id >= 0
        their_switches.add(owners, found.xyxy[sure], found.tracker_id[sure].tolist())
    return ours_s, theirs_s, our_switches.count, their_switches.count


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--fps", type=float, nargs="+", default=[25.0, 8.0])
    options.add_argument("--seeds", type=int, default=3)
    asked = options.parse_args()
    warnings.filterwarnings("ignore")
    print("| boxes | fps | Passerby ms | trackers ByteTrack ms | Passerby switches | trackers switches |")
    print("| --- | --- | --- | --- | --- | --- |")
    for objects in (10, 50, 200):
        for fps in asked.fps:
            runs = [compare(objects, fps, asked.seconds, seed) for seed in range(asked.seeds)]
            ours, theirs = (statistics.median(s for run in runs for s in run[k]) * 1e3 for k in (0, 1))
            print(f"| {objects} | {fps:g} | {ours:.2f} | {theirs:.2f} "
                  f"| {sum(run[2] for run in runs)} | {sum(run[3] for run in runs)} |")  # fmt: skip


if __name__ == "__main__":
    main()
