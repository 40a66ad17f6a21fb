"""Sampling goes by time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.sampling import Sampler


def taken(times_us: list[int], sample_fps: float) -> list[int]:
    sampler = Sampler(sample_fps)
    return [t for t in times_us if sampler.take(t)]


def regular(fps: float, seconds: float) -> list[int]:
    return [round(i * 1e6 / fps) for i in range(round(fps * seconds))]


@pytest.mark.parametrize("fps", [25.0, 30.0, 30000 / 1001, 12.5, 10.0, 60.0])
def test_a_faster_source_gives_the_rate_asked_for(fps: float) -> None:
    assert abs(len(taken(regular(fps, 100), 8.0)) - 800) <= 1


@pytest.mark.parametrize("fps", [8.0, 5.0, 1.0, 7.9])
def test_a_source_at_or_below_the_rate_gives_all(fps: float) -> None:
    times = regular(fps, 50)
    assert taken(times, 8.0) == times


def test_jitter_at_the_very_rate_loses_nothing() -> None:
    times = [i * 125_000 + (-1) ** i * 30_000 * (i > 0) for i in range(200)]
    assert taken(times, 8.0) == times


def test_the_first_frame_is_always_taken_and_a_hole_costs_nothing_after_it() -> None:
    times = [0, 40_000, 5_000_000, 5_040_000, 5_130_000]
    assert taken(times, 8.0) == [0, 5_000_000, 5_130_000]


steps = st.lists(st.integers(1, 400_000), min_size=1, max_size=300)


@given(steps, st.floats(0.5, 30.0))
@settings(deadline=None)
def test_never_more_than_one_a_slot_and_never_fewer_than_there_are(steps_us: list[int], sample_fps: float) -> None:
    times = [0]
    for step in steps_us:
        times.append(times[-1] + step)
    got = taken(times, sample_fps)
    assert got[0] == 0
    assert len(got) <= times[-1] * sample_fps / 1e6 + 2
    # Two neighbours of the source further apart than a slot and a quarter: the later one is taken.
    slot_us = 1e6 / sample_fps
    late = {b for a, b in pairwise(times) if b - a > 1.01 * slot_us}
    assert late <= set(got)


@given(steps, st.integers(0, 10))
@settings(deadline=None)
def test_what_is_taken_depends_on_time_only(steps_us: list[int], extra: int) -> None:
    """Frames in between that are not taken change nothing."""
    times = [0]
    for step in steps_us:
        times.append(times[-1] + step)
    got = taken(times, 8.0)
    assert taken(got, 8.0) == got
    assert taken(times, 8.0) == got
