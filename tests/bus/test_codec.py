"""A window through bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.codec import decode_window, encode_window
from pipeline.bus.images import decode, encode
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.errors import RecordMalformed


def _window(frames: int = 3, status: StreamStatus | None = None) -> FrameWindow:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (frames, 6, 8, 3), dtype=np.uint8)
    pictures = np.repeat(np.repeat(coarse, 8, 1), 8, 2)
    return FrameWindow(
        "gate", 3, 7,
        tuple(Frame(n * 3, n * 125_000, 1_767_254_400_000_000 + n * 125_000, pictures[n]) for n in range(frames)),
        1920, 1080, 8.0, "wall", status,
    )  # fmt: skip


def test_raw_gives_back_every_byte() -> None:
    window = _window(status=StreamStatus("up", "first frame", 5))
    back = decode_window(encode_window(window, "raw"))
    assert (back.camera_id, back.epoch, back.sequence, back.width, back.height) == ("gate", 3, 7, 1920, 1080)
    assert (back.sample_fps, back.time_source, back.status) == (8.0, "wall", window.status)
    for was, now in zip(window.frames, back.frames, strict=True):
        assert (was.index, was.pts_us, was.captured_at_us) == (now.index, now.pts_us, now.captured_at_us)
        assert np.array_equal(was.picture, now.picture)


def test_jpeg_is_smaller_near_and_the_same_every_time() -> None:
    window = _window()
    record = encode_window(window, "jpeg", 85)
    assert record == encode_window(window, "jpeg", 85)
    assert len(record) < len(encode_window(window, "raw"))
    back = decode_window(record).frames[0].picture.astype(int)
    assert abs(back - window.frames[0].picture).mean() < 12


def test_a_status_travels_without_frames() -> None:
    window = FrameWindow("gate", 1, 0, (), 0, 0, 8.0, "pts", StreamStatus("ended", "end of file", 9))
    assert decode_window(encode_window(window)) == window


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_flipped_or_cut_record_is_a_window_or_malformed_never_another_error(at: int, value: int) -> None:
    record = bytearray(encode_window(_window(1), "jpeg"))
    record[at % len(record)] = value
    for damaged in (bytes(record), bytes(record[: at % len(record)])):
        try:
            decode_window(damaged)
        except RecordMalformed as error:
            assert str(error)


def test_malformed_records_are_told_apart() -> None:
    record = encode_window(_window(), "raw")
    with pytest.raises(RecordMalformed, match="begins with"):
        decode_window(b"XXXX" + record[4:])
    with pytest.raises(RecordMalformed, match="cut short"):
        decode_window(record[:-1])
    with pytest.raises(RecordMalformed, match="too many"):
        decode_window(record + b"!")
    with pytest.raises(RecordMalformed, match="announced"):
        decode(encode(np.zeros((4, 4, 3), np.uint8), "jpeg"), "jpeg", 8, 8)
