"""Pictures as bytes: raw RGB or JPEG (libjpeg-turbo, by simplejpeg)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import simplejpeg

from pipeline.core.frame import Picture
from pipeline.errors import RecordMalformed

Encoding = Literal["raw", "jpeg"]
MAX_PIXELS = 2**26
"""Of a picture that ``decode`` makes: 200 MB."""


def encode(picture: Picture, encoding: Encoding, quality: int = 85) -> bytes:
    """``picture`` (H x W x 3 uint8 RGB) as bytes. JPEG keeps 4:2:0 chroma; ``quality`` is 1..100."""
    if encoding == "raw":
        return np.ascontiguousarray(picture).tobytes()
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded


def decode(data: bytes | memoryview, encoding: Encoding, height: int, width: int) -> Picture:
    """The picture (H x W x 3 uint8 RGB) that ``data`` holds; RecordMalformed if it does not."""
    if encoding == "raw":
        if len(data) != height * width * 3:
            raise RecordMalformed(f"a raw picture of {width}x{height} has {height * width * 3} bytes, not {len(data)}")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    try:
        # The size first: a few bytes of JPEG can claim a picture of 12 GB.
        told_height, told_width, *_ = simplejpeg.decode_jpeg_header(data)
        if (told_height, told_width) != (height, width):
            raise RecordMalformed(f"a JPEG of {told_width}x{told_height} where {width}x{height} was announced")
        if height * width > MAX_PIXELS:
            raise RecordMalformed(f"a picture of {width}x{height} is larger than {MAX_PIXELS} pixels")
        picture: Picture = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise RecordMalformed(f"not a JPEG picture: {error}") from error
    return picture
