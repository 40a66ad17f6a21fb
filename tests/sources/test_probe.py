"""``passerby probe``: what is measured, and what is shown of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipeline.cli import probe as probe_command
from pipeline.config import load_config
from pipeline.errors import SourceUnreadable
from pipeline.sources.probing import probe
from tests.rtsp_server import RtspServer, require_rtsp
from tests.sources.material import http_mjpeg, write_clip
from tests.sources.test_network import jpeg


def run(*arguments: str) -> Any:
    app = typer.Typer()
    probe_command.register(app)
    app.command("other")(lambda: None)  # so that ``probe`` keeps its name
    return CliRunner().invoke(app, ["probe", *arguments])


def snippet_in(output: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(output[output.index("cameras:") :])
    return found


def test_a_file_that_lies_about_its_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "Front Door.mkv", [i / 10 for i in range(60)], fps=25.0, b_frames=2)
    report = probe(str(path))
    assert (report.codec, report.width, report.height) == ("h264", 160, 96)
    assert report.measured_fps == pytest.approx(10.0, rel=0.02)
    assert report.b_frames
    assert report.gop == 12
    assert report.audio is None
    assert report.clock_drift is None
    assert report.duration_s == pytest.approx(6.0, abs=0.2)
    shown = run(str(path))
    assert shown.exit_code == 0
    assert "10 fps measured" in shown.output
    assert snippet_in(shown.output)["cameras"]["front-door"]["source"] == str(path)


def test_a_slow_file_gets_the_sample_rate_it_has(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mp4", [i / 4 for i in range(20)], fps=4.0)
    assert snippet_in(run(str(path)).output)["cameras"]["slow"]["sample_fps"] == 4


def test_the_piece_of_configuration_is_one_that_loads(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    output = run(str(path)).output
    config_file = tmp_path / "passerby.yaml"
    config_file.write_text(output[output.index("cameras:") :])
    assert list(load_config(config_file).cameras) == ["a"]


def test_failures_are_one_line_each_and_the_rest_is_shown(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4")
    shown = run("--json", str(tmp_path / "missing.mp4"), str(good))
    assert shown.exit_code == 3
    assert json.loads(shown.stdout)["codec"] == "h264"
    assert shown.stderr.strip().splitlines() == [f"passerby: {tmp_path / 'missing.mp4'}: no such file"]


def test_folders_name_their_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.mp4")
    write_clip(tmp_path / "2.mp4")
    report = probe(str(tmp_path))
    assert (report.kind, report.clips, report.source) == ("folder", 2, str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceUnreadable, match="no video clips"):
        probe(str(tmp_path / "empty"))


def test_a_camera_without_timestamps_is_measured_by_arrival() -> None:
    with http_mjpeg([jpeg(i) for i in range(50)], fps=10.0) as url:
        report = probe(f"{url}/video.cgi", seconds=3.0)
    assert not report.has_timestamps
    assert report.measured_fps == pytest.approx(10.0, rel=0.15)
    assert report.clock_drift is None


@pytest.mark.rtsp
def test_a_camera_with_a_password() -> None:
    require_rtsp()
    with RtspServer("--user", "viewer", "--password", "canary7secret", "--fps", "5", "--gop", "10") as server:
        shown = run("--seconds", "4", server.url("viewer:canary7secret"), server.url("viewer:wrong9canary"))
    assert shown.exit_code == 3
    assert "canary" not in shown.output + shown.stderr
    assert "wrong user or password" in shown.stderr
    assert "RTSP over tcp" in shown.stdout
    assert "5 fps measured" in shown.stdout
    camera = snippet_in(shown.stdout)["cameras"]["cam-127-0-0-1"]
    assert camera["source"] == f"rtsp://${{CAM_127_0_0_1_LOGIN}}@127.0.0.1:{server.port}/cam"
    assert camera["sample_fps"] == 5
