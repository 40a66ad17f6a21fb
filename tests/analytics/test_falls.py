"""Made boxes of people who fall, and of people who only look as if: sit, bend, squat, go behind things, leave."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.analytics.falls import RULES_MADE_IT
from pipeline.core.events import SCENE_EVENT, Event, microseconds
from pipeline.core.rules import CameraRules, ZoneRule
from tests.analytics.walks import PROVENANCE, START_US, Player, Seen, box, instants, of_type, person

RULES = CameraRules("gate", falls=True, sees_lying=True)
BED = ZoneRule("bed", ((0.8, 0.1), (1.0, 0.1), (1.0, 0.4)), falls=True)
FLOOR = ZoneRule("floor", ((0.0, 0.5), (0.7, 0.5), (0.7, 1.0), (0.0, 1.0)), falls=True)
X, GROUND, TALL, WIDE = 300.0, 280.0, 120.0, 42.0
FALLS_S, LIES_S = 3.0, 3.6  # begins to fall, lies
Shape = tuple[float, float, float, float]
"""x, bottom, width, height of a box."""
STANDS: Shape = (X, GROUND, WIDE, TALL)
LIES: Shape = (X + 25, GROUND + 4, 125.0, 38.0)


def body(shape: Shape, score: float = 0.8) -> Seen:
    return ("person", box(*shape), score)


def between(first: Shape, second: Shape, share: float) -> Shape:
    """The shape on the way from the one to the other, 0..1."""
    part = min(max(share, 0.0), 1.0)
    x, bottom, width, height = (a + part * (b - a) for a, b in zip(first, second, strict=True))
    return x, bottom, width, height


def by(t: float, *stations: tuple[float, Shape]) -> Shape:
    """The shape at ``t``: (time, shape) are its stations, rising."""
    at = stations[0][1]
    for (before_s, before), (after_s, after) in itertools.pairwise(stations):
        if t >= before_s:
            at = between(before, after, (t - before_s) / (after_s - before_s))
    return at


def falling(t: float, lies: Shape = LIES, score: float = 0.3) -> list[Seen]:
    """Stands, falls within 0.6 s, stays down."""
    shape = by(t, (0.0, STANDS), (FALLS_S, STANDS), (LIES_S, lies))
    return [body(shape, 0.8 if t < FALLS_S + 0.3 else score)]


def told(scene: Callable[[float], Sequence[Seen]], *, lasts_s: float = 8.0, fps: float = 8.0) -> list[dict[str, Any]]:
    """The data of the falls of a scene, after the stream has ended."""
    player = Player(RULES)
    for t in instants(lasts_s, fps):
        player.show(t, scene(t))
    return [event.data for event in of_type(player.close(), SCENE_EVENT)]


def seconds(time: str) -> float:
    """Since the start of the stream."""
    return (microseconds(time) - START_US) / 1e6


@pytest.mark.parametrize("fps", [5, 8, 15, 30])
def test_a_fall_is_told_of_once(fps: float) -> None:
    start, end = told(falling, fps=fps)
    assert (start["kind"], start["phase"], end["phase"]) == ("fall", "start", "end")
    assert seconds(start["started_at"]) == pytest.approx(FALLS_S, abs=0.3)
    assert start["ended_at"] is None
    assert start["track_id"] == end["track_id"] == "gate/0/1"
    assert start["zone"] is None
    assert start["attention"] == []
    assert start["score"] == pytest.approx(0.71, abs=0.05)
    x_min, y_min, x_max, y_max = box(*LIES)
    assert start["region"] == pytest.approx(
        {"x_min": x_min / 640, "y_min": y_min / 360, "x_max": x_max / 640, "y_max": y_max / 360}, abs=0.02
    )
    first, last = start["provenance"]["frames"]
    assert FALLS_S - 0.3 <= first / fps <= FALLS_S + 0.3 < last / fps <= 6.0
    assert {key: start["provenance"][key] for key in RULES_MADE_IT} == dict(RULES_MADE_IT)


def test_it_is_told_within_two_and_a_half_seconds() -> None:
    player = Player(RULES)
    for t in instants(8, 8):
        player.show(t, falling(t))
    [start, *_] = of_type(player.events, SCENE_EVENT)
    assert FALLS_S + 1.5 <= (start.time_us - START_US) / 1e6 <= FALLS_S + 2.5


def test_who_is_lost_after_the_drop_has_fallen_too() -> None:
    """Detectors lose people who lie."""
    start, end = told(lambda t: falling(t) if t < LIES_S else [])
    assert start["phase"], end["phase"] == ("start", "end")
    assert seconds(start["started_at"]) == pytest.approx(FALLS_S, abs=0.3)


ON_THE_BED: Shape = (X - 10, GROUND - 30, 120.0, 40.0)


def lands_on_a_bed(t: float) -> list[Seen]:
    """Falls over backwards, feet up, unseen for a second and a half; then lies, higher than where he stood."""
    if t < FALLS_S + 0.2:
        return [body(STANDS)]
    return [body(ON_THE_BED, 0.2)] if t > FALLS_S + 1.6 and int(t * 10 + 0.01) % 3 else []


@pytest.mark.parametrize("fps", [5, 8, 15])
def test_who_stood_and_then_lies_has_fallen_whatever_was_seen_between(fps: float) -> None:
    start, _ = told(lands_on_a_bed, fps=fps)
    assert seconds(start["started_at"]) == pytest.approx(FALLS_S, abs=0.3)
    x_min, y_min, x_max, y_max = box(*ON_THE_BED)
    assert start["region"] == pytest.approx(
        {"x_min": x_min / 640, "y_min": y_min / 360, "x_max": x_max / 640, "y_max": y_max / 360}, abs=0.02
    )


def test_who_is_found_only_after_a_while_has_fallen() -> None:
    """Known for too short a time to have fallen where he is lost; but there he lies."""

    def scene(t: float) -> list[Seen]:
        if t < FALLS_S - 0.8:
            return []
        return [*falling(t)] if t < LIES_S or t > LIES_S + 1.4 else []

    assert [data["phase"] for data in told(scene, lasts_s=10)] == ["start", "end"]
    assert told(lambda t: scene(t) if t < LIES_S else []) == []


@pytest.mark.parametrize("scene", [lands_on_a_bed, falling])
def test_what_is_flat_is_a_sign_only_where_the_detector_was_taught_people_who_lie(
    scene: Callable[[float], list[Seen]],
) -> None:
    player = Player(CameraRules("gate", falls=True))
    for t in instants(8, 8):
        player.show(t, scene(t))
    assert bool(of_type(player.close(), SCENE_EVENT)) == (scene is falling)


def test_what_was_flat_before_is_furniture() -> None:
    """A bench that the detector takes for a person now and then; somebody stood before it, and is gone."""
    bench = body((X + 20, GROUND - 4, 110.0, 40.0), 0.2)

    def scene(t: float) -> list[Seen]:
        blinks = [bench] if t < 1 or t > FALLS_S + 0.8 else []
        return [*blinks, body(STANDS)] if t < FALLS_S else blinks

    assert told(scene) == []
    assert told(lambda t: scene(t) if t > 1 else [body(STANDS)]), "a bench that is new is a person"


def test_what_is_flat_and_moves_is_not_kept_for_ever() -> None:
    """A camera high above people who walk sees flat boxes everywhere."""
    player = Player(RULES)
    sizes = []
    for n, t in enumerate(instants(30, 8)):
        player.show(t, [body((60.0 + (n * 37) % 500, 60.0 + (n * 53) % 280, 70.0, 30.0), 0.2)])
        sizes.append(len(player.camera.snapshot()))
    assert max(sizes[120:]) < 1.1 * max(sizes[60:120])


def test_seen_now_and_then_is_enough() -> None:
    assert told(lambda t: falling(t, score=0.15) if t < LIES_S or round(t * 8) % 3 == 0 else [])


def test_it_ends_when_he_stands_again() -> None:
    def scene(t: float) -> list[Seen]:
        return falling(t) if t < 9 else [body(by(t, (9.0, LIES), (10.0, STANDS)))]

    start, end = told(scene, lasts_s=14)
    assert start["phase"], end["phase"] == ("start", "end")
    assert seconds(end["ended_at"]) == pytest.approx(10.0, abs=0.3)


def test_it_ends_ten_seconds_after_he_was_seen_last() -> None:
    player = Player(RULES)
    for t in instants(25, 8):
        player.show(t, falling(t) if t < 8 else [])
    start, end = of_type(player.events, SCENE_EVENT)
    assert start.data["phase"], end.data["phase"] == ("start", "end")
    assert seconds(end.data["ended_at"]) == pytest.approx(7.875, abs=0.01)
    assert (end.time_us - START_US) / 1e6 == pytest.approx(18, abs=0.3)


def test_while_he_lies_it_is_told_again() -> None:
    phases = [data["phase"] for data in told(falling, lasts_s=30)]
    assert phases == ["start", "update", "update", "end"]


def test_two_who_fall_at_once_are_two() -> None:
    def scene(t: float) -> list[Seen]:
        [(_, (x_min, y_min, x_max, y_max), score)] = falling(t)
        return [*falling(t), ("person", (x_min - 220, y_min, x_max - 220, y_max), score)]

    player = Player(RULES)
    for t in instants(8, 8):
        player.show(t, scene(t))
    events = of_type(player.close(), SCENE_EVENT)
    assert [event.data["phase"] for event in events] == ["start", "start", "end", "end"]
    assert len({event.id for event in events}) == 4
    assert {event.data["track_id"] for event in events} == {"gate/0/1", "gate/0/2"}


def test_falling_again_after_getting_up_is_told_of_again() -> None:
    def scene(t: float) -> list[Seen]:
        if t < 8:
            return falling(t)
        return [body(by(t, (8.0, LIES), (9.0, STANDS), (12.0, STANDS), (12.6, LIES)), 0.5)]

    assert [data["phase"] for data in told(scene, lasts_s=17)] == ["start", "end", "start", "end"]


def test_the_picture_may_change_its_size_in_the_middle() -> None:
    player = Player(RULES)
    for t in instants(8, 8):
        if t > FALLS_S + 0.2:
            player.size = (1280, 720)
        scale = 2 if t > FALLS_S + 0.2 else 1
        player.show(t, [(name, tuple(scale * side for side in sides), score) for name, sides, score in falling(t)])  # type: ignore[misc]
    start, _ = of_type(player.close(), SCENE_EVENT)
    assert start.data["region"]["y_min"] == pytest.approx((LIES[1] - LIES[3]) / 360, abs=0.02)


# -- what is no fall

SEATED: Shape = (X, GROUND, 55.0, 82.0)  # the head a third of the height lower
BENT: Shape = (X + 10, GROUND, 70.0, 65.0)
SQUAT: Shape = (X, GROUND, 50.0, 66.0)


def sits_down(t: float) -> list[Seen]:
    return [body(by(t, (0.0, STANDS), (3.0, STANDS), (3.8, SEATED)))]


def bends_and_rises(t: float) -> list[Seen]:
    return [body(by(t, (0.0, STANDS), (3.0, STANDS), (3.5, BENT), (4.2, BENT), (4.8, STANDS)))]


def squats(t: float) -> list[Seen]:
    """Before a low shelf: quickly down, narrow, for long."""
    return [body(by(t, (0.0, STANDS), (3.0, STANDS), (3.7, SQUAT)))]


def lies_down_slowly(t: float) -> list[Seen]:
    return [body(by(t, (0.0, STANDS), (3.0, STANDS), (4.5, SEATED), (6.0, SEATED), (7.5, LIES)))]


def goes_behind_a_shelf(t: float) -> list[Seen]:
    """The bottom of the box rises to the shelf's top, then he is gone."""
    x = 150 + 50 * t
    hidden = min(max((x - X) / 40, 0.0), 1.0)
    return [body((x, GROUND - 90 * hidden, WIDE, TALL - 90 * hidden))] if hidden < 1 else []


