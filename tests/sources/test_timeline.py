"""Stream time out of timestamps that lie."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.timeline import BestEffort, Tick, Timeline

MS = 1000


def run(raws_ms: list[int | None], usual_us: int = 40 * MS) -> list[Tick]:
    timeline = Timeline(usual_us)
    return [timeline.tick(None if raw is None else raw * MS) for raw in raws_ms]


def times_ms(raws_ms: list[int | None]) -> list[float]:
    return [tick.pts_us / MS for tick in run(raws_ms)]


def test_good_timestamps_are_kept_whatever_their_origin_and_rhythm() -> None:
    assert times_ms([5000, 5040, 5100, 5101, 9000]) == [0, 40, 100, 101, 4000]


def test_missing_ones_are_filled_in_and_do_not_shift_the_rest() -> None:
    assert times_ms([0, 40, None, None, 160]) == [0, 40, 80, 120, 160]
    assert times_ms([None, None, None]) == [0, 40, 80]
    assert times_ms([None, 90_000, 90_040]) == [0, 40, 80]


def test_one_wrong_timestamp_changes_nothing_but_its_own_frame() -> None:
    for wrong in (20, 40, 0, -(10**9), 10**9, 80):
        got = times_ms([0, 40, 80, wrong, 160, 200])
        assert got[:3] == [0, 40, 80]
        assert got[4:] == [160, 200]
        assert 80 < got[3] < 160


def test_repeated_timestamps_do_not_make_time_run_fast() -> None:
    raws: list[int | None] = []
    for i in range(100):
        raws += [i * 40, i * 40] if i % 10 == 9 else [i * 40]
    assert times_ms(raws)[-1] <= 99 * 40 + 40


def test_a_small_rewind_goes_on_without_a_break() -> None:
    ticks = run([0, 40, 80, 120, 40, 80, 120, 160])
    assert all(tick.jump_us is None for tick in ticks)
    assert [t.pts_us / MS for t in ticks] == [0, 40, 80, 120, 140, 180, 220, 260]


def test_a_reset_is_told_and_time_goes_on() -> None:
    ticks = run([100_000, 100_040, 100_080, 0, 40, 80])
    assert [tick.jump_us is not None for tick in ticks] == [False, False, False, False, True, False]
    assert ticks[4].jump_us is not None
    assert ticks[4].jump_us < 0
    assert ticks[-1].pts_us == 180 * MS


def test_a_hole_of_minutes_is_believed_and_told_but_a_leap_of_years_is_not() -> None:
    hole = run([0, 40, 600_000, 600_040])
    assert hole[-1].jump_us is not None
    assert abs(hole[-1].pts_us - 600_040 * MS) <= 40 * MS
    leap = run([0, 40, 10**9, 10**9 + 40])
    assert leap[-1].jump_us is not None
    assert leap[-1].pts_us < 200 * MS


def test_a_lying_declared_rate_does_not_matter() -> None:
    assert [t.pts_us for t in run([0, 200, 400], usual_us=1)] == [0, 200 * MS, 400 * MS]


raw_timestamps = st.lists(
    st.one_of(st.none(), st.integers(0, 10**7), st.integers(-(2**40), 2**40), st.sampled_from([0, 40_000, 80_000])),
    min_size=1,
    max_size=200,
)


@given(raw_timestamps)
@settings(deadline=None)
def test_time_rises_whatever_comes(raws_us: list[int | None]) -> None:
    timeline = Timeline()
    times = [timeline.tick(raw).pts_us for raw in raws_us]
    assert times[0] == 0
    assert all(b > a for a, b in pairwise(times))
    assert timeline.end_us > times[-1]


@given(st.lists(st.integers(1, 10_000_000), max_size=100), st.integers(-(2**40), 2**40))
@settings(deadline=None)
def test_rising_timestamps_come_out_as_they_are(steps_us: list[int], origin_us: int) -> None:
    raws = [origin_us]
    for step in steps_us:
        raws.append(raws[-1] + step)
    timeline = Timeline()
    assert [timeline.tick(raw).pts_us for raw in raws] == [raw - origin_us for raw in raws]
    assert timeline.repaired == 0


def test_decoding_times_stand_in_for_presentation_times_that_are_in_the_wrong_order() -> None:
    """The timestamps of a real AVI with packed B-frames, as its decoder gives them."""
    best = BestEffort()
    pts = [1, 4, 6, 5, 7, 9, 8, 10, 12, 11, 13]
    got = [best.choose(p, d) for p, d in zip(pts, range(3, 14), strict=True)]
    settled = got[3:]
    assert settled == [6, 7, 8, 9, 10, 11, 12, 13]


def test_presentation_times_are_kept_where_they_are_right() -> None:
    best = BestEffort()
    assert [best.choose(p, d) for p, d in [(0, -2), (1, -1), (2, 0), (3, 1)]] == [0, 1, 2, 3]
    assert BestEffort().choose(None, 7) == 7
    assert BestEffort().choose(None, None) is None
