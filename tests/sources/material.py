"""Clips, clocks and consumers that the tests of sources share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.frame import Picture
from pipeline.core.ledger import FrameLedger, LedgerLine
from pipeline.encoding import VideoWriter
from pipeline.errors import SourceError
from pipeline.sources.base import (
    EpochStarted,
    SampledFrame,
    StatusChanged,
    Stream,
    StreamItem,
    StreamSettings,
    SystemClock,
)
from pipeline.sources.open import open_stream

SIZE = (160, 96)


def numbered(number: int, width: int = 160, height: int = 96) -> Picture:
    """A picture that tells its number: a 4 x 3 chequer of bits, black or white, over a grey ground."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(12):
        row, column = divmod(bit, 4)
        y, x = row * height // 3, column * width // 4
        picture[y + 4 : y + height // 3 - 4, x + 4 : x + width // 4 - 4] = 255 if number >> bit & 1 else 0
    return picture


def number_of(picture: Picture) -> int:
    """The number that ``numbered`` put in, whatever the picture's size."""
    height, width = picture.shape[:2]
    bits = 0
    for bit in range(12):
        row, column = divmod(bit, 4)
        y, x = (2 * row + 1) * height // 6, (2 * column + 1) * width // 8
        bits |= (int(picture[y, x].mean()) > 128) << bit
    return bits


def write_clip(
    path: Path,
    times_s: Sequence[float] | None = None,
    *,
    frames: int = 50,
    fps: float = 25.0,
    first: int = 0,
    size: tuple[int, int] = (160, 96),
    b_frames: int = 0,
) -> Path:
    """An H.264 clip of numbered pictures at ``times_s`` (or ``frames`` of them at ``fps``)."""
    times = list(times_s) if times_s is not None else [i / fps for i in range(frames)]
    with VideoWriter(path, *size, fps, gop=12, crf=20, b_frames=b_frames) as writer:
        for i, at_s in enumerate(times):
            writer.write(numbered(first + i, *size), at_s)
    return path


class FakeClock:
    """Time that moves only when told to."""

    def __init__(self, utc_us: int = 1_800_000_000_000_000) -> None:
        self.utc = utc_us
        self.now_s = 100.0

    def utc_us(self) -> int:
        return self.utc

    def monotonic_s(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.utc += round(seconds * 1e6)


@dataclass
class Taken:
    """Everything a consumer got out of a stream."""

    items: list[StreamItem] = field(default_factory=list)
    error: SourceError | None = None
    ledger: LedgerLine | None = None

    @property
    def frames(self) -> list[SampledFrame]:
        return [item for item in self.items if isinstance(item, SampledFrame)]

    @property
    def epochs(self) -> list[EpochStarted]:
        return [item for item in self.items if isinstance(item, EpochStarted)]

    @property
    def statuses(self) -> list[tuple[str, str]]:
        return [(item.status.state, item.status.reason) for item in self.items if isinstance(item, StatusChanged)]

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.statuses]


def settings_for(source: str | Path, **options: Any) -> StreamSettings:
    """Settings with short waits."""
    short = {
        "stall_timeout_s": 1.0, "open_timeout_s": 3.0, "backoff_first_s": 0.1, "backoff_cap_s": 0.5,
        "start_jitter_s": 0.0,
    }  # fmt: skip
    return StreamSettings("cam", str(source), **{**short, **options})


def take_all(source: str | Path, size: tuple[int, int] = SIZE, **options: Any) -> Taken:
    """Read a source with an end, analysing every frame."""
    taken, ledger = Taken(), FrameLedger()
    stream = open_stream(
        settings_for(source, **options), lambda w, h: size, ledger=ledger, clock=SystemClock(), stop=threading.Event()
    )
    with stream:
        try:
            for item in stream:
                taken.items.append(item)
                if isinstance(item, SampledFrame):
                    ledger.analysed("cam", 1)
        except SourceError as error:
            taken.error = error
    taken.ledger = ledger.lines()["cam"]
    return taken


class Watched:
    """A live stream consumed in a thread, as ingest does."""

    def __init__(self, settings: StreamSettings, size: tuple[int, int] = SIZE) -> None:
        self.settings = settings
        self.ledger = FrameLedger()
        self.stop = threading.Event()
        self.taken = Taken()
        self.arrivals_s: list[float] = []
        self.stream: Stream = open_stream(
            settings, lambda w, h: size, ledger=self.ledger, clock=SystemClock(), stop=self.stop
        )
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def _consume(self) -> None:
        try:
            for item in self.stream:
                self.taken.items.append(item)
                if isinstance(item, SampledFrame):
                    self.arrivals_s.append(time.monotonic())
                    self.ledger.analysed(self.settings.camera_id, 1)
        except SourceError as error:
            self.taken.error = error

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stream did not stop"
        self.taken.ledger = self.ledger.lines()[self.settings.camera_id]

    def wait(self, condition: Callable[[Taken], bool], timeout_s: float = 15.0) -> float:
        """Wait until ``condition`` holds; seconds it took."""
        began_s = time.monotonic()
        while not condition(self.taken):
            waited_s = time.monotonic() - began_s
            assert waited_s < timeout_s, f"not within {timeout_s} s; saw {self.taken.statuses}"
            assert self._thread.is_alive() or condition(self.taken), f"the stream is over: {self.taken.error}"
            time.sleep(0.02)
        return time.monotonic() - began_s

    def more_frames(self, count: int = 5, timeout_s: float = 15.0) -> float:
        """Wait for ``count`` frames from now; seconds it took."""
        target = len(self.taken.frames) + count
        return self.wait(lambda taken: len(taken.frames) >= target, timeout_s)


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass


class _Mjpeg(BaseHTTPRequestHandler):
    """A camera that sends JPEG pictures as they come, as cheap ones do: without any timestamps."""

    fps = 10.0
    pictures: list[bytes]

    def log_message(self, *_: object) -> None:  # type: ignore[override]
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(10_000):
                data = self.pictures[i % len(self.pictures)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(1 / self.fps)
        except OSError:
            pass


@contextmanager
def _serving(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def http_files(folder: Path) -> Any:
    """Serve a folder over HTTP; a context manager that gives the address."""
    return _serving(partial(_QuietFiles, directory=str(folder)))


def http_mjpeg(pictures: list[bytes], fps: float) -> Any:
    """Serve pictures as an endless MJPEG stream."""
    return _serving(type("Mjpeg", (_Mjpeg,), {"pictures": pictures, "fps": fps}))