def is_passed_by_another(t: float) -> list[Seen]:
    """A smaller person passes in front; the box of who stands behind shrinks to what is left of him, then swaps."""
    x = 120 + 60 * t
    other = body((x, GROUND + 25, 40.0, 80.0), 0.9)
    if abs(x - X) < 12:
        return [other]
    return [other, body(STANDS, 0.6)]


def is_taken_for_who_sits_before_him(t: float) -> list[Seen]:
    """Somebody sits right before him; then he is gone behind a door, and his track takes what is left."""
    sitting = body((X + 8, GROUND + 6, 60.0, 55.0), 0.7 if t > 4 or round(t * 8) % 2 else 0.2)
    return [sitting, body(STANDS, 0.8)] if t < 4 else [sitting]


def leaves_to_the_right(t: float) -> list[Seen]:
    """Cut by the edge, only a leg is left of the box."""
    x = 480 + 50 * t
    if x > 655:
        return []
    left = min(max((x - 620) / 25, 0.0), 1.0)
    _, _, _, height = between(STANDS, (0, 0, 0, 35), left)
    return [("person", (x - WIDE / 2, GROUND - height, min(x + WIDE / 2, 640.0), GROUND), 0.7)]


def walks_out_below(t: float) -> list[Seen]:
    """Under a steep camera: the feet leave first, the top follows."""
    bottom = 200 + 55 * t
    top = bottom - TALL
    return [("person", (X - 30, top, X + 30, min(bottom, 360.0)), 0.8)] if top < 350 else []


