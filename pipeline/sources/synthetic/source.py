"""A scripted street as a camera: ``synthetic://street?seed=7&duration=30`` in a configuration."""

from __future__ import annotations

import threading
from collections.abc import Generator

import numpy as np
from PIL import Image

from pipeline.core.frame import Frame, Picture
from pipeline.core.ledger import FrameLedger
from pipeline.errors import SourceUnreadable, UsageError
from pipeline.sources.base import (
    EpochStarted,
    PictureSize,
    SampledFrame,
    StreamHealth,
    StreamItem,
    StreamSettings,
    preview_size,
)
from pipeline.sources.masking import mask_pixels, paint, reach_px
from pipeline.sources.sampling import Sampler
from pipeline.sources.synthetic.scene import Scene
from pipeline.sources.synthetic.stream import SCHEME, frame_times, parse_source
from pipeline.sources.whole import WholeStream


def is_synthetic(source: str) -> bool:
    """Whether a source string names a scripted street."""
    return source.lower().startswith(f"{SCHEME}://")


class SyntheticStream(WholeStream):
    """The stream of a scripted street; see ``pipeline.sources.base.Stream``. Read whole, like a file.

    Only frames that are sampled are drawn; the others are counted as captured and sampled out.
    """

    def __init__(
        self, settings: StreamSettings, picture_size: PictureSize, ledger: FrameLedger, stop: threading.Event
    ) -> None:
        super().__init__(settings, picture_size, ledger, stop)
        self._scene: Scene | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds of the script; None before the first ``next``."""
        return self._scene.duration_s if self._scene is not None else None

    @property
    def health(self) -> StreamHealth:
        """Nothing goes wrong on the way."""
        return StreamHealth(connections=int(self._scene is not None))

    def _read(self) -> Generator[StreamItem, None, None]:
        s = self._settings
        self._ledger.open(s.camera_id)
        try:
            self._scene, fps = parse_source(s.source)
        except UsageError as error:
            failure = SourceUnreadable(str(error))
            yield self._status("down", str(failure))
            raise failure from error
        self._epoch = s.first_epoch
        yield EpochStarted(self._epoch, "pts", self._start_us)
        sampler = Sampler(s.sample_fps)
        for index, t_s in enumerate(frame_times(self._scene, fps)):
            if self._stop.is_set():
                return
            pts_us = self._position_us = round(t_s * 1e6)
            taken = sampler.take(pts_us)
            if self._is_told(self._start_us + pts_us):
                continue
            if taken:
                yield self._frame(self._scene, index, t_s)
            else:
                self._ledger.captured_and_sampled_out(s.camera_id)
        self._position_us = round(self._scene.duration_s * 1e6)
        yield self._status("ended", "played to its end")

    def _frame(self, scene: Scene, index: int, t_s: float) -> SampledFrame:
        s = self._settings
        pts_us = round(t_s * 1e6)
        self._ledger.captured(s.camera_id)
        try:
            drawn = scene.render(t_s)
            picture = self._scaled(drawn, *self._picture_size(scene.width, scene.height))
            preview = None
            if s.wants_preview(index):
                preview = self._scaled(drawn, *preview_size(scene.width, scene.height, s.preview_width))
        except BaseException:
            self._ledger.dropped(s.camera_id, 1, "failed")
            raise
        frame = Frame(index, pts_us, self._start_us + pts_us, picture, preview)
        return SampledFrame(self._epoch, frame, scene.width, scene.height)

    def _scaled(self, drawn: Picture, width: int, height: int) -> Picture:
        """By area, masks painted; a picture of its own."""
        image = Image.fromarray(drawn).resize((width, height), Image.Resampling.BOX)
        picture = np.array(image)
        if self._settings.masks:
            reach = reach_px(drawn.shape[1], width), reach_px(drawn.shape[0], height)
            paint(picture, mask_pixels(self._settings.masks, width, height, reach))
        return picture
