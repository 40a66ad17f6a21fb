from __future__ import annotations

import math
import random

import pytest

from pipeline.core.events import COUNT_WINDOW, DIRECTION_WRONG, LINE_CROSSED
from pipeline.core.rules import CameraRules, LineRule
from tests.analytics.walks import START_US, Player, car, crossings, instants, of_type, person, play

STREET = LineRule("street", ((0.1, 0.5), (0.9, 0.5)))  # y = 180 of 360, x 64..576 of 640; right is down
RULES = CameraRules("gate", lines=(STREET,))
RATES = (25, 12, 8, 5)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize(("start", "speed", "want"), [(100, 40, "right"), (260, -40, "left")])
def test_a_walker_counts_once_on_the_side_it_went_to(fps: float, start: float, speed: float, want: str) -> None:
    events = play(RULES, lambda t: [person(300, start + speed * t)], instants(4, fps))
    assert crossings(events) == [("street", want)]
    (event,) = of_type(events, LINE_CROSSED)
    crossed_s = (180 - start) / speed
    assert (event.time_us - START_US) / 1e6 == pytest.approx(crossed_s, abs=0.02), "interpolated between frames"
    frames = event.data["provenance"]["frames"]
    assert frames[0] / fps <= crossed_s <= frames[1] / fps


@pytest.mark.parametrize("fps", RATES)
def test_waiting_on_the_line_with_jitter_counts_once_when_it_goes_on(fps: float) -> None:
    rng = random.Random(3)

    def scene(t: float) -> list:
        y = 100 + 40 * t if t < 2 else 180 if t < 32 else 180 + 40 * (t - 32)
        return [person(300 + rng.uniform(-3, 3), y + rng.uniform(-4, 4))]

    events = play(RULES, scene, instants(35, fps))
    assert crossings(events) == [("street", "right")]
    assert len({e.data["track_id"] for e in of_type(events, LINE_CROSSED)}) == 1


@pytest.mark.parametrize("fps", RATES)
def test_waiting_on_the_line_with_jitter_and_turning_back_counts_nothing(fps: float) -> None:
    rng = random.Random(4)

    def scene(t: float) -> list:
        y = 100 + 40 * t if t < 2 else 180 if t < 20 else 180 - 40 * (t - 20)
        return [person(300, y + rng.uniform(-4, 4))]

    assert crossings(play(RULES, scene, instants(23, fps))) == []


@pytest.mark.parametrize("fps", RATES)
def test_a_box_that_flickers_over_the_line_counts_in_neither_direction(fps: float) -> None:
    step = 1 / fps

    def scene(t: float) -> list:
        y = 100 + 40 * t
        flickers = abs(t - 1.2) < step / 2 or abs(t - 3.2) < step / 2  # before it crosses, and after
        return [person(300, 360 - y if flickers else y)]

    assert crossings(play(RULES, scene, instants(5, fps))) == [("street", "right")]


@pytest.mark.parametrize("fps", RATES)
def test_there_and_back_counts_one_each(fps: float) -> None:
    events = play(RULES, lambda t: [person(300, 180 - 70 * math.cos(t))], instants(2 * math.pi, fps))
    assert crossings(events) == [("street", "right"), ("street", "left")]


@pytest.mark.parametrize("fps", RATES)
def test_going_round_the_end_of_the_line_counts_nothing(fps: float) -> None:
    def scene(t: float) -> list:  # a half circle round B = (576, 180), then back to the middle of the far side
        angle = math.pi / 2 - min(t, 4.0) / 4 * math.pi
        return [person(576 + 40 * math.cos(angle) - 30 * max(t - 4, 0), 180 - 40 * math.sin(angle))]

    assert crossings(play(RULES, scene, instants(7, fps))) == []


def test_first_seen_beyond_the_line_counts_nothing() -> None:
    assert crossings(play(RULES, lambda t: [person(300, 183 + 40 * t)], instants(3, 8))) == []


