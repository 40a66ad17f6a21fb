"""What is under a privacy mask never leaves the source: change it as you like, no byte of any picture changes."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.core.rules import Point
from pipeline.sources.masking import mask_pixels
from pipeline.sources.video_picture import PictureMaker

unit = st.integers(-8, 72).map(lambda n: n / 64)
points = st.tuples(unit, unit)
polygons = st.lists(points, min_size=3, max_size=6).map(tuple)
sizes = st.sampled_from([(96, 64), (160, 96), (97, 61), (320, 192), (40, 24), (64, 96)])


def source_mask(polygon: tuple[Point, ...], width: int, height: int) -> NDArray[np.bool_]:
    """The source pixels whose centre or corner is in the polygon (even-odd)."""
    inside = np.zeros((height, width), bool)
    corners = [(x * width, y * height) for x, y in polygon]
    for dx, dy in ((0.5, 0.5), (0.01, 0.01), (0.99, 0.01), (0.01, 0.99), (0.99, 0.99)):
        x = (np.arange(width) + dx)[None, :]
        y = (np.arange(height) + dy)[:, None]
        at = np.zeros((height, width), bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y0 != y1:
                at ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        inside |= at
    return inside


def decoded(luma_and_chroma: NDArray[np.uint8], width: int, height: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(luma_and_chroma, format="yuv420p")


def hidden_content(base: NDArray[np.uint8], mask: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """``base`` (planes of 4:2:0) with everything under the mask replaced, chroma that touches it included."""
    height, width = mask.shape
    rng = np.random.default_rng(seed)
    changed = base.copy()
    noise = rng.integers(0, 256, base.shape, dtype=np.uint8)
    luma = changed[:height]
    luma[mask] = noise[:height][mask]
    touched = mask.reshape(height // 2, 2, width // 2, 2).any(axis=(1, 3)).ravel()
    for plane in (0, 1):
        start = height * width + plane * touched.size
        flat = changed.reshape(-1)
        at = start + np.flatnonzero(touched)
        flat[at] = noise.reshape(-1)[at]
    return changed


@given(polygons, sizes, st.sampled_from([(320, 240), (176, 144), (64, 48), (640, 360)]), st.integers(0, 2**31))
@settings(deadline=None, max_examples=100)
def test_nothing_under_a_mask_shows(
    polygon: tuple[Point, ...], size: tuple[int, int], source: tuple[int, int], seed: int
) -> None:
    width, height = source
    base = np.random.default_rng(seed).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)
    mask = source_mask(polygon, width, height)
    one = hidden_content(base, mask, 1)
    two = hidden_content(base, mask, 2)
    maker = PictureMaker(lambda w, h: size, (polygon,), preview_width=100)
    for make in (maker.picture, maker.preview):
        assert np.array_equal(make(decoded(one, width, height)), make(decoded(two, width, height)))


def test_the_mask_is_black_and_the_rest_is_untouched() -> None:
    grey = np.full((360, 320), 128, np.uint8)
    square = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    plain = PictureMaker(lambda w, h: (160, 120)).picture(decoded(grey, 320, 240))
    masked = PictureMaker(lambda w, h: (160, 120), (square,)).picture(decoded(grey, 320, 240))
    assert (masked[30:90, 40:120] == 0).all()
    changed = (masked != plain).any(axis=2)
    ys, xs = np.nonzero(changed)
    # Grown by a few pixels, not by more.
    assert ys.min() >= 30 - 6
    assert ys.max() < 90 + 6
    assert xs.min() >= 40 - 6
    assert xs.max() < 120 + 6


@pytest.mark.parametrize("source", [(1920, 1080), (352, 288)])
def test_the_growth_stays_small(source: tuple[int, int]) -> None:
    square = ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))
    picture = np.full((source[1] * 3 // 2, source[0]), 128, np.uint8)
    made = PictureMaker(lambda w, h: (640, 384), (square,)).picture(decoded(picture, *source))
    share = (made == 0).all(axis=2).mean()
    assert 0.04 <= share <= 0.06


def test_a_mask_that_crosses_itself_or_leaves_the_picture_is_painted_where_it_is() -> None:
    bow_tie = ((-0.5, 0.0), (0.5, 1.0), (0.5, 0.0), (-0.5, 1.0))
    pixels = mask_pixels((bow_tie,), 40, 40, (0.0, 0.0))
    rows, columns = np.divmod(pixels, 40)
    assert columns.max() <= 20
    assert (rows == 0).any()
    assert not ((rows == 2) & (columns == 2)).any()
    assert mask_pixels((), 40, 40, (1.0, 1.0)).size == 0
