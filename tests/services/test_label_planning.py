"""``passerby check`` names what is wrong with the labels section, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.check import examine
from pipeline.config import Config, ConfigProblems, Problem, camera_document, camera_from_document, config_sha256
from pipeline.config import load_config as load
from pipeline.services.label_planning import label_problems
from tests.inference.classifier_networks import brightness_classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    brightness_classifier(tmp_path / "light")
    (tmp_path / "clip.mp4").write_bytes(b"")
    return tmp_path


def _config(folder: Path, text: str) -> Config:
    path = folder / "passerby.yaml"
    path.write_text(text + "\ncameras:\n  gate: {source: clip.mp4}\n", encoding="utf-8")
    return load(path, {})


def _only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize(
    ("text", "code", "severity", "said"),
    [
        ("labels: {model: lihgt}", "labels-model", "error", "there is no model 'lihgt'"),
        ("labels: {model: passerby-nano}", "labels-model", "error", "its task is detection: it gives no label"),
        ("labels: {model: passerby-scene}", "labels-model", "error", "is a scene model, which looks at clips"),
        ("labels: {model: light, kinds: [nigth]}", "unknown-kind", "error", "did you mean 'night'"),
        ("labels: {kinds: [night]}", "labels-without-model", "warning", "add model: passerby-daylight"),
        ("labels: {score: 0.9}", "labels-without-model", "warning", "nothing is judged"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_mend(
    folder: Path, text: str, code: str, severity: str, said: str
) -> None:
    problem = _only(label_problems(_config(folder, text)))
    assert (problem.code, problem.severity, problem.line) == (code, severity, 1)
    assert said in f"{problem.message} {problem.mend}"
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    "text", ["labels: {model: light}", "labels: {model: light, kinds: []}", "labels: {model: passerby-daylight}", ""]
)
def test_what_is_right_is_not_told_of(folder: Path, text: str) -> None:
    assert label_problems(_config(folder, text)) == []


def test_check_looks_at_the_labels_section(folder: Path) -> None:
    found = examine(_config(folder, "labels: {model: passerby-nano}"), open_sources=False)
    assert "labels-model" in {problem.code for problem in found.problems}


def test_check_refuses_a_classifier_where_a_detector_is_wanted(folder: Path) -> None:
    found = examine(_config(folder, "model: light"), open_sources=False)
    (problem,) = (each for each in found.problems if each.code == "model")
    assert "its task is classification: it finds no objects" in problem.message
    assert problem.line == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels: {modle: light}", "did you mean 'model'"),
        ("labels: {model: light, every: 5}", "unknown key 'every'"),
        ("labels: {model: light, every_s: 0}", "above 0"),
        ("labels: {model: light, score: 1.5}", "below 1"),
        ("labels: {model: light, votes: 0}", "at least 1"),
        ("labels: {model: light, votes: 1.5}", "votes"),
    ],
)
def test_a_wrong_key_is_told_with_its_mend(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigProblems) as raised:
        _config(folder, text)
    assert any(said in str(problem) for problem in raised.value.problems), raised.value.problems


def test_a_camera_overrides_the_default_and_kinds_switch_it_off(folder: Path) -> None:
    path = folder / "passerby.yaml"
    path.write_text(
        "labels: {model: light, every_s: 10, kinds: [night]}\ncameras:\n  a: {source: clip.mp4}\n"
        "  b: {source: clip.mp4, labels: {kinds: []}}\n  c: {source: clip.mp4, labels: {every_s: 2, kinds: day}}\n",
        encoding="utf-8",
    )
    cameras = load(path, {}).cameras
    assert cameras["a"].labels.model == str(folder / "light")
    assert [camera.labels.is_on for camera in cameras.values()] == [True, False, True]
    assert (cameras["c"].labels.every_s, cameras["c"].labels.kinds) == (2, ("day",))
    assert (cameras["a"].labels.every_s, cameras["a"].labels.votes) == (10, 3)


def test_what_is_switched_off_changes_no_hash_and_a_model_counts_by_its_name(folder: Path) -> None:
    def sha(text: str) -> str:
        return config_sha256(_config(folder, text).cameras["gate"])

    assert sha("") == sha("labels: {model: light, kinds: []}")
    assert sha("labels: {model: light}") != sha("")
    assert sha("labels: {model: light}") == sha(f"labels: {{model: {folder / 'light'}}}")
    assert sha("labels: {model: light, every_s: 2}") != sha("labels: {model: light}")


def test_the_section_goes_through_the_log(folder: Path) -> None:
    config = _config(folder, "labels: {model: light, kinds: [night], votes: 5}")
    again = camera_from_document("gate", camera_document(config, "gate"), {}, folder, secrets=False)
    assert again.labels == config.cameras["gate"].labels
    assert config_sha256(again) == config_sha256(config.cameras["gate"])
