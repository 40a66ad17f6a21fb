"""What a report remembers of one camera, in memory that does not grow with the length of the run."""

from __future__ import annotations

import bisect
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image

from pipeline.core.events import CAMERA_STATUS, COUNT_WINDOW, LINE_CROSSED, ZONE_EXITED, Event
from pipeline.core.frame import Picture
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView
from pipeline.outputs.heatmap import HeatMap
from pipeline.outputs.timeline import Timeline

DWELL_EDGES_S = (0, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Beginnings of the classes of the dwell histogram; the last has no end."""

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STILL_WIDTH = 960


class ZoneLog:
    """How long objects stayed in a zone."""

    def __init__(self) -> None:
        self.histogram = [0] * len(DWELL_EDGES_S)
        self.total_s = 0.0
        self.longest_s = 0.0

    def add(self, dwell_s: float) -> None:
        self.histogram[max(0, bisect.bisect_right(DWELL_EDGES_S, dwell_s) - 1)] += 1
        self.total_s += dwell_s
        self.longest_s = max(self.longest_s, dwell_s)

    @property
    def stays(self) -> int:
        return sum(self.histogram)

    @property
    def mean_s(self) -> float:
        return self.total_s / self.stays if self.stays else 0.0


class CameraLog:
    """One camera's still, heat map, series and sums.

    Series of ``timeline``: sums ``frames``, ``person``, ``vehicle`` (tracks in all frames of a bin), ``observed_s``
    and ``span_s`` (from the count windows), ``line\\x1fkind\\x1fdirection`` (crossings); maxima ``person``
    and ``vehicle``.
    """

    def __init__(self, camera_id: str, rules: CameraRules | None, bins: int) -> None:
        self.camera_id = camera_id
        self.rules = rules or CameraRules(camera_id)
        self.timeline = Timeline(bins)
        self.heat: HeatMap | None = None
        self.size: tuple[int, int] | None = None
        self.still_jpeg: bytes | None = None
        self.crossings: Counter[tuple[str, str, str]] = Counter()
        self.zones: dict[str, ZoneLog] = {}
        self.types: Counter[str] = Counter()
        self.frames = 0
        self.observed_s = self.span_s = 0.0
        self.state = ""
        self.first_us: int | None = None
        self.last_us: int | None = None

    def still(self, picture: Picture) -> None:
        """Keep the first picture, as a JPEG no wider than 960 pixels."""
        if self.still_jpeg is not None:
            return
        image = Image.fromarray(picture)
        if image.width > _STILL_WIDTH:
            height = max(1, round(image.height * _STILL_WIDTH / image.width))
            image = image.resize((_STILL_WIDTH, height), Image.Resampling.BOX)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=82)
        self.still_jpeg = file.getvalue()
        self.size = self.size or (picture.shape[1], picture.shape[0])

    def tracks(self, tracks: Sequence[TrackView], width: int, height: int, at_us: int) -> None:
        """Take one analysed frame."""
        if self.heat is None:
            self.heat, self.size = HeatMap(width, height), (width, height)
        self.heat.add(tracks, width, height)
        self._seen(at_us)
        self.frames += 1
        self.timeline.add("frames", at_us)
        for group in ("person", "vehicle"):
            now = sum(track.group == group for track in tracks)
            if now:
                self.timeline.add(group, at_us, now)
                self.timeline.raise_to(group, at_us, now)

    def event(self, event: Event) -> None:
        """Take an event of this camera."""
        data = event.data
        self.types[event.type] += 1
        if event.type == COUNT_WINDOW:
            self._window(data)
        elif event.type == LINE_CROSSED:
            key = (str(data["line"]), str(data["group"] or data["class_id"]), str(data["direction"]))
            self.crossings[key] += 1
            self._seen(event.time_us)
            self.timeline.add("\x1f".join(key), event.time_us)
        elif event.type == ZONE_EXITED:
            self.zones.setdefault(str(data["zone"]), ZoneLog()).add(float(data["dwell_s"]))
        elif event.type == CAMERA_STATUS:
            self.state = str(data["state"])

    def _window(self, data: Mapping[str, Any]) -> None:
        from_us, to_us = to_micros(str(data["starts_at"])), to_micros(str(data["ends_at"]))
        span_s = (to_us - from_us) / 1e6
        self.observed_s += span_s * float(data["coverage"])
        self.span_s += span_s
        self.timeline.spread("observed_s", from_us, to_us, span_s * float(data["coverage"]))
        self.timeline.spread("span_s", from_us, to_us, span_s)

    def _seen(self, at_us: int) -> None:
        self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
        self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)

    @property
    def coverage(self) -> float | None:
        """The share 0..1 of the count windows' time that was observed; None before the first window."""
        return min(1.0, self.observed_s / self.span_s) if self.span_s > 0 else None


def to_micros(told: str) -> int:
    """RFC 3339 text to microseconds since 1970."""
    return round((datetime.fromisoformat(told) - _UNIX_EPOCH) / timedelta(microseconds=1))
