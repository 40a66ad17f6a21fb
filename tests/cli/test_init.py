"""``passerby init``: what it writes can be checked and run, and shows no password."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from jsonschema import Draft202012Validator
from PIL import Image
from typer.testing import CliRunner, Result

from pipeline.cli import check, init
from pipeline.config import load_config
from pipeline.config.schema import json_schema
from pipeline.encoding import VideoWriter
from pipeline.errors import SourceError, UsageError
from pipeline.services.stills import still_with_grid
from tests.inference.networks import convolving_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASSERBY_MODELS", str(tmp_path / "promoted"))
    for name, fps in (("street.mp4", 25.0), ("slow yard.mp4", 5.0)):
        with VideoWriter(tmp_path / name, 320, 180, fps) as video:
            for i in range(20):
                video.write(np.full((180, 320, 3), 128, np.uint8), i / fps)
    return tmp_path


def passerby(*arguments: str) -> Result:
    app = typer.Typer()
    init.register(app)
    check.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_what_is_written_is_right_and_passes_the_check(home: Path) -> None:
    result = passerby("init", "street.mp4", "slow yard.mp4", "--out", "site")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("site").iterdir()) == [
        "passerby.schema.json", "passerby.yaml", "slow-yard.png", "street.png",
    ]  # fmt: skip
    text = Path("site/passerby.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=passerby.schema.json\n")
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))
    config = load_config("site/passerby.yaml", {})
    assert config.camera("street").source.location.reveal() == str(home / "site" / ".." / "street.mp4")
    assert (config.camera("street").sample_fps, config.camera("slow-yard").sample_fps) == (8, 5)
    assert set(config.camera("street").lines) == {"line"}
    assert set(config.camera("street").zones) == {"area"}
    convolving_model(home / "models" / "passerby-nano", ((416, 256),))
    checked = passerby("check", "-c", "site/passerby.yaml", "--strict")
    assert checked.exit_code == 0, checked.output


def test_the_comments_that_are_switched_on_are_right_too(home: Path) -> None:
    """What the comments teach must work when somebody takes the # away."""
    passerby("init", "street.mp4")
    text = Path("passerby.yaml").read_text()
    for commented, live in (
        ("# thresholds:", "thresholds:"), ("# source:", "source:"), ("# start:", "start:"), ("# exit:", "exit:"),
        ("# parking:", "parking:"), ("#   points:", "  points:"), ("#   dwell_s:", "  dwell_s:"),
        ("#   crowded_at:", "  crowded_at:"), ("#   stopped_s:", "  stopped_s:"), ("#   direction:", "  direction:"),
        ("# masks:", "masks:"), ("#   - [[", "  - [["),
    ):  # fmt: skip
        assert commented in text
        text = text.replace(commented, live)
    Path("all.yaml").write_text(text)
    camera = load_config("all.yaml", {}).camera("street")
    assert set(camera.lines) == {"line", "exit"}
    assert camera.zones["parking"].crowded_at == 8
    assert camera.zones["parking"].direction == (0, -1)
    assert len(camera.masks) == 1
    assert camera.start is not None


def test_the_still_has_a_frame_of_rulers_and_the_picture_inside(home: Path) -> None:
    passerby("init", "street.mp4")
    with Image.open("street.png") as still:
        assert still.width > 1200
        width, height = still.size
        pixels = np.asarray(still.convert("RGB")).astype(int)
    assert abs(pixels[height // 2 - 20 : height // 2, width // 2 + 5 : width // 2 + 25].mean() - 128) < 40
    assert pixels[:10].max() < 60, "the margin is dark"


def test_grid_lines_lie_where_their_figures_say() -> None:
    """A black picture of 1200 x 600: the brightest columns and rows are those of the tenths."""
    still = still_with_grid(np.zeros((600, 1200, 3), np.uint8))
    pixels = np.asarray(still.convert("L")).astype(int)
    margin = (still.width - 1200) // 2
    inside = pixels[margin : margin + 600, margin : margin + 1200]
    for axis, side in ((0, 1200), (1, 600)):
        profile = np.median(inside, axis=axis)
        bright = np.flatnonzero(profile > 0.9 * profile.max())
        assert bright.tolist() == [round(tenth / 10 * (side - 1)) for tenth in range(11)]


def test_it_does_not_overwrite_unless_told_to(home: Path) -> None:
    Path("passerby.yaml").write_text("mine")
    result = passerby("init", "street.mp4")
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "passerby.yaml: already there (--force overwrites, --out DIR writes elsewhere)"
    assert Path("passerby.yaml").read_text() == "mine"
    assert not Path("street.png").exists()
    assert passerby("init", "street.mp4", "--force").exit_code == 0
    assert Path("passerby.yaml").read_text() != "mine"


def test_a_file_that_is_not_there_writes_nothing(home: Path) -> None:
    result = passerby("init", "street.mp4", "nothing.mp4", "--out", "site")
    assert isinstance(result.exception, SourceError)
    assert "nothing.mp4" in str(result.exception)
    assert not Path("site").exists()


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("rtsp://admin:c4nary@127.0.0.1:9/live", "rtsp://admin:${CAMERA_PASSWORD}@127.0.0.1:9/live"),
        ("rtsp://a:c4nary@127.0.0.1:9/live?n=1&token=c4nary2",
         "rtsp://a:${CAMERA_PASSWORD}@127.0.0.1:9/live?n=1&token=${CAMERA_PASSWORD_2}"),
        ("rtsp://a:a@127.0.0.1:9/a", "rtsp://a:${CAMERA_PASSWORD}@127.0.0.1:9/a"),
    ],
)  # fmt: skip
def test_passwords_become_variables(home: Path, url: str, written: str) -> None:
    result = passerby("init", url, "--timeout", "5")
    assert result.exit_code == 3
    assert "refused" in result.stderr
    text = Path("passerby.yaml").read_text()
    assert f"source: {written}   # could not be opened" in text
    assert "set CAMERA_PASSWORD in the environment" in result.stdout
    assert "c4nary" not in text + result.output
    variables = {"CAMERA_PASSWORD": "c4nary" if "c4nary" in url else "a", "CAMERA_PASSWORD_2": "c4nary2"}
    config = load_config("passerby.yaml", variables)
    assert next(iter(config.cameras.values())).source.location.reveal() == url


def test_each_of_several_cameras_has_its_own_variable(home: Path) -> None:
    passerby("init", "rtsp://a:one1@127.0.0.1:9/east", "rtsp://a:two2@127.0.0.1:9/west", "--timeout", "5")
    text = Path("passerby.yaml").read_text()
    assert "a:${CAMERA_127_0_0_1_EAST_PASSWORD}@" in text
    assert "a:${CAMERA_127_0_0_1_WEST_PASSWORD}@" in text


def test_real_video(home: Path, shared: Path) -> None:
    result = passerby("init", str(shared / "videos" / "pedestrians_square.mp4"))
    assert result.exit_code == 0, result.output
    assert "# 626x360, 30 fps" in Path("passerby.yaml").read_text()
    assert Path("pedestrians_square.png").stat().st_size > 100_000


def test_help_teaches_by_example() -> None:
    assert "passerby init street.mp4" in passerby("init", "--help").output
