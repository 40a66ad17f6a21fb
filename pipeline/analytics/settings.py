"""The tracker's settings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Defaults hold for 5 to 30 frames a second; times are seconds, so they need no change with the rate.

    high_score: detections from here up are matched first. low_score: below it a detection is ignored; between the
    two it only continues a track. new_track_score: a track needs one detection from here up to be confirmed (0:
    high_score); it may begin with one half way between low_score and this.
    match_iou, low_match_iou: least overlap of a predicted box with a detection, in the first stage and in the second.
    reach_sigma: how many standard deviations of the predicted position the last stage (no overlap) reaches.
    confirm_hits, confirm_s: a track is confirmed once it was seen this often and over this long.
    tentative_lost_s, max_lost_s: how long a track outlives its last detection, before and after it is confirmed.
    coast_s: how long an unseen track still counts as present.
    """

    high_score: float = 0.4
    low_score: float = 0.1
    new_track_score: float = 0.0
    match_iou: float = 0.1
    low_match_iou: float = 0.3
    reach_sigma: float = 3.0
    confirm_hits: float = 2
    confirm_s: float = 0.18
    tentative_lost_s: float = 0.3
    max_lost_s: float = 2.0
    coast_s: float = 0.3

    @classmethod
    def of(cls, overrides: Mapping[str, float]) -> TrackerSettings:
        """The defaults with ``overrides``. Raises ConfigError for an unknown key or a value that cannot be meant."""
        known = [field.name for field in fields(cls)]
        for key, value in overrides.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                mend = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise ConfigError(f"tracker: unknown setting {key!r}", mend=mend)
            if not 0 <= value < 1e4:
                raise ConfigError(f"tracker: {key} = {value} is out of range", mend="0 or more")
        settings = cls(**overrides)
        if settings.low_score > settings.high_score:
            raise ConfigError(
                f"tracker: low_score {settings.low_score} is above high_score {settings.high_score}",
                mend="low_score is the smaller of the two",
            )
        return settings

    @property
    def birth_score(self) -> float:
        """The score that one detection of a track must reach for it to be confirmed."""
        return self.new_track_score or self.high_score

    @property
    def weak_score(self) -> float:
        """The score from which a detection may begin a track."""
        return (self.low_score + self.birth_score) / 2
