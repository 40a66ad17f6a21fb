"""The one door to PyAV's encoders: pictures in, a video file out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from pipeline.core.frame import Picture
from pipeline.errors import OutputError

_TIME_BASE = Fraction(1, 90_000)


class VideoWriter:
    """Writes RGB pictures to an H.264 file (mp4, mkv, by the name's ending), each at its own time.

    The file is complete once closed; what was written before a failure stays readable (mp4 is fragmented).
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, *, crf: int = 23, gop: int = 50, b_frames: int = 0
    ) -> None:
        self._path = path
        # H.264 with 4:2:0 chroma wants even sides.
        self._width, self._height = width - width % 2, height - height % 2
        options = {"movflags": "frag_keyframe+empty_moov"} if path.suffix == ".mp4" else {}
        try:
            self._container = av.open(str(path), "w", options=options)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        self._stream = stream
        self._last_pts = -1
        self._broken = False

    def write(self, picture: Picture, pts_s: float) -> None:
        """Append ``picture`` (H x W x 3 uint8 RGB) to be shown at ``pts_s``; times must rise. Raises OutputError."""
        cropped = np.ascontiguousarray(picture[: self._height, : self._width])
        frame = av.VideoFrame.from_ndarray(cropped, format="rgb24")
        self._last_pts = frame.pts = max(round(pts_s / _TIME_BASE), self._last_pts + 1)
        frame.time_base = _TIME_BASE
        self._mux(frame)

    def close(self) -> None:
        """Finish the file. Raises OutputError when what is left cannot be written."""
        try:
            if not self._broken:
                self._mux(None)
        finally:
            self._container.close()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        if self._broken:
            raise OutputError(f"cannot write {self._path}: an earlier write failed")
        try:
            self._container.mux(self._stream.encode(frame))
        except (OSError, ValueError) as error:  # FFmpeg's errors are of these kinds
            # Its muxer must not be called again after a failed write: that ends the process.
            self._broken = True
            raise OutputError(f"cannot write {self._path}: {error}") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
