"""Files and folders: read whole, in order, at their own times; and what is no video is refused in one line."""

from __future__ import annotations

import random
import threading
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnreadable
from pipeline.sources.base import EpochStarted, SampledFrame, StatusChanged, SystemClock
from pipeline.sources.open import open_stream
from tests.sources.material import Taken, number_of, numbered, settings_for, take_all, write_clip


def numbers(taken: Taken) -> list[int]:
    return [number_of(item.frame.picture) for item in taken.frames]


def balanced(taken: Taken) -> bool:
    line = taken.ledger
    return line is not None and line.balanced and line.in_flight == 0 and not line.dropped


def test_every_frame_in_order_at_its_own_time(tmp_path: Path) -> None:
    taken = take_all(write_clip(tmp_path / "a.mp4", frames=50), sample_fps=25.0)
    assert isinstance(taken.items[0], EpochStarted)
    assert taken.items[0] == EpochStarted(1, "pts", 0)
    assert numbers(taken) == list(range(50))
    assert [f.frame.index for f in taken.frames] == list(range(50))
    assert [f.frame.pts_us for f in taken.frames] == [i * 40_000 for i in range(50)]
    assert [f.frame.captured_at_us for f in taken.frames] == [i * 40_000 for i in range(50)]
    assert isinstance(taken.items[-1], StatusChanged)
    assert taken.statuses == [("ended", "read to its end")]
    assert balanced(taken)
    assert (taken.frames[0].width, taken.frames[0].height) == (160, 96)


def test_b_frames_come_in_the_order_of_showing(tmp_path: Path) -> None:
    taken = take_all(write_clip(tmp_path / "b.mp4", frames=50, b_frames=3), sample_fps=25.0)
    assert numbers(taken) == list(range(50))


def test_sampled_by_time_and_the_rest_is_told_to_the_ledger(tmp_path: Path) -> None:
    taken = take_all(write_clip(tmp_path / "a.mp4", frames=100), sample_fps=8.0)
    assert len(taken.frames) == 32
    assert taken.ledger is not None
    assert (taken.ledger.captured, taken.ledger.analysed, taken.ledger.sampled_out) == (100, 32, 68)


def test_a_lying_declared_rate_and_a_varying_one_do_not_matter(tmp_path: Path) -> None:
    times = [i / 5 for i in range(10)] + [2 + i / 30 for i in range(30)]
    taken = take_all(write_clip(tmp_path / "v.mkv", times, fps=25.0), sample_fps=8.0)
    got_s = [f.frame.pts_us / 1e6 for f in taken.frames]
    assert got_s[:10] == pytest.approx(times[:10], abs=0.001)
    assert len([t for t in got_s if t >= 2]) == 8


def test_the_same_file_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=40)
    one, two = take_all(path), take_all(path)
    for a, b in zip(one.frames, two.frames, strict=True):
        assert (a.frame.index, a.frame.captured_at_us) == (b.frame.index, b.frame.captured_at_us)
        assert np.array_equal(a.frame.picture, b.frame.picture)


def test_start_is_the_time_of_the_first_frame(tmp_path: Path) -> None:
    start_us = 1_767_254_400_000_000
    taken = take_all(write_clip(tmp_path / "a.mp4"), start_us=start_us)
    assert taken.epochs[0].at_us == start_us
    assert taken.frames[0].frame.captured_at_us == start_us
    assert taken.frames[-1].frame.captured_at_us - start_us == taken.frames[-1].frame.pts_us


def test_progress(tmp_path: Path) -> None:
    stream = open_stream(
        settings_for(write_clip(tmp_path / "a.mp4", frames=100)), lambda w, h: (96, 64),
        ledger=FrameLedger(), clock=SystemClock(), stop=threading.Event(),
    )  # fmt: skip
    assert stream.is_finite
    assert (stream.position_s, stream.duration_s) == (0.0, None)
    seen = [stream.position_s for _ in stream]
    assert seen == sorted(seen)
    assert stream.duration_s == pytest.approx(4.0, abs=0.05)
    assert stream.position_s == pytest.approx(4.0, abs=0.05)


def test_stop_ends_it_and_the_ledger_balances(tmp_path: Path) -> None:
    ledger, stop = FrameLedger(), threading.Event()
    settings = settings_for(write_clip(tmp_path / "a.mp4", frames=100))
    got = 0
    with open_stream(settings, lambda w, h: (96, 64), ledger=ledger, clock=SystemClock(), stop=stop) as stream:
        for item in stream:
            if isinstance(item, SampledFrame):
                got += 1
                ledger.analysed("cam", 1)
                if got == 5:
                    stop.set()
            assert not isinstance(item, StatusChanged)
    line = ledger.lines()["cam"]
    assert got == 5
    assert line.balanced
    assert line.in_flight == 0


