"""How far results are behind, in seconds of live video."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.metrics.registry import Sample


@dataclass(slots=True)
class _Camera:
    """finished_ms: when the newest finished window was sent; polled_ms: the newest polled one. delivering: it is up."""

    partition: int
    finished_ms: int | None = None
    polled_ms: int = -1
    delivering: bool = True


class Lag:
    """Of the cameras of an inference worker. A camera's windows are sent as they are filmed, so that the time since its
    newest finished window was sent is what it is behind, as long as anything of it (or of its partition) waits.

    now_ms: UTC in milliseconds since 1970.
    """

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._cameras: dict[str, _Camera] = {}
        self._records: Callable[[], Mapping[int, int]] = dict

    def follow(self, records: Callable[[], Mapping[int, int]]) -> None:
        """Where the records that were not polled yet are asked, by partition."""
        self._records = records

    def came(self, camera_id: str, partition: int) -> None:
        """A camera is analysed from now on."""
        with self._lock:
            known = self._cameras.get(camera_id)
            if known is None or known.partition != partition:
                self._cameras[camera_id] = _Camera(partition)

    def left(self, camera_id: str) -> None:
        """It went to another worker."""
        with self._lock:
            self._cameras.pop(camera_id, None)

    def polled(self, camera_id: str, sent_ms: int) -> None:
        """A window of it came out of the log."""
        with self._lock:
            camera = self._cameras.get(camera_id)
            if camera is None:
                return
            camera.polled_ms = sent_ms
            if camera.finished_ms is None:
                camera.finished_ms = sent_ms - 1  # the first one seen: at least this far behind
            camera.delivering = True

    def finished(self, camera_id: str, sent_ms: int, *, delivering: bool) -> None:
        """A window of it is done; ``delivering``: it did not say that the camera went down or ended."""
        with self._lock:
            camera = self._cameras.get(camera_id)
            if camera is not None:
                camera.finished_ms, camera.delivering = sent_ms, delivering

    def read(self) -> Iterator[Sample]:
        """The lag of every camera, and of every partition in records."""
        waiting = dict(self._records())
        for partition, records in waiting.items():
            yield "passerby_lag_records", (str(partition),), records
        now_ms = self._now_ms()
        with self._lock:
            for camera_id, camera in self._cameras.items():
                yield "passerby_lag_seconds", (camera_id,), _behind_s(camera, waiting.get(camera.partition, 0), now_ms)


def _behind_s(camera: _Camera, waiting: int, now_ms: float) -> float:
    if camera.finished_ms is None or not camera.delivering:
        return 0.0
    if not waiting and camera.polled_ms <= camera.finished_ms:
        return 0.0
    return max(0.0, now_ms - camera.finished_ms) / 1000
