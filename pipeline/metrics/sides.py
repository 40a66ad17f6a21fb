"""The two halves of a worker: what is known of cameras as sources, and what came of their frames.

``IngestMetrics`` has the first, ``InferMetrics`` the second, ``RunMetrics`` both.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import get_args

from pipeline.core.classes import GROUPS, expand, group_of
from pipeline.core.events import (
    CAMERA_STATUS,
    COUNT_WINDOW,
    DIRECTION_WRONG,
    LINE_CROSSED,
    SCENE_EVENT,
    VEHICLE_STOPPED,
    ZONE_CROWDED,
    ZONE_DWELLED,
    ZONE_ENTERED,
    ZONE_EXITED,
    Event,
)
from pipeline.core.frame import CameraState, Frame, FrameWindow
from pipeline.core.ledger import DropCause, FrameLedger, LedgerLine
from pipeline.core.rules import CONDITION_KINDS, CameraRules
from pipeline.metrics.catalogue import RECONNECT_REASONS
from pipeline.metrics.parts import ObservationLike, SourceHealth
from pipeline.metrics.registry import MetricRegistry, Sample

OTHER = "other"
"""The group of what is neither person nor vehicle."""

SILENT_STATES = ("down", "ended")

_CAUSES: tuple[str, ...] = get_args(DropCause)


class SourceSide:
    """The cameras that a worker reads, and their ledger.

    delivered: the metric that the ledger's ``analysed`` is (frames_sent_total where the log takes them over).
    utc_us: UTC in microseconds since 1970.
    """

    def __init__(
        self, registry: MetricRegistry, ledger: FrameLedger, delivered: str, utc_us: Callable[[], int]
    ) -> None:
        self._registry = registry
        self._utc_us = utc_us
        self._ledger = ledger
        self._delivered = delivered
        self._lock = threading.Lock()
        self._cameras: dict[str, Callable[[], SourceHealth] | None] = {}
        self._up = registry.gauge("passerby_camera_up")
        self._ended = registry.gauge("passerby_camera_ended")
        self._grew: dict[str, tuple[int, float]] = {}  # frames captured as of the scrape that saw more, and its time
        registry.read_at_scrape(self._read_ledger)
        registry.read_at_scrape(self._read_health)

    def came(self, camera_id: str, health: Callable[[], SourceHealth] | None) -> None:
        """It is read from now on; ``health`` may be told anew."""
        with self._lock:
            known = camera_id in self._cameras
            self._cameras[camera_id] = health
            if not known:
                self._up.labels(camera_id).set(0)
                self._ended.labels(camera_id).set(0)

    def left(self, camera_id: str) -> None:
        """Its series go."""
        with self._lock:
            self._cameras.pop(camera_id, None)
            self._grew.pop(camera_id, None)
            self._registry.forget(camera=camera_id)

    def state(self, camera_id: str, state: CameraState) -> None:
        """It came up, went down or ended."""
        with self._lock:
            if camera_id in self._cameras:
                self._up.labels(camera_id).set(state not in SILENT_STATES)
                self._ended.labels(camera_id).set(state == "ended")

    @contextmanager
    def present(self, camera_id: str) -> Iterator[bool]:
        """Whether it is read, and stays so for the length of the block."""
        with self._lock:
            yield camera_id in self._cameras

    def cameras(self) -> dict[str, Callable[[], SourceHealth] | None]:
        """The cameras that are read now."""
        with self._lock:
            return dict(self._cameras)

    def _read_ledger(self) -> Iterator[Sample]:
        lines, cameras = self._ledger.lines(), self.cameras()
        for camera_id in cameras:
            line = lines.get(camera_id) or LedgerLine(0, 0, 0, {}, 0)
            yield "passerby_frames_captured_total", (camera_id,), line.captured
            last_s = self._last_frame_s(camera_id, line.captured)
            if last_s is not None:
                yield "passerby_camera_last_frame_timestamp_seconds", (camera_id,), last_s
            yield "passerby_frames_sampled_out_total", (camera_id,), line.sampled_out
            yield self._delivered, (camera_id,), line.analysed
            yield "passerby_frames_in_flight", (camera_id,), line.in_flight
            for cause in _CAUSES:
                yield "passerby_frames_dropped_total", (camera_id, cause), line.dropped.get(cause, 0)

    def _last_frame_s(self, camera_id: str, captured: int) -> float | None:
        """When a scrape first found as many frames; None before the first one."""
        with self._lock:
            before, at_s = self._grew.get(camera_id, (0, 0.0))
            if captured != before and camera_id in self._cameras:
                at_s = self._utc_us() / 1e6
                self._grew[camera_id] = (captured, at_s)
        return at_s or None

    def _read_health(self) -> Iterator[Sample]:
        for camera_id, ask in self.cameras().items():
            if ask is None:
                continue
            health = ask()
            yield "passerby_camera_corrupt_packets_total", (camera_id,), health.corrupt_packets
            yield "passerby_camera_repaired_timestamps_total", (camera_id,), health.repaired_timestamps
            yield "passerby_camera_hung_readers", (camera_id,), health.hung_readers
            for reason in RECONNECT_REASONS:
                yield "passerby_camera_reconnects_total", (camera_id, reason), health.reconnects.get(reason, 0)


@dataclass(slots=True)
class _Gathered:
    """What was observed of one camera and is not published yet."""

    events: list[Event] = field(default_factory=list)
    newest: ObservationLike | None = None
    closing_us: list[int] = field(default_factory=list)  # capture of the last frame of each live window
    frames: int = 0
    void_windows: int = 0
    void_frames: int = 0


class ResultSide:
    """The cameras whose frames a worker analyses. ``utc_us``: UTC in microseconds since 1970."""

    def __init__(self, registry: MetricRegistry, utc_us: Callable[[], int], *, tells_frames: bool) -> None:
        self._registry = registry
        self._utc_us = utc_us
        self._lock = threading.Lock()
        self._rules: dict[str, CameraRules] = {}
        self._waiting: dict[str, _Gathered] = {}
        self._being: dict[str, dict[str, set[str | None]]] = {}  # camera -> kind -> whose scene events are open
        self._events = registry.counter("passerby_events_total")
        self._crossed = registry.counter("passerby_objects_crossed_total")
        self._present = registry.gauge("passerby_objects_present")
        self._inside = registry.gauge("passerby_zone_occupancy")
        self._coverage = registry.gauge("passerby_camera_coverage_ratio")
        self._tampered = registry.gauge("passerby_camera_tampered")
        self._open = registry.gauge("passerby_scene_open")
        self._started = registry.counter("passerby_scene_started_total")
        self._age = registry.histogram("passerby_capture_to_event_seconds")
        self._void = registry.counter("passerby_windows_void_total")
        self._analysed = registry.counter("passerby_frames_analysed_total") if tells_frames else None
        self._dropped = registry.counter("passerby_frames_dropped_total") if tells_frames else None

    def came(self, rules: CameraRules) -> None:
        """A camera is analysed from now on, or by these rules from now on: every series that can be begins at 0."""
        camera_id = rules.camera_id
        with self._lock:
            before = self._rules.get(camera_id)
            if before == rules:
                return
            self._rules[camera_id] = rules
            if before is not None:
                for line in {r.name for r in before.lines} - {r.name for r in rules.lines}:
                    self._registry.forget(camera=camera_id, line=line)
                for zone in {r.name for r in before.zones} - {r.name for r in rules.zones}:
                    self._registry.forget(camera=camera_id, zone=zone)
            self._begin_series(rules)

    def left(self, camera_id: str) -> None:
        """Its series go, and what was not published is forgotten."""
        with self._lock:
            self._rules.pop(camera_id, None)
            self._waiting.pop(camera_id, None)
            self._being.pop(camera_id, None)
            self._registry.forget(camera=camera_id)

    def observed(self, window: FrameWindow, frame: Frame | None, observation: ObservationLike) -> None:
        """Gather what one frame or status brought."""
        with self._lock:
            gathered = self._waiting.setdefault(window.camera_id, _Gathered())
            gathered.events += observation.events
            gathered.newest = observation
            if frame is not None and window.time_source != "pts" and frame is window.frames[-1]:
                gathered.closing_us.append(frame.captured_at_us)

    def analysed(self, window: FrameWindow) -> None:
        """Gather that all its frames are analysed."""
        with self._lock:
            self._waiting.setdefault(window.camera_id, _Gathered()).frames += len(window.frames)

    def void(self, window: FrameWindow) -> None:
        """Gather that it was passed over."""
        with self._lock:
            gathered = self._waiting.setdefault(window.camera_id, _Gathered())
            gathered.void_windows += 1
            gathered.void_frames += len(window.frames)

    def publish(self) -> None:
        """All that was gathered is published: tell it."""
        now_us = self._utc_us()
        with self._lock:
            for camera_id, gathered in self._waiting.items():
                if camera_id in self._rules:
                    self._tell(camera_id, gathered, now_us)
            self._waiting.clear()

    def forget_gathered(self) -> None:
        """It will not be published."""
        with self._lock:
            self._waiting.clear()

    def _begin_series(self, rules: CameraRules) -> None:
        camera_id = rules.camera_id
        for type_ in _possible_types(rules):
            self._events.labels(camera_id, _short(type_))
        for line in rules.lines:
            for group in _groups(line.classes):
                self._crossed.labels(camera_id, line.name, "left", group)
                self._crossed.labels(camera_id, line.name, "right", group)
        for group in GROUPS:
            self._present.labels(camera_id, group)
        for zone in rules.zones:
            for group in _groups(zone.classes):
                self._inside.labels(camera_id, zone.name, group)
        for kind in _possible_scenes(rules):
            self._open.labels(camera_id, kind)
            self._started.labels(camera_id, kind)
        self._age.labels(camera_id)
        self._tampered.labels(camera_id)
        self._void.labels(camera_id)
        if self._analysed is not None and self._dropped is not None:
            self._analysed.labels(camera_id)
            self._dropped.labels(camera_id, "superseded_epoch")

    def _tell(self, camera_id: str, gathered: _Gathered, now_us: int) -> None:
        for type_, times in Counter(event.type for event in gathered.events).items():
            self._events.labels(camera_id, _short(type_)).inc(times)
        for event in gathered.events:
            self._tell_event(camera_id, event)
        for captured_us in gathered.closing_us:
            self._age.labels(camera_id).observe(max(0, now_us - captured_us) / 1e6)
        if gathered.newest is not None:
            self._tell_present(camera_id, gathered.newest)
        if gathered.void_windows:
            self._void.labels(camera_id).inc(gathered.void_windows)
        if self._analysed is not None and self._dropped is not None:
            self._analysed.labels(camera_id).inc(gathered.frames)
            self._dropped.labels(camera_id, "superseded_epoch").inc(gathered.void_frames)

    def _tell_event(self, camera_id: str, event: Event) -> None:
        if event.type == LINE_CROSSED:
            group = group_of(event.data["class_id"]) or OTHER
            self._crossed.labels(camera_id, event.data["line"], event.data["direction"], group).inc()
        elif event.type == COUNT_WINDOW:
            self._coverage.labels(camera_id).set(event.data["coverage"])
        elif event.type == SCENE_EVENT:
            kind, phase = event.data["kind"], event.data["phase"]
            if kind in CONDITION_KINDS:
                self._tampered.labels(camera_id).set(phase != "end")
            # Falls of several people may be open at once; other kinds are open once a camera.
            being = self._being.setdefault(camera_id, {}).setdefault(kind, set())
            (being.discard if phase == "end" else being.add)(event.data.get("track_id"))
            self._open.labels(camera_id, kind).set(len(being))
            self._started.labels(camera_id, kind).inc(phase == "start")

    def _tell_present(self, camera_id: str, newest: ObservationLike) -> None:
        for group in GROUPS:
            self._present.labels(camera_id, group).set(newest.occupancy.get(group, 0))
        for zone in self._rules[camera_id].zones:
            inside = Counter(dict.fromkeys(_groups(zone.classes), 0))
            for name, objects in newest.zones.get(zone.name, {}).items():
                inside[name if name in GROUPS else OTHER] += objects
            for label, objects in inside.items():
                self._inside.labels(camera_id, zone.name, label).set(objects)


def _groups(classes: tuple[str, ...]) -> list[str]:
    return sorted({group_of(name) or OTHER for name in expand(classes)})


def _short(type_: str) -> str:
    """io.passerby.line.crossed.v1 -> line.crossed"""
    return ".".join(type_.split(".")[2:-1])


def _possible_scenes(rules: CameraRules) -> list[str]:
    """The kinds of scene events that these rules can bring."""
    falls = rules.falls or any(zone.falls for zone in rules.zones)
    kinds = [*rules.condition, *["fall"] * falls]
    kinds += [each.kind for each in rules.scene.kinds] if rules.scene is not None else []
    return kinds + ([*rules.labels.kinds] if rules.labels is not None else [])


def _possible_types(rules: CameraRules) -> list[str]:
    """The events that these rules can bring."""
    types = [COUNT_WINDOW, CAMERA_STATUS]
    types += [LINE_CROSSED] * bool(rules.lines) + [ZONE_ENTERED, ZONE_EXITED] * bool(rules.zones)
    types += [ZONE_DWELLED] * any(zone.dwell_s for zone in rules.zones)
    types += [ZONE_CROWDED] * any(zone.crowded_at for zone in rules.zones)
    types += [VEHICLE_STOPPED] * any(zone.stopped_s for zone in rules.zones)
    wrong = any(zone.direction for zone in rules.zones) or any(line.wrong_way for line in rules.lines)
    types += [SCENE_EVENT] * bool(_possible_scenes(rules))
    return types + [DIRECTION_WRONG] * wrong