def test_previews(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=30)
    first = take_all(path, (96, 64), preview="first").frames
    assert first[0].frame.preview is not None
    assert first[0].frame.preview.shape == (96, 160, 3)
    assert all(f.frame.preview is None for f in first[1:])
    assert all(f.frame.preview is not None for f in take_all(path, preview="all").frames)
    assert all(f.frame.preview is None for f in take_all(path).frames)


# -- folders


def test_a_folder_is_read_clip_by_clip_and_time_goes_on(tmp_path: Path) -> None:
    write_clip(tmp_path / "2.mp4", frames=25, first=1000)
    write_clip(tmp_path / "1.mp4", frames=50)
    (tmp_path / "notes.txt").write_text("not a clip")
    write_clip(tmp_path / ".hidden.mp4", frames=10)
    taken = take_all(tmp_path, sample_fps=25.0)
    assert numbers(taken) == [*range(50), *range(1000, 1025)]
    assert [(e.epoch, e.at_us) for e in taken.epochs] == [(1, 0), (2, 2_000_000)]
    captured = [f.frame.captured_at_us for f in taken.frames]
    assert captured == [i * 40_000 for i in range(75)]
    assert [f.frame.index for f in taken.frames][50] == 0
    assert taken.states == ["ended"]
    assert balanced(taken)


def test_one_bad_clip_in_a_folder_costs_only_itself(tmp_path: Path) -> None:
    write_clip(tmp_path / "1.mp4", frames=25)
    (tmp_path / "2.mp4").write_bytes(b"")
    write_clip(tmp_path / "3.mp4", frames=25)
    taken = take_all(tmp_path, sample_fps=25.0)
    assert len(taken.frames) == 50
    assert taken.states == ["down", "ended"]
    assert isinstance(taken.error, SourceUnreadable)
    assert "1 of 3 clips" in str(taken.error)
    assert "2.mp4" in str(taken.error)


def test_a_folder_without_clips(tmp_path: Path) -> None:
    taken = take_all(tmp_path)
    assert taken.states == ["down"]
    assert "no video clips" in str(taken.error)


# -- what is no video


def no_such_file(folder: Path) -> Path:
    return folder / "missing.mp4"


