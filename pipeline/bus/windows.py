"""A frame window as a record: the bytes of ``codec``, and what one wants to know without decoding them as headers.

epoch, sequence, revision, frames    decimal text; ``frames`` is how many there are
writer                               the worker that made it ("" in one process)
captured_from, captured_to           UTC microseconds of the first and last frame (or of its status); not there
                                     in the window that only marks an epoch's beginning
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bus.base import Message
from pipeline.bus.codec import decode_window, encode_window, renumbered
from pipeline.bus.images import Encoding
from pipeline.bus.json_values import shown
from pipeline.core.frame import FrameWindow
from pipeline.errors import RecordMalformed


@dataclass(frozen=True, slots=True)
class WindowHeaders:
    """What the headers of a window say. captured_*_us: None in a window without frames and status."""

    epoch: int
    sequence: int
    revision: int
    frames: int
    writer: str
    captured_from_us: int | None
    captured_to_us: int | None


def encode_window_message(window: FrameWindow, encoding: Encoding = "jpeg", quality: int = 85) -> Message:
    """The record of ``window``; key camera_id."""
    told = {
        "epoch": str(window.epoch),
        "sequence": str(window.sequence),
        "revision": str(window.revision),
        "frames": str(len(window.frames)),
        "writer": window.writer,
    }
    if window.frames or window.status is not None:
        last = window.frames[-1].captured_at_us if window.frames else window.opened_at_us
        told |= {"captured_from": str(window.opened_at_us), "captured_to": str(last)}
    headers = tuple((name, value.encode()) for name, value in told.items())
    return Message(window.camera_id, encode_window(window, encoding, quality), headers)


def decode_window_message(message: Message) -> FrameWindow:
    """The window that a record holds, whatever its headers say. Raises RecordMalformed."""
    if message.value is None:
        raise RecordMalformed("a frame window has no value")
    window = decode_window(message.value)
    if window.camera_id != message.key:
        raise RecordMalformed(f"the key {shown(message.key)} and the window's camera {window.camera_id!r} differ")
    return window


def renumbered_message(message: Message, epoch: int, sequence: int) -> Message:
    """The record of the same window with another place in the order of its camera; its pictures are left as they are.

    Raises RecordMalformed.
    """
    told = {"epoch": str(epoch).encode(), "sequence": str(sequence).encode()}
    headers = tuple((name, told.get(name, value)) for name, value in message.headers)
    return Message(message.key, renumbered(message.value or b"", epoch, sequence), headers)


def window_headers(message: Message) -> WindowHeaders:
    """What the headers of a window say, without decoding its pictures. Raises RecordMalformed."""
    told = dict(message.headers)
    try:
        writer = told.get("writer", b"").decode()
    except UnicodeDecodeError:
        raise RecordMalformed("a frame window: the header writer is not UTF-8") from None
    return WindowHeaders(
        _number(told, "epoch"), _number(told, "sequence"), _number(told, "revision"), _number(told, "frames"), writer,
        _number(told, "captured_from") if "captured_from" in told else None,
        _number(told, "captured_to") if "captured_to" in told else None,
    )  # fmt: skip


def _number(told: dict[str, bytes], name: str) -> int:
    value = told.get(name, b"")
    digits = value.removeprefix(b"-")
    if not (digits.isdigit() and len(digits) <= 18):
        raise RecordMalformed(f"a frame window: the header {name} must be a whole number, not {shown(value)}")
    return int(value)
