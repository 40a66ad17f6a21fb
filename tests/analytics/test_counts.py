from __future__ import annotations

import pytest

from pipeline.core.events import COUNT_WINDOW, LINE_CROSSED, Event, rfc3339
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from tests.analytics.walks import START_US, Player, car, instants, of_type, person

RULES = CameraRules(
    "gate",
    lines=(LineRule("street", ((0.0, 0.5), (1.0, 0.5))), LineRule("bikes", ((0, 0.2), (1, 0.2)), classes=("bicycle",))),
    zones=(ZoneRule("left_half", ((0, 0), (0.5, 0), (0.5, 1), (0, 1))),),
    count_window_s=4.0,
)


def windows(events: list[Event]) -> list[dict]:
    return [dict(e.data) for e in of_type(events, COUNT_WINDOW)]


def test_a_file_is_cut_from_its_first_frame_and_the_last_window_is_partial() -> None:
    player = Player(RULES)
    for t in instants(10, 8):
        player.show(3.3 + t, [])
    seen = windows(player.close())
    assert [w["starts_at"] for w in seen] == [rfc3339(START_US + round((3.3 + s) * 1e6)) for s in (0, 4, 8)]
    assert [w["coverage"] for w in seen] == [1.0, 1.0, 0.5]


def test_a_live_source_is_cut_at_multiples_of_utc() -> None:
    player = Player(RULES, time_source="wall")
    for t in instants(6, 8):
        player.show(3.0 + t, [])
    seen = windows(player.close())
    offset = START_US // 1_000_000 % 4
    assert offset == 0, "the start is a multiple itself, so 3.0 s lies one second before the end of a span"
    assert [w["starts_at"] for w in seen] == [rfc3339(START_US + s * 1_000_000) for s in (0, 4, 8)]
    assert [w["coverage"] for w in seen] == [0.25, 1.0, 0.25]


def test_a_camera_that_sees_nobody_says_zero() -> None:
    player = Player(RULES)
    for t in instants(4, 8):
        player.show(t, [])
    first = windows(player.close())[0]
    zero = {"occupancy_mean": 0.0, "occupancy_max": 0}
    assert first["groups"] == {"person": zero, "vehicle": zero}
    assert first["classes"] == dict.fromkeys(("bicycle", "bus", "car", "motorcycle", "person", "truck"), zero)
    assert first["zones"] == {"left_half": {"person": zero, "vehicle": zero}}
    none = {"left": 0, "right": 0}
    assert first["lines"] == first["totals"] == {
        "street": {"person": none, "vehicle": none}, "bikes": {"bicycle": none}
    }  # fmt: skip


def test_occupancy_is_weighted_by_time_not_by_frames() -> None:
    player = Player(RULES)
    times = [
        0,
        0.125,
        0.25,
        0.375,
        0.5,
        *(0.5 + 0.02 * i for i in range(1, 76)),
        *(2.125 + 0.125 * i for i in range(30)),
    ]
    for t in times:  # one person throughout; a second one, on the right, only in the densely sampled 1.5 s
        player.show(t, [person(100, 200), *([person(500, 200)] if 0.5 <= t <= 2 else [])])
    first = windows(player.close())[0]
    # Present from its confirmation (0.18 s after 0.5 s) until it is no longer taken to be there (0.3 s after 2 s).
    assert first["groups"]["person"]["occupancy_mean"] == pytest.approx((4 - 0.25 + 2.25 - 0.68) / 4, abs=0.05)
    assert first["groups"]["person"]["occupancy_max"] == 2
    assert first["zones"]["left_half"]["person"]["occupancy_max"] == 1


def test_unobserved_time_lowers_coverage_and_counts_for_nothing() -> None:
    player = Player(RULES)
    for t in [*instants(1, 8), *(3 + t for t in instants(2, 8))]:
        player.show(t, [person(100, 200)])
    first, last = windows(player.close())
    assert first["coverage"] == pytest.approx(0.5)
    assert last["coverage"] == pytest.approx(0.25)
    # Seen from 0.25 s on in the first second, and again confirmed within the third's first quarter.
    assert first["groups"]["person"]["occupancy_mean"] >= 0.75


def test_a_slow_source_is_observed_all_the_same() -> None:
    player = Player(RULES)
    for t in instants(12, 1.5):
        player.show(t, [])
    assert [w["coverage"] for w in windows(player.close())[1:3]] == [1.0, 1.0]


def test_spans_without_a_frame_are_not_told() -> None:
    player = Player(RULES)
    for t in (0, 0.1, 0.2, 21, 21.1):
        player.show(t, [])
    assert [w["starts_at"] for w in windows(player.close())] == [rfc3339(START_US), rfc3339(START_US + 20_000_000)]


def test_crossings_add_up_to_totals_over_epochs_and_windows_agree_with_the_events() -> None:
    player = Player(RULES)
    for epoch in (0, 1):
        player.epoch, player.index = epoch, 0
        for t in instants(9, 8):
            walkers = [person(100 + 60 * k, 100 + 40 * (t - k)) for k in range(6) if -2 < t - k < 5]
            player.show(20 * epoch + t, [*walkers, car(500, 260 - 40 * t)])
    events = player.close()
    crossed = of_type(events, LINE_CROSSED)
    assert len(crossed) == 14
    assert windows(events)[-1]["totals"]["street"] == {
        "person": {"left": 0, "right": 12}, "vehicle": {"left": 2, "right": 0}
    }  # fmt: skip
    assert {w["totals_since"] for w in windows(events)} == {rfc3339(START_US)}
    for w in windows(events):
        inside = [
            e for e in crossed if e.data["epoch"] == w["epoch"] and w["starts_at"] <= rfc3339(e.time_us) < w["ends_at"]
        ]
        told = sum(c["left"] + c["right"] for c in w["lines"]["street"].values())
        assert told == len(inside)


def test_totals_can_begin_again() -> None:
    player = Player(RULES)
    for t in instants(4, 8):
        player.show(t, [person(100, 100 + 40 * t)])
    player.camera.reset_totals(START_US + 4_000_000)
    for t in instants(4, 8):
        player.show(5 + t, [person(300, 100 + 40 * t)])
    last = windows(player.close())[-1]
    assert last["totals"]["street"]["person"] == {"left": 0, "right": 1}
    assert last["totals_since"] == rfc3339(START_US + 4_000_000)
