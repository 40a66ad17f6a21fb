"""What the pipeline saw, painted on the picture, and the video of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.frame import Picture
from pipeline.core.rules import CameraRules, Point
from pipeline.core.tracks import TrackView

Totals = Mapping[str, Mapping[str, Mapping[str, int]]]
"""line -> group (or class outside the groups) -> {"left": n, "right": n}."""


class Annotator:
    """Paints tracks, trails, lines, zones and totals. Keeps the trails of each camera's last ``trail_s`` seconds.

    Not thread-safe: one a thread, or one a camera. Same calls, same pixels.
    """

    def __init__(self, *, trail_s: float = 2.0) -> None: ...

    def draw(
        self,
        picture: Picture,
        *,
        size: tuple[int, int],
        tracks: Sequence[TrackView],
        rules: CameraRules,
        totals: Totals,
        when_us: int,
        camera_id: str,
        masks: Sequence[Sequence[Point]] = (),
    ) -> Picture:
        """A new picture of the same shape. ``size``: (width, height) of the source, the space of the boxes.

        when_us: the frame's time, UTC microseconds. masks: the privacy masks, outlined.
        """
        raise NotImplementedError


class AnnotatedVideo:
    """One mp4 a camera, ``folder/annotated/<camera>.mp4``, each picture at its own time."""

    def __init__(self, folder: Path, *, fps: float = 8.0) -> None: ...

    def write(self, camera_id: str, picture: Picture, at_us: int) -> None:
        """Append a picture (H x W x 3 uint8 RGB) shown at ``at_us`` (UTC). Raises OutputError."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish every file, even when one of them fails; the first failure is raised as OutputError."""
        raise NotImplementedError

    @property
    def paths(self) -> dict[str, Path]:
        """camera_id -> file, of every camera that had a picture."""
        raise NotImplementedError

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
