"""HTTP, HLS, MJPEG, and local files played as cameras."""

from __future__ import annotations

import io
import socket
import threading
import time
from pathlib import Path

import av
import pytest
from PIL import Image

from pipeline.errors import SourceDenied, SourceUnavailable, SourceUnreadable
from pipeline.sources.address import Address, locate
from pipeline.sources.base import SampledFrame
from pipeline.sources.video import Video, input_format, open_options
from pipeline.sources.video_errors import translate
from tests.sources.material import (
    Watched,
    http_files,
    http_mjpeg,
    number_of,
    numbered,
    settings_for,
    take_all,
    write_clip,
)


def jpeg(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(numbered(number)).save(out, format="JPEG", quality=90)
    return out.getvalue()


def test_a_file_over_http_is_read_whole_at_its_own_times(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=100)
    with http_files(tmp_path) as url:
        taken = take_all(f"{url}/a.mp4", sample_fps=25.0)
    assert [number_of(f.frame.picture) for f in taken.frames] == list(range(100))
    assert [f.frame.captured_at_us for f in taken.frames] == [i * 40_000 for i in range(100)]
    assert taken.epochs[0].time_source == "pts"
    assert taken.states == ["up", "ended"]
    assert taken.ledger is not None
    assert taken.ledger.balanced
    assert taken.ledger.dropped == {}


def test_a_finished_hls_playlist_is_a_recording(tmp_path: Path) -> None:
    with av.open(
        str(tmp_path / "index.m3u8"), "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}
    ) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"g": "25", "bf": "0"}
        for i in range(100):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        out.mux(stream.encode(None))
    with http_files(tmp_path) as url:
        taken = take_all(f"{url}/index.m3u8", sample_fps=25.0, stall_timeout_s=5.0)
    assert [number_of(f.frame.picture) for f in taken.frames] == list(range(100))
    assert taken.states[-1] == "ended"


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("missing.mp4", SourceUnreadable, "not found"),
        ("missing", SourceUnreadable, "not found"),
        ("notes.txt", SourceUnreadable, "no video|text"),
    ],
)
def test_a_wrong_url_ends_with_one_clear_line(tmp_path: Path, path: str, error: type[Exception], words: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see\n" * 50)
    with http_files(tmp_path) as url:
        taken = take_all(f"{url}/{path}")
    assert isinstance(taken.error, error)
    with pytest.raises(error, match=words):
        raise taken.error
    assert taken.statuses == [("down", str(taken.error))]


def test_a_recording_on_a_server_that_is_not_there_fails_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    taken = take_all(f"http://127.0.0.1:{port}/a.mp4")
    assert isinstance(taken.error, SourceUnavailable)
    assert "connection refused" in str(taken.error)


def test_a_missing_hls_stream_is_waited_for(tmp_path: Path) -> None:
    with http_files(tmp_path) as url, Watched(settings_for(f"{url}/cam.m3u8")) as camera:
        camera.wait(lambda taken: taken.states == ["down"])
        assert "404" in camera.taken.statuses[0][1]
        with av.open(str(tmp_path / "cam.m3u8"), "w", format="hls", options={"hls_list_size": "0"}) as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
            for i in range(50):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
            out.mux(stream.encode(None))
        camera.wait(lambda taken: taken.states[-1] == "ended")
    assert len(camera.taken.frames) == 16


def test_pictures_without_timestamps_are_sampled_by_arrival() -> None:
    """FFmpeg gives every MJPEG stream 25 fps; this one sends 5: all of its frames are wanted at 8."""
    with http_mjpeg([jpeg(i) for i in range(50)], fps=5.0) as url, Watched(settings_for(f"{url}/video.cgi")) as camera:
        camera.more_frames(12)
    taken = camera.taken
    assert taken.epochs[0].time_source == "wall"
    assert taken.ledger is not None
    assert taken.ledger.sampled_out <= 2
    times = [f.frame.captured_at_us for f in taken.frames]
    assert times == sorted(set(times))
    assert taken.frames[-1].frame.pts_us / 1e6 == pytest.approx((len(taken.frames) - 1) / 5, abs=1.0)


def test_a_slow_consumer_loses_old_frames_and_every_one_is_told() -> None:
    with http_mjpeg([jpeg(i) for i in range(50)], fps=20.0) as url:
        camera = Watched(settings_for(f"{url}/video.cgi", sample_fps=20.0, max_staleness_s=0.3))
        original = camera.ledger.analysed

        def slow(camera_id: str, frames: int) -> None:
            time.sleep(0.25)
            original(camera_id, frames)

        camera.ledger.analysed = slow  # type: ignore[method-assign]
        with camera:
            camera.more_frames(8)
    line = camera.taken.ledger
    assert line is not None
    assert line.dropped.get("stale", 0) >= 10
    assert line.in_flight == 0
    assert line.balanced


def test_a_file_played_as_a_camera_keeps_its_pace(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=50)
    began = time.monotonic()
    taken = take_all(path, mode="realtime")
    assert 1.8 < time.monotonic() - began < 4.0
    assert taken.epochs[0].time_source == "wall"
    assert taken.states == ["up", "ended"]
    assert len(taken.frames) == 16


def test_a_missing_file_played_as_a_camera_fails(tmp_path: Path) -> None:
    assert isinstance(take_all(tmp_path / "none.mp4", mode="realtime").error, SourceUnreadable)


def test_stopping_a_recording_that_nobody_reads_drops_what_is_inside(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=200)
    with http_files(tmp_path) as url:
        camera = Watched(settings_for(f"{url}/a.mp4", sample_fps=25.0))
        gate = threading.Event()
        original = camera.ledger.analysed

        def held(camera_id: str, frames: int) -> None:
            gate.wait(10)
            original(camera_id, frames)

        camera.ledger.analysed = held  # type: ignore[method-assign]
        with camera:
            camera.more_frames(1)
            time.sleep(0.5)
            camera.stop.set()
            gate.set()
    line = camera.taken.ledger
    assert line is not None
    assert line.dropped.get("shutdown", 0) >= 10
    assert line.in_flight == 0
    assert line.balanced


# -- options and errors


def test_options_of_each_kind_of_source() -> None:
    settings = settings_for("x", stall_timeout_s=3.0)
    rtsp = open_options(locate("rtsp://cam/x"), settings)
    assert (rtsp["rtsp_transport"], rtsp["timeout"]) == ("tcp", "3000000")
    assert open_options(locate("rtsp://cam/x"), settings_for("x", transport="udp"))["rtsp_transport"] == "udp"
    assert open_options(locate("http://cam/x.mjpg"), settings) == {"rw_timeout": "3000000"}
    assert open_options(locate("http://server/a.mp4"), settings)["reconnect"] == "1"
    assert open_options(locate("a.mp4"), settings) == {}
    assert (input_format(locate("/dev/video3")), input_format(locate("rtsp://c/x"))) == ("v4l2", "rtsp")
    assert open_options(locate("/dev/video3"), settings) == {"input_format": "mjpeg"}
    assert input_format(locate("http://cam/x")) is None


def test_a_webcam_that_is_not_plugged_in_is_waited_for() -> None:
    with Watched(settings_for("/dev/video97")) as camera:
        camera.wait(lambda taken: bool(taken.states))
    assert camera.taken.states == ["down"]
    assert "no such camera" in camera.taken.statuses[0][1]


def _ffmpeg_errors() -> list[type[Exception]]:
    found = [kind for kind in vars(av.error).values() if isinstance(kind, type) and issubclass(kind, av.FFmpegError)]
    assert len(found) > 30
    return found


@pytest.mark.parametrize("kind", _ffmpeg_errors())
@pytest.mark.parametrize(
    "source", ["rtsp://me:canary7secret@127.0.0.1/x", "http://127.0.0.1/x", "/dev/video9", "/x.mp4"]
)
def test_every_error_of_ffmpeg_has_words_and_no_password(kind: type[Exception], source: str) -> None:
    address = locate(source)
    error = kind(-1, f"something about {address.target}", address.target)
    ours = translate(error, address)
    assert ours.exit_code == 3
    assert address.shown in str(ours)
    assert "canary7secret" not in str(ours)
    assert "\n" not in str(ours)
    if "Unauthorized" in kind.__name__ or "Forbidden" in kind.__name__:
        assert isinstance(ours, SourceDenied)


def test_unknown_hosts_are_called_so() -> None:
    ours = translate(av.error.OSError(5, "Input/output error"), locate("rtsp://no-such-host.invalid/x"))
    assert isinstance(ours, SourceUnavailable)
    assert "no such host" in str(ours)


def test_consumers_see_frames_as_promised(tmp_path: Path) -> None:
    taken = take_all(write_clip(tmp_path / "a.mp4", frames=9), (96, 64), sample_fps=25)
    for item in taken.items:
        if isinstance(item, SampledFrame):
            picture = item.frame.picture
            assert (picture.shape, picture.dtype.name, picture.flags.c_contiguous) == ((64, 96, 3), "uint8", True)


def test_a_webcam_without_mjpeg_is_asked_for_what_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=5)
    asked: list[dict[str, str]] = []
    real = av.open

    def stand_in(target: str, *, options: dict[str, str], **_rest: object) -> object:
        asked.append(options)
        if "input_format" in options:
            raise av.error.ArgumentError(22, "Invalid argument", target)
        return real(str(clip))

    monkeypatch.setattr("pipeline.sources.video.av.open", stand_in)
    device = Address("device", "/dev/video0", "/dev/video0")
    with Video(device, settings_for("/dev/video0")) as video:
        assert video.describe().startswith("h264")
    assert asked == [{"input_format": "mjpeg"}, {}]
