"""The header of a window's record, read and rewritten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.bus.base import Message
from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.windows import decode_window_message, encode_window_message, renumbered_message, window_headers
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.errors import RecordMalformed

_PICTURE = np.random.default_rng(5).integers(0, 255, (32, 64, 3), dtype=np.uint8)
_WINDOW = FrameWindow(
    "gate", 3, 7, tuple(Frame(n * 3, n * 125_000, 5_000_000 + n * 125_000, _PICTURE) for n in range(3)),
    1920, 1080, 8.0, "pts", revision=4, writer="w-1",
)  # fmt: skip


def test_the_facts_of_a_record_are_told_without_its_pictures() -> None:
    record = encode_window_message(_WINDOW).value
    assert record is not None
    assert window_facts(record) == WindowFacts("gate", 3, 7, "w-1", 3, 5_250_000, None)
    down = replace(_WINDOW, frames=(), status=StreamStatus("down", "no frame", 5))
    assert window_facts(encode_window_message(down).value or b"") == WindowFacts(
        "gate", 3, 7, "w-1", 0, None, down.status
    )


@pytest.mark.parametrize("record", [b"", b"PBW1", b"nothing of the kind at all"])
def test_what_is_no_window_has_no_facts(record: bytes) -> None:
    with pytest.raises(RecordMalformed):
        window_facts(record)


def test_a_renumbered_record_is_the_one_that_the_renumbered_window_gives() -> None:
    again = renumbered_message(encode_window_message(_WINDOW, "jpeg"), 12, 34)
    assert again == encode_window_message(replace(_WINDOW, epoch=12, sequence=34), "jpeg")
    assert (decode_window_message(again).epoch, window_headers(again).sequence) == (12, 34)
    with pytest.raises(RecordMalformed):
        renumbered_message(Message("gate", b"broken"), 1, 1)
