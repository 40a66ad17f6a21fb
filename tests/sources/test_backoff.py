"""Waits between attempts."""

from __future__ import annotations

import random

from pipeline.sources.backoff import Backoff


def test_bounds_double_up_to_the_cap_and_every_part_of_them_is_used() -> None:
    first: list[float] = []
    for seed in range(400):
        backoff = Backoff(1.0, 30.0, random.Random(seed))
        delays = [backoff.delay_s() for _ in range(40)]
        assert all(0 <= d <= min(30.0, 2.0**n) for n, d in enumerate(delays))
        first.append(delays[0])
    assert min(first) < 0.05
    assert max(first) > 0.95
    assert 0.4 < sum(first) / len(first) < 0.6


def test_success_starts_over() -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    for _ in range(10):
        backoff.delay_s()
    backoff.succeeded()
    assert all(Backoff(1.0, 30.0, random.Random(s)).delay_s() <= 1.0 for s in range(20))
    assert backoff.delay_s() <= 1.0


def test_a_denied_camera_is_asked_slowly_and_still_within_the_cap() -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    assert all(15.0 <= backoff.slow_delay_s() <= 30.0 for _ in range(100))


def test_a_fleet_that_failed_together_spreads_out() -> None:
    delays = []
    for seed in range(50):
        backoff = Backoff(1.0, 30.0, random.Random(seed))
        for _ in range(5):
            backoff.delay_s()
        delays.append(backoff.delay_s())
    assert max(delays) - min(delays) > 20


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(1.0, 30.0, random.Random(0))
    assert all(backoff.delay_s() <= 30.0 for _ in range(2000))
