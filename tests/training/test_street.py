"""Drawn pictures as a training set."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import yaml

from training import street
from training.datasets import CLASSES, read_data_spec, read_samples
from training.scenes import split_by_scene


def test_drawn_pictures_are_a_set_that_is_never_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(street, "SIZES", ((320, 180),))
    monkeypatch.setattr(street, "PER_SCENE", 4)
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({"sets": {"drawn": {"scripted_street": 6, "labelled": list(CLASSES)}}}))
    spec = read_data_spec(data)
    samples = read_samples(spec)
    assert len(samples) == 6
    labels = np.concatenate([one.labels for one in samples])
    assert len(labels) > 6
    for one in samples:
        assert one.known.all()
        assert one.read().shape == (180, 320, 3)
        assert np.all((one.boxes[:, 2:] > one.boxes[:, :2]) & (one.boxes >= 0)[:, 2:] & (one.boxes <= 1)[:, 2:])
    split = split_by_scene(samples, spec, share=0.9)
    assert split.validation == []
    before = {path.name: path.stat().st_mtime_ns for path in samples[0].path.parent.iterdir()}
    assert {
        path.name: path.stat().st_mtime_ns for path in read_samples(read_data_spec(data))[0].path.parent.iterdir()
    } == before
