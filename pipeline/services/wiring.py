"""The one place that names concrete classes: from a configuration to the parts of a run. Starts no thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.analytics.camera import CameraAnalytics
from pipeline.config import CameraConfig, Config, config_sha256
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import CameraRules
from pipeline.errors import ModelError
from pipeline.inference.detector import Detector
from pipeline.inference.store import Model, load_model
from pipeline.services import streams
from pipeline.services.ingest import WindowSettings
from pipeline.services.streams import stream_settings, window_settings
from pipeline.sources.base import Clock, Preview, StreamSettings
from pipeline.sources.open import Stream


@dataclass(frozen=True, slots=True)
class CameraParts:
    """What one camera's run is made of."""

    config: CameraConfig
    detector: Detector
    settings: StreamSettings
    windows: WindowSettings

    def measured(self, on_decoded: Callable[[float], None]) -> CameraParts:
        """The same, telling how long each packet took to decode."""
        return replace(self, settings=replace(self.settings, on_decoded=on_decoded))


@dataclass(frozen=True, slots=True)
class RunParts:
    """All cameras, and the detectors they share, by model as configured.

    threads: pictures that the networks work on at once.
    """

    cameras: dict[str, CameraParts]
    detectors: dict[str, Detector]
    threads: int

    @property
    def first_detector(self) -> Detector:
        """The one that is named where there is room for one name."""
        return next(iter(self.detectors.values()))


def build(config: Config, *, preview: Preview = "first") -> RunParts:
    """Load the models and settle every camera. Raises ModelError, ConfigError.

    preview: which frames also come at a size for people ("none", "first", "all").
    """
    threads = config.inference.threads or os.cpu_count() or 1
    users: dict[str, list[CameraConfig]] = {}
    for camera in config.cameras.values():
        users.setdefault(camera.model, []).append(camera)
    detectors = {key: build_detector(config, cameras) for key, cameras in users.items()}
    cameras = {
        camera_id: CameraParts(
            camera,
            detectors[camera.model],
            stream_settings(camera, preview),
            window_settings(camera),
        )
        for camera_id, camera in config.cameras.items()
    }
    return RunParts(cameras, detectors, threads)


def build_detector(config: Config, cameras: list[CameraConfig]) -> Detector:
    """The detector that ``cameras`` share; fails when the provider asked for does not run."""
    model = load_model(cameras[0].model)
    low = model.manifest.thresholds.low
    inference = config.inference
    return Detector(
        model,
        provider=inference.provider,
        allow_cpu=inference.allow_cpu,
        buckets=inference.batch_sizes,
        # Each camera's tracker has its own floor; the detector gives what the most curious of them wants.
        min_score=min(low if c.thresholds.low is None else c.thresholds.low for c in cameras),
    )


def classes_of(model: str) -> tuple[str, ...] | None:
    """The classes of a model by name or folder; None when it cannot be loaded (``build`` then says why)."""
    try:
        return tuple(load_model(model).manifest.classes)
    except ModelError:
        return None


def rules_under(camera: CameraConfig, detector: Detector) -> tuple[CameraRules, dict[str, str]]:
    """A camera's rules with the thresholds its model was made for, and the provenance of its events."""
    rules = camera.rules()
    manifest = detector.manifest.thresholds
    thresholds = camera.thresholds
    scores = {
        "high_score": manifest.score if thresholds.score is None else thresholds.score,
        "low_score": manifest.low if thresholds.low is None else thresholds.low,
    }
    provenance = {
        "model": detector.provenance.model,
        "model_version": detector.provenance.model_version,
        "model_sha256": detector.provenance.model_sha256,
        "config_sha256": config_sha256(camera),
    }
    return replace(rules, tracker={**scores, **rules.tracker}), provenance


def build_analytics(parts: CameraParts) -> CameraAnalytics:
    """The analytics of one camera."""
    rules, provenance = rules_under(parts.config, parts.detector)
    return CameraAnalytics(rules, provenance=provenance)


def build_stream(parts: CameraParts, ledger: FrameLedger, clock: Clock, stop: threading.Event) -> Stream:
    """The camera's frames, at the size its model wants."""
    return streams.build_stream(parts.settings, parts.detector.manifest, ledger=ledger, clock=clock, stop=stop)


def model_card(model: Model) -> str | None:
    """The model's card (Markdown), if it has one."""
    card = model.manifest.card
    path = model.folder / card if card else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else None
