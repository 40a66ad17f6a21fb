"""An outage is no idleness."""

from __future__ import annotations

from pipeline.services.quiet_time import QuietTime


def test_it_is_quiet_for_as_long_as_a_broker_is_heard_of() -> None:
    quiet = QuietTime(100.0)
    for at_s in range(101, 106):
        quiet.heard(at_s)
    assert quiet.seconds == 5.0
    quiet.disturbed(103.5)
    assert quiet.seconds == 1.5
    quiet.disturbed(101.0)  # older news
    assert quiet.seconds == 1.5


def test_an_outage_adds_nothing_and_what_comes_after_it_counts_anew() -> None:
    quiet = QuietTime(100.0)
    quiet.heard(102.0)
    for _ in range(3):
        quiet.heard(102.0)  # no broker answers
        assert quiet.seconds == 2.0
    quiet.heard(150.0)
    assert quiet.seconds == 0.0
    quiet.heard(151.0)
    assert quiet.seconds == 1.0
    quiet.heard(float("-inf"))  # a new membership has not met a broker yet
    assert quiet.seconds == 1.0
