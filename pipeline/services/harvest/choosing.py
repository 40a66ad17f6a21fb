"""Which frames are worth a person's time: those the model was of two minds about, spread over the hours.

uncertain   something scored between the floor (``low``) and what is believed (``score``)
flicker     a confirmed track was not seen in it, and came back

Of each span of time (an hour by so many as are wanted) the frame with the most doubt is kept, unless it is a
near-duplicate of one that is kept already.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.frame import Picture
from pipeline.services.harvest.looking import Look

Reason = Literal["uncertain", "flicker", "false", "missed", "class"]

_THUMBNAIL = (64, 36)
_LEVELS, _CELLS = 16, 4
"""Two pictures are near-duplicates when at most so many cells of their thumbnails differ by more than so many grey
levels: a person 25 pixels high, seen at 416 pixels of width, covers about six cells, and the noise of a camera at
night, averaged over a cell, stays below."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A frame that might be kept. weight: how much is doubtful in it, above 0. detail: that in words."""

    look: Look
    reason: Reason
    weight: float
    detail: str


def uncertain(look: Look) -> Candidate | None:
    """The frame, if anything in it was nearly believed; what is nearest to being believed weighs most (1)."""
    scores = look.found.scores
    doubtful = (scores >= look.low) & (scores < look.score)
    if not doubtful.any():
        return None
    weight = float(((scores[doubtful] - look.low) / max(look.score - look.low, 1e-6)).sum())
    names = Counter(look.found.classes[number] for number in look.found.class_ids[doubtful].tolist())
    told = ", ".join(f"{name} x{count}" if count > 1 else name for name, count in names.most_common())
    best = float(scores[doubtful].max())
    return Candidate(look, "uncertain", weight, f"{told} up to {best:.2f}, believed from {look.score:g} on")


@dataclass(slots=True)
class FlickerWatch:
    """Finds frames in which a confirmed track was not seen although it came back. Remembers one frame a lost track."""

    _lost: dict[str, Look] = field(default_factory=dict)

    def watch(self, look: Look) -> list[Candidate]:
        """Take the camera's next frame; gives earlier frames."""
        tracks = {track.track_id: track for track in look.tracks}
        self._lost = {track_id: since for track_id, since in self._lost.items() if track_id in tracks}
        found = []
        for track_id, track in tracks.items():
            if not track.seen:
                self._lost.setdefault(track_id, look)
            elif track_id in self._lost:
                since = self._lost.pop(track_id)
                gone_s = (look.at_us - since.at_us) / 1e6
                number = track_id.rpartition("/")[2]
                detail = f"{track.class_name} {number} not seen for {gone_s:.1f} s"
                doubt = uncertain(since)
                found.append(Candidate(since, "flicker", 1.0 + (doubt.weight if doubt else 0.0), detail))
        return found


class Chooser:
    """Of one camera: the most doubtful frame of each span of time. Memory: a thumbnail for each frame that is kept.

    per_hour: so many frames of an hour at most, none within half a span of the one before.
    """

    def __init__(self, per_hour: float) -> None:
        self._span_us = round(3.6e9 / per_hour)
        self._span: int | None = None
        self._best: tuple[Candidate, NDArray[np.int16]] | None = None
        self._kept: list[NDArray[np.int16]] = []
        self._last_us: int | None = None

    def offer(self, candidate: Candidate) -> list[Candidate]:
        """Take a candidate; gives the best of a span that is over by it."""
        span = candidate.look.at_us // self._span_us
        if self._span is not None and span < self._span:
            return []  # its span is over
        kept = self.close() if span != self._span else []
        self._span = span
        if self._best is not None and candidate.weight <= self._best[0].weight:
            return kept
        if self._last_us is not None and candidate.look.at_us - self._last_us < self._span_us // 2:
            return kept
        thumbnail = thumbnail_of(candidate.look.picture)
        if not any(are_alike(thumbnail, other) for other in self._kept):
            self._best = candidate, thumbnail
        return kept

    def close(self) -> list[Candidate]:
        """The best of the span that is open: it is over."""
        if self._best is None:
            return []
        (candidate, thumbnail), self._best = self._best, None
        self._kept.append(thumbnail)
        self._last_us = candidate.look.at_us
        return [candidate]


def thumbnail_of(picture: Picture) -> NDArray[np.int16]:
    """36 x 64 grey levels of a picture, each the mean of its part."""
    grey = Image.fromarray(picture).convert("L").resize(_THUMBNAIL, Image.Resampling.BOX)
    return np.asarray(grey, np.int16)


def are_alike(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two thumbnails are near-duplicates: nothing of the size of a person moved between them."""
    return bool((np.abs(one - other) > _LEVELS).sum() <= _CELLS)
