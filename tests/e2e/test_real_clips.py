"""The shipped detector at shipped defaults on real clips whose crossings were counted by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_run import passerby


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_detector_counts_the_truth_clips_within_the_bar(shared: Path, tmp_path: Path) -> None:
    process = passerby(
        "eval", "count", "--truth", shared / "truth" / "counts.json", "--videos", shared, "--out", tmp_path / "out",
        "--max-error", "3", "--max-dwell-error-s", "1.5", "--json", timeout_s=800,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    told = json.loads(process.stdout)
    text = json.dumps(told)
    for clip in (
        "uk_dual_carriageway",
        "suburban_street",
        "topdown_cars",
        "pedestrians_square",
        "shop_door",
        "indoor_one",
    ):
        assert clip in text
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["totals"]["balanced"]
    assert ledger["totals"]["dropped"] == {}
