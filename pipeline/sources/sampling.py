"""Which frames are analysed: chosen by their time, never by counting them."""

from __future__ import annotations

import math
from dataclasses import dataclass

_EARLY = 0.25
"""Fraction of a slot by which a frame may be early for it.

A source that runs at the very rate asked for has jitter: with a slot that begins exactly on time a frame 1 ms early
falls into the slot before and is lost, and the next slot stays empty. A quarter of a slot forgives +-31 ms at 8 fps.
"""


@dataclass(slots=True)
class Sampler:
    """Takes the first frame of every slot of ``1 / sample_fps`` seconds of stream time.

    slot = floor(pts * sample_fps + 1/4). Frames further apart than a slot are all taken; so are frames at the very
    rate asked for, as long as their jitter stays below a quarter of a slot. Depends on nothing but the times.
    """

    sample_fps: float
    _slot: int = -1

    def take(self, pts_us: int) -> bool:
        """Whether the frame at ``pts_us`` (microseconds since the first frame of the epoch, rising) is taken."""
        slot = math.floor(pts_us * self.sample_fps / 1e6 + _EARLY)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True
