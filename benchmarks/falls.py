"""Falls: how many of the staged falls are told of, how soon, and what else is called a fall.

Every clip goes through the detector at the pipeline's rate (what it sees is kept in out/bench, so that a second run
takes seconds), then through a camera's analytics with falls watched for everywhere. A fall counts as found if an event
starts after the fall's labelled start. On daily acts and ordinary video every event is a false alarm; in fights people
do fall: those events are listed to be looked at.

    python -m benchmarks.falls [--model passerby-falls] [--fps 8]
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clips import VIDEOS
from benchmarks.seen_clips import SeenClip, seen_clips
from pipeline.analytics.camera import CameraAnalytics
from pipeline.analytics.falls import LEAST_HEIGHT
from pipeline.core.events import SCENE_EVENT, Event, Origin, microseconds
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules
from pipeline.inference.manifest import Manifest
from pipeline.services.streams import model_manifest

EVENTS = VIDEOS.parent / "events"
SET_ON = ("shop_door_cctv", "indoor_one_by_one_person", "tfl_jamcam_625")
"""Beginnings of the names of the ordinary clips that the thresholds were set on, beside the falls of person 2."""
_ORIGIN = Origin(topic="passerby.windows", partition=0, offset=0)
_NOTHING = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class Staged:
    """A clip of the falls set. fell_s: when the labelled fall begins; None in a daily act."""

    path: Path
    person: str
    fell_s: float | None


@dataclass(frozen=True)
class Told:
    """An event that began: when it was told, when it says the fall began (seconds of the clip), and how far down."""

    at_s: float
    began_s: float
    score: float


def staged() -> list[Staged]:
    """The falls and daily acts, as labelled."""
    with (EVENTS / "falls_gmdcsa24.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    made = []
    for row in rows:
        fell = re.search(r"Fall\w* \(\w+\):([\d.]+)-", row["segments_seconds"])
        if (fell is not None) != (row["label"] == "fall"):
            raise SystemExit(f"{row['file']}: its label and its segments differ")
        made.append(Staged(EVENTS / row["file"], row["subject"], float(fell.group(1)) if fell else None))
    return made


def told_of(clip: SeenClip, model: Manifest) -> list[Told]:
    """The falls that a camera with this picture tells of."""
    tracker = {"high_score": model.thresholds.score, "low_score": model.thresholds.low}
    rules = CameraRules("clip", tracker=tracker, falls=True, sees_lying=model.lying, sample_fps=clip.sample_fps)
    provenance = {"model": "none", "model_version": "0", "model_sha256": "", "config_sha256": ""}
    camera = CameraAnalytics(rules, provenance=provenance)
    events: list[Event] = []
    for at_us, index, found in zip(clip.at_us, clip.index, clip.found, strict=True):
        frame = Frame(index, at_us, at_us, _NOTHING)
        window = FrameWindow("clip", 1, 0, (frame,), *clip.size, clip.sample_fps, "pts")
        events += camera.observe(window, frame, found, _ORIGIN).events
    starts = [event for event in events if event.type == SCENE_EVENT and event.data["phase"] == "start"]
    began = clip.at_us[0] if clip.at_us else 0
    return [
        Told((e.time_us - began) / 1e6, (microseconds(e.data["started_at"]) - began) / 1e6, e.data["score"])
        for e in starts
    ]


def measure_staged(model: str, fps: float) -> None:
    """Falls found and daily acts called falls, by person."""
    every = staged()
    clips = dict(zip(every, seen_clips([one.path for one in every], model, fps), strict=True))
    told = {one: told_of(clip, model_manifest(model)) for one, clip in clips.items()}
    print("| person | falls found | s from the fall's start: each | daily acts | called falls |")
    print("| --- | --- | --- | --- | --- |")
    for person in sorted({one.person for one in every}):
        falls = {one: told[one] for one in every if one.person == person and one.fell_s is not None}
        acts = [told[one] for one in every if one.person == person and one.fell_s is None]
        delays = [
            f"{after[0].at_s - one.fell_s:.1f}"
            for one, events in falls.items()
            if one.fell_s is not None and (after := [e for e in events if e.at_s >= one.fell_s])
        ]
        print(
            f"| {person} | {len(delays)} of {len(falls)} | {', '.join(delays)} | {len(acts)} | "
            f"{sum(1 for events in acts if events)} |"
        )
    for one, events in told.items():
        if (one.fell_s is None) == bool(events) or len(events) > 1:
            what = "a daily act" if one.fell_s is None else f"a fall at {one.fell_s:g} s"
            print(f"  {one.path.stem}: {what}: {_said(events) or 'nothing told'}")


def judged_minutes(clip: SeenClip, least_score: float) -> float:
    """How much of a clip shows somebody who is large enough to be judged."""
    frames = 0
    for found in clip.found:
        height = (found.boxes[:, 3] - found.boxes[:, 1])[found.scores >= least_score]
        names = [found.classes[index] for index in found.class_ids[found.scores >= least_score]]
        frames += any(
            name == "person" and tall >= LEAST_HEIGHT * clip.size[1] for name, tall in zip(names, height, strict=True)
        )
    return clip.seconds / 60 * frames / max(len(clip.found), 1)


def measure_others(name: str, paths: Iterable[Path], model: str, fps: float) -> None:
    """Events in clips that are not labelled."""
    manifest = model_manifest(model)
    clips = [(clip, told_of(clip, manifest)) for clip in seen_clips(sorted(paths), model, fps)]
    minutes = sum(clip.seconds for clip, _ in clips) / 60
    events = sum(len(told) for _, told in clips)
    judged = sum(judged_minutes(clip, manifest.thresholds.score) for clip, _ in clips)
    print(f"| {name} | {len(clips)} | {minutes:.1f} | {judged:.1f} | {events} |", flush=True)
    for clip, told in clips:
        if told:
            print(f"  {clip.path.parent.name}/{clip.path.stem}: {_said(told)}")


def _said(events: Iterable[Told]) -> str:
    return "; ".join(f"told at {e.at_s:.1f} s of {e.began_s:.1f} s, score {e.score:.2f}" for e in events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="passerby-falls", help="the detector")
    parser.add_argument("--fps", type=float, default=8.0, help="frames a second that are looked at")
    asked = parser.parse_args()
    if not EVENTS.is_dir():
        raise SystemExit(f"benchmarks.falls needs the clips of {EVENTS}")
    measure_staged(asked.model, asked.fps)
    ordinary = [*VIDEOS.rglob("*.mp4"), *VIDEOS.rglob("*.avi")]
    jamcam = {path for path in ordinary if "625_" in path.name}
    looked = {path for path in ordinary if path.name.startswith(SET_ON)}
    groups = {
        "a shop and an indoor camera that the thresholds were set on": looked - jamcam,
        "other scenes (a shop, streets, a square)": set(ordinary) - looked - jamcam,
        "a traffic camera, set on": looked & jamcam,
        "the same traffic camera, other hours": jamcam - looked,
        "surveillance clips of 2 s without a fight": set((EVENTS / "fight_surv" / "nofight").glob("*.mp4")),
        "surveillance clips of 2 s with a fight": set((EVENTS / "fight_surv" / "fight").glob("*.mp4")),
    }
    print("\n| not staged | clips | minutes | with somebody large enough | events |\n| --- | --- | --- | --- | --- |")
    for name, paths in groups.items():
        measure_others(name, paths, asked.model, asked.fps)


if __name__ == "__main__":
    main()
