"""``passerby check`` names what is wrong with the scene section, and where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli.check import examine
from pipeline.config import Config, ConfigProblems, Problem, camera_document, camera_from_document, config_sha256
from pipeline.config import load_config as load
from pipeline.services.planning import SourceFacts
from pipeline.services.scene_planning import scene_problems
from tests.inference.scene_networks import scene_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scene_model(tmp_path / "mine")
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
    ("text", "code", "severity", "line", "said"),
    [
        ("scene: {model: mien}", "scene-model", "error", 1, "there is no model 'mien'"),
        ("scene:\n  model: mine\n  kinds: [fihgt]", "unknown-kind", "error", 3, "did you mean 'fight'"),
        ("scene:\n  model: mine\n  thresholds:\n    fal: {start: 0.5}", "unknown-kind", "error", 4,
         "knows no kind 'fal'"),
        ("sample_fps: 3\nscene: {model: mine}", "scene-sample-fps", "error", 1, "write sample_fps: 8"),
        ("scene: {kinds: [fight]}", "scene-without-model", "warning", 1, "add model: passerby-scene"),
        ("scene: {model: passerby-nano}", "scene-model", "error", 1, "looks at single pictures"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place_and_mend(
    folder: Path, text: str, code: str, severity: str, line: int, said: str
) -> None:
    problem = _only(scene_problems(_config(folder, text), {}))
    assert (problem.code, problem.severity, problem.line) == (code, severity, line)
    assert said in f"{problem.message} {problem.mend}"


@pytest.mark.parametrize("text", ["scene: {model: mine}", "scene: {model: mine, kinds: []}\nsample_fps: 2", ""])
def test_what_is_right_is_not_told_of(folder: Path, text: str) -> None:
    assert scene_problems(_config(folder, text), {"gate": SourceFacts(640, 360, fps=10.0)}) == []


def test_a_source_with_too_few_frames_is_told_of(folder: Path) -> None:
    config = _config(folder, "scene: {model: mine}")
    problem = _only(scene_problems(config, {"gate": SourceFacts(640, 360, fps=2.0)}))
    assert problem.code == "scene-source-fps"
    assert "2 frames a second" in problem.message


def test_check_looks_at_the_scene_section(folder: Path) -> None:
    found = examine(_config(folder, "scene: {model: mine, kinds: [fihgt]}"), open_sources=False)
    assert "unknown-kind" in {problem.code for problem in found.problems}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scene: {modle: mine}", "did you mean 'model'"),
        ("scene: {model: mine, thresholds: {fight: {begin: 0.5}}}", "unknown key 'begin'"),
        ("scene: {model: mine, thresholds: {fight: {start: 0.5, end: 0.7}}}", "end is above start"),
        ("scene: {model: mine, thresholds: {fight: {start: 1.5}}}", "at most 1"),
    ],
)
def test_a_wrong_key_is_told_with_its_mend(folder: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigProblems) as raised:
        _config(folder, text)
    assert any(said in str(problem) for problem in raised.value.problems), raised.value.problems


def test_a_camera_overrides_the_default_and_kinds_switch_it_off(folder: Path) -> None:
    path = folder / "passerby.yaml"
    path.write_text(
        "scene: {model: mine, kinds: [fight], thresholds: {fight: {start: 0.7}}}\ncameras:\n"
        "  a: {source: clip.mp4}\n  b: {source: clip.mp4, scene: {kinds: []}}\n"
        "  c: {source: clip.mp4, scene: {thresholds: {fight: {end: 0.2}}}}\n",
        encoding="utf-8",
    )
    cameras = load(path, {}).cameras
    assert cameras["a"].scene.model == str(folder / "mine")
    assert [camera.scene.is_on for camera in cameras.values()] == [True, False, True]
    own = cameras["c"].scene.thresholds["fight"]
    assert (own.start, own.end) == (0.7, 0.2)


def test_what_is_switched_off_changes_no_hash_and_a_model_counts_by_its_name(folder: Path, tmp_path: Path) -> None:
    def sha(text: str) -> str:
        return config_sha256(_config(folder, text).cameras["gate"])

    assert sha("") == sha("scene: {model: mine, kinds: []}")
    assert sha("scene: {model: mine}") != sha("")
    assert sha("scene: {model: mine}") == sha(f"scene: {{model: {folder / 'mine'}}}")
    assert sha("scene: {model: mine, kinds: [fight]}") != sha("scene: {model: mine}")


def test_the_section_goes_through_the_log(folder: Path) -> None:
    config = _config(folder, "scene: {model: mine, kinds: [fight]}")
    document = camera_document(config, "gate")
    again = camera_from_document("gate", document, {}, folder, secrets=False)
    assert again.scene == config.cameras["gate"].scene
    assert config_sha256(again) == config_sha256(config.cameras["gate"])
