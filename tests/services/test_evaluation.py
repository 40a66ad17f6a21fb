"""Scoring against the truth: every kind of mistake is told by its name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.services.evaluation import (
    Counted,
    CountScore,
    Crossing,
    Direction,
    Dwell,
    LineTruth,
    Undirected,
    VideoTruth,
    ZoneTruth,
    directed,
    evaluate,
    match_times,
    score_line,
    score_zone,
)

POINTS = ((0.0, 0.5), (1.0, 0.5))


def at(t_s: float, direction: Direction = "left", class_name: str = "person") -> Crossing:
    return Crossing(t_s, direction, class_name)


def score(
    true: Sequence[Crossing],
    counted: Sequence[Crossing],
    classes: tuple[str, ...] = ("person",),
    tolerance_s: float = 1.5,
) -> dict[tuple[str, str], CountScore]:
    line = LineTruth("kerb", POINTS, classes, crossings=tuple(true))
    return {(each.kind, each.direction): each for each in score_line("gate", line, counted, tolerance_s)}


def mistakes(row: CountScore) -> tuple[int, int, int, int]:
    return row.missed, row.double, row.opposite, row.false


def test_all_right_is_all_zero_and_empty_directions_have_a_row() -> None:
    rows = score([at(1), at(5)], [at(1.4), at(4.2)])
    assert rows["person", "left"] == CountScore("gate", "kerb", "person", "left", 2, 2, 0, 0, 0, 0)
    assert rows["person", "right"] == CountScore("gate", "kerb", "person", "right", 0, 0, 0, 0, 0, 0)


def test_missed() -> None:
    rows = score([at(1), at(5)], [at(5)])
    assert mistakes(rows["person", "left"]) == (1, 0, 0, 0)
    assert rows["person", "left"].error == -1


def test_double() -> None:
    rows = score([at(1), at(9)], [at(0.9), at(1.6), at(9)])
    assert mistakes(rows["person", "left"]) == (0, 1, 0, 0)
    assert rows["person", "left"].error == 1


def test_false_is_where_nothing_crossed() -> None:
    rows = score([at(1)], [at(1), at(20)])
    assert mistakes(rows["person", "left"]) == (0, 0, 0, 1)


def test_opposite_is_a_flicker_the_other_way() -> None:
    rows = score([at(1, "left")], [at(1, "left"), at(1.5, "right")])
    assert mistakes(rows["person", "left"]) == (0, 0, 0, 0)
    assert mistakes(rows["person", "right"]) == (0, 0, 1, 0)


def test_a_wrong_direction_is_one_missed_and_one_opposite() -> None:
    rows = score([at(1, "left")], [at(1, "right")])
    assert mistakes(rows["person", "left"]) == (1, 0, 0, 0)
    assert mistakes(rows["person", "right"]) == (0, 0, 1, 0)


def test_there_and_back_is_two_true_crossings() -> None:
    rows = score([at(1, "left"), at(2, "right")], [at(1.1, "left"), at(2.1, "right")])
    assert all(row.wrong == 0 for row in rows.values())


def test_a_group_that_crosses_at_once_is_matched_one_to_one() -> None:
    four = [at(3.0), at(3.0), at(3.1), at(3.2)]
    assert score(four, [at(3.1), at(3.2), at(3.4), at(3.3)])["person", "left"].wrong == 0
    three = score(four, [at(3.1), at(3.2), at(3.3)])["person", "left"]
    assert mistakes(three) == (1, 0, 0, 0)
    five = score(four, [at(3.0), at(3.1), at(3.2), at(3.3), at(3.4)])["person", "left"]
    assert mistakes(five) == (0, 1, 0, 0)


def test_most_pairs_come_before_nearest_pairs() -> None:
    # Nearest first would join 2.0 with 2.1 and leave 1.0 and 3.4 alone: two mistakes where there is none.
    assert match_times([1.0, 2.0], [2.1, 3.4], 1.5) == [(0, 0), (1, 1)]


def test_the_tolerance_is_kept_to_the_edge() -> None:
    assert match_times([1.0], [2.5], 1.5) == [(0, 0)]
    assert match_times([1.0], [2.5001], 1.5) == []
    assert match_times([1.0], [1.0], 0.0) == [(0, 0)]


def _best(truth: list[float], counted: list[float], tolerance_s: float) -> tuple[int, float]:
    """The most pairs and the least distance, by trying everything."""
    best = (0, 0.0)
    for size in range(1, min(len(truth), len(counted)) + 1):
        for mine in itertools.combinations(range(len(truth)), size):
            for theirs in itertools.permutations(range(len(counted)), size):
                apart = [abs(truth[a] - counted[b]) for a, b in zip(mine, theirs, strict=True)]
                if max(apart) <= tolerance_s and (-size, sum(apart)) < (-best[0], best[1]):
                    best = (size, sum(apart))
    return best


times = st.lists(st.integers(0, 60).map(lambda tenths: tenths / 10), max_size=5).map(sorted)


@settings(max_examples=60, deadline=None)
@given(truth=times, counted=times, tolerance_s=st.sampled_from([0.0, 0.3, 1.5]))
def test_matching_is_optimal(truth: list[float], counted: list[float], tolerance_s: float) -> None:
    pairs = match_times(truth, counted, tolerance_s)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    apart = [abs(truth[a] - counted[b]) for a, b in pairs]
    assert all(each <= tolerance_s for each in apart)
    size, distance = _best(truth, counted, tolerance_s)
    assert len(pairs) == size
    assert sum(apart) == pytest.approx(distance)


@settings(max_examples=60, deadline=None)
@given(
    truth=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=12),
    counted=st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=12),
)
def test_every_crossing_is_in_exactly_one_column(
    truth: list[tuple[int, bool]], counted: list[tuple[int, bool]]
) -> None:
    def crossings(told: list[tuple[int, bool]]) -> list[Crossing]:
        return [at(t / 10, "left" if left else "right") for t, left in told]

    for row in score(crossings(truth), crossings(counted)).values():
        matched = row.truth - row.missed
        assert matched >= 0
        assert row.counted == matched + row.double + row.opposite + row.false
        assert row.truth == sum((row.direction == "left") == left for _, left in truth)
        assert row.counted == sum((row.direction == "left") == left for _, left in counted)


def test_long_runs_are_matched_quickly() -> None:
    truth = [10.0 * n for n in range(20_000)]
    pairs = match_times(truth, [t + 0.5 for t in truth], 1.5)
    assert len(pairs) == 20_000
    assert all(a == b for a, b in pairs)


def test_classes_the_truth_does_not_speak_of_are_not_judged() -> None:
    rows = score([at(1, class_name="vehicle")], [at(1, class_name="truck"), at(1, class_name="person")], ("vehicle",))
    assert set(rows) == {("vehicle", "left"), ("vehicle", "right")}
    assert rows["vehicle", "left"].wrong == 0


def test_kinds_are_not_mixed() -> None:
    rows = score([at(1, class_name="person")], [at(1, class_name="car")], ("person", "vehicle", "bicycle"))
    assert mistakes(rows["person", "left"]) == (1, 0, 0, 0)
    assert mistakes(rows["vehicle", "left"]) == (0, 0, 0, 1)
    assert mistakes(rows["bicycle", "left"]) == (0, 0, 0, 0)


def test_directions_that_are_not_told_are_chosen_to_fit_but_never_their_numbers() -> None:
    undirected = Undirected((6.4, 16.56, 16.96, 26.64), 2, 2, "vehicle")
    counted = [
        at(6.5, "left", "car"),
        at(16.6, "right", "car"),
        at(17.0, "left", "car"),
        at(26.6, "right", "car"),
    ]
    line = LineTruth("line", POINTS, ("vehicle",), undirected=undirected)
    assert [row.wrong for row in score_line("gate", line, counted, 1.5)] == [0, 0]
    fixed = directed(undirected, counted, 1.5)
    assert [(each.t_s, each.direction) for each in fixed] == [
        (6.4, "left"),
        (16.56, "right"),
        (16.96, "left"),
        (26.64, "right"),
    ]
    wrong = [*counted[:3], at(26.6, "left", "car")]
    left, right = score_line("gate", line, wrong, 1.5)
    assert (left.truth, left.counted, right.truth, right.counted) == (2, 3, 2, 1)
    assert left.wrong + right.wrong >= 2
    assert [each.direction for each in directed(undirected, [], 1.5)].count("left") == 2


def test_dwell_errors() -> None:
    zone = ZoneTruth(
        "plaza", POINTS, ("person",), dwells=(Dwell(1, 11, "person"), Dwell(20, 25, "person"), Dwell(40, 50, "person"))
    )
    counted = [Dwell(1.5, 11.7, "person"), Dwell(41, 44, "person"), Dwell(45, 50, "person"), Dwell(90, 91, "person")]
    rows = score_zone("gate", zone, counted)
    assert [(row.entered_s, row.truth_s, row.counted_s) for row in rows] == [
        (1, 10, pytest.approx(10.2)),
        (20, 5, None),
        (40, 10, 5),
        (41, None, 3),
        (90, None, 1),
    ]
    assert rows[0].error_s == pytest.approx(0.2)
    assert rows[1].error_s is None


def test_stays_of_others_are_not_judged_and_do_not_match() -> None:
    zone = ZoneTruth("plaza", POINTS, ("person",), dwells=(Dwell(1, 11, "person"),))
    rows = score_zone("gate", zone, [Dwell(1, 11, "car")])
    assert [(row.truth_s, row.counted_s) for row in rows] == [(10, None)]


def test_the_sums() -> None:
    video = VideoTruth(
        "a.mp4",
        "gate",
        (LineTruth("kerb", POINTS, ("person",), crossings=(at(1), at(5), at(9, "right"))),),
        (ZoneTruth("plaza", POINTS, ("person",), dwells=(Dwell(1, 11, "person"), Dwell(20, 24, "person"))),),
    )
    counted = Counted(
        {"kerb": [at(1), at(1.2), at(1.3), at(5)]}, {"plaza": [Dwell(1, 12, "person"), Dwell(20.5, 24, "person")]}
    )
    scored = evaluate([video], {"gate": counted})
    assert [(row.direction, row.error) for row in scored.counts] == [("left", 2), ("right", -1)]
    assert scored.total_absolute_error == 3
    assert scored.mae == 1.5
    assert scored.bias == 0.5
    assert scored.wrong == 3
    assert scored.dwell_mae_s == pytest.approx(0.75)
    assert scored.dwell_bias_s == pytest.approx(0.25)
    assert scored.notes == ()


def test_a_camera_without_results_is_all_missed_and_said() -> None:
    video = VideoTruth("a.mp4", "gate", (LineTruth("kerb", POINTS, ("person",), crossings=(at(1),)),))
    scored = evaluate([video], {"other": Counted({"kerb": [at(1)]})})
    assert scored.total_absolute_error == 1
    assert "gate" in scored.notes[0]


def test_a_camera_that_did_not_end_is_said() -> None:
    video = VideoTruth("a.mp4", "gate", (LineTruth("kerb", POINTS, ("person",), crossings=(at(1),)),))
    scored = evaluate([video], {"gate": Counted({"kerb": [at(1)]}, ended=False)})
    assert scored.total_absolute_error == 0
    assert "not read to its end" in scored.notes[0]


def test_one_line_under_another_name_is_taken_and_said_but_two_are_not() -> None:
    one = VideoTruth("a.mp4", "gate", (LineTruth("line", POINTS, ("person",), crossings=(at(1),)),))
    scored = evaluate([one], {"gate": Counted({"line1": [at(1)]})})
    assert scored.total_absolute_error == 0
    assert "line1" in scored.notes[0]
    scored = evaluate([one], {"gate": Counted({"a": [at(1)], "b": [at(1)]})})
    assert scored.total_absolute_error == 1


def test_nothing_to_score_is_no_division_by_zero() -> None:
    scored = evaluate([], {})
    assert (scored.mae, scored.bias, scored.dwell_mae_s) == (0.0, 0.0, None)
