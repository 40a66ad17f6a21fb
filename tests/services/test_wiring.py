"""What models tell the rules of a camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import read_config
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from pipeline.services.wiring import rules_under


@pytest.mark.parametrize(("name", "lying"), [("passerby-nano", False), ("passerby-falls", True)])
def test_the_rules_know_whether_the_detector_was_taught_people_who_lie(name: str, lying: bool) -> None:
    config = read_config(f"cameras: {{gate: {{source: a.mp4, model: {name}}}}}", "f.yaml", Path("/x"), {})
    detector = Detector(load_model(name))
    rules, provenance = rules_under(config.cameras["gate"], detector)
    assert rules.sees_lying is lying
    assert rules.tracker["high_score"] == detector.manifest.thresholds.score
    assert provenance["model"] == name
