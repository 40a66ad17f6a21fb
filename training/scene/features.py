"""Clips of a video, cut as the pipeline cuts them, as the numbers that the frozen encoder makes of them; kept on disk.

The encoder runs as the ONNX file that will ship: what the head learns from is what it will be fed, and ONNX Runtime is
several times quicker than torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.core.clip_crop import Crop, best_crop, clip_weights, cut
from pipeline.core.frame import Picture
from pipeline.core.rules import CropPlace
from pipeline.inference.detector import Detector
from pipeline.inference.onnx import RunSettings, Session
from pipeline.sources.sampling import Sampler
from training.scene.data import SceneClip
from training.scene.frames import People, content_key, digest, fitted_size, people_of, pictures_of, store
from training.videos import sampled_frames

_CACHED = 1
"""Version of what is kept on disk: raised when its meaning changes."""
_EVERY_FPS = 120.0
"""Of a sampling that takes every frame of a surveillance video."""
_LATER = (0.0, 0.25, 0.5, 0.75)
"""By what share of the time between two frames a labelled clip is sampled later, to be learnt from again."""
VIEWS = 2 * len(_LATER) - 1
"""Each of these as it is and mirrored, less the one that is the clip itself."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How clips are made: as in the manifest. person_score: of a box that counts for the gate."""

    frames: int = 16
    stride: int = 8
    interval_s: float = 0.125
    tolerance: float = 1.0
    place: CropPlace = "persons_motion"
    width: float = 0.35
    height: float = 0.42
    keep: float = 0.8
    person_score: float = 0.35

    @property
    def fewest(self) -> int:
        """A video with fewer frames than this has no clip; one with fewer than ``frames`` is filled up at its end."""
        return self.frames // 2


@dataclass(frozen=True, slots=True, eq=False)
class VideoClips:
    """The clips of one video (n of them, T frames each).

    starts_us: n, stream time of the first frame. ends_us: of the last. features: n x T x D float32. crops: n x 4.
    persons: n x T, people of ``person_score`` or more in each frame. follows: n bool, whether it continues the last.
    again: n x VIEWS x T x D float16, the same clips in the same crops, sampled a little later or mirrored: to learn
    from and never to be judged; None where not asked for.
    """

    clip: SceneClip
    starts_us: NDArray[np.int64]
    ends_us: NDArray[np.int64]
    features: NDArray[np.float32]
    crops: NDArray[np.float64]
    persons: NDArray[np.int64]
    follows: NDArray[np.bool_]
    again: NDArray[np.float16] | None = None

    def gate(self, persons: int, share: float) -> NDArray[np.bool_]:
        """n: whether at least ``share`` of the frames show ``persons`` people or more."""
        return np.asarray((self.persons >= persons).mean(1) >= share)


