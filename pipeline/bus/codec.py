"""A frame window as the bytes of one record.

    4 bytes   magic "PBW1"
    4 bytes   length of the header, big-endian
    header    JSON: camera, epoch, sequence, source size, clock, encoding, and for each frame its index, times,
              picture size and byte length
    pictures  one after the other

Previews never leave the process and are not encoded.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from pipeline.bus.images import Encoding, decode, encode
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.errors import RecordMalformed

_MAGIC = b"PBW1"
_PREFIX = struct.Struct(">4sI")


def encode_window(window: FrameWindow, encoding: Encoding = "jpeg", quality: int = 85) -> bytes:
    """The record of ``window``."""
    pictures = [encode(frame.picture, encoding, quality) for frame in window.frames]
    header: dict[str, Any] = {
        "camera_id": window.camera_id,
        "epoch": window.epoch,
        "sequence": window.sequence,
        "size": [window.width, window.height],
        "sample_fps": window.sample_fps,
        "time_source": window.time_source,
        "encoding": encoding,
        "frames": [
            [frame.index, frame.pts_us, frame.captured_at_us, frame.picture.shape[1], frame.picture.shape[0], len(data)]
            for frame, data in zip(window.frames, pictures, strict=True)
        ],
    }
    if window.revision >= 0:
        header["revision"] = window.revision
    if window.writer:
        header["writer"] = window.writer
    if window.status is not None:
        header["status"] = [window.status.state, window.status.reason, window.status.at_us]
    told = json.dumps(header, separators=(",", ":")).encode()
    return b"".join([_PREFIX.pack(_MAGIC, len(told)), told, *pictures])


def decode_window(record: bytes) -> FrameWindow:
    """The window a record holds; RecordMalformed, with the reason, when it holds none."""
    try:
        magic, length = _PREFIX.unpack_from(record)
        if magic != _MAGIC:
            raise RecordMalformed(f"not a frame window: begins with {magic!r}")
        header = json.loads(record[_PREFIX.size : _PREFIX.size + length])
        status = header.get("status")
        return FrameWindow(
            header["camera_id"], header["epoch"], header["sequence"],
            tuple(_frames(record, _PREFIX.size + length, header)),
            header["size"][0], header["size"][1], header["sample_fps"], header["time_source"],
            StreamStatus(*status) if status else None,
            header.get("revision", -1), header.get("writer", ""),
        )  # fmt: skip
    except (struct.error, KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordMalformed(f"not a frame window: {type(error).__name__}: {error}") from error


def _frames(record: bytes, offset: int, header: dict[str, Any]) -> list[Frame]:
    body = memoryview(record)
    frames = []
    for index, pts_us, captured_at_us, width, height, length in header["frames"]:
        if offset + length > len(body):
            raise RecordMalformed(f"a frame window is cut short: {len(body)} bytes of at least {offset + length}")
        picture = decode(body[offset : offset + length], header["encoding"], height, width)
        frames.append(Frame(index, pts_us, captured_at_us, picture))
        offset += length
    if offset != len(body):
        raise RecordMalformed(f"a frame window has {len(body) - offset} bytes too many")
    return frames
