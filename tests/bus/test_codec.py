"""A window through bytes and back."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.codec import WindowFacts, decode_window, encode_window, frame_times, renumbered, window_facts
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


def _signed(body: bytes) -> bytes:
    """A record with the right checksum, so that what is behind the checksum is tested, too."""
    return b"PBW1" + zlib.crc32(body).to_bytes(4, "big") + body


def _with_header(**changed: Any) -> bytes:
    record = encode_window(_window(2, StreamStatus("up", "first frame", 5)), "raw")
    length = int.from_bytes(record[8:12], "big")
    header = json.loads(record[12 : 12 + length]) | changed
    told = json.dumps({key: value for key, value in header.items() if value is not None}).encode()
    return _signed(len(told).to_bytes(4, "big") + told + record[12 + length :])


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
    whole = encode_window(_window(1), "jpeg")
    record = bytearray(whole)
    record[at % len(record)] = value
    for damaged in (bytes(record), bytes(record[: at % len(record)])):
        if damaged != whole:
            with pytest.raises(RecordMalformed):
                decode_window(damaged)


def test_malformed_records_are_told_apart() -> None:
    record = encode_window(_window(), "raw")
    with pytest.raises(RecordMalformed, match="begins with"):
        decode_window(b"XXXX" + record[4:])
    with pytest.raises(RecordMalformed, match="not as it was sent"):
        decode_window(record[:-1])
    with pytest.raises(RecordMalformed, match="cut short"):
        decode_window(_signed(record[8:-1]))
    with pytest.raises(RecordMalformed, match="cut short"):
        decode_window(record[:11])
    with pytest.raises(RecordMalformed, match="cut short"):
        decode_window(_signed(b"\xff\xff\xff\xff{}"))
    with pytest.raises(RecordMalformed, match="too many"):
        decode_window(_signed(record[8:] + b"!"))
    with pytest.raises(RecordMalformed, match="announced"):
        decode(encode(np.zeros((4, 4, 3), np.uint8), "jpeg"), "jpeg", 8, 8)


def test_the_facts_of_a_record_are_told_without_its_pictures() -> None:
    window = _window()
    facts = window_facts(encode_window(window, "jpeg"))
    assert (facts.camera_id, facts.epoch, facts.sequence, facts.frames) == (
        window.camera_id, window.epoch, window.sequence, len(window.frames),
    )  # fmt: skip
    assert facts.last_us == window.frames[-1].captured_at_us
    down = FrameWindow("gate", 3, 9, (), 0, 0, 8.0, "wall", StreamStatus("down", "no frame", 5), writer="w")
    assert window_facts(encode_window(down)) == WindowFacts("gate", 3, 9, "w", 0, None, down.status)
    with pytest.raises(RecordMalformed):
        window_facts(b"PBW1\x00\x00\x00\x02[]")


def test_a_renumbered_record_is_what_the_renumbered_window_gives() -> None:
    window = _window()
    assert renumbered(encode_window(window, "jpeg"), 12, 34) == encode_window(
        replace(window, epoch=12, sequence=34), "jpeg"
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"camera_id": 5}, "camera_id must be text"),
        ({"epoch": None}, "missing or unknown: epoch"),
        ({"odd": 1}, "missing or unknown: odd"),
        ({"epoch": True}, "epoch must be a whole number"),
        ({"epoch": -1}, "epoch must be a whole number"),
        ({"epoch": 1.5}, "epoch must be a whole number"),
        ({"sequence": 2**63}, "sequence must be a whole number"),
        ({"size": [1, 2, 3]}, "size must be"),
        ({"size": "12"}, "size must be"),
        ({"sample_fps": "8"}, "sample_fps must be a number"),
        ({"sample_fps": 10**400}, "sample_fps must be a number|not JSON"),
        ({"time_source": "sun"}, "time_source must be pts or wall or ntp"),
        ({"encoding": "png"}, "encoding must be raw or jpeg"),
        ({"frames": 5}, "frames must be a list"),
        ({"frames": [[1, 2, 3]]}, "six whole numbers"),
        ({"frames": [[0, 0, 10**18, 64, 48, 9216]]}, "out of any range"),
        ({"frames": [[0, 0, 1, 0, 48, 9216]]}, "out of any range"),
        ({"frames": [[3, 0, 1, 64, 48, 9216], [3, 1, 2, 64, 48, 9216]]}, "not in order"),
        ({"revision": -5}, "revision must be"),
        ({"writer": 7}, "writer must be text"),
        ({"status": ["up", 5, 5]}, "reason must be text"),
        ({"status": ["gone", "x", 5]}, "state must be up or"),
        ({"status": {}}, "status must be"),
    ],
)
def test_a_header_that_is_odd_is_malformed(changed: dict[str, Any], reason: str) -> None:
    assert decode_window(_with_header()).epoch == 3
    with pytest.raises(RecordMalformed, match=reason):
        decode_window(_with_header(**changed))


def test_a_jpeg_that_claims_more_than_was_announced_is_not_decoded() -> None:
    small = encode(np.zeros((16, 16, 3), np.uint8), "jpeg")
    at = small.index(b"\xff\xc0") + 5  # behind the marker of the frame header: length, precision, height, width
    huge = small[:at] + b"\xff\x00\xff\x00" + small[at + 4 :]
    with pytest.raises(RecordMalformed, match="announced"):
        decode(huge, "jpeg", 16, 16)
    with pytest.raises(RecordMalformed, match="larger than"):
        decode(huge, "jpeg", 0xFF00, 0xFF00)


def test_times_are_read_without_the_pictures() -> None:
    window = _window(3)
    told = [(frame.index, frame.pts_us, frame.captured_at_us) for frame in window.frames]
    assert frame_times(encode_window(window, "raw")) == told
