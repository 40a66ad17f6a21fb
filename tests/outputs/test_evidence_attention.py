"""What a scene event's evidence shows: where the model looked, and at which frames most."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.events import LINE_CROSSED, SCENE_EVENT, Event
from pipeline.core.frame import Picture
from pipeline.outputs import drawing
from pipeline.outputs.evidence import EvidencePainter, SeenFrame, attention_of, box_of

FRAMES = list(range(40, 56))
ATTENTION = [0.02] * 10 + [0.1, 0.3, 0.2, 0.1, 0.05, 0.05]


def event(**changes: object) -> Event:
    data = {
        "camera_id": "gate", "epoch": 1, "kind": "fight", "phase": "start",
        "started_at": "2026-01-01T08:00:00.000000Z", "ended_at": None, "score": 0.93, "attention": ATTENTION,
        "region": {"x_min": 0.25, "y_min": 0.25, "x_max": 0.6, "y_max": 0.67},
        "frame": {"width": 640, "height": 360}, "provenance": {"frames": FRAMES},
    }  # fmt: skip
    return Event("id", SCENE_EVENT, "gate", 1_767_254_400_000_000, data | changes)


def drawn(told: Event, index: int) -> Picture:
    painter = EvidencePainter(told, None, (640, 360))
    picture = np.full((234, 416, 3), 96, np.uint8)
    return painter.draw(SeenFrame(index, 1_767_254_400_000_000, picture, (), index in FRAMES))


def _of(picture: Picture, colour: tuple[int, int, int]) -> np.ndarray:
    return np.all(picture == np.array(colour, np.uint8), axis=2)


def test_attention_is_by_frame_and_only_scene_events_have_it() -> None:
    weights = attention_of(event())
    assert list(weights) == FRAMES
    assert weights[51] == 0.3
    assert attention_of(event(attention=[])) == {}
    assert attention_of(Event("id", LINE_CROSSED, "gate", 0, {"line": "x"})) == {}


def test_the_box_of_a_fall_is_its_region() -> None:
    """So that the track of who fell is found among those that are drawn."""
    assert box_of(event(kind="fall", attention=[], track_id="gate/1/3")) == event().data["region"]
    assert box_of(event()) is None, "where a model looked is nobody's box"
    crossed = {"x_min": 0.1, "y_min": 0.1, "x_max": 0.2, "y_max": 0.2}
    assert box_of(Event("id", LINE_CROSSED, "gate", 0, {"bbox": crossed, "track_id": "gate/1/3"})) == crossed


def test_the_bar_of_the_present_frame_stands_out_and_is_as_high_as_its_attention() -> None:
    heights = {}
    for index in (41, 51, 52):
        red = _of(drawn(event(), index), drawing.ALARM)
        corner = red[red.shape[0] * 3 // 4 :, red.shape[1] * 2 // 3 :]
        rows = np.flatnonzero(corner.any(axis=1))
        heights[index] = int(rows.max() - rows.min() + 1)
    assert heights[51] > heights[52] > heights[41]
    assert heights[52] / heights[51] == pytest.approx(2 / 3, abs=0.05)


def test_the_region_is_drawn_where_the_event_says_and_none_without_one() -> None:
    red = _of(drawn(event(), 30), drawing.ALARM)
    height, width = red.shape
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert (columns.min() / width, columns.max() / width) == (
        pytest.approx(0.25, abs=0.01),
        pytest.approx(0.6, abs=0.01),
    )
    assert (rows.min() / height, rows.max() / height) == (pytest.approx(0.25, abs=0.01), pytest.approx(0.67, abs=0.01))
    whole = event()
    plain = {key: value for key, value in whole.data.items() if key != "region"}
    assert not _of(drawn(Event("id", SCENE_EVENT, "gate", 0, plain), 30), drawing.ALARM).any()
