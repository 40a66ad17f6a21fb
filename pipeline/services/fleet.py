"""The cameras that an ingest worker reads: sessions that come, change and go while everything runs.

A session is one taking of one camera: it has its own thread, stream and epochs, and a writer's name of its own. What
is wrong with a camera (a variable that is not set, a model that is not there, a source that fails) is told of that
camera, in its status and in the log, and touches no other.

A new document restarts the stream only where it changes what is read or how: source, masks, sample_fps, the model's
input, windows. Lines, zones, counts, thresholds: the windows that follow carry the new revision, nothing else happens.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.bus.topics import CameraDocument
from pipeline.config import CameraConfig, camera_from_document
from pipeline.core.frame import StreamStatus
from pipeline.errors import PasserbyError
from pipeline.inference.manifest import Manifest, ModelInput
from pipeline.services.ingest import ItemStream, WindowSettings
from pipeline.services.streams import model_manifest, stream_settings, window_settings
from pipeline.sources.base import StatusChanged, StreamItem, StreamSettings
from pipeline.sources.open import may_end

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FleetCamera:
    """A camera as the topic ``cameras`` has it. revision: its offset there."""

    camera_id: str
    partition: int
    revision: int
    document: Mapping[str, Any]

    @property
    def recording(self) -> str:
        """Which recording it reads: the same text on every worker, "" for what surely is a camera."""
        return recording_of(self.document)


@dataclass(frozen=True, slots=True)
class Reading:
    """All of a camera's configuration that its stream depends on; two that are equal need no restart."""

    settings: StreamSettings
    windows: WindowSettings
    input: ModelInput


@dataclass(frozen=True, slots=True)
class Plan:
    """How a camera is read, or why it cannot be. manifest: of its model."""

    reading: Reading | None
    manifest: Manifest | None
    error: PasserbyError | None = None


class Session(Protocol):
    """One taking of one camera. ``pipeline.services.ingest_session`` has the real one."""

    camera: FleetCamera
    plan: Plan

    def start(self) -> None:
        """Begin; returns at once."""

    def update(self, camera: FleetCamera, plan: Plan) -> None:
        """The same stream under a newer document; also: the camera is surely ours."""

    def stop(self) -> None:
        """Stop soon; returns at once."""

    def join(self, timeout_s: float) -> bool:
        """Wait until it has stopped; whether it has."""

    def removed(self) -> None:
        """The camera was taken out of the configuration, and the session has stopped: say so."""


def planned(camera: FleetCamera, env: Mapping[str, str], folder: Path) -> Plan:
    """How ``camera`` is read on this worker. env, folder: as ``camera_from_document`` wants them."""
    try:
        config = camera_from_document(camera.camera_id, camera.document, env, folder)
        manifest = model_manifest(config.model)
    except PasserbyError as error:
        return Plan(None, None, error)
    return Plan(reading_of(config, manifest), manifest)


def reading_of(config: CameraConfig, manifest: Manifest) -> Reading:
    """What a camera's stream depends on."""
    return Reading(stream_settings(config, "none"), window_settings(config, "jpeg"), manifest.input)


def recording_of(document: Mapping[str, Any]) -> str:
    """Which recording a document names: a hash of its source and start; "" where it surely has no end."""
    source = document.get("source")
    told = source if isinstance(source, Mapping) else {"url": source}
    url, mode = told.get("url") or told.get("url_file"), told.get("mode") or "auto"
    if not isinstance(url, str) or not may_end(url, "every_frame" if mode == "every_frame" else "auto"):
        return ""
    named = json.dumps([url, str(document.get("start", ""))])
    return hashlib.sha256(named.encode()).hexdigest()[:16]


class BrokenStream:
    """The stream of a camera that cannot be read as it is configured: says so, and fails."""

    is_finite = False

    def __init__(self, error: PasserbyError, at_us: int) -> None:
        self._error = error
        self._at_us = at_us

    def __iter__(self) -> Iterator[StreamItem]:
        reason = str(self._error).splitlines()[0]
        yield StatusChanged(1, StreamStatus("down", reason, self._at_us))
        raise self._error

    def close(self) -> None:
        """Nothing to close."""


class EmptyStream:
    """The stream of a recording that the log has whole already."""

    is_finite = True

    def __iter__(self) -> Iterator[StreamItem]:
        return iter(())

    def close(self) -> None:
        """Nothing to close."""


