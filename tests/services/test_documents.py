"""The topic ``cameras`` read as a whole, and an end to waiting for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from pipeline.bus.base import Record
from pipeline.bus.topics import CameraDocument
from pipeline.errors import BusUnavailable
from pipeline.services.documents import CamerasView


class SlowReader:
    """Three partitions of ten cameras each, of which every record takes a second of ``now_s``."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.patience_s: list[float] = []

    def partitions(self) -> tuple[int, ...]:
        return 0, 1, 2

    def ends(self, partitions: Sequence[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 10)

    def read(self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30) -> Iterator[Record[Any]]:
        self.patience_s.append(timeout_s)
        for offset in range(from_offset, to_offset):
            self.now_s += 1.0
            document = CameraDocument(f"camera-{partition}-{offset}", {})
            yield Record("passerby.cameras", partition, offset, document.camera_id, document)


def view_of(reader: SlowReader) -> CamerasView:
    return CamerasView(reader, now_s=lambda: reader.now_s)


def test_reading_the_cameras_ends_in_the_time_it_is_given() -> None:
    reader = SlowReader()
    with pytest.raises(BusUnavailable, match=r"not read within 15 s: partition 1, offset 5 of 10"):
        view_of(reader).refresh(within_s=15)
    assert reader.patience_s == [15, 5], "one silent partition waits no longer than what is left"


def test_without_a_limit_every_camera_is_read_once() -> None:
    reader = SlowReader()
    view = view_of(reader)
    assert len(view.refresh()) == 30
    assert len(view.refresh()) == 30
    assert reader.now_s == 30
    assert set(reader.patience_s) == {30.0}
