"""The bar "Counting, real clips": a third-party detector's boxes through the analytics, at the shipped settings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.core.detections import Detections
from pipeline.core.events import LINE_CROSSED, ZONE_EXITED, Event
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from tests.analytics.walks import ORIGIN, PROVENANCE, START_US

pytestmark = pytest.mark.shared

SHIPPED = {"high_score": 0.3, "low_score": 0.1}  # what `models add` gives a network of pvb2003's family
STRICTER = {"high_score": 0.35, "low_score": 0.2}
CLASSES = ("person", "bicycle", "vehicle")
CLIPS = (
    "uk_dual_carriageway_mpeg4.avi",
    "suburban_street_cars.mp4",
    "topdown_cars.mp4",
    "pedestrians_square.mp4",
    "shop_door_cctv.mp4",
)


def truth_of(shared: Path, clip: str) -> dict[str, Any]:
    told = json.loads((shared / "truth" / "counts.json").read_text())
    return next(one for one in told if one["file"].endswith(clip))


def analyse(shared: Path, clip: str, rules: CameraRules) -> list[Event]:
    """The clip's boxes, sampled by time as the pipeline samples."""
    with gzip.open(shared / "truth" / "boxes_pvb2003" / f"{clip}.json.gz") as file:
        told = json.load(file)
    camera = CameraAnalytics(rules, provenance=PROVENANCE)
    events: list[Event] = []
    due_s = 0.0
    for index, boxes in enumerate(told["dets"]):
        t_s = index / told["fps"]
        if t_s + 1e-9 < due_s:
            continue
        while due_s <= t_s + 1e-9:
            due_s += 1 / rules.sample_fps
        table = np.array(boxes, np.float32).reshape(-1, 6)
        seen = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CLASSES)
        frame = Frame(index, round(t_s * 1e6), START_US + round(t_s * 1e6), np.zeros((1, 1, 3), np.uint8))
        window = FrameWindow("gate", 0, 0, (frame,), told["w"], told["h"], rules.sample_fps, "pts")
        events += camera.observe(window, frame, seen, ORIGIN).events
    return [*events, *camera.close().events]


@pytest.mark.parametrize("scores", [SHIPPED, STRICTER])
@pytest.mark.parametrize("clip", CLIPS)
def test_every_line_and_direction_is_exact(shared: Path, clip: str, scores: dict[str, float]) -> None:
    truth = truth_of(shared, clip)
    x0, y0, x1, y1 = truth["line_x0y0x1y1"]
    # The truth's "positive" (down; left for an upright line drawn downwards) is the right hand walking A -> B.
    line = LineRule("line", ((x0, y0), (x1, y1)), classes=(truth["classes"],), anchor="center")
    events = analyse(shared, clip, CameraRules("gate", lines=(line,), tracker=scores))
    told = [e.data["direction"] for e in events if e.type == LINE_CROSSED]
    assert {"right": told.count("right"), "left": told.count("left")} == {
        "right": truth["count_positive"],
        "left": truth["count_negative"],
    }


@pytest.mark.parametrize("scores", [SHIPPED, STRICTER])
def test_six_persons_dwell_as_long_as_they_were_there(shared: Path, scores: dict[str, float]) -> None:
    clip = "indoor_one_by_one_person.mp4"
    truth = truth_of(shared, clip)
    room = ZoneRule("room", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), classes=("person",))
    events = analyse(shared, clip, CameraRules("gate", zones=(room,), tracker=scores))
    stays = [e.data["dwell_s"] for e in events if e.type == ZONE_EXITED]
    expected = [(last - first) / truth["fps"] for first, last in truth["presence_frames"]]
    assert stays == [pytest.approx(one, abs=1.5) for one in expected]