def empty(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.write_bytes(b"")
    return path


def text(folder: Path) -> Path:
    path = folder / "notes.txt"
    path.write_text("These are notes.\n" * 100)
    return path


def text_named_video(folder: Path) -> Path:
    path = folder / "notes.mp4"
    path.write_text("Grüße\n")
    return path


def png(folder: Path) -> Path:
    path = folder / "picture.png"
    Image.fromarray(numbered(7)).save(path)
    return path


def jpeg_named_video(folder: Path) -> Path:
    path = folder / "picture.mp4"
    Image.fromarray(numbered(7)).save(path, format="JPEG")
    return path


def noise(folder: Path) -> Path:
    path = folder / "noise.mp4"
    path.write_bytes(random.Random(5).randbytes(20_000))
    return path


def sound(folder: Path) -> Path:
    path = folder / "sound.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    return path


def index_cut_off(folder: Path) -> Path:
    """An ordinary MP4 has its index at the end: half a file has none."""
    path = folder / "half.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(50):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def no_frames(folder: Path) -> Path:
    path = folder / "zero.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        out.start_encoding()
    return path


def only_the_beginning(folder: Path) -> Path:
    source = write_clip(folder / "whole.mp4")
    path = folder / "cut.mp4"
    path.write_bytes(source.read_bytes()[:900])
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_such_file, "no such file"),
        (empty, "is empty"),
        (text, "is a text file"),
        (text_named_video, "is a text file"),
        (png, "is a picture"),
        (jpeg_named_video, "is a picture"),
        (noise, "is not a video"),
        (sound, "only sound"),
        (index_cut_off, "is not a video, or is damaged"),
        (no_frames, "not one frame|has no video|is not a video"),
        (only_the_beginning, "not one frame|is not a video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, make: object, words: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    taken = take_all(path)
    assert isinstance(taken.error, SourceUnreadable)
    assert taken.error.exit_code == 3
    with pytest.raises(SourceUnreadable, match=words):
        raise taken.error
    assert str(path) in str(taken.error)
    assert "\n" not in str(taken.error)
    assert taken.statuses == [("down", str(taken.error))]
    assert taken.frames == []
    assert balanced(taken)


# -- damage in the middle


def test_a_truncated_file_gives_what_it_has_and_says_where_it_breaks_off(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mkv"
    with av.open(str(whole), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.options = {"g": "12"}
        for i in range(250):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        out.mux(stream.encode(None))
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) * 6 // 10])
    taken = take_all(cut, sample_fps=25.0)
    assert taken.error is None
    assert 100 < len(taken.frames) < 200
    assert numbers(taken) == list(range(len(taken.frames)))
    assert taken.states == ["ended"]
    assert balanced(taken)


def test_a_truncated_mp4_says_where_it_breaks_off(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(250):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        out.mux(stream.encode(None))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 6 // 10])
    taken = take_all(whole, sample_fps=25.0)
    assert len(taken.frames) > 80
    assert taken.states == ["ended"]
    assert "breaks off at" in taken.statuses[0][1]
    assert "of 10.0 s" in taken.statuses[0][1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_flipped_bits_never_hang_or_crash(tmp_path: Path, seed: int, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, frames=100)
    data = bytearray(path.read_bytes())
    rng = random.Random(seed)
    for _ in range(max(3, len(data) // 1500)):
        data[rng.randrange(600, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    taken = take_all(path, sample_fps=25.0)
    assert taken.states[-1] in ("ended", "down")
    assert (taken.error is not None) == (taken.states[-1] == "down")
    assert balanced(taken)
    for epoch in taken.epochs:
        times = [f.frame.captured_at_us for f in taken.frames if f.epoch == epoch.epoch]
        assert times == sorted(set(times))


def test_corrupt_packets_are_counted_and_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.ts", frames=200)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 3 + 2000):
        data[at] ^= 0xFF
    path.write_bytes(data)
    taken = take_all(path, sample_fps=25.0)
    assert len(taken.frames) > 120
    assert "corrupt packet" in taken.statuses[-1][1]


# -- clocks and sizes that change


def test_a_file_with_a_hole_in_its_clock_gives_a_new_epoch_at_the_right_time(tmp_path: Path) -> None:
    path = tmp_path / "reset.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        stream.codec_context.color_range = 2
        packets = []
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        # Two recordings pasted together: the second begins 100 s later, as after a power cut with the clock lost.
        for i, packet in enumerate(packets):
            shift = 100 * 25 if i >= 30 else 0
            packet.pts = packet.dts = i + shift
            packet.time_base = Fraction(1, 25)
            out.mux(packet)
    taken = take_all(path, sample_fps=50.0)
    assert numbers(taken) == list(range(60))
    assert len(taken.epochs) == 2
    captured = [f.frame.captured_at_us for f in taken.frames]
    assert captured == sorted(set(captured))
    assert captured[-1] == pytest.approx(59 * 40_000 + 100e6, abs=50_000)
    second = [f.frame for f in taken.frames if f.epoch == 2]
    assert second[0].pts_us == 0
    assert second[0].index == 0
    assert balanced(taken)


def test_a_change_of_size_in_the_middle(tmp_path: Path) -> None:
    small, large = write_clip(tmp_path / "s.ts", frames=30), tmp_path / "l.ts"
    write_clip(large, [1.2 + i / 25 for i in range(30)], first=100, size=(320, 192))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    taken = take_all(both, (96, 64), sample_fps=25.0, preview="all")
    sizes = [(f.width, f.height) for f in taken.frames]
    assert set(sizes) == {(160, 96), (320, 192)}
    assert sizes == sorted(sizes)
    assert all(f.frame.picture.shape == (64, 96, 3) for f in taken.frames)
    assert balanced(taken)


# -- the real clips


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("uk_dual_carriageway_mpeg4.avi", 748, 30.0),
        ("topdown_road_msmpeg4v2.avi", 374, 12.5),
        ("pedestrians_square.mp4", 242, 8.1),
        ("topdown_cars.mp4", 377, 30.2),
    ],
)
def test_real_clips(shared: Path, name: str, frames: int, seconds: float) -> None:
    taken = take_all(shared / "videos" / name)
    assert taken.ledger is not None
    assert taken.ledger.captured == frames
    assert taken.statuses == [("ended", "read to its end")]
    assert len(taken.frames) == pytest.approx(seconds * 8, abs=2)
    assert taken.frames[-1].frame.pts_us / 1e6 == pytest.approx(seconds, abs=0.25)
    assert balanced(taken)


def test_whoever_asks_is_told_how_long_each_packet_took(tmp_path: Path) -> None:
    took: list[float] = []
    taken = take_all(write_clip(tmp_path / "a.mp4", frames=50), sample_fps=25.0, on_decoded=took.append)
    assert len(taken.frames) == 50
    assert len(took) == 50
    assert all(0 < seconds < 5 for seconds in took)
