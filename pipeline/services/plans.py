"""Which configuration judges a window: the documents of the topic ``cameras``, and the models they name.

A window names the ``revision`` (offset in ``cameras``) it was made under. The document of that revision is taken from
the state where the camera already uses it, else from the topic; a revision that compaction has removed stands for the
next one that is left.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pipeline.analytics.camera import CameraAnalytics
from pipeline.bus.base import Malformed, Record
from pipeline.bus.topics import CameraDocument
from pipeline.config import CameraConfig, Config
from pipeline.core.frame import FrameWindow
from pipeline.core.rules import CameraRules
from pipeline.errors import ModelError, PasserbyError, RecordMalformed
from pipeline.inference.batching import Batcher
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel
from pipeline.services import wiring
from pipeline.services.labels import Labeller, LabelWork, OnJudged
from pipeline.services.scenes import CameraScenes, OnClip, SceneEngine, SceneWork
from pipeline.services.stages import FrameDetector, UnknownCamera

T = TypeVar("T")

_log = logging.getLogger(__name__)
_MAX_REVISIONS = 64  # of one camera that are remembered
_MODEL_AGAIN_S = 10.0
_TOPIC_AGAIN_S = 1.0


class DocumentReader(Protocol):
    """Reads the topic ``cameras``."""

    def partitions(self) -> tuple[int, ...]: ...

    def beginning(self, partition: int) -> int: ...

    def end(self, partition: int) -> int: ...

    def read(
        self, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[Record[CameraDocument | Malformed]]: ...


class Engine(Protocol):
    """A model at work, and how it counts under a camera's configuration."""

    @property
    def detector(self) -> FrameDetector: ...

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        """The rules with the models' thresholds, and the provenance."""

    def scenes(self, camera: CameraConfig) -> SceneWork | None:
        """Its scene model at work, if it has one. Raises ModelError, ConfigError."""

    def labels(self, camera: CameraConfig) -> LabelWork | None:
        """Its classifier at work, if it has one. Raises ModelError."""


@dataclass(slots=True)
class Plan:
    """A camera under one revision of its document (stages.CameraPlan)."""

    camera: CameraConfig
    revision: int
    document: Mapping[str, Any]
    engine_of: Callable[[CameraConfig], Engine]
    _scenes: SceneWork | None = None

    @property
    def detector(self) -> FrameDetector:
        return self.engine_of(self.camera).detector

    @property
    def scenes(self) -> SceneWork | None:
        if self._scenes is None and self.camera.scene.is_on:
            self._scenes = self.engine_of(self.camera).scenes(self.camera)
        return self._scenes

    @property
    def labels(self) -> LabelWork | None:
        return self.engine_of(self.camera).labels(self.camera) if self.camera.labels.is_on else None

    def watched(self) -> CameraRules:
        """Its rules, with what its models tell of as far as these can be loaded."""
        try:
            return self.engine_of(self.camera).rules(self.camera)[0]
        except PasserbyError:  # who judges its windows says so
            return self.camera.rules()

    def analytics(self, snapshot: bytes | None) -> CameraAnalytics:
        """Analytics under these rules; a snapshot that this version cannot read is told of and begins anew."""
        rules, provenance = self.engine_of(self.camera).rules(self.camera)
        if snapshot:
            try:
                return CameraAnalytics.restore(rules, provenance, snapshot)
            except RecordMalformed as error:
                _log.error("camera %s: its state cannot be read, counting begins anew: %s", self.camera.id, error)
        return CameraAnalytics(rules, provenance=provenance)


@dataclass(slots=True)
class _Known:
    """What the topic says of a camera: revision -> document (None: removed), and the plans made of them."""

    documents: dict[int, Mapping[str, Any] | None] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    warned_of: int = -1

    def put(self, revision: int, document: Mapping[str, Any] | None) -> None:
        self.documents[revision] = document
        while len(self.documents) > _MAX_REVISIONS:
            oldest = min(self.documents)
            del self.documents[oldest]
            self.plans.pop(oldest, None)

    @property
    def newest(self) -> Mapping[str, Any] | None:
        return self.documents[max(self.documents)] if self.documents else None