class Extractor:
    """Turns videos into features, once: what was made before is read from ``cache``."""

    def __init__(self, detector: Detector, encoder: bytes, plan: ClipPlan, cache: Path) -> None:
        self.detector, self.plan, self.cache = detector, plan, cache
        self._encoder_key = hashlib.sha256(encoder).hexdigest()
        self._session = Session(encoder, name="the encoder", settings=RunSettings(), fixed={"batch": 1})

    def extract(self, clips: Sequence[SceneClip], *, again: bool = False, show: bool = True) -> list[VideoClips]:
        """Every video's clips, in order; a video that is too short for one has none. again: as in ``video``."""
        bar = tqdm(clips, desc="clips", unit="video", disable=not show)
        return [self.video(each, again=again) for each in bar]

    def video(self, clip: SceneClip, *, again: bool = False) -> VideoClips:
        """One video's clips. again: with the further views of them, unless it is an ordinary video."""
        people = people_of(clip.path, self.detector, self.cache)
        plan = "\n".join(f"{key} {value}" for key, value in asdict(self.plan).items())
        detector = self.detector.provenance.model_sha256
        parts = (content_key(clip.path), detector, self._encoder_key, plan)
        kept = self._kept(*parts, f"features {_CACHED}")
        indices = list(clip_indices(people.times_us, self.plan))
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as found:
                features, crops = found["features"], found["crops"]
        else:
            features, crops = self._encode(clip.path, people, indices)
            store(kept, features=features, crops=crops)
        told = video_clips(clip, people, indices, features, crops, self.plan)
        if clip.ordinary or not again:
            return told
        kept = self._kept(*parts, f"again {_LATER} {_CACHED}")
        if not kept.is_file():
            store(kept, again=self._encode_again(told))
        with np.load(kept, allow_pickle=False) as found:
            return replace(told, again=found["again"])

    def _kept(self, *parts: str) -> Path:
        return self.cache / "features" / f"{digest(*parts)}.npz"

    def _encode(
        self, path: Path, people: People, indices: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        pictures = pictures_of(path, self.detector)
        features: list[NDArray[np.float32]] = []
        crops = clip_crops(people, indices, self.plan)
        seen: dict[int, NDArray[np.float32]] = {}
        for k, (index, crop) in enumerate(zip(indices, crops, strict=True)):
            if k and crop != crops[k - 1]:
                seen = {}
            for i in index:
                if int(i) not in seen:
                    seen[int(i)] = self.encode(cut(pictures[int(i)], crop))
            features.append(np.stack([seen[int(i)] for i in index]))
        size = next(iter(seen.values())).size if seen else 0
        empty = np.zeros((0, self.plan.frames, size), np.float32)
        return np.stack(features) if features else empty, np.array(crops, np.float64).reshape(-1, 4)

    def _encode_again(self, told: VideoClips) -> NDArray[np.float16]:
        """``VideoClips.again``: what would have been sampled, had the clip begun that much later; then all mirrored."""
        interval_us = 1e6 * self.plan.interval_s
        n, offsets = len(told.starts_us), len(_LATER)
        found: list[list[NDArray[np.float32]]] = [[] for _ in range(n * 2 * offsets)]
        samplers = [[Sampler(1 / self.plan.interval_s) for _ in _LATER] for _ in range(n)]
        for each in sampled_frames(told.clip.path, fitted_size(self.detector), _EVERY_FPS) if n else ():
            at_us = each.frame.captured_at_us
            for k in np.flatnonzero((told.starts_us <= at_us) & (at_us <= told.ends_us + interval_us)).tolist():
                since_us = at_us - int(told.starts_us[k])
                taking = [
                    i for i, share in enumerate(_LATER) if samplers[k][i].take(round(since_us - share * interval_us))
                ]
                if not taking:
                    continue
                x0, y0, x1, y1 = told.crops[k].tolist()
                crop = cut(each.frame.picture, (x0, y0, x1, y1))
                for side, seen in enumerate((self.encode(crop), self.encode(crop[:, ::-1]))):
                    for i in taking:
                        found[(k * 2 + side) * offsets + i].append(seen)
        frames = self.plan.frames
        filled = [rows[:frames] + rows[-1:] * (frames - len(rows)) for rows in found]
        views = np.array(filled, np.float16).reshape(n, 2 * offsets, *told.features.shape[1:])
        return views[:, 1:]  # the first is the clip itself

    def recut(self, told: VideoClips, wanted: Sequence[tuple[int, Crop]]) -> NDArray[np.float16]:
        """Some of a video's clips in other crops than their own. wanted: m clips' numbers and crops. m x T x D."""
        people = people_of(told.clip.path, self.detector, self.cache)
        indices = list(clip_indices(people.times_us, self.plan))
        places = "\n".join(f"{each}" for number, crop in wanted for each in (*indices[number].tolist(), *crop))
        parts = content_key(told.clip.path), self.detector.provenance.model_sha256, self._encoder_key
        kept = self._kept(*parts, places, f"recut {_CACHED}")
        if not kept.is_file():
            pictures = pictures_of(told.clip.path, self.detector)
            found = np.zeros((len(wanted), *told.features.shape[1:]), np.float16)
            for k, (number, crop) in enumerate(wanted):
                seen = {int(i): self.encode(cut(pictures[int(i)], crop)) for i in set(indices[number].tolist())}
                found[k] = [seen[int(i)] for i in indices[number]]
            store(kept, features=found)
        with np.load(kept, allow_pickle=False) as read:
            return np.asarray(read["features"])

    def encode(self, picture: Picture) -> NDArray[np.float32]:
        """The features of one crop, D float32."""
        (out,) = self._session.run({"pictures": np.ascontiguousarray(picture)[None]}, ["features"])
        return np.asarray(out[0], np.float32)


def clip_indices(times_us: NDArray[np.int64], plan: ClipPlan) -> Iterator[NDArray[np.int64]]:
    """The frames of each clip, ``plan.frames`` of them, every ``plan.stride`` within an unbroken stretch.

    times_us: of frames sampled at the plan's rate. A video that as a whole is shorter than a clip gives one, filled up
    by its last frame.
    """
    total = len(times_us)
    gaps = np.flatnonzero(np.diff(times_us) > 1e6 * plan.interval_s * (1 + plan.tolerance)) + 1
    bounds = [0, *gaps.tolist(), total]
    if plan.fewest <= total < plan.frames and len(bounds) == 2:
        yield np.minimum(np.arange(plan.frames), total - 1)
        return
    for begin, end in pairwise(bounds):
        for first in range(begin, end - plan.frames + 1, plan.stride):
            yield np.arange(first, first + plan.frames)


def clip_crops(people: People, indices: Sequence[NDArray[np.int64]], plan: ClipPlan) -> list[Crop]:
    """The crop of each clip; it is kept, while it is good enough, by the clip that follows at once."""
    crops: list[Crop] = []
    for k, index in enumerate(indices):
        follows = k > 0 and index[0] - indices[k - 1][0] == plan.stride
        crops.append(clip_crop(people, index, plan, crops[-1] if follows else None))
    return crops


def clip_crop(people: People, index: NDArray[np.int64], plan: ClipPlan, last: Crop | None) -> Crop:
    """The one crop of a clip."""
    if plan.place == "whole":
        return (0.0, 0.0, 1.0, 1.0)
    return best_crop(weights_of(people, index, plan), plan.width, plan.height, last, plan.keep)


def weights_of(people: People, index: NDArray[np.int64], plan: ClipPlan) -> NDArray[np.float32]:
    """What a clip's crop is placed by."""
    boxes, scores = [people.boxes[i] for i in index], [people.scores[i] for i in index]
    return clip_weights(people.grays[index], boxes, scores, persons=plan.place == "persons_motion")


def video_clips(
    clip: SceneClip,
    people: People,
    indices: Sequence[NDArray[np.int64]],
    features: NDArray[np.float32],
    crops: NDArray[np.float64],
    plan: ClipPlan,
) -> VideoClips:
    """The clips that ``clip_indices`` cut, with who is in them."""
    counts = np.array([(each >= plan.person_score).sum() for each in people.scores], np.int64)
    taken = np.array(indices, np.int64).reshape(-1, plan.frames)
    follows = np.zeros(len(taken), np.bool_)
    follows[1:] = np.diff(taken[:, 0]) == plan.stride
    starts, ends = people.times_us[taken[:, 0]], people.times_us[taken[:, -1]]
    return VideoClips(clip, starts, ends, features, crops, counts[taken], follows)
