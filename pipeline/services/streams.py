"""From a camera's configuration to its stream: what ``passerby run`` and ``passerby ingest`` share."""

from __future__ import annotations

import threading

from pipeline.bus.images import Encoding
from pipeline.config import CameraConfig
from pipeline.core.ledger import FrameLedger
from pipeline.inference.manifest import MANIFEST_NAME, Manifest, read_manifest
from pipeline.inference.preprocess import fit
from pipeline.inference.store import find_model
from pipeline.services.ingest import WindowSettings
from pipeline.sources.base import Clock, PictureSize, Preview, StreamSettings
from pipeline.sources.open import Stream, open_stream


def stream_settings(camera: CameraConfig, preview: Preview) -> StreamSettings:
    """How a camera is read."""
    source = camera.source
    return StreamSettings(
        camera_id=camera.id,
        source=source.location.reveal(),
        sample_fps=camera.sample_fps,
        transport=source.transport,
        start_us=round(camera.start.timestamp() * 1_000_000) if camera.start else None,
        masks=camera.masks,
        mode=source.mode,
        max_staleness_s=source.max_staleness_s,
        stall_timeout_s=source.stall_timeout_s,
        open_timeout_s=source.open_timeout_s,
        backoff_first_s=source.retry_initial_s,
        backoff_cap_s=source.retry_max_s,
        preview=preview,
    )


def window_settings(camera: CameraConfig, default_encoding: Encoding = "raw") -> WindowSettings:
    """When a camera's windows close and how they travel."""
    windows = camera.windows
    return WindowSettings(
        camera.sample_fps,
        windows.window_frames,
        windows.window_s,
        windows.encoding or default_encoding,
        windows.quality,
    )


def model_manifest(name_or_folder: str) -> Manifest:
    """What a model wants, without its network: all that ingest needs. Raises ModelError."""
    return read_manifest(find_model(name_or_folder) / MANIFEST_NAME)


def picture_size(manifest: Manifest) -> PictureSize:
    """The size of the pictures that a model wants of frames of a size."""

    def size(width: int, height: int) -> tuple[int, int]:
        fitted = fit(manifest, width, height)
        return fitted.width, fitted.height

    return size


def build_stream(
    settings: StreamSettings, manifest: Manifest, *, ledger: FrameLedger, clock: Clock, stop: threading.Event
) -> Stream:
    """A camera's frames, at the size its model wants. Starts nothing."""
    return open_stream(settings, picture_size(manifest), ledger=ledger, clock=clock, stop=stop)
