"""The state of one camera's analytics as bytes, exactly.

JSON in UTF-8; whole numbers and floats as Python writes them (which reads back to the same bits), arrays as
``{"dtype", "shape", "base64"}`` of their little-endian bytes. ``version`` rises when the meaning changes.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.clips import Clip, ClipFrame
from pipeline.analytics.condition import ConditionWatcher, Open, Run, Stillness
from pipeline.analytics.counts import CountWindows, Level, Span
from pipeline.analytics.down import Down
from pipeline.analytics.event_writer import Scene
from pipeline.analytics.falls import FallWatcher, Flat
from pipeline.analytics.lines import LineCounter, Passing
from pipeline.analytics.motion import Motion
from pipeline.analytics.scenes import SceneWatcher, restored
from pipeline.analytics.stance import Stance, sides_of
from pipeline.analytics.tracker import Tracker
from pipeline.analytics.view import View
from pipeline.analytics.zones import Stay, ZoneWatcher
from pipeline.core.rules import LineRule, ZoneRule
from pipeline.errors import RecordMalformed

if TYPE_CHECKING:
    from pipeline.analytics.camera import CameraAnalytics

VERSION = 1
_NOBODY = np.zeros((0, 5), np.float32)


def dump(camera: CameraAnalytics) -> bytes:
    """The snapshot of ``camera``."""
    state = {
        "version": VERSION,
        "scene": asdict(camera.scene) if camera.scene is not None else None,
        "streaming": camera.streaming,
        "judged_by": dict(camera.judged_by),
        "floor_us": camera.writer.floor_us,
        "tracker": _dump_tracker(camera.tracker),
        "lines": {line.rule.name: _dump_line(line) for line in camera.lines},
        "zones": {zone.rule.name: _dump_zone(zone) for zone in camera.zones},
        "counts": _dump_counts(camera.counts),
    }
    if camera.scenes.states:
        state["scenes"] = _dump_scenes(camera.scenes)
    if camera.condition.last_us is not None:
        state["condition"] = _dump_condition(camera.condition)
    if camera.falls.stances or camera.falls.downs or camera.falls.flats:
        state["falls"] = _dump_falls(camera.falls)
    labels = camera.labels.state()
    if labels is not None:
        state["labels"] = labels
    if camera.clip is not None:
        state["clip"] = _dump_clip(camera.clip)
    return json.dumps(state, separators=(",", ":")).encode()


def load(camera: CameraAnalytics, blob: bytes) -> None:
    """Put the snapshot ``blob`` into a new ``camera``. Raises RecordMalformed when it is not one."""
    try:
        state = json.loads(blob)
        version = state["version"]
        if version != VERSION:
            raise RecordMalformed(f"camera state of version {version}, this is version {VERSION}")
        camera.scene = Scene(**state["scene"]) if state["scene"] is not None else None
        camera.streaming = state["streaming"]
        camera.judged_by = dict(state.get("judged_by", camera.judged_by))
        camera.writer.floor_us = state["floor_us"]
        _load_tracker(camera.tracker, state["tracker"])
        for line in camera.lines:
            _load_line(line, state["lines"].get(line.rule.name))
        for zone in camera.zones:
            _load_zone(zone, state["zones"].get(zone.rule.name))
        _load_counts(camera.counts, state["counts"])
        if "scenes" in state:
            camera.scenes.states = restored(state["scenes"]["states"])
            camera.scenes.clip_us = state["scenes"]["clip_us"]
        if "condition" in state and (camera.condition.kinds or state["condition"]["open"]):
            _load_condition(camera.condition, state["condition"])
        if "falls" in state:
            _load_falls(camera.falls, state["falls"])
        if "labels" in state:
            camera.labels.restore(state["labels"])
        camera.clip = _load_clip(state) if camera.rules.scene is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise RecordMalformed(f"not a camera's state: {type(error).__name__}: {error}") from error


def clip_in(blob: bytes) -> Clip | None:
    """The clip in a snapshot, without its pictures; None where there is none, or it is no snapshot of this version."""
    try:
        state = json.loads(blob)
        return _load_clip(state) if state["version"] == VERSION else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None  # ``load`` says what is wrong with it


def _dump_array(array: NDArray[Any]) -> dict[str, Any]:
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": plain.dtype.str,
        "shape": list(plain.shape),
        "base64": base64.b64encode(plain.tobytes()).decode("ascii"),
    }


def _load_array(told: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(told["dtype"])
    array = np.frombuffer(base64.b64decode(told["base64"], validate=True), dtype).reshape(told["shape"])
    return array.astype(dtype.newbyteorder("="))


def _dump_tracker(tracker: Tracker) -> dict[str, Any]:
    return {
        "next_number": tracker.next_number,
        "at_us": tracker.at_us,
        "classes": tracker.classes,
        "kinds": tracker.kinds,
        "rows": {name: _dump_array(array) for name, array in tracker.rows.items()},
        "motion": {name: _dump_array(array) for name, array in tracker.motion.arrays().items()},
    }


def _load_tracker(tracker: Tracker, state: dict[str, Any]) -> None:
    tracker.next_number, tracker.at_us = state["next_number"], state["at_us"]
    rows = {name: _load_array(told) for name, told in state["rows"].items()}
    motion = Motion(**{name: _load_array(told) for name, told in state["motion"].items()})
    if set(rows) != set(tracker.rows):
        raise RecordMalformed("not a camera's state: other fields of a track")
    if state["classes"] == tracker.classes:
        tracker.rows, tracker.motion = rows, motion
        return
    # Other classes are followed now: carry over the votes that still count, and the tracks that have any.
    votes = np.zeros((len(rows["number"]), len(tracker.classes)))
    for column, name in enumerate(state["classes"]):
        if name in tracker.classes:
            votes[:, tracker.classes.index(name)] = rows["votes"][:, column]
    kept = np.asarray(votes.any(axis=1), bool)
    kinds = [tracker.kinds.index(kind) if kind in tracker.kinds else -1 for kind in state["kinds"]]
    rows["votes"], rows["kind"] = votes, np.array(kinds, np.int64)[rows["kind"]]
    tracker.rows = {name: array[kept] for name, array in rows.items()}
    tracker.motion = motion.select(kept)


def _place(rule: LineRule | ZoneRule) -> list[Any]:
    """What has to be the same for the state of a line or zone to go on."""
    return [[list(point) for point in rule.points], rule.anchor]


def _dump_line(line: LineCounter) -> dict[str, Any]:
    return {
        "place": _place(line.rule),
        "passing": {str(number): asdict(state) for number, state in line.passing.items()},
    }


def _load_line(line: LineCounter, state: dict[str, Any] | None) -> None:
    if state is None or state["place"] != _place(line.rule):
        return
    for number, told in state["passing"].items():
        passing = Passing(**told)
        first, last = told["passed_frames"]
        x_min, y_min, x_max, y_max = told["passed_box"]
        passing.passed_frames, passing.passed_box = (first, last), (x_min, y_min, x_max, y_max)
        line.passing[int(number)] = passing


def _dump_zone(zone: ZoneWatcher) -> dict[str, Any]:
    return {
        "place": _place(zone.rule),
        "stays": {str(number): asdict(stay) for number, stay in zone.stays.items()},
        "crowded": zone.crowded,
        "crowd_us": zone.crowd_us,
    }


def _load_zone(zone: ZoneWatcher, state: dict[str, Any] | None) -> None:
    if state is None or state["place"] != _place(zone.rule):
        return
    zone.stays = {int(number): Stay(**told) for number, told in state["stays"].items()}
    zone.crowded, zone.crowd_us = state["crowded"], state["crowd_us"]


def _dump_falls(falls: FallWatcher) -> dict[str, Any]:
    return {
        "stances": {str(number): asdict(stance) for number, stance in falls.stances.items()},
        "downs": [asdict(down) for down in falls.downs],
        "flats": [asdict(flat) for flat in falls.flats],
    }


def _load_falls(falls: FallWatcher, state: dict[str, Any]) -> None:
    falls.stances = {int(number): Stance(**told) for number, told in state["stances"].items()}
    for told in state["downs"]:
        there = [sides_of(each) for each in told.get("there", ())]  # what a state of fall-rule 1 does not have
        falls.downs.append(Down(**{"dropped": True} | told | {"box": sides_of(told["box"]), "there": there}))
    falls.flats = [Flat(**{**told, "box": sides_of(told["box"])}) for told in state.get("flats", ())]


def _dump_scenes(scenes: SceneWatcher) -> dict[str, Any]:
    return {"states": {kind: asdict(state) for kind, state in scenes.states.items()}, "clip_us": scenes.clip_us}


_VIEW = ("gray", "detail", "spread")
_PICTURES = ("gray", "earlier", "elsewhere")


def _dump_condition(condition: ConditionWatcher) -> dict[str, Any]:
    view, still = condition.view, condition.still
    return {
        "view": {
            **{name: _dump_array(getattr(view, name)) for name in _VIEW},
            "frames": view.frames,
            "since_us": view.since_us,
            "last_us": view.last_us,
            "alike": view.alike,
            "proven": view.proven,
        },
        "still": {**asdict(still), "recent": [list(pair) for pair in still.recent]},
        "runs": {kind: asdict(run) for kind, run in condition.runs.items()},
        "open": asdict(condition.open) if condition.open is not None else None,
        **{name: _dump_array(gray) if (gray := getattr(condition, name)) is not None else None for name in _PICTURES},
        "began_us": condition.began_us,
        "last_us": condition.last_us,
    }


def _load_condition(condition: ConditionWatcher, state: dict[str, Any]) -> None:
    condition.view = View(**{**state["view"], **{name: _load_array(state["view"][name]) for name in _VIEW}})
    recent = deque((at_us, same) for at_us, same in state["still"]["recent"])
    condition.still = Stillness(**{**state["still"], "recent": recent})
    condition.runs = {kind: Run(**run) for kind, run in state["runs"].items()}
    condition.open = Open(**state["open"]) if state["open"] is not None else None
    for name in _PICTURES:
        setattr(condition, name, _load_array(state[name]) if state[name] is not None else None)
    condition.began_us, condition.last_us = state["began_us"], state["last_us"]


def _dump_clip(clip: Clip) -> dict[str, Any]:
    return {
        "model": clip.model,
        "epoch": clip.epoch,
        "size": list(clip.size),
        "crop": list(clip.crop) if clip.crop is not None else None,
        "followed": clip.followed,
        "last_us": clip.last_us,
        "due_us": clip.due_us,
        "frames": [[frame.index, frame.at_us, frame.offset, len(frame.persons)] for frame in clip.frames],
        "persons": _dump_array(np.concatenate([_NOBODY, *(frame.persons for frame in clip.frames)])),
    }


def _load_clip(state: dict[str, Any]) -> Clip | None:
    told = state.get("clip")
    if told is None:
        return None
    crop = None
    if told["crop"] is not None:
        x_min, y_min, x_max, y_max = told["crop"]
        crop = (x_min, y_min, x_max, y_max)
    persons, begin, frames = _load_array(told["persons"]), 0, []
    for index, at_us, offset, count in told["frames"]:
        frames.append(ClipFrame(index, at_us, offset, persons[begin : begin + count]))
        begin += count
    size = (told["size"][0], told["size"][1])
    return Clip(
        told["model"], told["epoch"], size, tuple(frames), crop, told["followed"], told["last_us"], told["due_us"]
    )  # fmt: skip


def _dump_counts(counts: CountWindows) -> dict[str, Any]:
    return {
        "totals": counts.totals,
        "since_us": counts.since_us,
        "origin_us": counts.origin_us,
        "span": asdict(counts.span) if counts.span is not None else None,
        "presence": counts.presence,
        "frame_us": counts.frame_us,
        "intervals_us": list(counts.intervals_us),
        "credit_us": list(counts.credit_us),
    }


def _load_counts(counts: CountWindows, state: dict[str, Any]) -> None:
    counts.since_us, counts.origin_us = state["since_us"], state["origin_us"]
    counts.frame_us = state["frame_us"]
    counts.intervals_us.extend(state["intervals_us"])
    counts.credit_us = (state["credit_us"][0], state["credit_us"][1])
    counts.carry_totals(state["totals"])
    if state["span"] is not None:
        levels = {
            what: {name: Level(**level) for name, level in named.items()}
            for what, named in state["span"]["levels"].items()
        }
        span = Span(**{**state["span"], "levels": levels})
        counts.carry_span(span, state["presence"])
