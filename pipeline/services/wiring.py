"""The one place that names concrete classes: from a configuration to the parts of a run. Starts no thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.analytics.camera import CameraAnalytics
from pipeline.config import CameraConfig, Config, SceneConfig, config_sha256
from pipeline.core.ledger import FrameLedger
from pipeline.core.rules import CameraRules, ClipRule, LabelRules, SceneKind, SceneRules
from pipeline.errors import ConfigError, ModelError
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel, load_scene_files
from pipeline.inference.scene_manifest import KindSpec
from pipeline.inference.store import Model, load_model
from pipeline.services import streams
from pipeline.services.ingest import WindowSettings
from pipeline.services.labels import Labeller, LabelWork
from pipeline.services.scenes import CameraScenes, SceneEngine
from pipeline.services.streams import stream_settings, window_settings
from pipeline.sources.base import Clock, Preview, StreamSettings
from pipeline.sources.open import Stream


@dataclass(frozen=True, slots=True)
class CameraParts:
    """What one camera's run is made of. scene, classifier: its scene model and its classifier, if it has one."""

    config: CameraConfig
    detector: Detector
    settings: StreamSettings
    windows: WindowSettings
    scene: SceneModel | None = None
    classifier: Classifier | None = None

    def measured(self, on_decoded: Callable[[float], None]) -> CameraParts:
        """The same, telling how long each packet took to decode."""
        return replace(self, settings=replace(self.settings, on_decoded=on_decoded))


@dataclass(frozen=True, slots=True)
class RunParts:
    """All cameras, and the detectors, scene models and classifiers they share, by model as configured.

    threads: pictures that the networks work on at once.
    """

    cameras: dict[str, CameraParts]
    detectors: dict[str, Detector]
    threads: int
    scenes: dict[str, SceneModel] = field(default_factory=dict)
    classifiers: dict[str, Classifier] = field(default_factory=dict)

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
    watching = {c.scene.model for c in config.cameras.values() if c.scene.model is not None and c.scene.is_on}
    scenes = {name: build_scene_model(config, name) for name in sorted(watching)}
    judging = {c.labels.model for c in config.cameras.values() if c.labels.model is not None and c.labels.is_on}
    classifiers = {name: build_classifier(name) for name in sorted(judging)}
    cameras = {
        camera_id: CameraParts(
            camera,
            detectors[camera.model],
            stream_settings(camera, preview),
            window_settings(camera),
            scenes[camera.scene.model] if camera.scene.model is not None and camera.scene.is_on else None,
            classifiers[camera.labels.model] if camera.labels.model is not None and camera.labels.is_on else None,
        )
        for camera_id, camera in config.cameras.items()
    }
    return RunParts(cameras, detectors, threads, scenes, classifiers)


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


def build_scene_model(config: Config, name: str) -> SceneModel:
    """A scene model by name or folder; fails when the provider asked for does not run."""
    inference = config.inference
    return SceneModel(load_scene_files(name), provider=inference.provider, allow_cpu=inference.allow_cpu)


def build_classifier(name: str) -> Classifier:
    """A classifier by name or folder. It runs on the CPU, wherever detectors run: a picture now and then."""
    return Classifier(load_model(name))


def classes_of(model: str) -> tuple[str, ...] | None:
    """The classes of a model by name or folder; None when it cannot be loaded (``build`` then says why)."""
    try:
        return tuple(load_model(model).manifest.classes)
    except ModelError:
        return None


def rules_under(
    camera: CameraConfig, detector: Detector, scene: SceneModel | None = None, classifier: Classifier | None = None
) -> tuple[CameraRules, dict[str, str]]:
    """A camera's rules with the thresholds its models were made for, and the provenance of its events.

    Raises ConfigError for a kind that the scene model or the classifier does not know.
    """
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
    tracker = {**scores, **rules.tracker}
    watched = scene_rules(camera, scene, tracker["low_score"]) if scene is not None else None
    labels = label_rules(camera, classifier) if classifier is not None else None
    lying = detector.manifest.lying
    return replace(rules, tracker=tracker, sees_lying=lying, scene=watched, labels=labels), provenance


