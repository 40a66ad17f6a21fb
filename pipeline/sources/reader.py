"""One connection: open, decode, sample, scale, mask, put into the buffer. Runs in a thread of its own.

A recording over a network keeps its own times and waits for the consumer; a camera is stamped with the clock of this
machine, and what nobody takes in time is dropped by the buffer. A local file read in ``realtime`` plays as a camera.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.core.frame import Frame, TimeSource
from pipeline.errors import SourceError, SourceUnavailable
from pipeline.sources.address import Address
from pipeline.sources.base import Clock, PictureSize, SampledFrame, StreamSettings
from pipeline.sources.buffer import StreamBuffer, Superseded
from pipeline.sources.sampling import Sampler
from pipeline.sources.timeline import Timeline
from pipeline.sources.video import DecodedFrame, Video
from pipeline.sources.video_picture import PictureMaker

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Connection:
    """What is known of one connection; written by its reader, read by the supervisor.

    beat_s: when the reader last showed that it lives (monotonic). opened: FFmpeg understood the stream.
    finite: it is a recording. failure: why it ended; None for a clean end.
    """

    ticket: int
    beat_s: float
    opened: bool = False
    first_frame: bool = False
    finite: bool = False
    duration_s: float | None = None
    position_s: float = 0.0
    corrupt_packets: int = 0
    repaired_timestamps: int = 0
    failure: SourceError | None = None
    done: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


@dataclass(slots=True)
class _Epoch:
    """The epoch being read. began_us: stream time of its first frame; index: of the next frame."""

    number: int
    began_us: int
    sampler: Sampler
    index: int = 0
    captured_us: int = -1


class Reader:
    """Reads connections of one camera, one after another."""

    def __init__(
        self,
        settings: StreamSettings,
        address: Address,
        picture_size: PictureSize,
        buffer: StreamBuffer,
        clock: Clock,
        open_video: Callable[[Address, StreamSettings], Video],
    ) -> None:
        self._settings = settings
        self._address = address
        self._picture_size = picture_size
        self._buffer = buffer
        self._clock = clock
        self._open_video = open_video

    def run(self, connection: Connection) -> None:
        """Read until the stream ends, fails, or the ticket is superseded."""
        try:
            with self._open_video(self._address, self._settings) as video:
                self._opened(video, connection)
                self._read(video, connection)
        except Superseded:
            pass
        except SourceError as error:
            connection.failure = error
        except Exception as error:
            told = self._address.clean(f"{type(error).__name__}: {error}")
            where = "".join(traceback.format_tb(error.__traceback__))  # code only, no values
            _log.error("camera %s: its reader failed: %s\n%s", self._settings.camera_id, told, where)
            connection.failure = SourceUnavailable(f"{self._address.shown}: {type(error).__name__} while reading")
        finally:
            connection.done.set()

    def _opened(self, video: Video, connection: Connection) -> None:
        connection.opened = True
        connection.beat_s = self._clock.monotonic_s()
        connection.duration_s = video.duration_s
        ends = self._address.is_local or self._address.recording or video.duration_s is not None
        ends = ends and self._address.kind not in ("rtsp", "device")
        connection.finite = ends or self._settings.mode == "every_frame"
        if connection.finite and self._settings.mode != "realtime":
            self._buffer.wait_for_consumer()

    def _read(self, video: Video, connection: Connection) -> None:
        waits = connection.finite and self._settings.mode != "realtime"
        pictures = PictureMaker(self._picture_size, self._settings.masks, self._settings.preview_width)
        timeline = Timeline(usual_us=round(1e6 / video.declared_fps) if video.declared_fps else 0)
        began_s = self._clock.monotonic_s()
        epoch: _Epoch | None = None
        for decoded in video.frames(self._picture_size):
            connection.beat_s = self._clock.monotonic_s()
            arrived_us = round((connection.beat_s - began_s) * 1e6)
            own_time = video.has_timestamps or connection.finite
            tick = timeline.tick(decoded.raw_us if own_time else arrived_us)
            if epoch is None or (waits and tick.jump_us is not None):
                epoch = self._begin(video, connection, tick.pts_us, "pts" if waits else "wall")
            if connection.finite and not waits:
                self._pace(connection, began_s + tick.pts_us / 1e6)
            connection.position_s = tick.pts_us / 1e6
            connection.corrupt_packets = video.corrupt_packets
            connection.repaired_timestamps = timeline.repaired
            self._take(decoded, epoch, tick.pts_us, connection, pictures, waits=waits)
        connection.corrupt_packets = video.corrupt_packets

    def _begin(self, video: Video, connection: Connection, pts_us: int, time_source: TimeSource) -> _Epoch:
        at_us = (self._settings.start_us or 0) + pts_us if time_source == "pts" else self._clock.utc_us()
        number = self._buffer.begin_epoch(time_source, at_us, connection.ticket)
        if not connection.first_frame:
            self._buffer.tell("up", video.describe(), self._clock.utc_us(), connection.ticket)
            connection.first_frame = True
        return _Epoch(number, pts_us, Sampler(self._settings.sample_fps))

    def _take(
        self,
        decoded: DecodedFrame,
        epoch: _Epoch,
        at_us: int,
        connection: Connection,
        pictures: PictureMaker,
        *,
        waits: bool,
    ) -> None:
        """Sample one frame; ``at_us``: its stream time since the first frame of the connection."""
        s = self._settings
        pts_us, index = at_us - epoch.began_us, epoch.index
        epoch.index += 1
        taken = epoch.sampler.take(pts_us)
        if waits and s.resume_after_us is not None and (s.start_us or 0) + at_us <= s.resume_after_us:
            return
        if not taken:
            self._buffer.sampled_out(connection.ticket)
            return
        wall_us = self._clock.utc_us()
        epoch.captured_us = (s.start_us or 0) + at_us if waits else max(wall_us, epoch.captured_us + 1)
        try:
            picture = pictures.picture(decoded.image)
            preview = pictures.preview(decoded.image) if s.wants_preview(index) else None
        except BaseException:
            self._buffer.failed(connection.ticket)
            raise
        frame = Frame(index, pts_us, epoch.captured_us, picture, preview)
        size = pictures.shown_size(decoded.image)
        self._buffer.put_frame(SampledFrame(epoch.number, frame, *size), connection.ticket)

    def _pace(self, connection: Connection, due_s: float) -> None:
        """Wait until a frame of a recording is due, as a camera would send it."""
        while (left_s := due_s - self._clock.monotonic_s()) > 0:
            connection.done.wait(min(left_s, 0.1))
            connection.beat_s = self._clock.monotonic_s()
            self._buffer.check(connection.ticket)
