"""``passerby check`` and ``schema``: what a person types and sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.cli import check
from pipeline.config.reference import reference_markdown
from pipeline.config.schema import schema_text
from pipeline.encoding import VideoWriter
from tests.inference.networks import convolving_model


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip of two seconds at 25 fps and a model called ``tiny``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    convolving_model(tmp_path / "models" / "tiny", ((416, 256),))
    with VideoWriter(tmp_path / "clip.mp4", 320, 180, 25.0) as video:
        for i in range(50):
            video.write(np.full((180, 320, 3), 4 * i, np.uint8), i / 25)
    return tmp_path


def passerby(*arguments: str) -> Result:
    app = typer.Typer()
    check.register(app)
    return CliRunner().invoke(app, list(arguments))


FINE = """\
model: tiny
cameras:
  square:
    source: clip.mp4
    lines: {middle: {points: [[0, 0.6], [1, 0.6]]}}
"""


def write(text: str) -> None:
    Path("passerby.yaml").write_text(text)


def test_a_file_that_is_fine(site: Path) -> None:
    write(FINE)
    result = passerby("check")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "ok      square  320x180, 25 fps, h264, network 416x256, finds people from 3.4%" in result.stdout
    assert result.stdout.endswith("passerby.yaml: ok\n")


def test_errors_go_to_stderr_one_line_each_with_their_place(site: Path) -> None:
    write(FINE.replace("sample", "").replace("0.6]]", "108]]") + "    lies: 5\n")
    result = passerby("check", "-c", "passerby.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error passerby.yaml:5:45: cameras.square.lines.middle.points[1][1]: 108 looks like pixels, coordinates go "
        "from 0 to 1; divide x by the picture's width and y by its height",
        "error passerby.yaml:6:5: cameras.square.lies: unknown key 'lies'; did you mean 'lines'?",
    ]
    assert result.stdout == "passerby.yaml: 2 errors\n"


def test_warnings_pass_unless_strict(site: Path) -> None:
    write(FINE + "    sample_fps: 50\n")
    result = passerby("check")
    assert result.exit_code == 0
    assert (
        "warning passerby.yaml:6:17: cameras.square.sample_fps: sample_fps 50 is above the source's 25" in result.stderr
    )
    assert "warning square" in result.stdout
    assert passerby("check", "--strict").exit_code == 2


def test_what_cannot_work_is_an_error_with_its_place(site: Path) -> None:
    write(FINE.replace("[0, 0.6], [1, 0.6]", "[0, 0.01], [1, 0.01]").replace("]]}}", "]], classes: [perosn]}}"))
    result = passerby("check")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error passerby.yaml:5:30: cameras.square.lines.middle.points: no object can cross this")
    assert lines[1] == (
        "error passerby.yaml:5:64: cameras.square.lines.middle.classes[0]: the model tiny has no class or group "
        "'perosn'; did you mean 'person'?"
    )


def test_files_and_models_that_are_not_there(site: Path) -> None:
    write(FINE.replace("tiny", "tinny").replace("clip", "clop"))
    for options in ((), ("--no-open",)):
        result = passerby("check", *options)
        assert result.exit_code == 2
        assert "error passerby.yaml:1:8: cameras.square.model: there is no model 'tinny'" in result.stderr
        assert "error passerby.yaml:4:13: cameras.square.source:" in result.stderr
        assert f"{site}/clop.mp4" in result.stderr


def test_a_camera_that_is_away_is_a_warning_without_its_password(site: Path) -> None:
    write(FINE.replace("clip.mp4", "rtsp://u:${GATE_PASSWORD}@127.0.0.1:9/x"))
    result = passerby("check", "--timeout", "5", "--json")
    assert result.exit_code == 2, "the variable is not set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATE_PASSWORD", "c4nary-secret")
        result = passerby("check", "--timeout", "5")
        told = passerby("check", "--timeout", "5", "--json")
    assert result.exit_code == 0, result.output
    assert "warning passerby.yaml:4:13: cameras.square.source:" in result.stderr
    assert "refused" in result.stderr
    assert "c4nary" not in result.output + told.output


def test_json(site: Path) -> None:
    write(FINE + "    sample_fps: 50\n")
    told = json.loads(passerby("check", "--json").stdout)
    assert told["ok"] is True
    assert told["errors"] == []
    assert [(w["code"], w["line"], w["column"], w["severity"]) for w in told["warnings"]] == [
        ("sample-fps-high", 6, 17, "warning")
    ]
    camera = told["cameras"][0]
    assert (camera["camera_id"], camera["width"], camera["height"], camera["codec"]) == ("square", 320, 180, "h264")
    assert camera["model_input"] == [416, 256]
    assert camera["fps"] == pytest.approx(25)
    write("cameras:\n\ta: 5\n")
    result = passerby("check", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["errors"][0]["code"]) == (2, False, "yaml-tab")


def test_no_such_file(site: Path) -> None:
    result = passerby("check", "-c", "nothing.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "error nothing.yaml: nothing.yaml: there is no such file; passerby init SOURCE writes one\n"
    )


def test_measure_times_the_network_here(site: Path) -> None:
    write(FINE)
    told = json.loads(passerby("check", "--measure", "--json").stdout)
    # 25 frames of 320x180 decoded, 8 of them scaled and followed: the rest is the network, which is not nothing.
    beside = (25 * 2.8 * 0.0576 + 8 * 2.5) / 1000
    assert told["cameras"][0]["cores"] > beside
    assert told["cameras"][0]["cores"] != pytest.approx(beside + 8 * 0.02, abs=1e-3), "the assumed cost was taken"


def test_schema_prints_what_the_docs_hold() -> None:
    assert passerby("schema").stdout == schema_text()
    assert passerby("schema", "--markdown").stdout == reference_markdown()


@pytest.mark.parametrize("command", ["check", "schema"])
def test_help_teaches_by_example(command: str) -> None:
    assert f"passerby {command}" in passerby(command, "--help").output
