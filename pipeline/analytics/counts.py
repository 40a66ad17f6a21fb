"""Count windows: occupancy, crossings, totals, and how much of the span was really observed.

Spans are ``window_s`` long. For files they begin with the first frame of the epoch, for live sources at multiples of
``window_s`` of UTC, so that the windows of many cameras fit together. A window is given when a frame at or after its
end arrives; what is open when the stream ends, goes down or begins anew is given then, with its whole span and the
coverage it got. A span in which no frame came is not given at all: nothing was observed, so there is nothing to say,
and a day's outage does not come back as thousands of empty records. A camera that is up and sees nobody gives zeros.

A frame speaks for the time until the next one. When that is longer than ``GAP_INTERVALS`` usual intervals the time in
between is unobserved; so is what lies before the first and after the last frame. The usual interval is the sampling
interval, or the median of the latest intervals when the source delivers less (then at most ``SLOWEST_S``).
Means are weighted by observed time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median_low

from pipeline.core.classes import GROUPS, expand, group_of
from pipeline.core.events import Crossings, Occupancy
from pipeline.core.frame import TimeSource
from pipeline.core.rules import CameraRules

GAP_INTERVALS = 2.5
SLOWEST_S = 2.0
_INTERVALS = 9

Tally = dict[str, dict[str, Crossings]]


@dataclass(slots=True)
class Level:
    """Integral over observed time, sum over frames and greatest value of an occupancy."""

    integral_us: int = 0
    frames_sum: int = 0
    greatest: int = 0

    def told(self, observed_us: int, frames: int) -> Occupancy:
        """Mean and maximum; a window of a single frame has no duration: its plain mean."""
        mean = self.integral_us / observed_us if observed_us else self.frames_sum / max(frames, 1)
        return {"occupancy_mean": round(mean, 6), "occupancy_max": self.greatest}


@dataclass(slots=True)
class Span:
    """One count window while it fills. Keys of ``levels``: (what, name), what being group, class or a zone's name."""

    starts_us: int
    ends_us: int
    first_index: int
    last_index: int
    observed_us: int = 0
    frames: int = 0
    levels: dict[str, dict[str, Level]] = field(default_factory=dict)
    crossings: Tally = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClosedSpan:
    """A finished count window, ready to be told."""

    starts_us: int
    ends_us: int
    frames: tuple[int, int]
    coverage: float
    groups: dict[str, Occupancy]
    classes: dict[str, Occupancy]
    zones: dict[str, dict[str, Occupancy]]
    lines: Tally
    totals: Tally


Presence = Mapping[str, Mapping[str, int]]
"""Who is there in one frame: ``"groups"``, ``"classes"`` or ``"zone:<name>"`` -> name -> how many."""


