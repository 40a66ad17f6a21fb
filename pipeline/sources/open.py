"""``open_stream``: the one way to a camera."""

from __future__ import annotations

import threading

from pipeline.core.ledger import FrameLedger
from pipeline.sources.address import locate
from pipeline.sources.base import Clock, Mode, PictureSize, Stream, StreamSettings
from pipeline.sources.files import FileStream
from pipeline.sources.live import LiveStream
from pipeline.sources.synthetic.source import SyntheticStream, is_synthetic

__all__ = ["Stream", "may_end", "open_stream"]


def may_end(source: str, mode: Mode = "auto") -> bool:
    """Whether ``source`` may be a recording, as far as its address tells: what surely is a camera says False."""
    if is_synthetic(source) or mode == "every_frame":
        return True
    return locate(source).kind in ("file", "folder", "http", "hls")


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
    if is_synthetic(settings.source):
        return SyntheticStream(settings, picture_size, ledger, stop)
    address = locate(settings.source)
    if address.kind == "folder" or (address.kind == "file" and settings.mode != "realtime"):
        return FileStream(settings, address, picture_size, ledger, stop)
    return LiveStream(settings, address, picture_size, ledger=ledger, clock=clock, stop=stop)
