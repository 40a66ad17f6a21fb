"""Ingest: one thread a camera turns its stream into windows and sends them to the bus.

1. take the next item of the stream (decoded, sampled, masked, scaled by the source)
2. fill a window; when it closes, send it; the bus may make us wait (back-pressure)
3. a change of status closes the window and travels behind it, in order
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.bus.base import Producer
from pipeline.bus.images import Encoding, decode, encode
from pipeline.core.frame import FrameWindow
from pipeline.core.ledger import DropCause, FrameLedger
from pipeline.core.window import WindowBuilder
from pipeline.errors import BusError, PasserbyError, RecordTooLarge
from pipeline.sources.base import EpochStarted, SampledFrame, StatusChanged, StreamItem

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """When a window closes and how its pictures travel.

    CameraIngest itself puts the pictures through ``encoding``, for a bus that hands windows on as they are; for a
    producer that encodes what it sends, give it "raw".
    """

    sample_fps: float = 8.0
    window_frames: int = 8
    window_s: float = 1.0
    encoding: Encoding = "raw"
    quality: int = 85


class ItemStream(Protocol):
    """A camera's items, and a way to leave early that accounts for what is still inside."""

    def __iter__(self) -> Iterator[StreamItem]: ...

    def close(self) -> None: ...


class CameraIngest:
    """Decodes one camera until its stream ends or is stopped; ``failure`` then says what went wrong, if anything."""

    def __init__(
        self,
        camera_id: str,
        open_stream: Callable[[], ItemStream],
        producer: Producer[FrameWindow],
        settings: WindowSettings,
        ledger: FrameLedger,
    ) -> None:
        self.camera_id = camera_id
        self.failure: PasserbyError | None = None
        self._open_stream = open_stream
        self._producer = producer
        self._settings = settings
        self._ledger = ledger
        self._thread = threading.Thread(target=self._work, name=f"ingest-{camera_id}", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            self._pump()
        except RecordTooLarge as error:
            self.failure = error
        except BusError as error:
            _log.debug("camera %s: the bus closed: %s", self.camera_id, error)
        except PasserbyError as error:
            self.failure = error
        except Exception as error:
            _log.exception("camera %s: ingest failed", self.camera_id)
            self.failure = PasserbyError(f"camera {self.camera_id}: {type(error).__name__}: {error}")
        finally:
            self._producer.close()

    def _pump(self) -> None:
        builder: WindowBuilder | None = None
        with closing(self._open_stream()) as stream:
            try:
                for item in stream:
                    builder = self._take(item, builder)
            finally:
                # A stream that fails has still delivered what it delivered.
                self._send(builder.flush() if builder else [])

    def _take(self, item: StreamItem, builder: WindowBuilder | None) -> WindowBuilder:
        """Put one item into the window that is being filled; the builder of its epoch."""
        match item:
            case EpochStarted(epoch=epoch, time_source=time_source):
                self._send(builder.flush() if builder else [])
                s = self._settings
                # A camera may have told that it is down before its first epoch began: no two windows have one number.
                first = builder.sequence if builder is not None and builder.epoch == epoch else 0
                builder = WindowBuilder(
                    self.camera_id, epoch, s.sample_fps, time_source, s.window_frames, s.window_s, first
                )
            case SampledFrame(frame=frame, width=width, height=height):
                assert builder is not None, "a stream begins with its epoch"
                self._send(builder.add(frame, width, height))
            case StatusChanged(epoch=epoch, status=status):
                if builder is None or builder.epoch != epoch:
                    self._send(builder.flush() if builder else [])
                    builder = WindowBuilder(self.camera_id, epoch, self._settings.sample_fps, "wall")
                self._send(builder.status(status))
        return builder

    def _send(self, windows: list[FrameWindow]) -> None:
        for window in windows:
            try:
                self._producer.send(self.camera_id, self._encoded(window))
            except BusError as error:
                if window.frames:
                    cause: DropCause = "failed" if isinstance(error, RecordTooLarge) else "shutdown"
                    self._ledger.dropped(self.camera_id, len(window.frames), cause)
                raise

    def _encoded(self, window: FrameWindow) -> FrameWindow:
        if self._settings.encoding == "raw":
            return window
        return through_encoding(window, self._settings.encoding, self._settings.quality)


def through_encoding(window: FrameWindow, encoding: Encoding, quality: int) -> FrameWindow:
    """``window`` with its pictures as they come out of the wire's encoding: what the cluster's model would see."""
    frames = tuple(
        replace(
            frame,
            picture=decode(
                encode(frame.picture, encoding, quality), encoding, frame.picture.shape[0], frame.picture.shape[1]
            ),
        )
        for frame in window.frames
    )
    return replace(window, frames=frames)