def walks_towards_the_camera(t: float) -> list[Seen]:
    return [body((X, 130 + 40 * min(t, 5), 20 + 10 * min(t, 5), 60 + 30 * min(t, 5)))]


def flickers(t: float) -> list[Seen]:
    return [body(LIES if 3.0 < t < 3.3 else STANDS)]


def is_far_away(t: float) -> list[Seen]:
    return [body((x, bottom, width / 3, height / 3), 0.8) for x, bottom, width, height in [_shape(t)]]


def _shape(t: float) -> Shape:
    return by(t, (0.0, STANDS), (FALLS_S, STANDS), (LIES_S, LIES))


def is_down_from_the_beginning(t: float) -> list[Seen]:
    return [body(LIES, 0.5)]


def sits_then_lies(t: float) -> list[Seen]:
    """Sat all the time, lies down on the bench behind him."""
    return [body(SEATED)] if t < 3 else [body((X, GROUND - 30, 120.0, 35.0), 0.3)] if t > 4.5 else []


def is_mistaken_once_and_walks_on(t: float) -> list[Seen]:
    """A box that is wrong for a moment, then he himself again, further down the picture and as tall as ever; gone."""
    if 3.0 <= t < 3.25:
        return [body((X, GROUND, 50.0, 66.0))]
    if t < 3.0:
        return [body(STANDS)]
    return [body((X + 20 * (t - 3), GROUND + 50, WIDE, TALL))] if t < 4.2 else []


