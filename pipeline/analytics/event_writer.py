"""Turns what the analytics found into events, in order of time.

An event's time is when it happened (a crossing is interpolated between two frames), but some things are only sure a
moment later, when later events may already be out. Then the event gets the time of the last one given, so that the
times of a camera never go back; what it says in its data (``entered_at``, ``dwell_s``) stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.analytics.condition import REASONS, RULES_MADE_IT
from pipeline.analytics.counts import ClosedSpan
from pipeline.analytics.falls import RULES_MADE_IT as FALL_RULES_MADE_IT
from pipeline.analytics.falls import FallFact
from pipeline.analytics.labels import LabelFact
from pipeline.analytics.lines import Crossing
from pipeline.analytics.scenes import SceneFact
from pipeline.analytics.zones import CrowdFact, ZoneFact
from pipeline.core.classes import group_of
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
    BBox,
    Event,
    Origin,
    event_id,
    rfc3339,
)
from pipeline.core.frame import StreamStatus, TimeSource

_ZONE_TYPES = {
    "entered": ZONE_ENTERED,
    "exited": ZONE_EXITED,
    "dwelled": ZONE_DWELLED,
    "stopped": VEHICLE_STOPPED,
    "wrong": DIRECTION_WRONG,
}


@dataclass(slots=True)
class Scene:
    """Where and when a camera is: what every event of the moment says."""

    camera_id: str
    epoch: int
    width: int
    height: int
    time_source: TimeSource
    origin: Origin
    index: int = -1
    at_us: int = 0


@dataclass(slots=True)
class EventWriter:
    """Gathers the events of one observation. ``floor_us``: the time of the last event given, over all observations."""

    provenance: Mapping[str, str]
    floor_us: int = 0
    _found: list[tuple[int, Event]] = field(default_factory=list)

    def take(self) -> tuple[Event, ...]:
        """The gathered events in order of time; of equal time in the order they were written."""
        events = tuple(event for _, event in sorted(self._found, key=lambda timed: timed[0]))
        self._found.clear()
        if events:
            self.floor_us = events[-1].time_us
        return events

    def told_at(self, at_us: int) -> int:
        """The time an event that happened at ``at_us`` will carry."""
        return max(at_us, self.floor_us)

    def crossed(self, scene: Scene, crossing: Crossing) -> None:
        """line.crossed"""
        track_id = _track_id(scene, crossing.number)
        data = {
            **self._observed(scene, crossing.class_name, track_id, crossing.bbox, crossing.frames),
            "line": crossing.line,
            "direction": crossing.direction,
        }
        rule = f"line:{crossing.line}:{crossing.direction}"
        self._write(scene, LINE_CROSSED, crossing.at_us, rule, track_id, data)

    def wrong_way(self, scene: Scene, crossing: Crossing) -> None:
        """direction.wrong, for a line crossed to its wrong side."""
        track_id = _track_id(scene, crossing.number)
        data = {
            **self._observed(scene, crossing.class_name, track_id, crossing.bbox, crossing.frames),
            "zone": None,
            "line": crossing.line,
        }
        self._write(scene, DIRECTION_WRONG, crossing.at_us, f"line:{crossing.line}:wrong_way", track_id, data)

    def zone(self, scene: Scene, fact: ZoneFact) -> None:
        """zone.entered, exited, dwelled, vehicle.stopped, direction.wrong"""
        track_id = _track_id(scene, fact.number)
        data = {**self._observed(scene, fact.class_name, track_id, fact.bbox, fact.frames), "zone": fact.zone}
        lasted_s = round((fact.at_us - fact.since_us) / 1e6, 6)
        if fact.told in {"exited", "dwelled"}:
            data |= {"entered_at": rfc3339(fact.since_us), "dwell_s": lasted_s}
        elif fact.told == "stopped":
            data |= {"stopped_at": rfc3339(fact.since_us), "stopped_s": lasted_s}
        elif fact.told == "wrong":
            data["line"] = None
        # A track may go in and out between two frames: the moment tells the stays of one frame apart.
        rule = f"zone:{fact.zone}:{fact.told}:{fact.since_us}"
        self._write(scene, _ZONE_TYPES[fact.told], fact.at_us, rule, track_id, data)

    def crowd(self, scene: Scene, fact: CrowdFact) -> None:
        """zone.crowded, start or end"""
        data = {
            "camera_id": scene.camera_id,
            "epoch": scene.epoch,
            "zone": fact.zone,
            "phase": fact.phase,
            "occupancy": fact.occupancy,
            "frame": {"width": scene.width, "height": scene.height},
            **self._sourced(scene, (scene.index,)),
        }
        self._write(scene, ZONE_CROWDED, fact.at_us, f"zone:{fact.zone}:crowded:{fact.phase}", "", data)

    def counted(self, scene: Scene, span: ClosedSpan, at_us: int, since_us: int) -> None:
        """count.window"""
        data = {
            "camera_id": scene.camera_id,
            "epoch": scene.epoch,
            "starts_at": rfc3339(span.starts_us),
            "ends_at": rfc3339(span.ends_us),
            "coverage": span.coverage,
            "groups": span.groups,
            "classes": span.classes,
            "zones": span.zones,
            "lines": span.lines,
            "totals": span.totals,
            "totals_since": rfc3339(since_us),
            **self._sourced(scene, span.frames),
        }
        self._write(scene, COUNT_WINDOW, at_us, f"count:{span.starts_us}", "", data)

    def happened(
        self,
        scene: Scene,
        fact: SceneFact,
        at_us: int,
        provenance: Mapping[str, str],
        *,
        rule: str = "scene",
        who: Mapping[str, str | None] | None = None,
    ) -> None:
        """scene.event. provenance: what takes the place of the detector's: the model that saw it. rule: of its id.

        who: the ``track_id`` and ``zone`` of an event about somebody.
        """
        sourced = self._sourced(scene, fact.frames)
        sourced["provenance"] = {**sourced["provenance"], **provenance}
        data = {
            "camera_id": scene.camera_id,
            "epoch": scene.epoch,
            "kind": fact.kind,
            "phase": fact.phase,
            "started_at": rfc3339(fact.started_us),
            "ended_at": None if fact.ended_us is None else rfc3339(fact.ended_us),
            "score": round(fact.score, 6),
            "attention": [round(weight, 6) for weight in fact.attention],
            "frame": {"width": scene.width, "height": scene.height},
            **sourced,
        }
        if fact.region is not None:
            x_min, y_min, x_max, y_max = (round(min(max(side, 0.0), 1.0), 6) for side in fact.region)
            data["region"] = BBox(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)
        data.update(who or {})
        self._write(scene, SCENE_EVENT, at_us, f"{rule}:{fact.kind}:{fact.phase}", data.get("track_id", ""), data)

    def condition(self, scene: Scene, fact: SceneFact, at_us: int) -> None:
        """scene.event of a kind that rules judge, not a network."""
        self.happened(scene, fact, at_us, RULES_MADE_IT)

    def labelled(self, scene: Scene, fact: LabelFact, at_us: int) -> None:
        """scene.event of what the whole picture shows, with the frame at which it was known.

        Its id is not that of a scene model's or the condition's event: a class may be called as their kinds are.
        """
        seen = SceneFact(
            fact.kind, fact.phase, fact.started_us, fact.ended_us, fact.score, (scene.index,), (1.0,)
        )  # fmt: skip
        self.happened(scene, seen, at_us, fact.judged_by, rule="label")

    def fell(self, scene: Scene, fact: FallFact, at_us: int) -> None:
        """scene.event of somebody who fell: with his track, the zone and his lowest box."""
        x_min, y_min, x_max, y_max = fact.box
        region = (x_min / scene.width, y_min / scene.height, x_max / scene.width, y_max / scene.height)
        seen = SceneFact(
            "fall", fact.phase, fact.started_us, fact.ended_us, fact.score, fact.frames, (), region
        )  # fmt: skip
        who = {"track_id": _track_id(scene, fact.number), "zone": fact.zone}
        self.happened(scene, seen, at_us, FALL_RULES_MADE_IT, rule="fall", who=who)

    def usable(self, scene: Scene, fact: SceneFact, at_us: int) -> None:
        """camera.status: tampered when ``fact`` is a start, up again when it is an end."""
        if fact.phase == "start":
            status = StreamStatus("tampered", f"{fact.kind}: {REASONS[fact.kind]}", at_us)
        else:
            status = StreamStatus("up", f"no longer {fact.kind}", at_us)
        self.status(scene, status, scene.index)

    def status(self, scene: Scene, status: StreamStatus, sequence: int) -> None:
        """camera.status"""
        data = {
            "camera_id": scene.camera_id,
            "epoch": scene.epoch,
            "state": status.state,
            "reason": status.reason,
            "origin": dict(scene.origin),
        }
        self._write(scene, CAMERA_STATUS, status.at_us, f"status:{status.state}:{sequence}", "", data)

    def _observed(
        self, scene: Scene, class_name: str, track_id: str, bbox: tuple[float, ...], frames: tuple[int, ...]
    ) -> dict[str, Any]:
        return {
            "camera_id": scene.camera_id,
            "epoch": scene.epoch,
            "class_id": class_name,
            "group": group_of(class_name),
            "track_id": track_id,
            "bbox": _normalised(bbox, scene),
            "frame": {"width": scene.width, "height": scene.height},
            **self._sourced(scene, frames),
        }

    def _sourced(self, scene: Scene, frames: tuple[int, ...]) -> dict[str, Any]:
        return {
            "time_source": scene.time_source,
            "provenance": {**self.provenance, "frames": sorted(set(frames))},
            "origin": dict(scene.origin),
        }

    def _write(self, scene: Scene, type_: str, at_us: int, rule: str, track: str, data: dict[str, Any]) -> None:
        told_us = self.told_at(at_us)
        id_ = event_id(scene.camera_id, scene.epoch, scene.index, rule, track, type_)
        self._found.append((told_us, Event(id_, type_, scene.camera_id, told_us, data)))


def _track_id(scene: Scene, number: int) -> str:
    return f"{scene.camera_id}/{scene.epoch}/{number}"


def _normalised(bbox: tuple[float, ...], scene: Scene) -> BBox:
    x_min, x_max = (round(min(max(x / scene.width, 0.0), 1.0), 6) for x in bbox[0::2])
    y_min, y_max = (round(min(max(y / scene.height, 0.0), 1.0), 6) for y in bbox[1::2])
    return {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
