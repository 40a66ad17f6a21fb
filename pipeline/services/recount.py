"""Runs the clips of a truth file through the pipeline, with the truth's own lines and zones: how well does it count?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config, read_config
from pipeline.errors import UsageError
from pipeline.services.evaluation import VideoTruth
from pipeline.services.run import RunOptions, RunResult, run
from pipeline.sources.address import locate
from pipeline.sources.base import StreamSettings
from pipeline.sources.video import Video


@dataclass(frozen=True, slots=True)
class RecountOptions:
    """How the clips are run. None: as ``passerby run`` would by itself."""

    model: str | None = None
    sample_fps: float | None = None
    threads: int | None = None
    report: bool = True
    live_view: bool = False


def recount(truth: Sequence[VideoTruth], clips: dict[str, Path], out: Path, options: RecountOptions) -> RunResult:
    """Count on every clip of the truth. clips: camera_id -> file. Raises what ``run`` raises."""
    return run(config_of(truth, clips, options), RunOptions(out, live_view=options.live_view))


def config_of(truth: Sequence[VideoTruth], clips: dict[str, Path], options: RecountOptions) -> Config:
    """The configuration that counts what the truth tells: a camera a clip, everything else at its default."""
    told: dict[str, Any] = {"output": {"report": options.report}}
    if options.model is not None:
        # A folder is meant from here, not from wherever the configuration would lie.
        told["model"] = str(Path(options.model).resolve()) if Path(options.model).is_dir() else options.model
    if options.sample_fps is not None:
        told["sample_fps"] = options.sample_fps
    if options.threads is not None:
        told["inference"] = {"threads": options.threads}
    told["cameras"] = {video.camera_id: _camera(video, clips[video.camera_id]) for video in truth}
    # JSON is YAML: read as any configuration is, with the same checks.
    return read_config(json.dumps(told), "the truth's configuration", Path.cwd(), {})


def _camera(video: VideoTruth, clip: Path) -> dict[str, Any]:
    camera: dict[str, Any] = {"source": str(clip.resolve())}
    rules = (("lines", video.lines), ("zones", video.zones))
    for key, named in rules:
        if named:
            camera[key] = {
                rule.name: {"points": rule.points, "classes": rule.classes, "anchor": rule.anchor} for rule in named
            }
    return camera


def find_clip(file: str, truth_path: Path, folder: Path | None = None) -> Path:
    """The clip that a truth file names: in ``folder`` if given, else beside the truth file or one folder up.

    Raises UsageError when it is in none of them.
    """
    name = Path(file)
    places = (
        [folder / name, folder / name.name] if folder else [truth_path.parent / name, truth_path.parent.parent / name]
    )
    for place in places:
        if place.is_file():
            return place
    looked = " or ".join(str(place) for place in places)
    raise UsageError(f"the clip {file} of {truth_path} is not there", mend=f"looked for {looked}; say --videos DIR")


def frame_rate(clip: Path) -> float:
    """Frames a second as the packets' times tell, whatever the file declares. Raises SourceError."""
    with Video(locate(str(clip)), StreamSettings("probe", str(clip))) as video:
        time_base = video.stream.time_base
        times = sorted(packet.pts for packet in video.packets() if packet.pts is not None)
        declared = video.declared_fps
    if time_base is not None and len(times) > 1 and times[-1] > times[0]:
        return (len(times) - 1) / float((times[-1] - times[0]) * time_base)
    if declared is None:
        raise UsageError(f"{clip} does not tell its frames a second", mend='add "fps" to its truth')
    return declared
