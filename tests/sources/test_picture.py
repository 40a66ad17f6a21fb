"""The picture the model gets: right colours, right size, right way up, compared with FFmpeg's own command."""

from __future__ import annotations

import gc
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import SourceUnreadable
from pipeline.sources.video_picture import PictureMaker
from tests.sources.material import number_of, numbered, settings_for, take_all, write_clip

_COLOURS = [(16, 16, 16), (128, 128, 128), (235, 235, 235), (200, 40, 40), (40, 180, 60), (50, 60, 200), (220, 200, 40)]


def stripes(width: int, height: int) -> NDArray[np.uint8]:
    """Vertical stripes of known colours."""
    picture = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, len(_COLOURS) + 1).astype(int)
    for colour, left, right in zip(_COLOURS, edges, edges[1:], strict=False):
        picture[:, left:right] = colour
    return picture


def colours_of(picture: NDArray[Any]) -> NDArray[np.float64]:
    """The mean colour in the middle of each stripe."""
    height, width = picture.shape[:2]
    step = width / len(_COLOURS)
    middles = [(i + 0.5) * step for i in range(len(_COLOURS))]
    return np.array(
        [picture[height // 4 : -height // 4, int(m - step / 5) : int(m + step / 5)].mean(axis=(0, 1)) for m in middles]
    )


def frame_of(
    rgb: NDArray[np.uint8], pix_fmt: str, *, full: bool = False, matrix: int | None = None, tag: bool = True
) -> av.VideoFrame:
    """``rgb`` as a decoder would give it."""
    kw: dict[str, Any] = {"format": pix_fmt}
    if full:
        kw["dst_color_range"] = 2
    if matrix is not None:
        kw["dst_colorspace"] = matrix
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(**kw)
    if not tag:
        frame.colorspace = 2  # unspecified
    return frame


@pytest.mark.parametrize(
    ("pix_fmt", "full", "matrix", "tag"),
    [
        ("yuv420p", False, 5, True),
        ("yuv420p", False, 1, True),
        ("yuv420p", True, 1, True),
        ("yuv420p", True, 5, True),
        ("yuvj420p", False, 5, True),
        ("yuvj422p", False, 5, False),
        ("yuv444p", False, 1, True),
        ("yuv420p10le", False, 1, True),
        ("nv12", False, 5, True),
        ("yuyv422", False, 5, False),
        ("rgb24", False, None, True),
        ("gbrp", False, None, True),
        ("bgra", False, None, True),
    ],
)
def test_colours_and_brightness_survive(pix_fmt: str, full: bool, matrix: int | None, tag: bool) -> None:
    frame = frame_of(stripes(640, 360), pix_fmt, full=full, matrix=matrix, tag=tag)
    got = colours_of(PictureMaker(lambda w, h: (320, 192)).picture(frame))
    assert np.abs(got - np.array(_COLOURS)).max() <= 4.0


def test_grey_stays_grey() -> None:
    grey = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (360, 1))
    got = PictureMaker(lambda w, h: (640, 360)).picture(av.VideoFrame.from_ndarray(grey, format="gray"))
    assert np.abs(got.astype(int).mean(axis=(0, 2)) - grey[0]).max() <= 3


@pytest.mark.parametrize(("lines", "matrix"), [(1080, 1), (720, 1), (480, 5), (288, 5)])
def test_untagged_video_is_taken_for_what_its_size_says(lines: int, matrix: int) -> None:
    width = lines * 16 // 9 // 2 * 2
    frame = frame_of(stripes(width, lines), "yuv420p", matrix=matrix, tag=False)
    got = colours_of(PictureMaker(lambda w, h: (320, 192)).picture(frame))
    assert np.abs(got - np.array(_COLOURS)).max() <= 4.0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="FFmpeg's command is not here")
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])
def test_a_file_looks_as_ffmpeg_shows_it(tmp_path: Path, pix_fmt: str) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg" if pix_fmt == "yuvj420p" else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, pix_fmt
        if pix_fmt == "yuvj420p":
            stream.codec_context.color_range = 2
        for _ in range(3):
            out.mux(stream.encode(frame_of(stripes(640, 360), pix_fmt)))
        out.mux(stream.encode(None))
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-vf", "scale=320:192:flags=area",
         "-pix_fmt", "rgb24", "-f", "rawvideo", "-"], capture_output=True, check=True,
    ).stdout  # fmt: skip
    expected = np.frombuffer(raw, np.uint8).reshape(192, 320, 3).astype(float)
    got = take_all(path, (320, 192)).frames[0].frame.picture.astype(float)
    # A range taken for the other one shifts dark and bright stripes by 12 to 16.
    assert np.abs(got.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 2.0
    assert np.abs(colours_of(got) - colours_of(expected)).max() <= 3.0


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_a_phone_held_upright_is_shown_upright(tmp_path: Path, degrees: int, turns: int) -> None:
    path = tmp_path / "phone.mp4"
    upright = numbered(0b101100111001)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stored = np.rot90(upright, -turns)
        stream.width, stream.height, stream.pix_fmt = stored.shape[1], stored.shape[0], "yuv420p"
        stream.set_display_rotation(degrees)
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")))
        out.mux(stream.encode(None))
    taken = take_all(path, preview="all", masks=(((0.75, 0.67), (1.2, 0.67), (1.2, 1.2), (0.75, 1.2)),))
    frame = taken.frames[0]
    assert (frame.width, frame.height) == (160, 96)
    assert frame.frame.preview is not None
    for picture in (frame.frame.picture, frame.frame.preview):
        assert picture.shape == (96, 160, 3)
        assert picture.flags.c_contiguous
        # The mask lies over the last bit (bottom right as shown), which is a 1 and now reads as 0.
        assert number_of(picture) == 0b001100111001


def test_a_mirrored_picture_is_mirrored_back(tmp_path: Path) -> None:
    path = tmp_path / "mirror.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        flipped = np.ascontiguousarray(numbered(0b000001110001)[:, ::-1])
        out.mux(stream.encode(av.VideoFrame.from_ndarray(flipped, format="rgb24")))
        out.mux(stream.encode(None))
    assert number_of(take_all(path).frames[0].frame.picture) == 0b000001110001


def test_preview_sizes() -> None:
    maker = PictureMaker(lambda w, h: (96, 64), preview_width=200)
    wide = maker.preview(frame_of(stripes(640, 361 - 1), "yuv420p"))
    small = maker.preview(frame_of(stripes(100, 60), "yuv420p"))
    assert wide.shape == (112, 200, 3)
    assert small.shape == (60, 100, 3)


def test_a_kind_of_frame_that_cannot_be_converted_is_named() -> None:
    frame = av.VideoFrame(64, 64, "bayer_rggb8")
    try:
        picture = PictureMaker(lambda w, h: (32, 32)).picture(frame)
    except SourceUnreadable as error:
        assert "bayer_rggb8" in str(error)
    else:
        assert picture.shape == (32, 32, 3)


def test_settings_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="sample_fps"):
        settings_for("x.mp4", sample_fps=0)
    with pytest.raises(ValueError, match="three points"):
        settings_for("x.mp4", masks=(((0, 0), (1, 1)),))


_OWN_SIZE = (208, 112)  # of no other test: a reader that one of them left hanging may decode all the while


def _decoded_frames_alive() -> int:
    # The RGB frames live on in the pictures, whose memory they are.
    frames = (o for o in gc.get_objects() if type(o) is av.VideoFrame and o.format.name != "rgb24")
    return sum((frame.width, frame.height) == _OWN_SIZE for frame in frames)


def test_decoded_frames_are_freed_at_once(tmp_path: Path) -> None:
    """A circle of references keeps 3 MB a 1080p frame until the garbage collector runs: none may be made."""
    path = write_clip(tmp_path / "a.mp4", frames=30, size=_OWN_SIZE)
    gc.collect()
    gc.disable()
    try:
        taken = take_all(path, sample_fps=25.0, preview="all", masks=(((0, 0), (0.5, 0), (0, 0.5)),))
        alive = _decoded_frames_alive()
    finally:
        gc.enable()
    assert len(taken.frames) == 30
    assert alive <= 2