@pytest.mark.parametrize("fps", [8, 5])
def test_a_fast_car_that_jumps_the_whole_line_between_two_frames_counts(fps: float) -> None:
    upright = CameraRules("gate", lines=(LineRule("gate", ((0.5, 1.0), (0.5, 0.0))),))
    events = play(upright, lambda t: [car(20 + 600 * t, 300)] if t < 1.05 else [], instants(4, fps))
    assert crossings(events) == [("gate", "right")]


def test_a_crossing_before_the_track_is_confirmed_is_not_missed() -> None:
    # Seen at 170, 185, 200 ... : over the line between its first and its second frame.
    events = play(RULES, lambda t: [person(300, 170 + 120 * t)] if t < 1.2 else [], instants(3, 8))
    assert crossings(events) == [("street", "right")]


def test_what_is_never_confirmed_never_counts() -> None:
    player = Player(RULES)
    for t in instants(20, 8):  # a flash of two frames, every second
        player.show(t, [person(300, 150 + 500 * (t % 1))] if t % 1 < 0.13 else [])
    assert crossings(player.close()) == []


def test_a_track_that_ends_just_over_the_line_counts_and_one_that_ends_on_it_does_not() -> None:
    over = play(RULES, lambda t: [person(300, 100 + 40 * t)] if t < 2.15 else [], instants(6, 8))
    assert crossings(over) == [("street", "right")]
    on = play(RULES, lambda t: [person(300, 100 + 40 * t)] if t < 2.01 else [], instants(6, 8))
    assert crossings(on) == []


def test_standing_just_over_the_line_counts_after_a_while() -> None:
    player = Player(RULES)
    for t in instants(9, 8):
        player.show(t, [person(300, min(100 + 40 * t, 185))])
    assert crossings(player.events) == [("street", "right")]


def test_classes_and_anchor_are_the_lines_own() -> None:
    rules = CameraRules(
        "gate",
        lines=(
            LineRule("cars", ((0.0, 0.5), (1.0, 0.5)), classes=("vehicle",), anchor="center"),
            LineRule("trucks", ((0.0, 0.5), (1.0, 0.5)), classes=("truck",)),
            LineRule("people", ((1.0, 0.5), (0.0, 0.5)), classes=("person",), anchor="top_center"),
        ),
    )
    events = play(rules, lambda t: [person(100, 160 + 40 * t), car(400, 160 + 40 * t)], instants(5, 8))
    assert sorted(crossings(events)) == [("cars", "right"), ("people", "left")]
    at = {e.data["line"]: (e.time_us - START_US) / 1e6 for e in of_type(events, LINE_CROSSED)}
    assert at["cars"] == pytest.approx((180 + 25 - 160) / 40, abs=0.01)
    assert at["people"] == pytest.approx((180 + 80 - 160) / 40, abs=0.01)


def test_the_wrong_way_is_an_event_of_its_own() -> None:
    rules = CameraRules("gate", lines=(LineRule("street", STREET.points, wrong_way="left"),))
    events = play(rules, lambda t: [person(200, 100 + 40 * t), person(400, 260 - 40 * t)], instants(4, 8))
    (wrong,) = of_type(events, DIRECTION_WRONG)
    assert (wrong.data["line"], wrong.data["zone"]) == ("street", None)
    left = next(e for e in of_type(events, LINE_CROSSED) if e.data["direction"] == "left")
    assert (wrong.data["track_id"], wrong.time_us) == (left.data["track_id"], left.time_us)


def test_many_at_once_each_count() -> None:
    events = play(RULES, lambda t: [person(100 + 45 * i, 100 + 40 * t + i) for i in range(10)], instants(4, 8))
    assert crossings(events) == [("street", "right")] * 10
    assert of_type(events, COUNT_WINDOW)[-1].data["totals"]["street"]["person"] == {"left": 0, "right": 10}


def test_the_memory_of_a_line_empties() -> None:
    player = Player(RULES)
    for t in instants(4, 8):
        player.show(t, [person(300, 100 + 40 * t)])
    assert player.camera.lines[0].passing
    for t in (6.0, 8.0):
        player.show(t, [])
    assert not player.camera.lines[0].passing
