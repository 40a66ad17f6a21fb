"""``passerby run VIDEO... --line``: a configuration without a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import config_from_videos, read_config
from pipeline.errors import ConfigError, UsageError


def test_cameras_are_named_after_what_they_show() -> None:
    config = config_from_videos(
        ["a/My Clip (1).MP4", "b/my-clip-1.mkv", "rtsp://u:p@gate.example:554/live/main", "/dev/video0", "übung.mp4"]
    )
    assert list(config.cameras) == ["my-clip-1", "my-clip-1-2", "gate.example-main", "video0", "bung"]
    assert config.camera("my-clip-1").source.location.reveal() == str(Path.cwd() / "a/My Clip (1).MP4")
    assert config.camera("video0").source.location.reveal() == "/dev/video0"
    assert config.camera("video0").id == "video0"


def test_lines_are_on_every_video() -> None:
    config = config_from_videos(
        ["a.mp4", "b.mp4"], ["0,0.6,1,0.6", "door=0.1,0.2,0.3,0.4,0.5,0.6"], classes=["car"], anchor="center",
        model="m", sample_fps=5,
    )  # fmt: skip
    for camera in config.cameras.values():
        assert camera.lines["line1"].points == ((0, 0.6), (1, 0.6))
        assert camera.lines["door"].points == ((0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
        assert (camera.lines["door"].classes, camera.lines["door"].anchor) == (("car",), "center")
        assert (camera.model, camera.sample_fps) == ("m", 5)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0,0.6,1", "--line 0,0.6,1: cannot be read (write x0,y0,x1,y1 in 0..1 of the picture, e.g. 0,0.6,1,0.6)"),
        ("a,b,c,d", "--line a,b,c,d: cannot be read (write x0,y0,x1,y1 in 0..1 of the picture, e.g. 0,0.6,1,0.6)"),
        ("0,nan,1,1", "--line 0,nan,1,1: cannot be read (write x0,y0,x1,y1 in 0..1 of the picture, e.g. 0,0.6,1,0.6)"),
        (
            "0,400,640,400",
            "--line 0,400,640,400: 400.0 looks like pixels, coordinates go from 0 to 1 "
            "(divide x by the picture's width and y by its height)",
        ),
        (
            "0.5,0.5,0.5,0.5",
            "--line 0.5,0.5,0.5,0.5: two points after each other are the same (give A and B their own places)",
        ),
    ],
)
def test_a_line_that_cannot_be_meant(line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        config_from_videos(["a.mp4"], [line])
    assert str(caught.value) == complaint
    assert caught.value.exit_code == 2


def test_two_lines_of_one_name() -> None:
    with pytest.raises(UsageError, match="the name 'a' is there twice"):
        config_from_videos(["a.mp4"], ["a=0,0,1,1", "a=0,0,1,0.5"])


def test_a_wrong_anchor_or_class_or_rate() -> None:
    with pytest.raises(UsageError, match=r"anchor must be bottom_center, center or top_center, not 'middle'"):
        config_from_videos(["a.mp4"], ["0,0,1,1"], anchor="middle")
    with pytest.raises(ConfigError, match=r"the model passerby-nano has no class or group 'perosn' .*'person'"):
        config_from_videos(["a.mp4"], ["0,0,1,1"], classes=["perosn"], classes_of=lambda _: ["person"])
    with pytest.raises(ConfigError, match=r"^sample_fps: must be above 0, not 0"):
        config_from_videos(["a.mp4"], sample_fps=0)


def test_it_can_be_shown_and_read_again() -> None:
    config = config_from_videos(["rtsp://u:geheim12@h/x"], ["0,0.6,1,0.6"], sample_fps=5)
    text = config.redacted_yaml()
    assert "geheim12" not in text
    again = read_config(text, "f", Path.cwd(), {})
    assert again.camera("h-x").rules() == config.camera("h-x").rules()
