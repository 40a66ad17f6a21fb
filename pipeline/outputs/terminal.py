"""The live view of a run in the terminal; plain progress lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera at this instant. fps: analysed frames a second; lag_s: age of what was last analysed (live only).

    totals: line -> group -> {"left": n, "right": n}. progress: 0..1 and eta_s for files, None for live sources.
    """

    camera_id: str
    state: str
    fps: float
    people: int
    vehicles: int
    totals: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    lag_s: float | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    captured: int = 0
    analysed: int = 0
    progress: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """The whole run at this instant. fps: analysed frames a second of all cameras."""

    model: str
    provider: str
    threads: int
    uptime_s: float
    fps: float


class LiveView:
    """A table of the cameras that renews itself; on a pipe, one plain line every ``interval_s`` seconds."""

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        console: Console | None = None,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None: ...

    def update(self, cameras: Sequence[CameraView], run: RunView) -> None:
        """Show this; may be called as often as one likes."""

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *error: object) -> None:
        return None
