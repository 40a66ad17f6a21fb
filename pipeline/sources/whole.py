"""What all streams that are read whole have in common: they end, and are read in the thread that consumes them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator
from types import TracebackType
from typing import Self

from pipeline.core.frame import CameraState, StreamStatus
from pipeline.core.ledger import FrameLedger
from pipeline.sources.base import PictureSize, StatusChanged, StreamItem, StreamSettings


class WholeStream(ABC):
    """A ``pipeline.sources.base.Stream`` whose items come out of one generator, ``_read``."""

    is_finite = True

    def __init__(
        self, settings: StreamSettings, picture_size: PictureSize, ledger: FrameLedger, stop: threading.Event
    ) -> None:
        self._settings = settings
        self._picture_size = picture_size
        self._ledger = ledger
        self._stop = stop
        self._epoch = settings.first_epoch - 1
        self._start_us = settings.start_us or 0
        self._position_us = 0
        self._items = self._read()

    @abstractmethod
    def _read(self) -> Generator[StreamItem, None, None]:
        """The items; begun at the first ``next``."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamItem:
        return next(self._items)

    @property
    def position_s(self) -> float:
        """Seconds of stream time read."""
        return self._position_us / 1e6

    def close(self) -> None:
        """Stop reading; frames that were handed out belong to who took them."""
        self._items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_told(self, at_us: int) -> bool:
        """Whether an earlier reading got as far as ``at_us`` (UTC microseconds)."""
        return self._settings.resume_after_us is not None and at_us <= self._settings.resume_after_us

    def _status(self, state: CameraState, reason: str) -> StatusChanged:
        at_us = self._start_us + self._position_us
        return StatusChanged(max(self._epoch, self._settings.first_epoch), StreamStatus(state, reason, at_us))
