"""A track as others see it: one object followed over frames."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.classes import Group


@dataclass(frozen=True, slots=True)
class TrackView:
    """One confirmed track in one frame.

    track_id: ``camera/epoch/number``, never used twice. bbox: x_min, y_min, x_max, y_max in pixels of the
    original frame. ``seen``: whether a detection supports the box in this frame (else it is predicted).
    """

    track_id: str
    class_name: str
    group: Group | None
    bbox: tuple[float, float, float, float]
    score: float
    seen: bool
