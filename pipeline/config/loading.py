"""The way of a file to a ``Config``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config.models import Config

ClassesOf = Callable[[str], Sequence[str] | None]
"""The classes of a model by its name or folder; None when it cannot be loaded."""


def load_config(path: str | Path, env: Mapping[str, str] = os.environ, *, classes_of: ClassesOf | None = None) -> Config:
    """Read and check a configuration file.

    Raises ConfigProblems (a ConfigError) with every problem there is, sorted by line. classes_of: also check the
    classes of lines and zones against the model's own.
    """
    raise NotImplementedError


def read_config(text: str, file: str, folder: Path, env: Mapping[str, str], *, classes_of: ClassesOf | None = None) -> Config:
    """Check a configuration's text. file: how to call it in messages. folder: where relative paths start."""
    raise NotImplementedError


def config_from_videos(
    videos: Sequence[str],
    lines: Sequence[str] = (),
    *,
    classes: Sequence[str] = ("person", "vehicle"),
    anchor: str = "bottom_center",
    model: str | None = None,
    sample_fps: float | None = None,
) -> Config:
    """The configuration of ``passerby run VIDEO... --line x0,y0,x1,y1``.

    A camera a video, named after the file (made unique). lines: ``x0,y0,x1,y1`` or ``NAME=x0,y0,x1,y1`` in 0..1, on
    every video; without names they are line1, line2, ... Raises UsageError for a line that cannot be read.
    """
    raise NotImplementedError
