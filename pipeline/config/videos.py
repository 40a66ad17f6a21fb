"""A configuration without a file: ``passerby run VIDEO... --line x0,y0,x1,y1``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from pipeline.config.checking import problems_of
from pipeline.config.document import tree_of
from pipeline.config.loading import ClassesOf, class_problems, config_of
from pipeline.config.models import Config
from pipeline.config.sections import LineConfig
from pipeline.errors import ConfigError, UsageError


def config_from_videos(
    videos: Sequence[str],
    lines: Sequence[str] = (),
    *,
    classes: Sequence[str] = ("person", "vehicle"),
    anchor: str = "bottom_center",
    model: str | None = None,
    sample_fps: float | None = None,
    classes_of: ClassesOf | None = None,
) -> Config:
    """The configuration of ``passerby run VIDEO... --line x0,y0,x1,y1``.

    A camera a video, named after the file (made unique). lines: ``x0,y0,x1,y1`` or ``NAME=x0,y0,x1,y1`` in 0..1 (more
    points may follow), on every video; without names they are line1, line2, ... Raises UsageError for a line that
    cannot be read, ConfigError for the rest.
    """
    rules: dict[str, Any] = {}
    for number, told in enumerate(lines, 1):
        name, points = _line(told, number)
        if name in rules:
            raise UsageError(f"--line {told}: the name {name!r} is there twice", mend="give each line its own name")
        rules[name] = {"points": points, "classes": list(classes), "anchor": anchor}
        _check(told, rules[name])
    cameras: dict[str, Any] = {}
    for video in videos:
        cameras[_camera_id(video, cameras)] = {"source": video} | ({"lines": rules} if rules else {})
    data: dict[str, Any] = {"cameras": cameras}
    if model is not None:
        data["model"] = model
    if sample_fps is not None:
        data["sample_fps"] = sample_fps
    config = config_of(tree_of(data), "", Path.cwd())
    problems = class_problems(config, classes_of) if classes_of else []
    if problems:
        raise ConfigError(problems[0].message, mend=problems[0].mend)
    return config


def _line(told: str, number: int) -> tuple[str, list[list[float]]]:
    name, equals, numbers = told.rpartition("=")
    try:
        values = [float(part) for part in numbers.split(",")]
    except ValueError:
        values = []
    if len(values) < 4 or len(values) % 2 or not all(map(math.isfinite, values)):
        raise UsageError(
            f"--line {told}: cannot be read", mend="write x0,y0,x1,y1 in 0..1 of the picture, e.g. 0,0.6,1,0.6"
        )
    return (name if equals else f"line{number}"), [list(pair) for pair in zip(values[::2], values[1::2], strict=True)]


def _check(told: str, rule: dict[str, Any]) -> None:
    try:
        LineConfig.model_validate(rule)
    except ValidationError as error:
        first = problems_of(error, tree_of(rule), (), "")[0]
    else:
        return
    what = "" if first.key.startswith("points") else f"{first.key} "
    raise UsageError(f"--line {told}: {what}{first.message}", mend=first.mend)


def _camera_id(video: str, taken: dict[str, Any]) -> str:
    if "://" in video:
        parts = urlsplit(video)
        text = f"{parts.hostname or 'camera'}-{Path(parts.path).stem}"
    else:
        text = Path(video).stem or Path(video).name
    base = re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip("-._")[:56] or "camera"
    names = (base if n == 1 else f"{base}-{n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
