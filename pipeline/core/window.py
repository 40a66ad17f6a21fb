"""When a window of frames closes: at ``window_frames`` frames or ``window_s`` of stream time, whichever is first."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.core.frame import Frame, FrameWindow, StreamStatus, TimeSource


@dataclass(slots=True)
class WindowBuilder:
    """Gathers the sampled frames of one camera and epoch into windows.

    A window also closes when the size of the source's frames changes, since its boxes are in one space.
    sequence: of the next window.
    """

    camera_id: str
    epoch: int
    sample_fps: float
    time_source: TimeSource
    window_frames: int = 8
    window_s: float = 1.0
    sequence: int = 0
    _frames: list[Frame] = field(default_factory=list)
    _size: tuple[int, int] = (0, 0)

    def add(self, frame: Frame, width: int, height: int) -> list[FrameWindow]:
        """Take one frame of ``width`` x ``height`` source pixels; give the windows that are now closed (0 to 2)."""
        closed: list[FrameWindow] = []
        due = self._frames and (
            (width, height) != self._size or frame.pts_us - self._frames[0].pts_us >= self.window_s * 1e6
        )
        if due:
            closed += self.flush()
        self._frames.append(frame)
        self._size = (width, height)
        if len(self._frames) >= self.window_frames:
            closed += self.flush()
        return closed

    def flush(self) -> list[FrameWindow]:
        """Close the window that is being filled, if it holds a frame."""
        if not self._frames:
            return []
        return [self._close(tuple(self._frames), None)]

    def status(self, status: StreamStatus) -> list[FrameWindow]:
        """Close what is being filled and add a record of the camera's new state."""
        return [*self.flush(), self._close((), status)]

    def _close(self, frames: tuple[Frame, ...], status: StreamStatus | None) -> FrameWindow:
        window = FrameWindow(
            self.camera_id, self.epoch, self.sequence, frames, *self._size, self.sample_fps, self.time_source, status
        )
        self.sequence += 1
        self._frames.clear()
        return window
