"""A page of labelled pictures to look at: each with its boxes, why it was kept, and what is not labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.classes import group_of
from pipeline.outputs.page import environment

Box = tuple[str, tuple[float, float, float, float], float | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the page. file: relative to it. width, height: in pixels. unknown: classes that are not complete.

    labels, doubtful, removed: (class, xyxy in 0..1, score or None) of each.
    """

    file: str
    width: int
    height: int
    camera_id: str
    time: str
    reason: str
    detail: str
    unknown: tuple[str, ...]
    labels: Sequence[Box]
    doubtful: Sequence[Box]
    removed: Sequence[Box]


def render(title: str, pictures: Sequence[Shown]) -> str:
    """The page. Pictures are loaded from beside it; it asks for nothing else."""
    reasons = Counter(each.reason for each in pictures)
    return (
        environment()
        .get_template("contact_sheet.html.j2")
        .render(
            title=title,
            pictures=pictures,
            reasons=reasons.most_common(),
            kind_of=lambda name: group_of(name) or "other",
        )
    )
