"""What a report remembers of one camera, in memory that does not grow with the length of the run."""

from __future__ import annotations

import bisect
import io
from collections import Counter, deque
from collections.abc import Sequence
from statistics import median_low

import numpy as np
from PIL import Image

from pipeline.core.events import CAMERA_STATUS, LINE_CROSSED, ZONE_EXITED, Event
from pipeline.core.frame import Picture
from pipeline.core.rules import CameraRules
from pipeline.core.tracks import TrackView
from pipeline.outputs.heatmap import HeatMap
from pipeline.outputs.timeline import Timeline, Values

DWELL_EDGES_S = (0, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Beginnings of the classes of the dwell histogram; the last has no end."""

_STILL_WIDTH = 960
_GAP_INTERVALS = 2.5
_SLOWEST_US = 2_000_000
_A_MOMENT_US = 2_000_000
_A_YEAR_US = 365 * 86_400_000_000


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

    Series of ``timeline``: sums ``frames``, ``person``, ``vehicle`` (tracks in all frames of a bin), ``observed_s``,
    ``line\\x1fkind\\x1fdirection`` (crossings); maxima ``person`` and ``vehicle``.

    A frame speaks for the time until the next one, unless that is longer than two and a half usual intervals: the
    same reading of coverage as the count windows', but told where it lies, in every bin.
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
        self.state = ""
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._early_us: int | None = None
        self._frame_us: int | None = None
        self._intervals_us: deque[int] = deque(maxlen=9)

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
        self._observe(at_us)
        if self._early_us is not None:
            early_us, self._early_us = self._early_us, None
            self._alive(early_us)
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
        if event.type == LINE_CROSSED:
            key = (str(data["line"]), str(data["group"] or data["class_id"]), str(data["direction"]))
            self.crossings[key] += 1
            self._seen(event.time_us)
            self.timeline.add("\x1f".join(key), event.time_us)
        elif event.type == ZONE_EXITED:
            self.zones.setdefault(str(data["zone"]), ZoneLog()).add(float(data["dwell_s"]))
        elif event.type == CAMERA_STATUS:
            self.state = str(data["state"])
            self._alive(event.time_us)

    def _observe(self, at_us: int) -> None:
        """Credit the time since the frame before, if the camera was really seen in it."""
        before_us, self._frame_us = self._frame_us, at_us
        if before_us is None or at_us <= before_us:
            return
        gap_us = at_us - before_us
        usual_us = 1e6 / self.rules.sample_fps
        if self._intervals_us:
            usual_us = max(usual_us, min(median_low(self._intervals_us), _SLOWEST_US))
        self._intervals_us.append(gap_us)
        if gap_us <= _GAP_INTERVALS * usual_us:
            self.timeline.spread("observed_s", before_us, at_us, gap_us / 1e6)

    def _alive(self, at_us: int) -> None:
        """A change of state belongs to the camera's time: it may have been down before its first frame."""
        first_us, last_us = self.first_us, self.last_us
        if first_us is None or last_us is None:
            self._early_us = at_us if self._early_us is None else self._early_us
            return
        # A word right after the last frame is no outage, and one of another clock (a file counts from 1970) no time.
        if _A_MOMENT_US < at_us - last_us < _A_YEAR_US or _A_MOMENT_US < first_us - at_us < _A_YEAR_US:
            self._seen(at_us)
            self.timeline.add("frames", at_us, 0)

    def _seen(self, at_us: int) -> None:
        self.first_us = at_us if self.first_us is None else min(self.first_us, at_us)
        self.last_us = at_us if self.last_us is None else max(self.last_us, at_us)

    @property
    def observed_s(self) -> float:
        """Seconds in which the camera was really seen."""
        return float(self.timeline.sums("observed_s").sum())

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last that is known of the camera."""
        return 0.0 if self.first_us is None or self.last_us is None else (self.last_us - self.first_us) / 1e6

    @property
    def coverage(self) -> float | None:
        """The share 0..1 of its time in which the camera was really seen; None if it has no time."""
        return min(1.0, self.observed_s / self.span_s) if self.span_s > 0 else None

    def observed(self) -> Values:
        """The same for each bin of the timeline; above 0 in every bin that has a frame."""
        starts_us = self.timeline.starts_us
        if self.first_us is None or self.last_us is None or not len(starts_us):
            return np.zeros(len(starts_us))
        edges = np.append(starts_us, starts_us[-1] + self.timeline.bin_us)
        inside_s = np.diff(np.clip(edges, self.first_us, self.last_us).astype(np.float64)) / 1e6
        share = np.divide(self.timeline.sums("observed_s"), inside_s, out=np.ones(len(inside_s)), where=inside_s > 0)
        # A frame in it was seen, however little of its time that tells.
        return np.where(self.timeline.sums("frames") > 0, np.clip(share, 0.01, 1), 0.0)