def leaves_and_another_lies_down_later(t: float) -> list[Seen]:
    return [body(STANDS)] if t < 3 else [body(LIES, 0.4)] if t > 6.5 else []


def walks_behind_who_lies(t: float) -> list[Seen]:
    """Somebody lies there from the beginning; a walker is lost behind him."""
    lying = [body(LIES, 0.6)]
    return [*lying, body((X - 100 + 30 * t, GROUND, WIDE, TALL))] if t < 3 else lying


def vanishes(t: float) -> list[Seen]:
    return [body(STANDS)] if t < 3 else []


NO_FALLS: list[Callable[[float], list[Seen]]] = [
    sits_down, bends_and_rises, squats, lies_down_slowly, goes_behind_a_shelf, is_passed_by_another,
    is_taken_for_who_sits_before_him, leaves_to_the_right, walks_out_below, walks_towards_the_camera, flickers,
    is_far_away, is_down_from_the_beginning, vanishes, sits_then_lies, leaves_and_another_lies_down_later,
    walks_behind_who_lies, is_mistaken_once_and_walks_on,
]  # fmt: skip


@pytest.mark.parametrize("fps", [5, 8, 15])
@pytest.mark.parametrize("scene", NO_FALLS, ids=lambda scene: scene.__name__)
def test_what_is_no_fall(scene: Callable[[float], list[Seen]], fps: float) -> None:
    assert told(scene, lasts_s=10, fps=fps) == []