class FiniteStream(ItemStream, Protocol):
    """A stream that knows whether it has an end."""

    @property
    def is_finite(self) -> bool: ...


@dataclass(slots=True)
class Changes:
    """What one look into the topic brought, for the log and for tests."""

    started: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.started or self.restarted or self.updated or self.removed)

    def __str__(self) -> str:
        told = {"new": self.started, "restarted": self.restarted, "changed": self.updated, "removed": self.removed}
        return "; ".join(f"{word}: {', '.join(sorted(names))}" for word, names in told.items() if names)


JOIN_S = 5.0


class Fleet:
    """The sessions of a worker, by camera. Belongs to one thread.

    plan: how a camera is read. make: a session, not started.
    """

    def __init__(self, plan: Callable[[FleetCamera], Plan], make: Callable[[FleetCamera, Plan], Session]) -> None:
        self._plan = plan
        self._make = make
        self.sessions: dict[str, Session] = {}
        self._stopping: list[Session] = []  # did not stop in time; waited for again

    def load(self, partition: int, cameras: Collection[FleetCamera]) -> Changes:
        """These are all cameras of a partition."""
        there = {camera.camera_id for camera in cameras}
        gone = [
            camera_id
            for camera_id, session in self.sessions.items()
            if session.camera.partition == partition and camera_id not in there
        ]
        return self._change(cameras, gone)

    def change(self, partition: int, revision: int, change: CameraDocument) -> Changes:
        """One camera was put, or removed."""
        if change.document is None:
            held = self.sessions.get(change.camera_id)
            return self._change((), [change.camera_id] if held and held.camera.revision < revision else [])
        return self._change([FleetCamera(change.camera_id, partition, revision, change.document)], ())

    def release(self, partitions: Collection[int] | None = None, *, join_s: float = JOIN_S) -> set[str]:
        """Stop the cameras of these partitions (None: all); their names."""
        gone = {
            camera_id: session
            for camera_id, session in self.sessions.items()
            if partitions is None or session.camera.partition in partitions
        }
        self._stop(list(gone.values()), join_s)
        for camera_id in gone:
            del self.sessions[camera_id]
        return set(gone)

    def restart(self, camera_id: str) -> None:
        """Begin a session that ended anew."""
        session = self.sessions[camera_id]
        self._begin(session.camera, self._plan(session.camera))

    def _change(self, cameras: Collection[FleetCamera], gone: Collection[str]) -> Changes:
        changes = Changes()
        begin: list[tuple[FleetCamera, Plan]] = []
        stop: list[Session] = []
        for camera in cameras:
            session = self.sessions.get(camera.camera_id)
            if session is not None and camera.revision < session.camera.revision:
                continue
            if session is not None and camera == session.camera and session.plan.error is None:
                session.update(camera, session.plan)  # the very document: known from the disk, say
                continue
            plan = self._plan(camera)
            if session is not None and plan.reading is not None and _goes_on(session, camera, plan):
                changes.updated += [camera.camera_id] if camera.revision > session.camera.revision else []
                session.update(camera, plan)
                continue
            (changes.started if session is None else changes.restarted).append(camera.camera_id)
            stop += [session] if session is not None else []
            begin.append((camera, plan))
        left = [self.sessions[camera_id] for camera_id in gone]
        self._stop([*stop, *left], JOIN_S)
        for session in left:
            del self.sessions[session.camera.camera_id]
            session.removed()
            changes.removed.append(session.camera.camera_id)
        for camera, plan in begin:
            self._begin(camera, plan)
        return changes

    def _begin(self, camera: FleetCamera, plan: Plan) -> None:
        session = self.sessions[camera.camera_id] = self._make(camera, plan)
        session.start()

    def _stop(self, sessions: Collection[Session], join_s: float) -> None:
        for session in sessions:
            session.stop()
        self._stopping = [s for s in [*self._stopping, *sessions] if not s.join(join_s)]
        for session in self._stopping:
            _log.warning("camera %s: does not stop; it is left behind", session.camera.camera_id)


def _goes_on(session: Session, camera: FleetCamera, plan: Plan) -> bool:
    """Whether the running stream is the one that the new document asks for."""
    return session.plan.reading == plan.reading and session.camera.recording == camera.recording
