"""What holds for any walk over a line."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.rules import CameraRules, LineRule
from tests.analytics.walks import Scene, Seen, crossings, instants, person, play

RULES = CameraRules("gate", lines=(LineRule("street", ((0.1, 0.5), (0.9, 0.5))),))
MIRRORED = CameraRules("gate", lines=(LineRule("street", ((0.9, 0.5), (0.1, 0.5))),))
some = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

heights = st.lists(st.sampled_from([70, 100, 130, 230, 260, 300]), min_size=2, max_size=5)


def between(stops: list[int], x: float = 300.0) -> Scene:
    """Walks smoothly from one height to the next, two seconds each, and rests there half a second."""

    def scene(t: float) -> list[Seen]:
        leg = min(int(t // 2.5), len(stops) - 2)
        part = min((t - 2.5 * leg) / 2.0, 1.0)
        eased = (1 - math.cos(math.pi * part)) / 2
        return [person(x, stops[leg] + (stops[leg + 1] - stops[leg]) * eased)]

    return scene


def expected(stops: list[int]) -> list[tuple[str, str]]:
    sides = ["right" if y > 180 else "left" for y in stops]
    return [("street", b) for a, b in itertools.pairwise(sides) if a != b]


@some
@given(heights, st.sampled_from([25.0, 12.0, 8.0, 5.0]), st.floats(0, 0.99))
def test_every_passage_counts_once_at_every_rate(stops: list[int], fps: float, phase: float) -> None:
    times = instants(2.5 * (len(stops) - 1), fps, phase)
    assert crossings(play(RULES, between(stops), times)) == expected(stops)


@some
@given(heights, st.integers(0, 2**32 - 1))
def test_irregular_times_give_the_same_counts(stops: list[int], seed: int) -> None:
    steps = np.random.default_rng(seed).choice([0.02, 0.04, 0.125, 0.2, 0.24], 600)
    times = [t for t in np.cumsum(steps).tolist() if t < 2.5 * (len(stops) - 1)]
    assert crossings(play(RULES, between(stops), times)) == expected(stops)


@some
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 5.0), st.booleans(), st.sampled_from([25.0, 8.0, 5.0]))
def test_jitter_on_the_line_counts_once_or_never(seed: int, spread: float, goes_on: bool, fps: float) -> None:
    rng = np.random.default_rng(seed)

    def scene(t: float) -> list[Seen]:
        y = 110 + 35 * t if t < 2 else 180.0 if t < 10 else 180 + (35 if goes_on else -35) * (t - 10)
        return [person(300 + rng.normal(0, spread / 2), y + rng.uniform(-spread, spread))]

    want = [("street", "right")] if goes_on else []
    assert crossings(play(RULES, scene, instants(12.5, fps))) == want


@some
@given(heights, st.integers(0, 2**32 - 1))
def test_flicker_never_adds_a_crossing(stops: list[int], seed: int) -> None:
    """One frame in ten the box is thrown to the other side of the line, one in ten it is missing."""
    rng = np.random.default_rng(seed)
    steady = between(stops)
    last = {"at": -9.0}

    def scene(t: float) -> list[Seen]:
        luck = rng.random()
        (one,) = steady(t)
        if t - last["at"] > 0.7 and luck < 0.2:  # flickers are moments, not the rule
            last["at"] = t
            if luck < 0.1:
                return []
            x0, y0, x1, y1 = one[1]
            by = 2 * (180 - y1) if abs(180 - y1) < 25 else 0.0
            return [("person", (x0, y0 + by, x1, y1 + by), one[2])]
        return [one]

    assert crossings(play(RULES, scene, instants(2.5 * (len(stops) - 1), 8))) == expected(stops)


@some
@given(heights)
def test_a_line_drawn_the_other_way_swaps_left_and_right(stops: list[int]) -> None:
    times = instants(2.5 * (len(stops) - 1), 8)
    swapped = {"left": "right", "right": "left"}
    here, there = crossings(play(RULES, between(stops), times)), crossings(play(MIRRORED, between(stops), times))
    assert [(line, swapped[side]) for line, side in here] == there


@some
@given(heights)
def test_a_mirrored_picture_swaps_left_and_right(stops: list[int]) -> None:
    times = instants(2.5 * (len(stops) - 1), 8)
    upright = CameraRules("gate", lines=(LineRule("street", ((0.5, 0.05), (0.5, 0.95)), anchor="center"),))

    def across(sign: float) -> Scene:
        walk = between(stops)

        def scene(t: float) -> list[Seen]:
            ((_, (*_, y), score),) = walk(t)
            return [person(320 + sign * (y - 180), 250, score)]

        return scene

    swapped = {"left": "right", "right": "left"}
    here, there = crossings(play(upright, across(1.0), times)), crossings(play(upright, across(-1.0), times))
    assert [(line, swapped[side]) for line, side in here] == there
    assert len(here) == len(expected(stops))