def test_a_bus_that_drops_is_nobody() -> None:
    assert told(lambda t: [("bus", sides, score) for _, sides, score in falling(t)]) == []


# -- what was asked for


def test_off_unless_asked_for() -> None:
    player = Player(CameraRules("gate", zones=(ZoneRule("floor", FLOOR.points),)))
    for t in instants(8, 8):
        player.show(t, falling(t))
    assert of_type(player.close(), SCENE_EVENT) == []


@pytest.mark.parametrize(
    ("rules", "zone", "falls"),
    [
        (CameraRules("gate", zones=(FLOOR,)), "floor", 1),
        (CameraRules("gate", zones=(FLOOR,), falls=True), "floor", 1),
        (CameraRules("gate", zones=(BED,)), None, 0),
        (CameraRules("gate", zones=(BED,), falls=True), None, 1),
        (CameraRules("gate", zones=(ZoneRule("floor", FLOOR.points),), falls=True), None, 1),
    ],
)  # fmt: skip
def test_only_in_zones_or_everywhere(rules: CameraRules, zone: str | None, falls: int) -> None:
    player = Player(rules)
    for t in instants(8, 8):
        player.show(t, falling(t))
    found = of_type(player.close(), SCENE_EVENT)
    assert len(found) == 2 * falls
    assert all(event.data["zone"] == zone for event in found)


# -- what lasts


def as_bytes(events: list[Event]) -> bytes:
    return json.dumps([event.structured() for event in events]).encode()


def test_restored_after_every_frame_it_goes_on_byte_for_byte() -> None:
    def scene(t: float) -> list[Seen]:
        walker = [person(40 + 60 * t, 330), *([body((520.0, 120.0, 90.0, 30.0), 0.2)] if t < 1 else [])]
        return walker + (falling(t) if t < 16 else [body(by(t, (16.0, LIES), (17.0, STANDS)))])

    straight, restored = Player(RULES), Player(RULES)
    for t in instants(19, 8):
        straight.show(t, scene(t))
        restored.show(t, scene(t))
        blob = restored.camera.snapshot()
        assert blob == straight.camera.snapshot()
        restored.camera = CameraAnalytics.restore(RULES, PROVENANCE, blob)
        assert restored.camera.snapshot() == blob
    assert as_bytes(straight.close()) == as_bytes(restored.close())
    assert [event.data["phase"] for event in of_type(straight.events, SCENE_EVENT)] == ["start", "update", "end"]


def test_a_state_of_the_first_rule_is_taken_over() -> None:
    player = Player(RULES)
    for t in instants(LIES_S + 0.5, 8):
        player.show(t, falling(t))
    state = json.loads(player.camera.snapshot())
    falls = state["falls"]
    assert falls["downs"], "nobody is down yet"
    falls.pop("flats", None)
    for key in ("dropped", "there", "looks_us", "flat_us", "first_flat_us"):
        del falls["downs"][0][key]
    for stance in falls["stances"].values():
        del stance["width"]
    player.camera = CameraAnalytics.restore(RULES, PROVENANCE, json.dumps(state).encode())
    for t in instants(8, 8)[round((LIES_S + 0.5) * 8) :]:
        player.show(t, falling(t))
    assert [event.data["phase"] for event in of_type(player.close(), SCENE_EVENT)] == ["start", "end"]


def test_switched_off_meanwhile_it_ends() -> None:
    player = Player(RULES)
    for t in instants(6, 8):
        player.show(t, falling(t))
    player.rules = CameraRules("gate")
    player.camera = CameraAnalytics.restore(player.rules, PROVENANCE, player.camera.snapshot())
    for t in instants(8, 8)[49:]:
        player.show(t, falling(t))
    start, end = of_type(player.events, SCENE_EVENT)
    assert start.data["phase"], end.data["phase"] == ("start", "end")


def test_the_end_of_the_stream_ends_it() -> None:
    player = Player(RULES)
    for t in instants(6, 8):
        player.show(t, falling(t))
    player.tell("ended", 6.2)
    assert [event.data["phase"] for event in of_type(player.events, SCENE_EVENT)] == ["start", "end"]
