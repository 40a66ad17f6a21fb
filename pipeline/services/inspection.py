"""Opening a source for a moment: what it is, and what it shows."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from pipeline.config import CameraConfig
from pipeline.core.frame import Picture
from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnavailable, SourceUnreadable
from pipeline.services.planning import SourceFacts
from pipeline.services.streams import stream_settings
from pipeline.sources.address import locate
from pipeline.sources.base import SampledFrame, StatusChanged, Stream, StreamSettings, SystemClock
from pipeline.sources.files import clips_in
from pipeline.sources.open import open_stream
from pipeline.sources.video import Video

_EVERY_FRAME_FPS = 1e6
_RATE_FRAMES = 40  # enough to tell 24 from 25 frames a second
_RATE_S = 3.0


def look(camera: CameraConfig, *, timeout_s: float = 20.0, preview_width: int = 1920) -> tuple[SourceFacts, Picture]:
    """Open a camera's source, measure its frame rate over about a second, and give its first picture.

    The picture is H x W x 3 uint8 RGB, at most ``preview_width`` wide, without masks. Raises SourceError when nothing
    comes within ``timeout_s`` seconds.
    """
    settings = replace(
        stream_settings(camera, "first"),
        sample_fps=_EVERY_FRAME_FPS, masks=(), preview_width=preview_width, start_jitter_s=0.0, start_us=None,
    )  # fmt: skip
    stop = threading.Event()
    timer = threading.Timer(timeout_s, stop.set)
    timer.daemon = True
    timer.start()
    try:
        with open_stream(settings, _small, ledger=FrameLedger(), clock=SystemClock(), stop=stop) as stream:
            facts, picture = _first_second(stream, camera, stop)
    finally:
        timer.cancel()
    codec, b_frames = _codec(settings)
    return replace(facts, codec=codec, b_frames=b_frames), picture


def _codec(settings: StreamSettings) -> tuple[str | None, bool | None]:
    """Codec of a file (of a folder: of its first clip), and whether it has B frames; a camera is not opened twice."""
    address = locate(settings.source)
    if address.kind == "folder":
        address = locate(str(next(iter(clips_in(Path(address.target))))))
    if address.kind != "file":
        return None, None
    with Video(address, settings) as video:
        context = video.stream.codec_context
        return context.name, bool(context.has_b_frames)


def _first_second(stream: Stream, camera: CameraConfig, stop: threading.Event) -> tuple[SourceFacts, Picture]:
    frames: list[SampledFrame] = []
    reason = ""
    for item in stream:
        if isinstance(item, SampledFrame):
            frames.append(item)
            span_s = (item.frame.pts_us - frames[0].frame.pts_us) / 1e6
            if len(frames) > _RATE_FRAMES or span_s > _RATE_S:
                break
        elif isinstance(item, StatusChanged) and item.status.state in ("down", "ended"):
            reason = item.status.reason
            break
    if not frames:
        error = SourceUnreadable if stream.is_finite and not stop.is_set() else SourceUnavailable
        raise error(reason or f"{camera.source.url}: no picture came")
    first, last = frames[0], frames[-1]
    seconds = (last.frame.pts_us - first.frame.pts_us) / 1e6
    facts = SourceFacts(
        first.width, first.height,
        fps=(last.frame.index - first.frame.index) / seconds if seconds > 0 else None,
        duration_s=stream.duration_s, live=not stream.is_finite,
    )  # fmt: skip
    picture = first.frame.preview
    return facts, first.frame.picture if picture is None else picture


def _small(width: int, height: int) -> tuple[int, int]:
    """A size that costs nothing to make: only the preview is looked at."""
    return 64, max(2, round(64 * height / width / 2) * 2)
