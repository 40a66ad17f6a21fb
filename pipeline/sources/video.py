"""The one door to PyAV's decoders: an opened container and its video stream.

FFmpeg logs nothing through this door: its messages repeat URLs with their passwords.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

import av
import av.error
import av.logging
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from pipeline.errors import SourceUnreadable
from pipeline.sources.address import Address
from pipeline.sources.base import PictureSize, StreamSettings
from pipeline.sources.timeline import BestEffort
from pipeline.sources.video_errors import check_file, translate

av.logging.set_level(None)

_TRIES_AFTER_ERROR = 8
_WITHOUT_TIMESTAMPS = frozenset({"h264", "hevc", "mjpeg", "mpjpeg", "m4v", "mpegvideo", "obu", "rawvideo", "vc1"})
_NOT_VIDEO = frozenset({"tty", "image2", "bin", "xbin", "adf", "idf", "lrc", "srt", "webvtt", "ass"})


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A frame as the decoder gave it. ``raw_us``: its own timestamp in microseconds, any origin; None if missing."""

    raw_us: int | None
    image: av.VideoFrame


DEBLOCKING_SPARED_FROM = 2.5
"""A picture at least this many times smaller than the frame, on both sides, does not show the blocks."""


class Video:
    """An opened source. Use it in one thread; ``close`` it there.

    corrupt_packets: packets so far that could not be decoded, or only with damage.
    broke_off: reading stopped at an error, not at an end.
    """

    def __init__(self, address: Address, settings: StreamSettings) -> None:
        """Open ``address``. Raises SourceUnavailable, SourceDenied, SourceUnreadable."""
        self.address = address
        self.corrupt_packets = 0
        self.broke_off = False
        self._timestamps = BestEffort()
        self._on_decoded = settings.on_decoded
        self._last_us: int | None = None
        if address.is_local:
            check_file(address)
        try:
            self._container = _open(address, settings)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise translate(error, address) from None
        try:
            self._stream = _pick(self._container, address)
        except BaseException:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1

    def frames(self, picture_size: PictureSize | None = None) -> Iterator[DecodedFrame]:
        """Every frame that decodes, in order. Raises SourceUnavailable when a network source breaks.

        picture_size: how large the pictures are that will be made of them; much smaller ones spare the decoder its
        deblocking filter (decision 0013).
        """
        if picture_size is not None:
            self._spare_deblocking(picture_size)
        failures = 0
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    yield from self._decode(packet)
                return
            except IndexError:
                # PyAV flushes every stream at the end, and fails on streams that damage made appear meanwhile.
                yield from self._decode(None)
                return
            except (av.error.FFmpegError, ValueError, OSError) as error:
                if not self.address.is_local:
                    raise translate(error, self.address) from None
                # A damaged file: the demuxer may find its way again behind the damage.
                failures += 1
                self.corrupt_packets += 1
                if failures > _TRIES_AFTER_ERROR:
                    self.broke_off = True
                    yield from self._decode(None)
                    return

    def _spare_deblocking(self, picture_size: PictureSize) -> None:
        """Before the first packet: leave the H.264 loop filter out where the scaling averages blocks away."""
        context = self._stream.codec_context
        if context.name != "h264" or not context.width or not context.height:
            return
        width, height = picture_size(context.width, context.height)
        if min(context.width / width, context.height / height) >= DEBLOCKING_SPARED_FROM:
            context.options = {**context.options, "skip_loop_filter": "all"}

    def _decode(self, packet: av.Packet[VideoStream] | None) -> list[DecodedFrame]:
        began_s = time.perf_counter()
        try:
            images = self._stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError, OverflowError):
            self.corrupt_packets += 1
            return []
        if self._on_decoded is not None and packet is not None and packet.size:
            self._on_decoded(time.perf_counter() - began_s)
        if (packet is not None and packet.is_corrupt) or any(image.is_corrupt for image in images):
            self.corrupt_packets += 1
        choose = self._timestamps.choose
        frames = [DecodedFrame(_microseconds(choose(image.pts, image.dts), image.time_base), image) for image in images]
        if frames and frames[-1].raw_us is not None:
            self._last_us = frames[-1].raw_us
        return frames

    def packets(self) -> Iterator[av.Packet[VideoStream]]:
        """The packets of the video stream, not decoded; for measuring. Raises as ``frames``."""
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise translate(error, self.address) from None

    def decode(self, packet: av.Packet[VideoStream] | None) -> list[DecodedFrame]:
        """Frames of one packet of ``packets``; None for those still inside at the end."""
        return self._decode(packet)

    @property
    def stream(self) -> VideoStream:
        """The video stream that is read."""
        return self._stream

    @property
    def container(self) -> InputContainer:
        """The container it is in."""
        return self._container

    @property
    def duration_s(self) -> float | None:
        """What the container declares; None if it does not, as for a live source."""
        if self._container.duration and self._container.duration > 0:
            return self._container.duration / 1e6
        if self._stream.duration and self._stream.time_base and self._stream.duration > 0:
            return float(self._stream.duration * self._stream.time_base)
        return None

    @property
    def missing_s(self) -> float:
        """Seconds between the last decoded frame and the declared end of the video; 0 where none is declared."""
        s = self._stream
        if self._last_us is None or not s.duration or s.time_base is None:
            return 0.0
        return float(((s.start_time or 0) + s.duration) * s.time_base) - self._last_us / 1e6

    @property
    def declared_fps(self) -> float | None:
        """The frame rate that the container or codec claims; often wrong."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else None

    @property
    def has_timestamps(self) -> bool:
        """Whether frames carry times of their own (a bare MJPEG or H.264 stream has none)."""
        return self._container.format.name not in _WITHOUT_TIMESTAMPS

    def describe(self) -> str:
        """One line: codec, size, declared rate."""
        context = self._stream.codec_context
        fps = self.declared_fps
        return f"{context.name} {context.width}x{context.height}" + (f", {fps:.3g} fps declared" if fps else "")

    def close(self) -> None:
        """Give the decoder and the connection back."""
        self._container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(address: Address, settings: StreamSettings) -> InputContainer:
    """The container, with the options that suit it; a webcam without MJPEG is asked for what it has."""

    def opened(options: dict[str, str]) -> InputContainer:
        return av.open(
            address.target,
            format=input_format(address),
            options=options,
            metadata_errors="replace",
            # Only while opening: PyAV's time-out takes the GIL at every read of the socket (decision 0011).
            timeout=None if address.is_local else (settings.open_timeout_s, None),
        )

    options = open_options(address, settings)
    try:
        return opened(options)
    except (av.error.InvalidDataError, av.error.ArgumentError, OSError) as error:
        if "input_format" not in options or isinstance(error, FileNotFoundError | PermissionError):
            raise
        return opened({key: value for key, value in options.items() if key != "input_format"})


def input_format(address: Address) -> str | None:
    """The demuxer to force; None to let FFmpeg find out."""
    if address.kind == "device":
        return "v4l2"
    return "rtsp" if address.kind == "rtsp" else None


def open_options(address: Address, settings: StreamSettings) -> dict[str, str]:
    """FFmpeg's options for a source. Their own time-outs come before the watchdog's, so that a hung camera usually
    ends inside FFmpeg, which frees its thread."""
    silence_us = str(round(settings.stall_timeout_s * 1e6))
    match address.kind:
        case "rtsp":
            # Measuring the frame rate before the first frame would take a second, and hand that second on in one burst.
            return {"rtsp_transport": settings.transport, "timeout": silence_us, "fpsprobesize": "0"}
        case "http":
            again = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "2"}
            return {"rw_timeout": silence_us, **(again if address.recording else {})}
        case "hls" | "network":
            return {"rw_timeout": silence_us}
        case "device":
            # Compressed pictures first: over USB 2 most webcams reach 25 fps at 720p and above only with MJPEG.
            return {"input_format": "mjpeg"}
        case _:
            return {}


def _pick(container: InputContainer, address: Address) -> VideoStream:
    """The largest video stream; the others are not even read."""
    format_name = container.format.name
    if format_name in _NOT_VIDEO or format_name.endswith("_pipe"):
        what = "a text file" if format_name in _NOT_VIDEO - {"image2"} else "a picture"
        raise SourceUnreadable(f"{address.shown}: is {what}, not a video")
    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        what = "has only sound, no video" if container.streams.audio else "has no video in it"
        raise SourceUnreadable(f"{address.shown}: {what}")
    usable = [s for s in found if s.codec_context is not None]
    if not usable:
        raise SourceUnreadable(f"{address.shown}: no decoder for its video")
    chosen = max(usable, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    return chosen


def _microseconds(pts: int | None, time_base: Fraction | None) -> int | None:
    if pts is None or time_base is None:
        return None
    scaled, unit = pts * time_base.numerator * 1_000_000, time_base.denominator
    return (2 * scaled + unit) // (2 * unit)