def label_rules(camera: CameraConfig, classifier: Classifier) -> LabelRules:
    """When a class of the classifier counts as what the camera shows. Raises ConfigError for one it does not know."""
    wanted, made = camera.labels, classifier.provenance
    kinds = classifier.classes if wanted.kinds is None else wanted.kinds
    for kind in kinds:
        if kind not in classifier.classes:
            raise ConfigError(
                f"camera {camera.id}: labels: the model {made.model} knows no class {kind!r}",
                mend=f"it knows {', '.join(classifier.classes)}",
            )
    score = classifier.score_threshold if wanted.score is None else wanted.score
    provenance = {"model": made.model, "model_version": made.model_version, "model_sha256": made.model_sha256}
    return LabelRules(kinds, wanted.every_s, score, wanted.votes, provenance)


def scene_rules(camera: CameraConfig, model: SceneModel, low_score: float) -> SceneRules:
    """What a scene model watches for in a camera: the kinds asked for, by the model's scores or the camera's own.

    Raises ConfigError for a kind that the model does not know.
    """
    wanted, manifest = camera.scene, model.manifest
    for kind in (*(wanted.kinds or ()), *wanted.thresholds):
        if kind not in manifest.kinds:
            raise ConfigError(
                f"camera {camera.id}: scene: the model {manifest.name} knows no kind {kind!r}",
                mend=f"it knows {', '.join(manifest.kinds)}",
            )
    return scene_rules_of(model, low_score, wanted)


def scene_rules_of(model: SceneModel, low_score: float, wanted: SceneConfig | None = None) -> SceneRules:
    """What a scene model watches for: all its kinds, or those that ``wanted`` names, which it knows."""
    wanted, clip, crop = wanted or SceneConfig(), model.manifest.clip, model.manifest.crop
    kinds = wanted.kinds if wanted.kinds is not None else tuple(model.manifest.kinds)
    provenance = {
        "model": model.provenance.model,
        "model_version": model.provenance.model_version,
        "model_sha256": model.provenance.model_sha256,
    }
    rule = ClipRule(
        clip.frames, clip.stride, clip.interval_s, clip.tolerance, crop.rule, crop.width, crop.height, crop.keep
    )  # fmt: skip
    rules = tuple(_scene_kind(kind, model.manifest.kinds[kind], wanted) for kind in dict.fromkeys(kinds))
    return SceneRules(rule, rules, provenance, low_score)


def _scene_kind(kind: str, spec: KindSpec, wanted: SceneConfig) -> SceneKind:
    own = wanted.thresholds.get(kind)
    start = spec.start if own is None or own.start is None else own.start
    end = spec.start if spec.end is None else spec.end
    if own is not None and own.end is not None:
        end = own.end
    return SceneKind(
        kind, start, min(start, end), spec.clips, spec.persons, spec.person_score, spec.persons_share,
        spec.person_width,
    )  # fmt: skip


def build_analytics(parts: CameraParts) -> CameraAnalytics:
    """The analytics of one camera."""
    rules, provenance = rules_under(parts.config, parts.detector, parts.scene, parts.classifier)
    return CameraAnalytics(rules, provenance=provenance)


def build_scenes(parts: CameraParts, engines: Mapping[str, SceneEngine]) -> CameraScenes | None:
    """The scene model of one camera at work; None where it has none. engines: by model as configured."""
    rules = rules_under(parts.config, parts.detector, parts.scene)[0].scene
    name = parts.config.scene.model
    return None if rules is None or name is None else CameraScenes(engines[name], rules)


def build_labels(parts: CameraParts, labellers: Mapping[str, Labeller]) -> LabelWork | None:
    """The classifier of one camera at work; None where it has none. labellers: by model as configured."""
    name = parts.config.labels.model
    return None if parts.classifier is None or name is None else labellers[name]


def build_stream(parts: CameraParts, ledger: FrameLedger, clock: Clock, stop: threading.Event) -> Stream:
    """The camera's frames, at the size its model wants."""
    return streams.build_stream(parts.settings, parts.detector.manifest, ledger=ledger, clock=clock, stop=stop)


def model_card(model: Model) -> str | None:
    """The model's card (Markdown), if it has one."""
    card = model.manifest.card
    path = model.folder / card if card else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else None
