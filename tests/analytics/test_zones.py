from __future__ import annotations

import random

import pytest

from pipeline.core.events import (
    DIRECTION_WRONG,
    VEHICLE_STOPPED,
    ZONE_CROWDED,
    ZONE_DWELLED,
    ZONE_ENTERED,
    ZONE_EXITED,
    rfc3339,
)
from pipeline.core.rules import CameraRules, ZoneRule
from tests.analytics.walks import START_US, Player, Seen, car, instants, of_type, person, play

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))  # x 160..480, y 90..270
EVERYWHERE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def rules(**more: object) -> CameraRules:
    return CameraRules("gate", zones=(ZoneRule("plaza", SQUARE, **more),))  # type: ignore[arg-type]


def told(events: list, *types: str) -> list[str]:
    return [e.type.split(".")[-2] for e in events if e.type in types]


STAYS = (ZONE_ENTERED, ZONE_DWELLED, ZONE_EXITED)


@pytest.mark.parametrize("fps", [25, 8, 5])
def test_walking_through_enters_dwells_and_exits(fps: float) -> None:
    events = play(rules(dwell_s=5), lambda t: [person(100 + 40 * t, 200)] if t < 12 else [], instants(15, fps))
    assert told(events, *STAYS) == ["entered", "dwelled", "exited"]
    entered, dwelled, exited = (e for e in events if e.type in STAYS)
    assert exited.data["dwell_s"] == pytest.approx(8.0, abs=0.01)
    assert (entered.time_us - START_US) / 1e6 == pytest.approx(1.5, abs=0.01)
    assert (dwelled.time_us - START_US) / 1e6 == pytest.approx(6.5, abs=0.01)
    assert exited.data["entered_at"] == entered.data.get("entered_at", rfc3339(entered.time_us))
    assert dwelled.data["dwell_s"] == pytest.approx(5.0)


@pytest.mark.parametrize("fps", [25, 8, 5])
def test_gaps_and_flicker_do_not_split_a_stay(fps: float) -> None:
    rng = random.Random(1)

    def scene(t: float) -> list[Seen]:
        if 3 < t < 4.2 or not 1 <= t <= 9:
            return []
        x = 162 if 5 < t < 7 else 200  # on the very border for two seconds
        return [person(x + rng.uniform(-4, 4), 200)]

    events = play(rules(), scene, instants(14, fps))
    assert told(events, *STAYS) == ["entered", "exited"]
    assert of_type(events, ZONE_EXITED)[0].data["dwell_s"] == pytest.approx(8.0, abs=1.5 / fps)


def test_a_stay_that_ends_inside_ends_where_it_was_last_seen() -> None:
    player = Player(rules())
    for t in instants(9, 8):
        player.show(t, [person(300, 200)] if t <= 5 else [])
    (exited,) = of_type(player.events, ZONE_EXITED)
    assert exited.data["dwell_s"] == pytest.approx(5.0)
    assert exited.time_us == START_US + 5_000_000
    assert not player.camera.zones[0].stays


def test_a_stay_open_at_the_end_of_the_stream_is_closed() -> None:
    events = play(rules(), lambda t: [person(300, 200)], instants(5, 8))
    assert [e.data["dwell_s"] for e in of_type(events, ZONE_EXITED)] == [5.0]


def test_leaving_and_coming_back_are_two_stays() -> None:
    def scene(t: float) -> list[Seen]:
        return [person(300 if t < 4 or t > 10 else 300 + 90 * min(t - 4, 10 - t), 200)]

    events = play(rules(dwell_s=2), scene, instants(14, 8))
    assert told(events, *STAYS) == ["entered", "dwelled", "exited"] * 2


def test_a_zone_over_the_whole_picture_holds_boxes_cut_at_its_edge() -> None:
    whole = CameraRules("gate", zones=(ZoneRule("all", EVERYWHERE),))
    events = play(whole, lambda t: [("person", (300.0, 200.0, 340.0, 360.0), 0.9)], instants(5, 8))
    assert told(events, *STAYS) == ["entered", "exited"]


def test_only_the_zones_classes_count() -> None:
    events = play(rules(classes=("vehicle",)), lambda t: [person(300, 200), car(400, 200)], instants(4, 8))
    assert {e.data["class_id"] for e in of_type(events, ZONE_ENTERED)} == {"car"}


def test_crowded_starts_and_ends_once_though_the_number_flickers() -> None:
    def scene(t: float) -> list[Seen]:
        people = 3 if 4 <= t < 12 else 2
        if 6 < t < 6.3:
            people = 2
        return [person(220 + 80 * i, 200) for i in range(people)]

    events = of_type(play(rules(crowded_at=3), scene, instants(18, 8)), ZONE_CROWDED)
    assert [(e.data["phase"], e.data["occupancy"]) for e in events] == [("start", 3), ("end", 2)]
    started, ended = ((e.time_us - START_US) / 1e6 for e in events)
    assert started == pytest.approx(4.5, abs=0.5)
    assert ended == pytest.approx(12.5, abs=0.5)


def test_a_crowd_ends_with_the_stream() -> None:
    events = play(rules(crowded_at=2), lambda t: [person(250, 200), person(350, 200)], instants(5, 8))
    assert [e.data["phase"] for e in of_type(events, ZONE_CROWDED)] == ["start", "end"]


@pytest.mark.parametrize("fps", [25, 8, 5])
def test_a_stopped_vehicle_is_told_once_a_stop_jitter_or_not(fps: float) -> None:
    rng = random.Random(2)

    def scene(t: float) -> list[Seen]:
        x = 100 + 60 * min(t, 3) + 60 * max(min(t - 20, 2), 0)  # stands from 3 to 20 s, and again from 22 s
        return [car(x + rng.uniform(-4, 4), 220 + rng.uniform(-3, 3))]

    events = of_type(play(rules(stopped_s=5, classes=("vehicle",)), scene, instants(30, fps)), VEHICLE_STOPPED)
    assert [(e.time_us - START_US) / 1e6 for e in events] == [pytest.approx(8, abs=1), pytest.approx(27, abs=1)]
    assert all(e.data["stopped_s"] == pytest.approx(5.0) for e in events)


def test_a_creeping_vehicle_and_a_standing_person_are_no_stopped_vehicles() -> None:
    events = play(rules(stopped_s=5), lambda t: [car(200 + 8 * t, 200), person(400, 250)], instants(25, 8))
    assert of_type(events, VEHICLE_STOPPED) == []


def test_moving_against_the_direction_is_told_once() -> None:
    zone = rules(direction=(1.0, 0.0), classes=("vehicle",))
    back = play(zone, lambda t: [car(420 - 40 * t, 200)], instants(6, 8))
    (wrong,) = of_type(back, DIRECTION_WRONG)
    assert (wrong.data["zone"], wrong.data["line"]) == ("plaza", None)
    for scene in (
        lambda t: [car(200 + 40 * t, 200)],
        lambda t: [car(300, 130 + 20 * t)],  # across
        lambda t: [car(300 + 8 * (round(t * 8) % 2), 200)],  # jitters in place
    ):
        assert of_type(play(zone, scene, instants(6, 8)), DIRECTION_WRONG) == []
