"""The decoder's deblocking filter is left out only where the scaling averages blocks away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.encoding import VideoWriter
from pipeline.sources.address import locate
from pipeline.sources.base import StreamSettings
from pipeline.sources.video import Video
from pipeline.sources.video_picture import PictureMaker


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of 1280x720 texture that moves, coarsely coded, so that blocks would show."""
    path = tmp_path_factory.mktemp("clip") / "texture.mp4"
    noise = np.random.default_rng(3).integers(0, 255, (45, 80, 3), dtype=np.uint8)
    still = np.asarray(Image.fromarray(noise).resize((1344, 756), Image.Resampling.BICUBIC))
    with VideoWriter(path, 1280, 720, 25, crf=34) as writer:
        for n in range(38):
            writer.write(np.ascontiguousarray(still[n % 36 : n % 36 + 720, n : n + 1280]), n / 25)
    return path


def _pictures(clip: Path, size: tuple[int, int], *, told: bool) -> list[np.ndarray]:
    def wanted(_width: int, _height: int) -> tuple[int, int]:
        return size

    maker = PictureMaker(wanted)
    with Video(locate(str(clip)), StreamSettings("c", str(clip))) as video:
        return [maker.picture(frame.image).astype(float) for frame in video.frames(wanted if told else None)]


def test_a_much_smaller_picture_spares_the_filter_and_looks_the_same(clip: Path) -> None:
    spared, whole = _pictures(clip, (416, 234), told=True), _pictures(clip, (416, 234), told=False)
    assert len(spared) == len(whole) == 38
    errors = [float(((a - b) ** 2).mean()) for a, b in zip(spared, whole, strict=True)]
    assert max(errors) > 0
    assert 10 * np.log10(255**2 / max(errors)) > 38


@pytest.mark.parametrize("size", [(640, 360), (416, 400), (1280, 720)])
def test_any_other_picture_is_the_decoders_own(clip: Path, size: tuple[int, int]) -> None:
    for a, b in zip(_pictures(clip, size, told=True), _pictures(clip, size, told=False), strict=True):
        assert np.array_equal(a, b)
