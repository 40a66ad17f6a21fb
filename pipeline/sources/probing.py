"""What a source really sends, measured: for ``passerby probe`` and for advice on how to read it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.errors import SourceUnavailable, SourceUnreadable
from pipeline.sources.address import Address, locate
from pipeline.sources.base import StreamSettings, Transport
from pipeline.sources.files import clips_in
from pipeline.sources.video import Video
from pipeline.sources.video_picture import PictureMaker

_FILE_PACKETS = 3000


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """One source as it was found. Times in seconds, rates in frames a second; None where it cannot be known.

    measured_fps: from the timestamps of the frames seen. arrival_fps: from their arrival (live only).
    clock_drift: how much faster the camera's clock runs than this machine's (0.01: 1 %); live only.
    largest_gap_s: longest time between two frames. gop: frames from key frame to key frame (median of those seen).
    """

    source: str
    kind: str
    container: str
    codec: str
    profile: str | None
    width: int
    height: int
    pixel_format: str | None
    declared_fps: float | None
    measured_fps: float | None
    arrival_fps: float | None
    variable_rate: bool
    largest_gap_s: float | None
    b_frames: bool
    gop: float | None
    audio: str | None
    duration_s: float | None
    transport: str | None
    clock_drift: float | None
    rotation_degrees: int
    has_timestamps: bool
    frames_seen: int
    corrupt_packets: int
    clips: int | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Measured:
    times_us: list[int]
    arrivals_s: list[float]
    gops: list[int]
    width: int = 0
    height: int = 0
    rotation: int = 0


def probe(
    source: str,
    *,
    seconds: float = 4.0,
    transport: Transport = "tcp",
    now_s: Callable[[], float] = time.monotonic,
) -> ProbeReport:
    """Open ``source`` and look at it: ``seconds`` of a live source, the packets of a file.

    Raises SourceUnavailable, SourceDenied, SourceUnreadable.
    """
    settings = StreamSettings("probe", source, transport=transport, open_timeout_s=10.0)
    address = locate(source)
    clips: int | None = None
    if address.kind == "folder":
        found = clips_in(Path(source))
        if not found:
            raise SourceUnreadable(f"{source}: no video clips in this folder")
        clips, address = len(found), locate(str(found[0]))
    with Video(address, settings) as video:
        live = video.duration_s is None and not address.is_local
        measured = _measure(video, address, seconds if live else None, now_s)
        report = _report(address, video, measured, live=live, transport=settings.transport)
    return report if clips is None else replace(report, source=source, kind="folder", clips=clips)


def _measure(video: Video, address: Address, seconds: float | None, now_s: Callable[[], float]) -> _Measured:
    found = _Measured([], [], [])
    since_key: int | None = None
    began_s = now_s()
    for count, packet in enumerate(video.packets()):
        if packet.is_keyframe:
            if since_key is not None:
                found.gops.append(since_key)
            since_key = 0
        since_key = None if since_key is None else since_key + 1
        pts, base = packet.pts, packet.time_base
        if pts is not None and base is not None:
            found.times_us.append(round(pts * base * 1_000_000))
            found.arrivals_s.append(now_s() - began_s)
        if found.width == 0:
            for decoded in video.decode(packet):
                found.width, found.height = PictureMaker.shown_size(decoded.image)
                found.rotation = -decoded.image.rotation % 360
        if (seconds is not None and now_s() - began_s > seconds) or (seconds is None and count >= _FILE_PACKETS):
            break
    if found.width == 0:
        for decoded in video.decode(None):
            found.width, found.height = PictureMaker.shown_size(decoded.image)
    if found.width == 0:
        if seconds is not None:
            raise SourceUnavailable(f"{address.shown}: no frame could be decoded within {seconds:g} s")
        raise SourceUnreadable(f"{address.shown}: not one frame can be decoded")
    return found


def _report(address: Address, video: Video, found: _Measured, *, live: bool, transport: str) -> ProbeReport:
    context, sound = video.stream.codec_context, video.container.streams.audio
    times = sorted(found.times_us)
    steps = [(b - a) / 1e6 for a, b in pairwise(times) if b > a]
    measured = len(steps) / sum(steps) if steps else None
    usual = statistics.median(steps) if steps else 0.0
    arrival, drift = _against_the_wall(found) if live else (None, None)
    return ProbeReport(
        source=address.shown,
        kind=address.kind,
        container=video.container.format.name,
        codec=context.name,
        profile=context.profile,
        width=found.width,
        height=found.height,
        pixel_format=context.pix_fmt,
        declared_fps=video.declared_fps,
        measured_fps=measured if video.has_timestamps else arrival or measured,
        arrival_fps=arrival,
        variable_rate=bool(steps) and sum(abs(s - usual) > 0.25 * usual for s in steps) > 0.1 * len(steps),
        largest_gap_s=max(steps, default=None),
        b_frames=bool(context.has_b_frames),
        gop=statistics.median(found.gops) if found.gops else None,
        audio=sound[0].codec_context.name if sound else None,
        duration_s=video.duration_s,
        transport=transport if address.kind == "rtsp" else None,
        clock_drift=drift if video.has_timestamps else None,
        rotation_degrees=found.rotation,
        has_timestamps=video.has_timestamps,
        frames_seen=len(found.times_us),
        corrupt_packets=video.corrupt_packets,
        clips=None,
    )


def _against_the_wall(found: _Measured) -> tuple[float | None, float | None]:
    """Frames a second as they arrive, and the drift of the stream's clock, both after the first burst."""
    settled = [(t / 1e6, a) for t, a in zip(found.times_us, found.arrivals_s, strict=True) if a > 1.0]
    if len(settled) < 10:
        return None, None
    arrivals = [a for _, a in settled]
    if arrivals[-1] <= arrivals[0]:
        return None, None
    slope, _ = statistics.linear_regression(arrivals, [t for t, _ in settled])
    return (len(settled) - 1) / (arrivals[-1] - arrivals[0]), slope - 1.0
