"""``open_stream``: the one way to a camera."""

from __future__ import annotations

import threading

from pipeline.core.ledger import FrameLedger
from pipeline.sources.base import Clock, PictureSize, Stream, StreamSettings

__all__ = ["Stream", "open_stream"]


def open_stream(
    settings: StreamSettings,
    picture_size: PictureSize,
    *,
    ledger: FrameLedger,
    clock: Clock,
    stop: threading.Event,
) -> Stream:
    """The stream of one camera for its whole life; see ``pipeline.sources.base`` for what comes out of it.

    Nothing is opened before the first ``next``. Setting ``stop`` ends the iteration soon; frames not yet handed out
    are dropped with cause ``shutdown``. Raises nothing itself.
    """
    raise NotImplementedError
