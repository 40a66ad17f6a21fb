"""What every source of frames gives, and how it is asked.

A source is one camera for its whole life: it reconnects, backs off and counts its epochs by itself. What comes out
is one ordered stream of three kinds of items:

    EpochStarted     the stream (re)started; everything after it belongs to this epoch
    SampledFrame     a frame to be analysed, masked and scaled already
    StatusChanged    up, down (with the reason) or ended

The ledger: a source tells every frame that leaves the decoder, as ``captured`` (handed on) or as
``captured_and_sampled_out``; what it has to give up later it tells as ``dropped`` with its cause. Whoever consumes
the stream owns the frames it was handed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol

from pipeline.core.frame import Frame, StreamStatus, TimeSource
from pipeline.core.rules import Point

Transport = Literal["tcp", "udp"]
Mode = Literal["auto", "every_frame", "realtime"]
Preview = Literal["none", "first", "all"]

PictureSize = Callable[[int, int], tuple[int, int]]
"""Source (width, height) -> (width, height) of the RGB picture that the camera's model wants."""


class Clock(Protocol):
    """Time, passed in so that tests own it."""

    def utc_us(self) -> int:
        """UTC in microseconds since 1970; may step when the machine's clock is set."""

    def monotonic_s(self) -> float:
        """Seconds that only ever rise, from an arbitrary zero."""


class SystemClock:
    """The machine's clocks."""

    def utc_us(self) -> int:
        """UTC in microseconds since 1970."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds since some moment in the past."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How one camera is read.

    source: URL (rtsp, rtsps, http, https, HLS, udp), file, folder of clips, or /dev/videoN.
    sample_fps: frames a second of stream time to hand on; a slower source hands on all it has.
    start_us: files: UTC microseconds of the first frame (None: 1970-01-01T00:00:00Z, so that a run repeats exactly).
    masks: polygons in 0..1 of the displayed picture, painted black before anything leaves the source.
    mode: ``every_frame`` waits for the consumer and ends with the source; ``realtime`` never waits, drops frames
        older than ``max_staleness_s`` and reconnects for ever. ``auto``: what has an end (a file, a folder, a file
        over HTTP, a finished HLS playlist) is ``every_frame``, anything else ``realtime``.
    stall_timeout_s: seconds without a decoded frame after which a connection is given up.
    open_timeout_s: seconds a connection may take until its stream is understood.
    backoff_first_s, backoff_cap_s: bounds of the wait before another attempt (exponential, full jitter).
    start_jitter_s: live sources wait a random part of this before their first attempt, so that a fleet does not
        knock on one recorder at the same instant.
    preview: whether frames carry a picture for people: none, the first of an epoch, or all; at most
        ``preview_width`` pixels wide.
    first_epoch: number of the first epoch (a worker that takes a camera over goes on counting).
    resume_after_us: what is read whole goes on behind the frame of this ``captured_at_us``: times, indices and the
        choice of the frames that remain are those of an undisturbed reading. Live sources take no notice.
    on_decoded: told, for each packet, the seconds that the decoder took; on the thread that reads.
    """

    camera_id: str
    source: str
    sample_fps: float = 8.0
    transport: Transport = "tcp"
    start_us: int | None = None
    masks: tuple[tuple[Point, ...], ...] = ()
    mode: Mode = "auto"
    max_staleness_s: float = 2.0
    stall_timeout_s: float = 10.0
    open_timeout_s: float = 15.0
    backoff_first_s: float = 1.0
    backoff_cap_s: float = 30.0
    start_jitter_s: float = 0.5
    preview: Preview = "none"
    preview_width: int = 1280
    first_epoch: int = 1
    resume_after_us: int | None = None
    on_decoded: Callable[[float], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.sample_fps > 0:
            raise ValueError(f"sample_fps must be above 0, not {self.sample_fps}")
        for name in ("max_staleness_s", "stall_timeout_s", "open_timeout_s", "backoff_first_s", "backoff_cap_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for polygon in self.masks:
            if len(polygon) < 3:
                raise ValueError("a mask is a polygon of at least three points")

    def wants_preview(self, index: int) -> bool:
        """Whether the ``index``-th frame of an epoch is to carry a picture for people."""
        return self.preview == "all" or (self.preview == "first" and index == 0)


def preview_size(width: int, height: int, most_width: int) -> tuple[int, int]:
    """Even width and height of a picture for people, at most ``most_width`` wide, of a ``width`` x ``height`` frame."""
    scale = min(1.0, most_width / width)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


@dataclass(frozen=True, slots=True)
class EpochStarted:
    """A stream (re)started. ``at_us``: UTC microseconds of its first frame."""

    epoch: int
    time_source: TimeSource
    at_us: int


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrame:
    """A frame to analyse; ``width`` x ``height``: size in pixels of the decoded frame as displayed."""

    epoch: int
    frame: Frame
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The camera came up, went down or ended. ``epoch`` is the latest one begun (or the first, if none was)."""

    epoch: int
    status: StreamStatus


StreamItem = EpochStarted | SampledFrame | StatusChanged


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """What went wrong on the way and was handled, in frames, packets or times since the start.

    corrupt_packets: could not be decoded and were skipped. repaired_timestamps: missing, backwards or impossible
    and replaced. connections: successful ones. abandoned_readers: threads that hung inside the decoder and were
    given up; hung_readers: those of them that still have not returned. reconnects: attempts to connect again, by why
    the connection before ended: unavailable, denied, unreadable, stalled, ended.
    """

    corrupt_packets: int = 0
    repaired_timestamps: int = 0
    connections: int = 0
    abandoned_readers: int = 0
    hung_readers: int = 0
    reconnects: Mapping[str, int] = field(default_factory=dict)


class Stream(Iterator[StreamItem], Protocol):
    """One camera's items in order; ``next`` waits for the next one. The properties may be asked by any thread.

    Raises SourceUnreadable (or, for a file over the network, SourceUnavailable or SourceDenied) after its
    ``StatusChanged("down", reason)`` where another attempt is useless. Close it when leaving early: a ``with``
    does; frames still inside are then dropped with cause ``shutdown``.
    """

    @property
    def is_finite(self) -> bool:
        """Whether it has an end; over HTTP this may become known only when it is open."""

    @property
    def duration_s(self) -> float | None:
        """What the container declares (for a folder: the sum); None if it does not say, or for a live source."""

    @property
    def position_s(self) -> float:
        """Seconds of stream time read since the first frame."""

    @property
    def health(self) -> StreamHealth:
        """What was lost or mended so far; any thread may ask."""

    def close(self) -> None:
        """Stop reading and account for what is left."""

    def __enter__(self) -> Stream: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
