"""A scripted scene as a source of frames: live from the script, or as an H.264 file with its truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.core.frame import Picture
from pipeline.encoding import VideoWriter
from pipeline.errors import OutputError, UsageError
from pipeline.sources.synthetic.scene import Scene
from pipeline.sources.synthetic.situations import street

SCHEME = "synthetic"


def parse_source(source: str) -> tuple[Scene, float]:
    """The scene and its frames a second of ``synthetic://street?seed=7&duration=30``.

    Keys, all optional: seed (0), situation, width (960), height (540), duration (30, seconds), night (0 or 1),
    fps (12.5). Raises UsageError for anything else.
    """
    parts = urlsplit(source)
    if parts.scheme != SCHEME or parts.netloc != "street":
        raise UsageError(f"{source} is no scripted street", mend="synthetic://street?seed=7&duration=30")
    told = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"seed", "situation", "width", "height", "duration", "night", "fps"}
    if unknown := sorted(set(told) - known):
        raise UsageError(f"{source}: unknown {', '.join(unknown)}", mend=f"known: {', '.join(sorted(known))}")
    try:
        scene = street(
            int(told.get("seed", "0")),
            situation=told.get("situation") or None,
            width=int(told.get("width", "960")),
            height=int(told.get("height", "540")),
            duration_s=float(told.get("duration", "30")),
            night=bool(int(told.get("night", "0"))),
        )
        fps = float(told.get("fps", "12.5"))
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    if not 0 < fps <= 120:
        raise UsageError(f"{source}: fps must be over 0 and at most 120")
    return scene, fps


def frame_times(scene: Scene, fps: float | None = None) -> list[float]:
    """The instants (s) of the scene's frames at a fixed rate, from 0 to before its end."""
    rate = fps or scene.fps
    return [index / rate for index in range(int(scene.duration_s * rate))]


def synthetic_frames(
    scene: Scene, fps: float | None = None, *, times_s: Sequence[float] | None = None
) -> Iterator[tuple[int, Picture]]:
    """(pts in microseconds, picture) of every frame: at ``fps`` (the scene's own if None), or at ``times_s``."""
    for t_s in frame_times(scene, fps) if times_s is None else times_s:
        yield round(t_s * 1e6), scene.render(t_s)


def write_video(
    scene: Scene,
    path: Path,
    fps: float | None = None,
    *,
    camera_id: str | None = None,
    truth: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the scene as H.264 to ``path`` (.mp4 or .mkv), and its truth beside it; the truth's path.

    fps: the scene's own if None. camera_id: in the truth, the file's stem if None. truth: where the truth goes,
    ``<name>.truth.json`` beside the file if None; it is ``truth_of`` as JSON. progress: called with (frames written,
    frames in all) after each. Raises OutputError when a file cannot be written.
    """
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is no folder")
    times = frame_times(scene, fps)
    with VideoWriter(path, scene.width, scene.height, fps or scene.fps) as writer:
        for done, t_s in enumerate(times, 1):
            writer.write(scene.render(t_s), t_s)
            if progress is not None:
                progress(done, len(times))
    truth = truth or path.with_suffix(".truth.json")
    try:
        truth.write_text(json.dumps(truth_of(scene, path.name, camera_id or path.stem), indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {truth}: {error.strerror}") from error
    return truth


def truth_of(scene: Scene, file: str, camera_id: str) -> dict[str, Any]:
    """The counts and stays of a scene as ``passerby eval count --truth`` reads them."""
    crossings, dwells = scene.crossings(), scene.dwells()
    lines = {
        line.name: {
            "points": [list(point) for point in line.points],
            "classes": list(line.classes),
            "anchor": line.anchor,
            "crossings": [
                {"t_s": one.t_s, "direction": one.direction, "class": one.class_name}
                for one in crossings
                if one.line == line.name
            ],
        }
        for line in scene.lines
    }
    zones = {
        zone.name: {
            "points": [list(point) for point in zone.points],
            "classes": list(zone.classes),
            "anchor": zone.anchor,
            "dwells": [
                {"entered_s": one.entered_s, "left_s": one.left_s, "class": one.class_name}
                for one in dwells
                if one.zone == zone.name
            ],
        }
        for zone in scene.zones
    }
    return {"videos": [{"file": file, "camera": camera_id, "lines": lines, "zones": zones}]}
