"""The live view of a run in the terminal; plain progress lines where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_STATE_STYLE = {"up": "green", "down": "bold red", "tampered": "bold yellow", "ended": "dim", "waiting": "yellow"}
# What a person must act on is shown first when not every camera fits.
_URGENCY = {"down": 0, "tampered": 1}
_REFRESH_S = 0.2
_OVERHEAD_ROWS = 7  # header, table frame, the line for what did not fit, and the cursor's own


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
    """A table of the cameras that renews itself; on a pipe, one plain line every ``interval_s`` seconds.

    While it is shown, log handlers that write to the terminal are led around the table, and back when it ends.
    """

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        console: Console | None = None,
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """stream: where to show (stderr if not said). console: overrides it. clock: seconds that only rise."""
        self._console = console or Console(file=stream or sys.stderr, highlight=False)
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._interval_s, self._clock = interval_s, clock
        self._shown_at: float | None = None
        self._pending: tuple[Sequence[CameraView], RunView] | None = None
        self._led_around: list[tuple[logging.StreamHandler[Any], Any]] = []

    def update(self, cameras: Sequence[CameraView], run: RunView) -> None:
        """Show this; may be called as often as one likes."""
        self._pending = cameras, run
        now = self._clock()
        wait_s = _REFRESH_S if self._live else self._interval_s
        if self._shown_at is None or now - self._shown_at >= wait_s:
            self._shown_at = now
            self._show()

    def _show(self) -> None:
        if self._pending is None:
            return
        cameras, run = self._pending
        self._pending = None
        if self._live is None:
            self._console.print(Text(progress_line(cameras, run)), soft_wrap=True)
        else:
            self._live.update(render(cameras, run, self._console.width, self._console.height), refresh=True)

    def __enter__(self) -> LiveView:
        if self._live is not None:
            before = (sys.stdout, sys.stderr)
            self._live.start()
            for handler in _terminal_handlers(before):
                self._led_around.append((handler, handler.stream))
                handler.setStream(sys.stderr)
        return self

    def __exit__(self, *error: object) -> None:
        """Show the last state once more, and leave the terminal as it was."""
        try:
            self._show()
        finally:
            for handler, stream in self._led_around:
                handler.setStream(stream)
            self._led_around.clear()
            if self._live is not None:
                self._live.stop()


def _terminal_handlers(streams: tuple[TextIO, TextIO]) -> Iterator[logging.StreamHandler[Any]]:
    """The log handlers that write straight to stdout or stderr, whichever logger they hang on."""
    loggers = [logging.root, *(item for item in logging.root.manager.loggerDict.values())]
    seen: set[int] = set()
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream in streams and id(handler) not in seen:
                seen.add(id(handler))
                yield handler


def render(cameras: Sequence[CameraView], run: RunView, width: int, height: int) -> RenderableType:
    """The view as a rich renderable that fits ``width`` x ``height`` characters."""
    room = max(1, height - _OVERHEAD_ROWS)
    order = sorted(range(len(cameras)), key=lambda i: (_URGENCY.get(cameras[i].state, 2), i))
    chosen = set(order[:room])
    one_row_a_line = sum(max(1, len(camera.totals)) for camera in cameras) <= room
    shown = [camera for i, camera in enumerate(cameras) if i in chosen]
    rest = [camera for i, camera in enumerate(cameras) if i not in chosen]
    parts: list[RenderableType] = [_header(cameras, run), _table(shown, width, "\n" if one_row_a_line else "; ")]
    if rest:
        states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(c.state for c in rest).items()))
        fps = sum(camera.fps for camera in rest)
        text = f"and {len(rest)} more ({states}): {fps:.1f} frames/s, {_people(rest)}"
        parts.append(Text(text, style="dim", no_wrap=True, overflow="ellipsis"))
    return Group(*parts)


def _header(cameras: Sequence[CameraView], run: RunView) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("passerby", style="bold")
    text.append(
        f"  {run.model}  {run.provider.removesuffix('ExecutionProvider')} × {run.threads}  {clock_text(run.uptime_s)}",
        style="dim",
    )
    text.append(f"  {run.fps:.1f} frames/s", style="bold")
    text.append(f"  {_people(cameras)}")
    return text


def _people(cameras: Sequence[CameraView]) -> str:
    people, vehicles = sum(camera.people for camera in cameras), sum(camera.vehicles for camera in cameras)
    return f"{people} people, {vehicles} vehicles now"


def _table(cameras: Sequence[CameraView], width: int, between: str) -> Table:
    files = any(camera.progress is not None for camera in cameras)
    live = any(camera.lag_s is not None for camera in cameras)
    dropped = any(camera.dropped for camera in cameras)
    wide = width >= 100
    table = Table(expand=True, pad_edge=False, header_style="dim", border_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column("camera", no_wrap=True, max_width=width // 5, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    for name in ("fps", "people", "vehicles" if wide else "veh."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("crossed (L left, R right)" if wide else "crossed", no_wrap=True, ratio=1, overflow="ellipsis")
    if live:
        table.add_column("lag", justify="right", no_wrap=True)
    if dropped:
        table.add_column("dropped" if wide else "drop", justify="right", no_wrap=True, overflow="ellipsis")
    if files:
        table.add_column("read", no_wrap=True, width=18 if wide else 4)
        table.add_column("left", justify="right", no_wrap=True)
    for camera in cameras:
        table.add_row(*_cells(camera, between, files=files, live=live, dropped=dropped, wide=wide))
    return table


def _cells(
    camera: CameraView, between: str, *, files: bool, live: bool, dropped: bool, wide: bool
) -> list[RenderableType]:
    style = _STATE_STYLE.get(camera.state, "")
    cells: list[RenderableType] = [
        Text(camera.camera_id),
        Text(f"● {camera.state}", style=style),
        Text(f"{camera.fps:.1f}"),
        Text(str(camera.people), style="bold" if camera.people else "dim"),
        Text(str(camera.vehicles), style="bold" if camera.vehicles else "dim"),
        Text(totals_text(camera.totals, between, short=not wide)),
    ]
    if live:
        late = camera.lag_s is not None and camera.lag_s > 2
        cells.append(Text("" if camera.lag_s is None else f"{camera.lag_s:.1f} s", style="yellow" if late else ""))
    if dropped:
        cells.append(Text(_dropped_text(camera.dropped, wide), style="yellow" if camera.dropped else "dim"))
    if files:
        share = camera.progress
        percent = Text("" if share is None else f"{share:4.0%}")
        bar = ProgressBar(total=1, completed=share or 0, pulse=False) if wide and share is not None else percent
        cells.append(bar)
        cells.append(Text("" if camera.eta_s is None else clock_text(camera.eta_s)))
    return cells


def _dropped_text(dropped: Mapping[str, int], wide: bool) -> str:
    if not wide or len(dropped) > 2:
        return str(sum(dropped.values()))
    return ", ".join(f"{count} {cause}" for cause, count in sorted(dropped.items())) or "0"


def totals_text(
    totals: Mapping[str, Mapping[str, Mapping[str, int]]], between: str = "; ", *, short: bool = False
) -> str:
    """``street person 3L 1R, vehicle 0L 12R``: every line and kind that is counted, to the left and to the right."""
    lines = []
    for line, kinds in totals.items():
        word = {"person": "ppl", "vehicle": "veh"} if short else {}
        counts = (
            f"{word.get(kind, kind)} {sides.get('left', 0)}L {sides.get('right', 0)}R" for kind, sides in kinds.items()
        )
        lines.append(f"{line} " + (", ".join(counts) or "0"))
    return between.join(lines)


def progress_line(cameras: Sequence[CameraView], run: RunView) -> str:
    """The run in one line of plain text, for logs and pipes."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(c.state for c in cameras).items()))
    left = right = 0
    for camera in cameras:
        for kinds in camera.totals.values():
            left += sum(sides.get("left", 0) for sides in kinds.values())
            right += sum(sides.get("right", 0) for sides in kinds.values())
    parts = [
        f"{clock_text(run.uptime_s)}",
        f"cameras: {states or 'none'}",
        f"{run.fps:.1f} frames/s",
        _people(cameras),
        f"crossed: {left} left, {right} right",
    ]
    shares = [camera.progress for camera in cameras if camera.progress is not None]
    if shares:
        parts.append(f"{sum(shares) / len(shares):.0%} read")
    etas = [camera.eta_s for camera in cameras if camera.eta_s is not None]
    if etas:
        parts.append(f"{clock_text(max(etas))} left")
    lags = [camera.lag_s for camera in cameras if camera.lag_s is not None]
    if lags:
        parts.append(f"lag {max(lags):.1f} s")
    drops = sum(sum(camera.dropped.values()) for camera in cameras)
    if drops:
        parts.append(f"{drops} frames dropped")
    return " | ".join(parts)


def clock_text(seconds: float) -> str:
    """``0:07``, ``12:03``, ``26:03:11``: hours only where there are any."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