class CountWindows:
    """The count windows of one camera. Totals go on over epochs."""

    def __init__(self, rules: CameraRules) -> None:
        self._span_us = round(rules.count_window_s * 1e6)
        self._sample_us = round(1e6 / rules.sample_fps)
        self._lines = {line.name: counted_as(line.classes) for line in rules.lines}
        self._zones = {zone.name: counted_as(zone.classes) for zone in rules.zones}
        self.totals: Tally = self._zero()
        self.since_us: int | None = None
        self.origin_us = 0
        self.span: Span | None = None
        self.presence: dict[str, dict[str, int]] = {}
        self.frame_us: int | None = None
        self.intervals_us: deque[int] = deque(maxlen=_INTERVALS)
        self.credit_us = (0, 0)  # the observed time between the last two frames

    def begin(self, at_us: int, time_source: TimeSource) -> None:
        """An epoch begins with a frame at ``at_us``."""
        self.origin_us = at_us if time_source == "pts" else 0
        self.frame_us = None
        self.presence = {}
        self.intervals_us.clear()
        if self.since_us is None:
            self.since_us = at_us

    def reset_totals(self, at_us: int) -> None:
        """Count totals from ``at_us`` on."""
        self.totals = self._zero()
        self.since_us = at_us

    def ends_us(self) -> int | None:
        """Where the open span ends, if one is open."""
        return self.span.ends_us if self.span is not None else None

    def advance(self, at_us: int) -> None:
        """Time went on to a frame at ``at_us``: credit the open span with what was present since the frame before."""
        if self.frame_us is None:
            return
        gap_us = at_us - self.frame_us
        usual_us = self._sample_us
        if self.intervals_us:
            usual_us = max(usual_us, min(median_low(self.intervals_us), round(SLOWEST_S * 1e6)))
        self.intervals_us.append(gap_us)
        self.credit_us = (self.frame_us, at_us) if gap_us <= GAP_INTERVALS * usual_us else (at_us, at_us)
        if self.span is not None:
            self._credit(self.span)

    def crossed(self, line: str, class_name: str, direction: str) -> None:
        """One more crossing, in the open span and the totals."""
        key = group_of(class_name) or class_name
        assert self.span is not None
        for tally in (self.span.crossings, self.totals):
            crossings = tally[line].setdefault(key, {"left": 0, "right": 0})
            if direction == "left":
                crossings["left"] += 1
            else:
                crossings["right"] += 1

    def take(self) -> ClosedSpan | None:
        """Close the open span, if there is one, and give it."""
        span, self.span = self.span, None
        if span is None:
            return None
        levels = {
            what: {name: level.told(span.observed_us, span.frames) for name, level in sorted(named.items())}
            for what, named in span.levels.items()
        }
        return ClosedSpan(
            starts_us=span.starts_us,
            ends_us=span.ends_us,
            frames=(span.first_index, span.last_index),
            coverage=round(span.observed_us / (span.ends_us - span.starts_us), 6),
            groups=levels["groups"],
            classes=levels["classes"],
            zones={zone: levels[f"zone:{zone}"] for zone in self._zones},
            lines=span.crossings,
            totals=copy_tally(self.totals),
        )

    def frame(self, at_us: int, index: int, presence: Presence) -> None:
        """The frame at ``at_us``, with who is there; opens the span it falls in if none is open."""
        if self.span is None:
            starts_us = self.origin_us + (at_us - self.origin_us) // self._span_us * self._span_us
            self.span = Span(starts_us, starts_us + self._span_us, index, index)
            self.span.levels, self.span.crossings = self._levels(), self._zero()
            if self.frame_us is not None:
                self._credit(self.span)
        self.span.last_index = index
        self.span.frames += 1
        for what, named in presence.items():
            for name, number in named.items():
                level = self.span.levels[what].setdefault(name, Level())
                level.frames_sum += number
                level.greatest = max(level.greatest, number)
        self.presence = {what: dict(named) for what, named in presence.items()}
        self.frame_us = at_us

    def _credit(self, span: Span) -> None:
        """Add the part of the time since the last frame that lies in ``span``, with what was present."""
        observed_us = min(self.credit_us[1], span.ends_us) - max(self.credit_us[0], span.starts_us)
        if observed_us <= 0:
            return
        span.observed_us += observed_us
        for what, named in self.presence.items():
            for name, number in named.items():
                level = span.levels[what].setdefault(name, Level())
                level.integral_us += number * observed_us
                level.greatest = max(level.greatest, number)

    def carry_totals(self, totals: Tally) -> None:
        """Go on from ``totals``, for the lines that there are."""
        self.totals = _carried(self._zero(), totals)

    def carry_span(self, span: Span, presence: Presence) -> None:
        """Go on with ``span`` and who was ``presence``-nt in its last frame, for the lines and zones that there are."""
        levels = self._levels()
        for what in levels:
            levels[what].update(span.levels.get(what, {}))
        span.levels, span.crossings = levels, _carried(self._zero(), span.crossings)
        self.span = span
        self.presence = {what: dict(named) for what, named in presence.items() if what in levels}

    def _levels(self) -> dict[str, dict[str, Level]]:
        levels: dict[str, dict[str, Level]] = {"groups": {group: Level() for group in GROUPS}, "classes": {}}
        for zone, names in self._zones.items():
            levels[f"zone:{zone}"] = {name: Level() for name in names}
        return levels

    def _zero(self) -> Tally:
        return {line: {key: {"left": 0, "right": 0} for key in keys} for line, keys in self._lines.items()}


def counted_as(classes: Iterable[str]) -> list[str]:
    """What crossings and occupancy of a rule are told by: groups, and classes outside the groups."""
    return sorted({group_of(name) or name for name in expand(classes)})


def _carried(zero: Tally, tally: Tally) -> Tally:
    """``zero`` with what ``tally`` says of the same lines."""
    for line, keyed in copy_tally(tally).items():
        if line in zero:
            zero[line].update(keyed)
    return zero


def copy_tally(tally: Tally) -> Tally:
    """A copy that later crossings leave alone."""
    return {
        line: {key: {"left": c["left"], "right": c["right"]} for key, c in keyed.items()}
        for line, keyed in tally.items()
    }
