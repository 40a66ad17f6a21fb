"""Where a clip is cut: at people that move."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.clip_crop import (
    BLOCK_PX,
    best_crop,
    clip_weights,
    crop_at,
    crop_pixels,
    cut,
    gray_grid,
    held_weights,
)

NOBODY = np.zeros((0, 4), np.float32)
NO_SCORE = np.zeros(0, np.float32)


def _moving(at: tuple[int, int], size: int = 8, shape: tuple[int, int] = (48, 80)) -> np.ndarray:
    """Eight grids in which a square blinks at (x, y)."""
    grays = np.full((8, *shape), 90, np.uint8)
    x, y = at
    grays[::2, y : y + size, x : x + size] = 200
    return grays


def test_the_grid_is_the_mean_green_of_its_squares() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (4 * BLOCK_PX + 3, 6 * BLOCK_PX + 1, 3), dtype=np.uint8)
    grid = gray_grid(picture)
    assert grid.shape == (4, 6)
    assert grid.dtype == np.uint8
    square = picture[BLOCK_PX : 2 * BLOCK_PX, 5 * BLOCK_PX : 6 * BLOCK_PX, 1]
    assert grid[1, 5] == int(square.mean())


@pytest.mark.parametrize("size", [(4, 4), (5, 11), (90, 160), (234, 417)])
def test_every_cell_of_the_grid_is_the_mean_of_its_own_square(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    grid = gray_grid(picture[:, ::-1])  # a view, as crops and decoders hand them out
    for y, x in np.ndindex(size[0] // BLOCK_PX, size[1] // BLOCK_PX):
        square = picture[:, ::-1][y * BLOCK_PX : (y + 1) * BLOCK_PX, x * BLOCK_PX : (x + 1) * BLOCK_PX, 1]
        assert grid[y, x] == int(square.sum()) // BLOCK_PX**2


def test_the_weights_of_a_clip_are_those_of_its_frames_whoever_else_is_in_it() -> None:
    """Presence is a sum over the frames: each frame's people count with that frame's scores."""
    random = np.random.default_rng(3)
    corners = [random.uniform(0, 0.6, (n, 2)) for n in (0, 3, 1, 0, 0, 2, 5, 0)]
    boxes = [np.hstack([each, each + 0.3]).astype(np.float32) for each in corners]
    scores = [random.uniform(0.1, 1, len(each)).astype(np.float32) for each in corners]
    grays = _moving((30, 20), size=24)
    together = clip_weights(grays, boxes, scores)
    nobody = clip_weights(grays, [NOBODY] * 8, [NO_SCORE] * 8)
    apart = np.zeros_like(together)
    for n in range(8):
        others = [(boxes[i], scores[i]) if i == n else (NOBODY, NO_SCORE) for i in range(8)]
        apart += clip_weights(grays, [box for box, _ in others], [score for _, score in others]) - nobody
    np.testing.assert_allclose(together, apart + nobody, rtol=1e-4, atol=1e-4)
    assert together.max() > 2 * nobody.max()


def test_the_crop_goes_where_people_move_and_not_where_trees_do() -> None:
    grays = np.maximum(_moving((10, 10)), _moving((60, 30)))
    person = np.array([[60 / 80, 30 / 48, 68 / 80, 38 / 48]], np.float32)
    boxes, scores = [person] * 8, [np.array([0.9], np.float32)] * 8
    x0, y0, x1, y1 = best_crop(clip_weights(grays, boxes, scores), 0.35, 0.42)
    assert (x1 - x0, y1 - y0) == pytest.approx((0.35, 0.42))
    assert x0 <= 60 / 80
    assert x1 >= 68 / 80
    assert y0 <= 30 / 48
    assert y1 >= 38 / 48
    assert 0 <= x0 < x1 <= 1
    assert 0 <= y0 < y1 <= 1
    stronger = grays.copy()
    stronger[::2, 10:18, 10:18] = 255
    left, *_ = best_crop(clip_weights(stronger, boxes, scores, persons=False), 0.35, 0.42)
    assert left < 0.3, "by motion alone it goes to the tree"


def test_without_anybody_motion_decides_and_without_motion_the_middle() -> None:
    weights = clip_weights(_moving((64, 2)), [NOBODY] * 8, [NO_SCORE] * 8)
    x0, y0, x1, _ = best_crop(weights, 0.35, 0.42)
    assert x0 <= 0.8
    assert x1 >= 0.9
    assert y0 == pytest.approx(0, abs=0.05)
    still = clip_weights(np.full((8, 48, 80), 90, np.uint8), [NOBODY] * 8, [NO_SCORE] * 8)
    assert best_crop(still, 0.5, 0.5) == (0.25, 0.25, 0.75, 0.75)
    assert best_crop(still, 0.5, 0.5, (0.1, 0.1, 0.6, 0.6), 0.8) == (0.1, 0.1, 0.6, 0.6)


def test_the_last_crop_is_kept_while_it_holds_enough() -> None:
    first = best_crop(clip_weights(_moving((30, 20)), [NOBODY] * 8, [NO_SCORE] * 8), 0.35, 0.42)
    nearby = clip_weights(_moving((33, 21)), [NOBODY] * 8, [NO_SCORE] * 8)
    assert best_crop(nearby, 0.35, 0.42, first, 0.5) == first
    assert best_crop(nearby, 0.35, 0.42, None) != first
    elsewhere = clip_weights(_moving((66, 2)), [NOBODY] * 8, [NO_SCORE] * 8)
    assert best_crop(elsewhere, 0.35, 0.42, first, 0.5) != first


def test_every_place_holds_what_is_under_it_and_its_middle_twice() -> None:
    weights = np.random.default_rng(4).uniform(0, 1, (24, 30)).astype(np.float32)
    held = held_weights(weights, 0.4, 0.5)
    assert held.shape == (24 - 12 + 1, 30 - 12 + 1)
    for y, x in np.ndindex(held.shape):
        under = weights[y : y + 12, x : x + 12].astype(np.float64)
        assert held[y, x] == pytest.approx(under.sum() + under[3:9, 3:9].sum())
    best = np.unravel_index(held.argmax(), held.shape)
    assert best_crop(weights, 0.4, 0.5) == crop_at(int(best[0]), int(best[1]), weights, 0.4, 0.5)
    for y, x in np.ndindex(held.shape):
        last = crop_at(y, x, weights, 0.4, 0.5)
        assert last == pytest.approx((x / 30, y / 24, x / 30 + 0.4, y / 24 + 0.5))
        for keep in (0.8, 0.95):
            assert (best_crop(weights, 0.4, 0.5, last, keep) == last) == (held[y, x] >= keep * held.max())


@pytest.mark.parametrize("size", [(416, 234), (352, 288), (64, 36)])
def test_crops_of_one_size_have_one_size_in_pixels_wherever_they_are(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.arange(width * height * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    shapes = set()
    for x in np.linspace(0, 0.65, 23):
        for y in np.linspace(0, 0.58, 17):
            crop = (float(x), float(y), float(x) + 0.35, float(y) + 0.42)
            x0, y0, x1, y1 = crop_pixels(crop, width, height)
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height
            piece = cut(picture, crop)
            assert piece.base is not None, "a view, not a copy"
            shapes.add(piece.shape)
    assert len(shapes) == 1
