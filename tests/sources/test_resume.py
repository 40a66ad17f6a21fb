"""Going on behind a frame: what remains is what an undisturbed reading gives, to the last byte."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline.sources.base import SampledFrame, StreamItem
from tests.sources.material import http_files, take_all, write_clip

Told = tuple[int, int, int, str]


def told(items: list[StreamItem]) -> list[Told]:
    return [
        (i.frame.index, i.frame.pts_us, i.frame.captured_at_us, hashlib.sha256(i.frame.picture.tobytes()).hexdigest())
        for i in items
        if isinstance(i, SampledFrame)
    ]


def check(source: str | Path, **options: Any) -> None:
    """From behind every frame (and from before the first) the rest comes, and the ledger holds no more than that."""
    frames = told(take_all(source, **options).items)
    assert len(frames) > 8
    for after in (None, *sorted({0, 1, len(frames) // 2, len(frames) - 2, len(frames) - 1})):
        resume_us = None if after is None else frames[after][2]
        part = take_all(source, resume_after_us=resume_us, first_epoch=7, **options)
        assert told(part.items) == frames[0 if after is None else after + 1 :]
        assert part.states[-1] == "ended"
        assert part.epochs == [] or part.epochs[0].epoch == 7
        assert part.ledger is not None
        assert part.ledger.balanced
        assert part.ledger.captured - part.ledger.sampled_out == len(told(part.items))


def test_a_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=70, fps=25.0, b_frames=2)
    check(clip, sample_fps=8.0, start_us=1_767_254_400_000_000)


def test_a_file_with_irregular_times(tmp_path: Path) -> None:
    times, at_s = [], 0.0
    for n in range(60):
        times.append(at_s)
        at_s += 0.03 + 0.11 * ((n * 7919) % 13) / 13
    check(write_clip(tmp_path / "clip.mkv", times), sample_fps=5.0)


def test_a_folder_of_clips_goes_on_in_the_middle_of_one(tmp_path: Path) -> None:
    for n in range(3):
        write_clip(tmp_path / f"{n}.mp4", frames=25, first=100 * n)
    (tmp_path / "1a.mp4").write_bytes(b"no video")
    frames = told(take_all(tmp_path).items)
    assert len(frames) == 24
    for after in range(0, len(frames), 3):
        part = take_all(tmp_path, resume_after_us=frames[after][2])
        assert told(part.items) == frames[after + 1 :]


def test_a_scripted_street() -> None:
    check("synthetic://street?seed=3&duration=12&width=160&height=160&fps=12.5", sample_fps=2.0)


def test_a_recording_over_http(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=60)
    with http_files(tmp_path) as url:
        frames = told(take_all(f"{url}/clip.mp4").items)
        part = take_all(f"{url}/clip.mp4", resume_after_us=frames[9][2])
        assert told(part.items) == frames[10:]


def test_a_live_source_takes_no_notice(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    assert take_all(clip, mode="realtime", resume_after_us=1 << 60).frames


@pytest.mark.parametrize("after_us", [-1, 10**15])
def test_a_place_before_the_beginning_or_behind_the_end(tmp_path: Path, after_us: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    taken = take_all(clip, resume_after_us=after_us)
    assert (len(taken.frames) > 0) == (after_us < 0)
    assert taken.states[-1] == "ended"
