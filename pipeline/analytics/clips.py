"""The clip of a camera: the last frames that a scene model looks at together, spanning windows.

Every ``stride`` frames the last ``frames`` of them are a clip. Frames that come denser than the model was trained on
are thinned out by their time; a gap, another epoch or another size of the picture begins a clip anew.

A clip is a value: what comes out of a frame depends on the clip before it and on nothing else. In a snapshot lie its
frames' numbers, times, people and place in the log, and the crop; the pictures stay in the log (``with_pictures``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.classes import group_of
from pipeline.core.clip_crop import Crop, best_crop, clip_weights, gray_grid
from pipeline.core.detections import Detections
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.rules import ClipRule, SceneKind, SceneRules

MOST_PERSONS = 64
"""People of one frame that are remembered, the surest first: bounds the state of a camera over a crowd."""

_EARLY = 0.45
"""Share of the trained interval by which a frame may be early.

When it is due goes by the interval, not by the frame before: the 8 frames a second that are sampled from 12.5 come 0.08
and 0.16 s apart, and all of them are taken; of 25 frames a second every third is, on the average.
"""

_WHOLE: Crop = (0.0, 0.0, 1.0, 1.0)

Features = NDArray[np.float32]
"""What an encoder gives for one picture: D values."""


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrame:
    """One frame of a clip.

    offset: of its window in the log. persons: n x 5 float32, xyxy in 0..1 of the picture and score, the surest first.
    picture: None after a restore, until the log gave it again. features: of the clip's crop; None: not encoded yet.
    """

    index: int
    at_us: int
    offset: int
    persons: NDArray[np.float32]
    picture: Picture | None = None
    gray: NDArray[np.uint8] | None = None
    features: Features | None = None


@dataclass(frozen=True, slots=True)
class ClipSeen:
    """What a scene model saw in one clip, handed to the analytics with the clip's last frame.

    frames: their indices. starts_us, ends_us: times of the first and last. admitted: the kinds whose gate is open.
    scores: kind -> 0..1; attention: one weight a frame, sum 1; both empty where every gate is shut and nothing was
    encoded. region: the crop, 0..1 of the picture. follows: whether the clip one stride before was seen, too.
    """

    frames: tuple[int, ...]
    starts_us: int
    ends_us: int
    scores: Mapping[str, float]
    attention: tuple[float, ...]
    region: Crop | None
    follows: bool
    admitted: frozenset[str]

    def score_of(self, kind: str) -> float:
        """The score of a kind as it counts: 0 where its gate is shut."""
        return self.scores[kind] if kind in self.admitted else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The frames of the present epoch that the next clip needs, oldest first.

    model: sha256 of the scene model it is made for. size: of the source's pictures. crop: of the last whole
    clip. followed: whether the frames left over are the rest of a clip. last_us: of the last frame of the epoch,
    whether taken or too early; None before the first and behind the end of a stream. due_us: when the next frame is.
    """

    model: str = ""
    epoch: int = -1
    size: tuple[int, int] = (0, 0)
    frames: tuple[ClipFrame, ...] = field(default=())
    crop: Crop | None = None
    followed: bool = False
    last_us: int | None = None
    due_us: int = 0

    @property
    def has_pictures(self) -> bool:
        return all(frame.picture is not None for frame in self.frames)

    def under(self, rules: SceneRules) -> Clip:
        """This clip where it is of the same model; else an empty one."""
        model = rules.provenance["model_sha256"]
        return self if self.model == model else Clip(model, self.epoch, self.size, last_us=self.last_us)

    def ended(self) -> Clip:
        """Behind the end of the stream."""
        return Clip(self.model)

    def emptied(self) -> Clip:
        """Without frames: what comes next does not follow."""
        return Clip(self.model, self.epoch, self.size, last_us=self.last_us)

    def take(self, window: FrameWindow, frame: Frame, found: Detections, offset: int, rules: SceneRules) -> Clip:
        """Behind one frame more, which is in it or came too early. ``is_whole`` says whether it is time to look.

        Raises ValueError for a frame of the epoch that is not later than the one before.
        """
        rule, at_us = rules.clip, frame.captured_at_us
        if window.epoch == self.epoch and self.last_us is not None and at_us <= self.last_us:
            raise ValueError(f"frame {frame.index} at {at_us} us is not later than the one before")
        interval_us = round(rule.interval_s * 1e6)
        size = (window.width, window.height)
        clip = self if self._goes_on(window, frame, rule) else Clip(self.model, window.epoch, size, due_us=at_us)
        if at_us < clip.due_us - _EARLY * interval_us:
            return replace(clip, last_us=at_us)
        due_us = max(clip.due_us + interval_us, at_us + interval_us // 2)
        persons = persons_in(found, size, rules.low_score)
        taken = ClipFrame(frame.index, at_us, offset, persons, frame.picture, gray_grid(frame.picture))
        return replace(clip, frames=(*clip.frames, taken), last_us=at_us, due_us=due_us)

    def is_whole(self, rule: ClipRule) -> bool:
        """Whether its frames are a clip; then ``stridden`` follows before another frame is taken."""
        return len(self.frames) == rule.frames

    def placed(self, rule: ClipRule) -> Clip:
        """With the crop to look at; the features of another crop are dropped."""
        crop = self._best(rule)
        if crop == self.crop:
            return self
        frames = tuple(replace(frame, features=None) for frame in self.frames)
        return replace(self, crop=crop, frames=frames)

    def encoded(self, features: Mapping[int, Features]) -> Clip:
        """With these features. features: by place in ``frames``."""
        frames = tuple(
            replace(frame, features=features[i]) if i in features else frame for i, frame in enumerate(self.frames)
        )
        return replace(self, frames=frames)

    def features(self) -> NDArray[np.float32]:
        """Of all its frames, which are encoded: T x D, oldest first."""
        return np.stack([frame.features for frame in self.frames if frame.features is not None])

    def stridden(self, rule: ClipRule) -> Clip:
        """Without the frames that the next clip does not share."""
        return replace(self, frames=self.frames[rule.stride :], followed=True)

    def with_pictures(self, pictures: Mapping[tuple[int, int], Picture]) -> Clip | None:
        """With its pictures again, by (offset, index); None where one is gone."""
        frames = []
        for frame in self.frames:
            picture = pictures.get((frame.offset, frame.index))
            if picture is None:
                return None
            frames.append(replace(frame, picture=picture, gray=gray_grid(picture)))
        return replace(self, frames=tuple(frames))

    def _goes_on(self, window: FrameWindow, frame: Frame, rule: ClipRule) -> bool:
        """Whether a frame follows those before."""
        before_us = self.frames[-1].at_us if self.frames else self.last_us
        fresh = not self.frames and not self.followed
        if (window.epoch, (window.width, window.height)) != (self.epoch, self.size) or fresh or before_us is None:
            return False
        most_us = (1 + rule.tolerance) * rule.interval_s * 1e6
        return frame.captured_at_us - before_us <= most_us + 1 and _fits(self, frame)

    def _best(self, rule: ClipRule) -> Crop:
        if rule.place == "whole":
            return _WHOLE
        grays = np.stack([frame.gray for frame in self.frames if frame.gray is not None])
        boxes = [frame.persons[:, :4] for frame in self.frames]
        scores = [frame.persons[:, 4] for frame in self.frames]
        weights = clip_weights(grays, boxes, scores, persons=rule.place == "persons_motion")
        return best_crop(weights, rule.width, rule.height, self.crop, rule.keep)


def persons_in(found: Detections, size: tuple[int, int], low_score: float) -> NDArray[np.float32]:
    """The people of a frame: n x 5 float32, xyxy in 0..1 and score, the surest first, ``MOST_PERSONS`` at most."""
    human = np.array([group_of(name) == "person" for name in found.classes], np.bool_)[found.class_ids]
    rows = np.flatnonzero(human & (found.scores >= np.float32(low_score)))[:MOST_PERSONS]
    width, height = size
    boxes = found.boxes[rows] / np.array([width, height, width, height], np.float32)
    return np.concatenate([boxes, found.scores[rows, None]], axis=1).astype(np.float32)


def gate_is_open(clip: Clip, kind: SceneKind) -> bool:
    """Whether enough frames of the clip show enough people for this kind."""
    if kind.persons == 0:
        return True
    shown = 0
    for frame in clip.frames:
        wide = frame.persons[:, 2] - frame.persons[:, 0] >= np.float32(kind.person_width)
        sure = frame.persons[:, 4] >= np.float32(kind.person_score)
        shown += int(np.count_nonzero(wide & sure)) >= kind.persons
    return shown >= kind.persons_share * len(clip.frames)


def _fits(clip: Clip, frame: Frame) -> bool:
    """Whether the frame's picture has the size of those before (a model of another input may scale them anew)."""
    before = clip.frames[-1].picture if clip.frames else None
    return before is None or before.shape == frame.picture.shape
