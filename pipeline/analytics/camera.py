"""One camera's whole analytics: detections of its frames in, events and tracks out.

Pure and deterministic: no clock, no I/O; the same frames and detections give the same events, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics import snapshot
from pipeline.analytics.clips import Clip, ClipSeen
from pipeline.analytics.condition import ConditionWatcher
from pipeline.analytics.counts import CountWindows, Presence, copy_tally
from pipeline.analytics.event_writer import EventWriter, Scene
from pipeline.analytics.falls import FallFact, FallWatcher
from pipeline.analytics.labels import Judgement, LabelFact, LabelWatcher
from pipeline.analytics.lines import Crossing, LineCounter
from pipeline.analytics.scenes import SceneFact, SceneWatcher
from pipeline.analytics.settings import TrackerSettings
from pipeline.analytics.tracker import Tracker, Tracks
from pipeline.analytics.zones import ZoneWatcher
from pipeline.core.classes import GROUPS, Group, expand
from pipeline.core.detections import Detections
from pipeline.core.events import Crossings, Event, Origin
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.picture_facts import picture_facts
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView

CLOSING_STATES = ("ended", "down")


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame (or a change of status) brought.

    events: in event-time order; never earlier than an event already given for this camera.
    tracks: the confirmed tracks of this frame, in the order of their numbers.
    occupancy: group -> confirmed tracks in the picture now. zones: zone -> group or class outside the groups -> how
    many of them are inside. totals: line -> group or class -> crossings since the counters' reset.
    """

    events: tuple[Event, ...] = ()
    tracks: tuple[TrackView, ...] = ()
    occupancy: Mapping[Group, int] = field(default_factory=dict)
    totals: Mapping[str, Mapping[str, Crossings]] = field(default_factory=dict)
    zones: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class CameraAnalytics:
    """Tracker, lines, zones, count windows, falls, scene events, condition and label of one camera.

    Followed are the classes of the two groups and those that a line or zone names. provenance: ``model``,
    ``model_version``, ``model_sha256``, ``config_sha256``; goes into every event. ``clip`` is only kept here, for the
    snapshot: whoever runs the scene model sets it behind each window. Raises ConfigError for a tracker setting that
    does not exist.
    """

    def __init__(self, rules: CameraRules, *, provenance: Mapping[str, str]) -> None:
        self.rules = rules
        self.settings = TrackerSettings.of(rules.tracker)
        self.classes = followed_classes(rules)
        self.writer = EventWriter(dict(provenance))
        self.judged_by = self.writer.provenance  # of the epoch's last frame: under other rules, or by another model
        self.tracker = Tracker(self.settings, self.classes)
        self.lines = [LineCounter(rule) for rule in rules.lines]
        self.zones = [ZoneWatcher(rule) for rule in rules.zones]
        self.counts = CountWindows(rules)
        watched = [zone for zone in rules.zones if zone.falls]
        self.falls = FallWatcher(rules.falls, watched, self.settings.high_score, sees_lying=rules.sees_lying)
        self.scenes = SceneWatcher(rules.scene.kinds if rules.scene is not None else ())
        self.condition = ConditionWatcher(rules.condition)
        self.labels = LabelWatcher(rules.labels)
        self.clip: Clip | None = None
        self.scene: Scene | None = None
        self.streaming = False  # a frame of the epoch came, and it has not been closed since

    def to_judge(self, window: FrameWindow) -> list[bool]:
        """Which frames of the next window a classifier is to judge."""
        follows = self.scene is not None and self.scene.epoch == window.epoch
        return self.labels.due([frame.captured_at_us for frame in window.frames], follows=follows)

    def observe(
        self,
        window: FrameWindow,
        frame: Frame,
        detections: Detections,
        origin: Origin,
        clip: ClipSeen | None = None,
        judged: Judgement | None = None,
    ) -> Observation:
        """Take one frame of ``window``; frames come in order, each once.

        clip: the one that this frame completed. judged: what a classifier said of it, if ``to_judge`` asked for it.

        A window of a newer epoch first closes what the older one left open. Raises ValueError for a frame of an
        older epoch, or one that is not later than the last: who calls must have dropped it.
        """
        at_us = frame.captured_at_us
        self._enter(window, origin)
        assert self.scene is not None
        if self.streaming and at_us <= self.scene.at_us:
            raise ValueError(f"frame {frame.index} is not later than frame {self.scene.index}")
        self.scene.index, self.scene.at_us = frame.index, at_us
        self.judged_by = self.writer.provenance
        if not self.streaming:
            self.counts.begin(at_us, window.time_source)
            self.streaming = True
        size = (window.width, window.height)
        tracks, ended = self.tracker.step(at_us, frame.index, detections, size)
        present = tracks.confirmed & (at_us - tracks.seen_us <= self.settings.coast_s * 1e6)
        crossings = self._watch(tracks, ended, size)
        self._crowds(tracks, present, at_us)
        self._fell(self.falls.observe(at_us, frame.index, tracks, detections, size))
        self._happened(self.scenes.observe(at_us, clip))
        if self.condition.is_due(at_us):
            self._tampered(self.condition.observe(at_us, frame.index, picture_facts(frame.picture)))
        self._labelled(self.labels.observe(at_us, judged))
        presence = self._presence(tracks, present, detections)
        self._account(crossings, presence)
        zones = {zone.rule.name: presence[f"zone:{zone.rule.name}"] for zone in self.zones}
        return self._observation(tracks, present, zones)

    def status(self, window: FrameWindow, origin: Origin) -> Observation:
        """Take a window that carries a StreamStatus: gives camera.status.

        "ended" and "down" first close the tracks and the open count window. Raises ValueError for a window without
        a status or of an older epoch.
        """
        if window.status is None:
            raise ValueError("a window without a status")
        self._enter(window, origin)
        assert self.scene is not None
        if window.status.state in CLOSING_STATES:
            self._close()
        self.writer.status(self.scene, window.status, window.sequence)
        return self._observation(None, None)

    def close(self) -> Observation:
        """The stream is finished without having said so: exits of what is inside, the last, partial count window."""
        self._close()
        return self._observation(None, None)

    def reset_totals(self, at_us: int) -> None:
        """Begin the totals again from ``at_us``."""
        self.counts.reset_totals(at_us)

    def snapshot(self) -> bytes:
        """The whole state; ``restore`` goes on from it with byte-equal events.

        To be taken between frames. The format is that of ``pipeline.analytics.snapshot``.
        """
        return snapshot.dump(self)

    @classmethod
    def restore(cls, rules: CameraRules, provenance: Mapping[str, str], blob: bytes) -> CameraAnalytics:
        """An instance that continues where ``snapshot`` was taken.

        ``rules`` may have changed meanwhile: lines and zones of the same name and place go on, the others begin
        anew; totals go on by the line's name. Raises RecordMalformed when ``blob`` is not a snapshot of this version.
        """
        camera = cls(rules, provenance=provenance)
        snapshot.load(camera, blob)
        return camera

    def _enter(self, window: FrameWindow, origin: Origin) -> None:
        """Make ``window`` the present one: a new epoch, a new size of the picture, or neither."""
        scene = self.scene
        if scene is not None and window.epoch < scene.epoch:
            raise ValueError(f"epoch {window.epoch} after epoch {scene.epoch}")
        if scene is None or window.epoch > scene.epoch:
            self._close()
            self.tracker = Tracker(self.settings, self.classes)
            self.scene = Scene(
                self.rules.camera_id, window.epoch, window.width, window.height, window.time_source, origin
            )
            return
        sized = window.width > 0 and window.height > 0
        if sized and (window.width, window.height) != (scene.width, scene.height):
            if scene.width and scene.height:
                x, y = window.width / scene.width, window.height / scene.height
                self.tracker.rescale(x, y)
                self.falls.rescale(x, y)
                for line in self.lines:
                    line.rescale(x, y)
                for zone in self.zones:
                    zone.rescale(x, y)
            scene.width, scene.height = window.width, window.height
        scene.time_source, scene.origin = window.time_source, origin

    def _watch(self, tracks: Tracks, ended: Tracks, size: tuple[int, int]) -> list[Crossing]:
        """Let lines and zones see the tracks; writes what the zones say, gives what the lines say."""
        assert self.scene is not None
        crossings = [crossing for line in self.lines for crossing in line.observe(tracks, size)]
        facts = [fact for zone in self.zones for fact in zone.observe(tracks, size)]
        if len(ended):
            crossings += [crossing for line in self.lines for crossing in line.end(ended, size)]
            facts += [fact for zone in self.zones for fact in zone.end(ended)]
        for fact in facts:
            self.writer.zone(self.scene, fact)
        return sorted(crossings, key=lambda crossing: crossing.at_us)

    def _crowds(self, tracks: Tracks, present: NDArray[np.bool_], at_us: int) -> None:
        assert self.scene is not None
        for zone in self.zones:
            for fact in zone.crowd(at_us, sum(zone.occupants(tracks, present).values())):
                self.writer.crowd(self.scene, fact)

    def _happened(self, facts: Sequence[SceneFact]) -> None:
        assert self.scene is not None
        provenance = self.rules.scene.provenance if self.rules.scene is not None else {}
        for fact in facts:
            self.writer.happened(self.scene, fact, self.scene.at_us, provenance)

    def _tampered(self, facts: Sequence[SceneFact]) -> None:
        """Tell of the pictures' condition: the scene event, and what it makes of the camera's status."""
        assert self.scene is not None
        for fact in facts:
            self.writer.condition(self.scene, fact, self.scene.at_us)
        changed = [fact for fact in facts if fact.phase != "update"]
        if changed and self.streaming:
            self.writer.usable(self.scene, changed[-1], self.scene.at_us)

    def _fell(self, facts: Sequence[FallFact]) -> None:
        assert self.scene is not None
        for fact in facts:
            self.writer.fell(self.scene, fact, self.scene.at_us)

    def _labelled(self, facts: Sequence[LabelFact]) -> None:
        assert self.scene is not None
        for fact in facts:
            self.writer.labelled(self.scene, fact, self.scene.at_us)

    def _presence(self, tracks: Tracks, present: NDArray[np.bool_], detections: Detections) -> Presence:
        """Who is there: by group, by class (every followed class the model knows is named) and by zone."""
        groups: dict[str, int] = dict.fromkeys(GROUPS, 0)
        classes = {name: 0 for name in detections.classes if name in self.classes}
        for row in np.nonzero(present)[0].tolist():
            group, name = tracks.groups[row], tracks.class_names[row]
            classes[name] = classes.get(name, 0) + 1
            if group is not None:
                groups[group] += 1
        presence = {"groups": groups, "classes": classes}
        for zone in self.zones:
            presence[f"zone:{zone.rule.name}"] = zone.occupants(tracks, present)
        return presence

    def _account(self, crossings: list[Crossing], presence: Presence) -> None:
        """Count the crossings, each in the span its event's time falls in; close the span that is over."""
        assert self.scene is not None
        counts, at_us = self.counts, self.scene.at_us
        counts.advance(at_us)
        ends_us = counts.ends_us()
        if ends_us is not None and ends_us <= at_us:
            early = [crossing for crossing in crossings if self.writer.told_at(crossing.at_us) < ends_us]
            crossings = crossings[len(early) :]
            self._cross(early)
            self._tell_span(ends_us)
        counts.frame(at_us, self.scene.index, presence)
        self._cross(crossings)

    def _cross(self, crossings: list[Crossing]) -> None:
        assert self.scene is not None
        wrong_way = {line.rule.name: line.rule.wrong_way for line in self.lines}
        for crossing in crossings:
            self.counts.crossed(crossing.line, crossing.class_name, crossing.direction)
            self.writer.crossed(self.scene, crossing)
            if wrong_way[crossing.line] == crossing.direction:
                self.writer.wrong_way(self.scene, crossing)

    def _tell_span(self, at_us: int) -> None:
        assert self.scene is not None
        assert self.counts.since_us is not None
        span = self.counts.take()
        if span is not None:
            self.writer.counted(self.scene, span, at_us, self.counts.since_us)

    def _close(self) -> None:
        """End every track, crowd, fall, scene event, condition and label, and the open count window of the epoch.

        What this tells of names who saw it, which is not who came since.
        """
        if not self.streaming:
            return
        self.streaming = False
        present, self.writer.provenance = self.writer.provenance, self.judged_by
        self._end_everything()
        self.writer.provenance = present

    def _end_everything(self) -> None:
        assert self.scene is not None
        ended = self.tracker.end()
        size = (self.scene.width, self.scene.height)
        self._cross(sorted((c for line in self.lines for c in line.end(ended, size)), key=lambda c: c.at_us))
        for zone in self.zones:
            for fact in zone.end(ended):
                self.writer.zone(self.scene, fact)
            for crowd in zone.disperse(self.scene.at_us):
                self.writer.crowd(self.scene, crowd)
        self._fell(self.falls.close())
        self._happened(self.scenes.close())
        self._tampered(self.condition.close())
        self._labelled(self.labels.close())
        self._tell_span(self.scene.at_us)

    def _observation(
        self,
        tracks: Tracks | None,
        present: NDArray[np.bool_] | None,
        zones: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Observation:
        events = self.writer.take()
        occupancy: dict[Group, int] = dict.fromkeys(GROUPS, 0)
        views = []
        if tracks is not None and present is not None:
            assert self.scene is not None
            for row in np.nonzero(present)[0].tolist():
                box = tracks.boxes[row] if tracks.seen[row] else tracks.predicted[row]
                x_min, y_min, x_max, y_max = box.tolist()
                track_id = f"{self.scene.camera_id}/{self.scene.epoch}/{tracks.numbers[row]}"
                name, group = tracks.class_names[row], tracks.groups[row]
                bbox = (x_min, y_min, x_max, y_max)
                views.append(TrackView(track_id, name, group, bbox, float(tracks.scores[row]), bool(tracks.seen[row])))
                if group is not None:
                    occupancy[group] += 1
        return Observation(events, tuple(views), occupancy, copy_tally(self.counts.totals), zones or {})


def followed_classes(rules: CameraRules) -> frozenset[str]:
    """The classes that are tracked: those of the groups, and those that a line or zone names."""
    named = [rule.classes for rule in rules.lines] + [rule.classes for rule in rules.zones]
    return expand(GROUPS).union(*(expand(classes) for classes in named))
