"""Pictures into the network's input, and boxes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError
from pipeline.inference.manifest import Manifest
from pipeline.inference.preprocess import assemble, choose_shape, fit
from tests.inference.networks import manifest_for

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def with_shapes(*shapes: tuple[int, int], **spec: object) -> Manifest:
    told = {"shapes": [{"width": width, "height": height} for width, height in shapes]}
    return manifest_for(b"x", input=told | spec)


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        ((1920, 1080), (416, 256)),
        ((640, 360), (416, 256)),
        ((2560, 1080), (416, 256)),
        ((720, 480), (416, 256)),
        ((640, 480), (416, 416)),
        ((352, 288), (416, 416)),
        ((1280, 1024), (416, 416)),
        ((224, 224), (416, 416)),
        ((1080, 1920), (416, 416)),
    ],
)
@pytest.mark.parametrize("order", [[(416, 256), (416, 416)], [(416, 416), (416, 256)]])
def test_each_camera_gets_the_shape_that_fits_its_picture(
    source: tuple[int, int], chosen: tuple[int, int], order: list[tuple[int, int]]
) -> None:
    shape = choose_shape(with_shapes(*order), *source)
    assert (shape.width, shape.height) == chosen


def test_of_shapes_that_fit_alike_the_first_is_taken() -> None:
    for order in itertools.permutations([(416, 256), (640, 384), (544, 320)]):
        shape = choose_shape(with_shapes(*order, (416, 416)), 1920, 1080)
        assert (shape.width, shape.height) == order[0]


def test_a_measured_aspect_overrules_geometry() -> None:
    shapes = [{"width": 544, "height": 320}, {"width": 416, "height": 416, "aspect": 1.7}]
    manifest = manifest_for(b"x", input={"shapes": shapes})
    assert choose_shape(manifest, 1024, 600).width == 544, "1.7 and 544 / 320 are equally near: the first"
    shapes = [{"width": 544, "height": 320, "aspect": 2.4}, {"width": 416, "height": 416, "aspect": 1.7}]
    assert choose_shape(manifest_for(b"x", input={"shapes": shapes}), 1920, 1080).width == 416


def test_no_picture_has_no_shape() -> None:
    with pytest.raises(ModelError, match="0x100 has no shape"):
        choose_shape(with_shapes((64, 64)), 0, 100)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_letterboxed_content_fits_is_even_and_keeps_the_aspect(width: int, height: int) -> None:
    placed = fit(with_shapes((544, 320)), width, height)
    assert (placed.input_width, placed.input_height) == (544, 320)
    assert 2 <= placed.width <= 544
    assert 2 <= placed.height <= 320
    assert placed.width % 2 == placed.height % 2 == 0
    scale = min(544 / width, 320 / height)
    assert abs(placed.width - width * scale) <= max(1, 2 - width * scale) + 1e-9
    assert abs(placed.height - height * scale) <= max(1, 2 - height * scale) + 1e-9


def test_stretched_pictures_are_the_input() -> None:
    placed = fit(with_shapes((864, 480), resize="stretch"), 640, 480)
    assert (placed.width, placed.height) == (864, 480)


def by_hand(picture: np.ndarray, spec: dict[str, object], width: int, height: int) -> np.ndarray:
    """The input as one would write it down: pixel by pixel, in float64."""
    canvas = np.full((height, width, 3), float(spec["pad"]))  # type: ignore[arg-type]
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    if spec["scale"] == "0-1":
        canvas = canvas / 255
    elif spec["scale"] == "imagenet":
        canvas = (canvas - MEAN) / STD
    if spec["color"] == "bgr":
        canvas = canvas[:, :, [2, 1, 0]]
    return canvas if spec["layout"] == "nhwc" else np.moveaxis(canvas, 2, 0)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", "0-255"), ("float32", "0-1"), ("float32", "imagenet"), ("uint8", "0-255")]
)
@pytest.mark.parametrize("source", [(200, 100), (100, 100), (64, 48)])
def test_the_tensor_is_what_one_would_write_by_hand(
    layout: str, color: str, dtype: str, scale: str, source: tuple[int, int]
) -> None:
    spec = {"layout": layout, "color": color, "dtype": dtype, "scale": scale, "pad": 37}
    placed = fit(with_shapes((64, 48), **spec), *source)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (placed.height, placed.width, 3), np.uint8) for _ in range(2)]
    tensor = placed.tensor(pictures, batch=4)
    assert tensor.dtype == dtype
    assert tensor.flags.c_contiguous
    empty = np.full((placed.height, placed.width, 3), 37, np.uint8)
    for got, picture in zip(tensor, [*pictures, empty, empty], strict=True):
        np.testing.assert_allclose(got, by_hand(picture, spec, 64, 48), rtol=1e-5, atol=1e-5)


def test_a_uint8_picture_that_fills_the_input_is_not_copied() -> None:
    placed = fit(with_shapes((64, 48), layout="nhwc", dtype="uint8"), 640, 480)
    picture = np.zeros((48, 64, 3), np.uint8)
    tensor = placed.tensor([picture])
    assert tensor.shape == (1, 48, 64, 3)
    assert np.shares_memory(tensor, picture)


def test_pictures_of_one_shape_and_several_aspects_share_a_batch() -> None:
    manifest = with_shapes((64, 64), layout="nhwc", dtype="uint8")
    wide, tall = fit(manifest, 200, 100), fit(manifest, 100, 200)
    white = [np.full((each.height, each.width, 3), 255, np.uint8) for each in (wide, tall)]
    tensor = assemble([(wide, white[0]), (tall, white[1])], 2)
    assert (tensor[0, :32] == 255).all()
    assert (tensor[0, 32:] == 114).all()
    assert (tensor[1, :, :32] == 255).all()
    assert (tensor[1, :, 32:] == 114).all()


@pytest.mark.parametrize(
    "picture",
    [np.zeros((30, 64, 3), np.uint8), np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32)],
)
def test_a_picture_that_does_not_fit_is_refused(picture: np.ndarray) -> None:
    placed = fit(with_shapes((64, 48)), 640, 480)
    with pytest.raises(ModelError, match="48x64x3 uint8"):
        placed.tensor([picture])


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@given(
    st.integers(16, 4000),
    st.integers(16, 4000),
    st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), min_size=1, max_size=5),
)
def test_boxes_come_back_to_where_they_were(
    resize: str, width: int, height: int, corners: list[tuple[float, ...]]
) -> None:
    placed = fit(with_shapes((544, 320), resize=resize), width, height)
    source = np.array(corners, np.float32) * np.array([width, height, width, height], np.float32)
    to_input = np.array([placed.width / width, placed.height / height] * 2, np.float32)
    back = placed.to_source(source * to_input, width, height)
    np.testing.assert_allclose(back, source, rtol=1e-5, atol=1e-3)


def test_boxes_are_clipped_to_the_frame() -> None:
    placed = fit(with_shapes((64, 64)), 128, 64)
    back = placed.to_source(np.array([[-5, -5, 70, 60]], np.float32), 128, 64)
    assert back.tolist() == [[0, 0, 128, 64]]
    assert back.dtype == np.float32
