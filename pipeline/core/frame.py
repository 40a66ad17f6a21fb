"""A frame, and a window of frames: the unit that travels from ingest to inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""H x W x 3, RGB, 0..255, C-contiguous."""

TimeSource = Literal["pts", "wall", "ntp"]
"""Which clock ``captured_at_us`` comes from: start + pts (files), the ingest worker's clock, the camera's NTP."""

CameraState = Literal["up", "down", "ended", "tampered"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One sampled frame.

    index: number of the frame among all frames decoded in its epoch, from 0.
    pts_us: stream time in microseconds since the first frame of the epoch; strictly rising within the epoch.
    captured_at_us: UTC in microseconds since 1970; strictly rising within the epoch.
    picture: H x W x 3 uint8 RGB, masks already painted, at the size the camera's model wants.
    preview: the same frame at a size for people (H' x W' x 3 uint8 RGB), or None; never leaves the process.
    """

    index: int
    pts_us: int
    captured_at_us: int
    picture: Picture
    preview: Picture | None = None


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A camera came up, went down or ended. ``reason`` is one line without secrets."""

    state: CameraState
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True)
class FrameWindow:
    """Consecutive sampled frames of one camera and epoch, in order; or, with no frames, a change of its status.

    sequence: number of the window within its epoch, from 0, without gaps unless ingest dropped one.
    width, height: size in pixels of the original (decoded) frames; boxes are in this space.
    sample_fps: the rate asked of the sampler, in frames a second.
    revision: of the camera's document it was made under (its offset in the cameras topic); -1 where there is none.
    writer: the worker that made it, "" in one process; of two that claim one epoch, the first in the log has it.

    With neither frames nor status it marks the beginning of an epoch: what is older and comes later is void.
    """

    camera_id: str
    epoch: int
    sequence: int
    frames: tuple[Frame, ...]
    width: int
    height: int
    sample_fps: float
    time_source: TimeSource
    status: StreamStatus | None = None
    revision: int = -1
    writer: str = ""

    @property
    def opened_at_us(self) -> int:
        """UTC microseconds of its first frame (or of its status)."""
        if self.frames:
            return self.frames[0].captured_at_us
        if self.status is not None:
            return self.status.at_us
        raise ValueError("a window has frames or a status")
