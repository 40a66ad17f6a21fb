"""What recorders are given by the layers above, as shapes: the metrics layer imports none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.core.classes import Group
from pipeline.core.events import Event


class SourceHealth(Protocol):
    """``pipeline.sources.base.StreamHealth``."""

    @property
    def corrupt_packets(self) -> int: ...
    @property
    def repaired_timestamps(self) -> int: ...
    @property
    def hung_readers(self) -> int: ...
    @property
    def reconnects(self) -> Mapping[str, int]:
        """Reason (``catalogue.RECONNECT_REASONS``) -> attempts to connect again."""


class ObservationLike(Protocol):
    """``pipeline.analytics.camera.Observation``."""

    @property
    def events(self) -> Sequence[Event]: ...
    @property
    def occupancy(self) -> Mapping[Group, int]:
        """Group -> objects in the picture."""

    @property
    def zones(self) -> Mapping[str, Mapping[str, int]]:
        """Zone -> group or class outside the groups -> objects inside."""


@dataclass(frozen=True, slots=True)
class SpoolState:
    """The spool at one instant. ``oldest_age_s`` is 0 when it is empty; ``dropped`` counts windows since the start."""

    size_bytes: int = 0
    capacity_bytes: int = 0
    windows: int = 0
    oldest_age_s: float = 0.0
    dropped: int = 0
