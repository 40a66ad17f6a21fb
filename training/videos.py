"""Frames of recordings, decoded and sampled by the pipeline's own sources: what is learned from is what will be fed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.ledger import FrameLedger
from pipeline.sources.base import PictureSize, SampledFrame, StreamSettings, SystemClock
from pipeline.sources.open import open_stream


def sampled_frames(path: Path, picture_size: PictureSize, sample_fps: float) -> Iterator[SampledFrame]:
    """The frames of a video that the pipeline would analyse. Raises SourceError for a file that cannot be read."""
    settings = StreamSettings("clip", str(path), sample_fps=sample_fps, mode="every_frame")
    stream = open_stream(settings, picture_size, ledger=FrameLedger(), clock=SystemClock(), stop=threading.Event())
    with stream:
        for item in stream:
            if isinstance(item, SampledFrame):
                yield item
