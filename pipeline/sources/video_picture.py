"""From a decoded frame to the pictures that go on: scaled, turned upright, masked.

Scaling is done in the decoder's own colour space, where a pixel is half as many bytes, and by area, which does not
alias; only the small picture becomes RGB. One reformatter a step and a camera, one thread each: a reformatter that is
given changing sizes builds its tables anew every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import av
import av.error
import numpy as np
from av.sidedata.sidedata import SideData, SideDataContainer, Type
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipeline.core.frame import Picture
from pipeline.core.rules import Point
from pipeline.errors import SourceUnreadable
from pipeline.sources.base import PictureSize, preview_size
from pipeline.sources.masking import mask_pixels, paint, reach_px

_MATRICES_KNOWN = frozenset({1, 4, 5, 6, 7, 9})
"""AVColorSpace values that swscale converts: BT.709, FCC, BT.470BG, SMPTE 170M, SMPTE 240M, BT.2020."""
_HD_ABOVE_LINES = 576


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a frame is shown: transposed first, then flipped left-right and top-bottom."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, picture: Picture) -> Picture:
        """``picture`` as it is shown; C-contiguous."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        if self.flip_x:
            picture = picture[:, ::-1]
        if self.flip_y:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


UPRIGHT = Orientation()


def orientation_of(image: av.VideoFrame) -> Orientation:
    """From the display matrix, as phones write it; turns by other than right angles are ignored."""
    # Not ``image.side_data``: it is kept in the frame and points back to it, and such a circle keeps megabytes alive
    # until the garbage collector happens to run.
    side_data = SideDataContainer(image)  # type: ignore[call-arg]  # its stub lacks __init__
    data = cast(Mapping[Type, SideData], side_data).get(Type.DISPLAYMATRIX)
    if data is None:
        return UPRIGHT
    a, b, _, c, d, _, *_ = np.frombuffer(bytes(data), dtype="<i4").tolist()
    if abs(a) + abs(d) > abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


class _Scaler:
    """One size of picture out of a camera's frames."""

    def __init__(self) -> None:
        self._shrink = VideoReformatter()
        self._to_rgb = VideoReformatter()

    def rgb(self, image: av.VideoFrame, width: int, height: int) -> Picture:
        """``image`` as ``height`` x ``width`` x 3 uint8 RGB."""
        if image.format.is_rgb:
            rgb = self._to_rgb.reformat(image, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1)
            if rgb is image:  # nothing to convert: masks must not be painted into the decoder's own frame
                return np.array(rgb.to_ndarray(), dtype=np.uint8)
        else:
            known = image.colorspace in _MATRICES_KNOWN
            # Untagged HD is BT.709 by convention, untagged SD BT.601; swscale would take BT.601 for both.
            guess = Colorspace.ITU709 if image.height > _HD_ABOVE_LINES else Colorspace.ITU601
            matrix = None if known else guess
            small = self._shrink.reformat(
                image, width, height, "yuv420p",
                src_colorspace=matrix, dst_colorspace=matrix, interpolation=Interpolation.AREA, threads=1,
            )  # fmt: skip
            rgb = self._to_rgb.reformat(small, format="rgb24", interpolation=Interpolation.AREA, threads=1)
        # FFmpeg pads its rows: for most widths the array is a view with gaps.
        return np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)


class PictureMaker:
    """Makes the pictures of one camera, whatever size, format and turn its frames come in."""

    def __init__(
        self, picture_size: PictureSize, masks: tuple[tuple[Point, ...], ...] = (), preview_width: int = 1280
    ) -> None:
        self._picture_size = picture_size
        self._masks = masks
        self._preview_width = preview_width
        self._scaler = _Scaler()
        self._preview_scaler = _Scaler()
        self._mask_cache: dict[tuple[int, int, int, int], NDArray[np.intp]] = {}

    @staticmethod
    def shown_size(image: av.VideoFrame) -> tuple[int, int]:
        """Width and height in pixels of a frame as it is displayed."""
        turned = orientation_of(image).transposed
        return (image.height, image.width) if turned else (image.width, image.height)

    def picture(self, image: av.VideoFrame) -> Picture:
        """The picture the model wants: its size, RGB, masked. Raises SourceUnreadable for an exotic pixel format."""
        return self._make(self._scaler, image, self._picture_size(*self.shown_size(image)))

    def preview(self, image: av.VideoFrame) -> Picture:
        """A picture for people: at most ``preview_width`` wide, even sides, RGB, masked."""
        return self._make(self._preview_scaler, image, preview_size(*self.shown_size(image), self._preview_width))

    def _make(self, scaler: _Scaler, image: av.VideoFrame, size: tuple[int, int]) -> Picture:
        orientation = orientation_of(image)
        coded = size[::-1] if orientation.transposed else size
        try:
            picture = scaler.rgb(image, *coded)
        except av.error.FFmpegError as error:
            kind = f"{image.format.name} {image.width}x{image.height}"
            raise SourceUnreadable(f"frames of the kind {kind} cannot be converted: {error.strerror}") from None
        if orientation is not UPRIGHT:
            picture = orientation.apply(picture)
        if self._masks:
            paint(picture, self._masked(size, self.shown_size(image)))
        return picture

    def _masked(self, size: tuple[int, int], source: tuple[int, int]) -> NDArray[np.intp]:
        key = (*size, *source)
        if key not in self._mask_cache:
            if len(self._mask_cache) >= 8:  # a damaged stream may change its size without end
                self._mask_cache.clear()
            reach = reach_px(source[0], size[0]), reach_px(source[1], size[1])
            self._mask_cache[key] = mask_pixels(self._masks, *size, reach)
        return self._mask_cache[key]
