"""The shipped detectors at shipped defaults on real clips whose crossings were counted by eye."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_run import passerby


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["passerby-nano", "passerby-small"])
def test_the_shipped_detectors_count_the_truth_clips_within_the_bar(shared: Path, tmp_path: Path, model: str) -> None:
    """Both are exact where their figures were taken; another processor may round a score to the other side of a bar."""
    process = passerby(
        "eval", "count", "--truth", shared / "truth" / "counts.json", "--videos", shared, "--out", tmp_path / "out",
        "--model", model, "--max-error", "1", "--max-dwell-error-s", "1.5", "--json", timeout_s=800,
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
