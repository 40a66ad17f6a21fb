"""What comes and goes in front of a camera leaves nothing behind in its analytics (a short ``benchmarks.flat``)."""

from __future__ import annotations

import pytest

from benchmarks.footprint import footprint
from benchmarks.short_tracks import ShortTracks


def test_short_tracks_leave_nothing_behind() -> None:
    camera = ShortTracks(per_frame=20)
    camera.run(300)
    early = camera.kept()
    camera.run(3_000)
    late = camera.kept()
    assert late.tracks >= 3_000
    assert late.confirmed > 1_000
    assert camera.events["io.passerby.zone.entered.v1"] > 100
    assert camera.events["io.passerby.line.crossed.v1"] > 300
    assert late.held.objects - early.held.objects < 64
    assert late.held.size_bytes - early.held.size_bytes < 16_384
    assert late.snapshot_bytes - early.snapshot_bytes < 1_000


@pytest.mark.parametrize("kept", [100, 1000])
def test_a_footprint_finds_what_is_kept(kept: int) -> None:
    """Otherwise the test above could not fail."""
    camera = ShortTracks(per_frame=10)
    camera.run(50)
    before = camera.kept()
    forgotten = {number: [float(number), str(number)] for number in range(10**6, 10**6 + kept)}
    camera._camera.zones[0].stays.update(forgotten)  # type: ignore[arg-type]
    after = footprint(camera._camera)
    assert after.objects - before.held.objects >= 3 * kept
    assert after.size_bytes - before.held.size_bytes >= 100 * kept