class Plans:
    """The plans of all cameras. Belongs to one thread.

    camera_of: a document as a checked configuration; raises PasserbyError. engine_of: its model, loaded once.
    """

    def __init__(
        self,
        reader: DocumentReader,
        camera_of: Callable[[str, Mapping[str, Any]], CameraConfig],
        engine_of: Callable[[CameraConfig], Engine],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._camera_of = camera_of
        self._engine_of = engine_of
        self._now_s = now_s
        self._positions: dict[int, int] = {}
        self._known: dict[str, _Known] = {}
        self._asked_s: dict[int, float] = {}

    def read_all(self) -> None:
        """Read the whole topic as it is now."""
        self.catch_up(self._reader.partitions())

    def catch_up(self, partitions: Sequence[int]) -> None:
        """Read what is new in these partitions."""
        for partition in partitions:
            position = self._positions.get(partition)
            if position is None:
                position = self._reader.beginning(partition)
            end = self._reader.end(partition)
            if end > position:
                for record in self._reader.read(partition, position, end):
                    self._take(record)
            self._positions[partition] = max(position, end)

    def cameras(self) -> list[CameraConfig]:
        """The cameras there are now, as far as their documents can be used."""
        found = []
        for camera_id, known in sorted(self._known.items()):
            if known.newest is not None:
                try:
                    found.append(self._camera_of(camera_id, known.newest))
                except PasserbyError as error:
                    _log.warning("camera %s: its document cannot be used: %s", camera_id, error)
        return found

    def is_removed(self, camera_id: str) -> bool:
        """Whether the topic says that the camera was removed."""
        known = self._known.get(camera_id)
        return known is not None and bool(known.documents) and known.newest is None

    def forget(self, camera_id: str) -> None:
        """Free what a removed camera's windows needed; that it was removed stays known."""
        known = self._known[camera_id]
        removed_at = max(known.documents)
        self._known[camera_id] = _Known({removed_at: known.documents[removed_at]})

    def remember(self, camera_id: str, revision: int, document: Mapping[str, Any]) -> None:
        """A document that the state holds: the topic may have lost it."""
        if revision < 0:
            return  # a window without a revision goes by the newest there is
        self._known.setdefault(camera_id, _Known()).documents.setdefault(revision, document)

    def plan(self, window: FrameWindow, partition: int) -> Plan:
        """The plan for a window of ``partition``. Raises UnknownCamera where there is no document that can be used."""
        camera_id, named = window.camera_id, window.revision
        known = self._known.get(camera_id)
        plan = known.plans.get(named) if known is not None else None
        if plan is not None:
            return plan
        if named < 0 or known is None or named not in known.documents:
            self._look(partition, named)
            known = self._known.get(camera_id)
        if known is None or not known.documents:
            raise UnknownCamera(f"camera {camera_id} has no document in the topic of cameras")
        revision = self._stands_for(camera_id, known, named)
        plan = known.plans.get(revision)
        if plan is None:
            plan = known.plans[revision] = self._made(camera_id, revision, known.documents[revision])
        return plan

    def _stands_for(self, camera_id: str, known: _Known, named: int) -> int:
        """The revision to use where ``named`` is asked for."""
        if named in known.documents:
            return named
        if named < 0:
            return max(known.documents)
        later = [revision for revision in known.documents if revision > named]
        found = min(later) if later else max(known.documents)
        if named != known.warned_of:
            known.warned_of = named
            _log.warning(
                "camera %s: its document of revision %d is gone from the topic; using revision %d",
                camera_id, named, found,
            )  # fmt: skip
        return found

    def _made(self, camera_id: str, revision: int, document: Mapping[str, Any] | None) -> Plan:
        if document is None:
            raise UnknownCamera(f"camera {camera_id} was removed from the topic of cameras")
        try:
            camera = self._camera_of(camera_id, document)
        except PasserbyError as error:
            raise UnknownCamera(f"camera {camera_id}: its document cannot be used: {error}") from error
        return Plan(camera, revision, document, self._engine_of)

    def _look(self, partition: int, named: int) -> None:
        """Read on, if what is asked for may have come; not for every window of a camera that is not there."""
        if named >= 0 and self._positions.get(partition, 0) > named:
            return
        now_s = self._now_s()
        if named < 0 and now_s - self._asked_s.get(partition, -_TOPIC_AGAIN_S) < _TOPIC_AGAIN_S:
            return
        self._asked_s[partition] = now_s
        self.catch_up([partition])

    def _take(self, record: Record[CameraDocument | Malformed]) -> None:
        if isinstance(record.value, Malformed):
            _log.error("cameras, partition %d, offset %d: %s", record.partition, record.offset, record.value.reason)
            return
        self._known.setdefault(record.value.camera_id, _Known()).put(record.offset, record.value.document)


class ModelEngine:
    """A model in this process: its network, its batcher, its thresholds.

    scene_of, labeller_of: the scene model and the classifier of a camera, loaded once a process. Raise ModelError.
    """

    def __init__(
        self,
        network: Detector,
        batcher: Batcher,
        scene_of: Callable[[CameraConfig], SceneEngine | None],
        labeller_of: Callable[[CameraConfig], Labeller | None],
    ) -> None:
        self.network = network
        self.detector: FrameDetector = batcher
        self._batcher = batcher
        self._scene_of = scene_of
        self._labeller_of = labeller_of

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        engine, labeller = self._scene_of(camera), self._labeller_of(camera)
        scene = engine.model if engine is not None else None
        return wiring.rules_under(camera, self.network, scene, labeller.model if labeller is not None else None)

    def scenes(self, camera: CameraConfig) -> SceneWork | None:
        engine = self._scene_of(camera)
        rules = self.rules(camera)[0].scene
        return CameraScenes(engine, rules) if engine is not None and rules is not None else None

    def labels(self, camera: CameraConfig) -> LabelWork | None:
        return self._labeller_of(camera)

    def close(self) -> None:
        self._batcher.close()


class Models:
    """Each model once a process, loaded when a camera first wants it; a context manager that ends their threads.

    A model that cannot be loaded is tried again after a while: somebody may be copying it here. on_clip: hears of each
    clip that a scene model looked at (scenes.OnClip). on_judged: of each picture that a classifier judged.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_loaded: Callable[[Detector | SceneModel | Classifier], None] = lambda _: None,
        make_batcher: Callable[[Detector], Batcher],
        on_clip: OnClip = lambda _model, _encoded, _seconds: None,
        on_judged: OnJudged = lambda _seconds: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._on_loaded = on_loaded
        self._make_batcher = make_batcher
        self._on_clip = on_clip
        self._on_judged = on_judged
        self._now_s = now_s
        self._engines: dict[tuple[str, float | None], ModelEngine] = {}
        self._scenes: dict[str, SceneEngine] = {}
        self._labellers: dict[str, Labeller] = {}
        self._failed: dict[object, tuple[float, ModelError]] = {}

    def engine(self, camera: CameraConfig) -> ModelEngine:
        """The model of a camera. Raises ModelError."""
        key = (camera.model, camera.thresholds.low)  # a detector gives what one floor asks for, whoever else is here
        engine = self._engines.get(key)
        if engine is not None:
            return engine
        network = self._loaded(key, camera, lambda: wiring.build_detector(self._config, [camera]))
        engine = self._engines[key] = ModelEngine(network, self._make_batcher(network), self.scene, self.labeller)
        self._on_loaded(network)
        return engine

    def scene(self, camera: CameraConfig) -> SceneEngine | None:
        """The scene model of a camera; None where it has none. Raises ModelError."""
        name = camera.scene.model
        if name is None or not camera.scene.is_on:
            return None
        engine = self._scenes.get(name)
        if engine is None:
            model = self._loaded(("scene", name), camera, lambda: wiring.build_scene_model(self._config, name))
            threads = self._config.inference.threads or os.cpu_count() or 1
            engine = self._scenes[name] = SceneEngine(model, threads=threads, on_clip=self._on_clip)
            self._on_loaded(model)
        return engine

    def labeller(self, camera: CameraConfig) -> Labeller | None:
        """The classifier of a camera; None where it has none. Raises ModelError."""
        name = camera.labels.model
        if name is None or not camera.labels.is_on:
            return None
        labeller = self._labellers.get(name)
        if labeller is None:
            model = self._loaded(("labels", name), camera, lambda: wiring.build_classifier(name))
            labeller = self._labellers[name] = Labeller(model, self._on_judged)
            self._on_loaded(model)
        return labeller

    def _loaded(self, key: object, camera: CameraConfig, load: Callable[[], T]) -> T:
        """What ``load`` gives; what it raised a moment ago is raised again."""
        failed = self._failed.get(key)
        if failed is not None and self._now_s() - failed[0] < _MODEL_AGAIN_S:
            raise failed[1]
        try:
            return load()
        except ModelError as error:
            self._failed[key] = (self._now_s(), error)
            _log.error("camera %s: %s", camera.id, error)
            raise

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        for scene in self._scenes.values():
            scene.close()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
