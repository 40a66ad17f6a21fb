"""One good value for every topic."""

from __future__ import annotations

import numpy as np

from pipeline.bus.base import Message
from pipeline.bus.topics import CameraDocument, CameraState, DeadLetter, IngestState, PartitionState
from pipeline.core.events import CAMERA_STATUS, COUNT_WINDOW, LINE_CROSSED, Event
from pipeline.core.frame import Frame, FrameWindow, StreamStatus

AT_US = 1_767_254_400_123_456  # 2026-01-01T08:00:00.123456Z

_ORIGIN = {"topic": "passerby.windows", "partition": 3, "offset": 7}
_PROVENANCE = {"model": "m", "model_version": "1", "model_sha256": "a" * 64, "config_sha256": "b" * 64, "frames": [1]}

CROSSED = Event(
    "0123456789abcdef0123456789abcdef", LINE_CROSSED, "gate", AT_US,
    {
        "origin": _ORIGIN, "camera_id": "gate", "epoch": 3, "line": "Straße", "direction": "left", "class_id": "car",
        "group": "vehicle", "track_id": "gate-3-17", "bbox": {"x_max": 0.5, "x_min": 0.1, "y_min": 1e-9, "y_max": 1.0},
        "frame": {"width": 1920, "height": 1080}, "time_source": "wall", "provenance": _PROVENANCE,
    },
)  # fmt: skip
COUNTED = Event(
    "fedcba9876543210fedcba9876543210", COUNT_WINDOW, "gate", AT_US,
    {
        "camera_id": "gate", "epoch": 3, "starts_at": "2026-01-01T08:00:00.000000Z",
        "ends_at": "2026-01-01T08:00:10.000000Z", "coverage": 0.7300000000000001,
        "groups": {"person": {"occupancy_mean": 0.1, "occupancy_max": 2}}, "classes": {}, "zones": {},
        "lines": {"street": {"vehicle": {"left": 1, "right": 0}}},
        "totals": {"street": {"vehicle": {"left": 1, "right": 0}}}, "totals_since": "2026-01-01T08:00:00.000000Z",
        "time_source": "wall", "provenance": _PROVENANCE, "origin": _ORIGIN,
    },
)  # fmt: skip
STATUS = Event(
    "0" * 32, CAMERA_STATUS, "gate", AT_US, {"camera_id": "gate", "epoch": 3, "state": "up", "reason": "first frame"}
)
DOCUMENT = CameraDocument(
    "gate",
    {"source": {"url": "rtsp://user:${GATE_PASSWORD}@gate.example/stream"}, "sample_fps": 7.3, "masks": []},
)
CAMERA_STATE = CameraState(
    "gate",
    4711,
    3,
    12,
    DOCUMENT.document,
    b'{"version":1,"x":0.1}\x00\xff',
    {"features": [0.1, 1e-300]},
)
PARTITION_STATE = PartitionState(17, 2**53 + 1)
INGEST_STATE = IngestState("gate", 3, 4700, "w-1", {"last_us": AT_US})
DEAD = DeadLetter(
    Message("gate", b"\x00not a window", (("epoch", b"3"),)), "not a frame window: begins with b'\\x00not'",
    "RecordMalformed", "passerby.windows", 3, 4711, 1_767_254_400_123, "infer-1",
)  # fmt: skip


def window(frames: int = 2, side: int = 32) -> FrameWindow:
    """A window of ``frames`` noisy pictures; with none, a change of status."""
    pictures = np.random.default_rng(1).integers(0, 255, (frames, side, side, 3), dtype=np.uint8)
    return FrameWindow(
        "gate", 3, 7,
        tuple(Frame(n * 3, n * 125_000, AT_US + n * 125_000, pictures[n]) for n in range(frames)),
        1920, 1080, 8.0, "wall", None if frames else StreamStatus("up", "first frame", AT_US), 12, "w-1",
    )  # fmt: skip
