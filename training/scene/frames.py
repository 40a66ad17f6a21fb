"""What the pipeline would see of a video: frames sampled by their time at the detector's size, and the people in them.

Decoding is the pipeline's own (``pipeline.sources``), so that a model learns from the very pixels it will be fed. What
the detector finds is kept on disk, keyed by the content of the video and of the detector.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.classes import group_of
from pipeline.core.clip_crop import gray_grid
from pipeline.core.frame import Picture
from pipeline.inference.detector import Detector
from pipeline.sources.base import PictureSize
from training.videos import sampled_frames

SAMPLE_FPS = 8.0
_CACHED = 2
"""Version of what is kept on disk: raised when its meaning changes."""


def default_cache() -> Path:
    """Where extracted boxes and features are kept: ``passerby/scene`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "passerby" / "scene"


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """What was seen of one video, frame by frame (n frames).

    times_us: n int64, stream time. grays: n x gh x gw uint8 (``gray_grid``). boxes: per frame m x 4 float32 xyxy in
    0..1. scores: per frame m float32.
    """

    times_us: NDArray[np.int64]
    grays: NDArray[np.uint8]
    boxes: list[NDArray[np.float32]]
    scores: list[NDArray[np.float32]]


def fitted_size(detector: Detector) -> PictureSize:
    """The size of the pictures that the pipeline makes for this detector."""

    def size(width: int, height: int) -> tuple[int, int]:
        fit = detector.fit(width, height)
        return fit.width, fit.height

    return size


def pictures_of(path: Path, detector: Detector) -> list[Picture]:
    """All sampled pictures of a video, H x W x 3 uint8 RGB."""
    return [each.frame.picture for each in sampled_frames(path, fitted_size(detector), SAMPLE_FPS)]


def people_of(path: Path, detector: Detector, cache: Path) -> People:
    """Who is where in a video, from the cache or looked for now."""
    key = digest(content_key(path), detector.provenance.model_sha256, str(SAMPLE_FPS), f"people {_CACHED}")
    kept = cache / "people" / f"{key}.npz"
    found = _read_people(kept)
    if found is None:
        found = _find_people(path, detector)
        counts = np.array([len(each) for each in found.boxes], np.int64)
        boxes, scores = _joined(found.boxes, 4), _joined(found.scores, 1)[:, 0]
        store(kept, times_us=found.times_us, grays=found.grays, counts=counts, boxes=boxes, scores=scores)
    return found


def content_key(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: str) -> str:
    """One name for what depends on all of these."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def store(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Write arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.replace(path)


def _find_people(path: Path, detector: Detector) -> People:
    times, grays, boxes, scores = [], [], [], []
    for each in sampled_frames(path, fitted_size(detector), SAMPLE_FPS):
        (found,) = detector.detect([each.frame.picture], [(each.width, each.height)])
        human = np.array([group_of(name) == "person" for name in found.classes], np.bool_)[found.class_ids]
        size = np.array([each.width, each.height, each.width, each.height], np.float32)
        times.append(each.frame.captured_at_us)
        grays.append(gray_grid(each.frame.picture))
        boxes.append(np.asarray(found.boxes[human] / size, np.float32))
        scores.append(np.asarray(found.scores[human], np.float32))
    return People(np.array(times, np.int64), np.stack(grays), boxes, scores)


def _read_people(path: Path) -> People | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        bounds = np.cumsum(kept["counts"])[:-1]
        return People(
            kept["times_us"], kept["grays"], np.split(kept["boxes"], bounds), np.split(kept["scores"], bounds)
        )


def _joined(parts: Sequence[NDArray[np.float32]], width: int) -> NDArray[np.float32]:
    return np.concatenate([each.reshape(-1, width) for each in parts]) if parts else np.zeros((0, width), np.float32)
