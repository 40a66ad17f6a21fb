"""How well was counted: crossings and dwell against the truth. Pure: no file is read here (see ``truth``).

A counted crossing and a true one are the same if they are of one line, kind and direction and no further apart in time
than a tolerance; which belong together is decided for all at once (the assignment with the most pairs, and among those
the least total time difference). What is left over is named after what probably went wrong:

- missed: true, not counted;
- double: counted, within the tolerance of a true crossing of the same direction that is matched already;
- opposite: counted, within the tolerance of a true crossing of the other direction only;
- false: counted where nothing crossed.

So truth = matched + missed, and counted = matched + double + opposite + false, in every row.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.analytics.association import least_cost_pairs
from pipeline.core.classes import expand, group_of
from pipeline.core.rules import Anchor, Point

Direction = Literal["left", "right"]
DIRECTIONS: tuple[Direction, Direction] = ("left", "right")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A crossing at ``t_s`` seconds of the clip."""

    t_s: float
    direction: Direction
    class_name: str

    @property
    def kind(self) -> str:
        """The group, or the class itself outside the groups."""
        return group_of(self.class_name) or self.class_name


@dataclass(frozen=True, slots=True)
class Undirected:
    """Crossings of which one knows all times, and how many went each way, but not which."""

    times_s: tuple[float, ...]
    left: int
    right: int
    class_name: str


@dataclass(frozen=True, slots=True)
class Dwell:
    """Somebody was inside from ``entered_s`` to ``left_s`` (seconds of the clip)."""

    entered_s: float
    left_s: float
    class_name: str

    @property
    def dwell_s(self) -> float:
        return self.left_s - self.entered_s


@dataclass(frozen=True, slots=True)
class LineTruth:
    """What crosses a line. classes: the truth says nothing about others."""

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...]
    anchor: Anchor = "bottom_center"
    crossings: tuple[Crossing, ...] = ()
    undirected: Undirected | None = None


@dataclass(frozen=True, slots=True)
class ZoneTruth:
    """Who is in a zone, and when. classes: the truth says nothing about others."""

    name: str
    points: tuple[Point, ...]
    classes: tuple[str, ...]
    anchor: Anchor = "bottom_center"
    dwells: tuple[Dwell, ...] = ()


@dataclass(frozen=True, slots=True)
class VideoTruth:
    """What happens in one clip. file: as the truth names it. start_us: UTC of its first frame, if the truth says."""

    file: str
    camera_id: str
    lines: tuple[LineTruth, ...] = ()
    zones: tuple[ZoneTruth, ...] = ()
    start_us: int | None = None


@dataclass(slots=True)
class Counted:
    """What was published about one camera, in seconds of its clip: by line and by zone. ended: it said so."""

    crossings: dict[str, list[Crossing]] = field(default_factory=dict)
    dwells: dict[str, list[Dwell]] = field(default_factory=dict)
    ended: bool = True


@dataclass(frozen=True, slots=True)
class CountScore:
    """One line, kind and direction."""

    camera_id: str
    line: str
    kind: str
    direction: Direction
    truth: int
    counted: int
    missed: int
    double: int
    opposite: int
    false: int

    @property
    def error(self) -> int:
        """Counted less truth."""
        return self.counted - self.truth

    @property
    def wrong(self) -> int:
        """Every single mistake; unlike the error, a missed one and a double one do not cancel out."""
        return self.missed + self.double + self.opposite + self.false


@dataclass(frozen=True, slots=True)
class DwellScore:
    """A true stay and what was told of it. counted_s: None when missed. truth_s: None when nobody was there."""

    camera_id: str
    zone: str
    kind: str
    entered_s: float
    truth_s: float | None
    counted_s: float | None

    @property
    def error_s(self) -> float | None:
        if self.truth_s is None or self.counted_s is None:
            return None
        return self.counted_s - self.truth_s


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All rows, and what they come to. notes: what a reader must know to trust the table."""

    counts: tuple[CountScore, ...]
    dwells: tuple[DwellScore, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def total_absolute_error(self) -> int:
        """The sum of |counted - truth| over lines, kinds and directions."""
        return sum(abs(score.error) for score in self.counts)

    @property
    def mae(self) -> float:
        """Mean |counted - truth| a row; 0 without rows."""
        return self.total_absolute_error / len(self.counts) if self.counts else 0.0

    @property
    def bias(self) -> float:
        """Mean (counted - truth) a row: above 0 is counting too many; 0 without rows."""
        return sum(score.error for score in self.counts) / len(self.counts) if self.counts else 0.0

    @property
    def wrong(self) -> int:
        """All missed, double, opposite and false crossings."""
        return sum(score.wrong for score in self.counts)

    @property
    def dwell_mae_s(self) -> float | None:
        """Mean |counted - true| dwell of those that were found; None without any."""
        errors = [abs(score.error_s) for score in self.dwells if score.error_s is not None]
        return sum(errors) / len(errors) if errors else None

    @property
    def dwell_bias_s(self) -> float | None:
        errors = [score.error_s for score in self.dwells if score.error_s is not None]
        return sum(errors) / len(errors) if errors else None


def evaluate(truth: Iterable[VideoTruth], counted: Mapping[str, Counted], tolerance_s: float = 1.5) -> Evaluation:
    """Score every line and zone of the truth; what was counted elsewhere is not judged."""
    counts: list[CountScore] = []
    dwells: list[DwellScore] = []
    notes: list[str] = []
    for video in truth:
        seen = counted.get(video.camera_id)
        if seen is None:
            notes.append(f"no results of camera {video.camera_id}: all its crossings are missed")
            seen = Counted()
        elif not seen.ended:
            notes.append(f"camera {video.camera_id} was not read to its end: what came later is missed")
        for line in video.lines:
            names = [each.name for each in video.lines]
            found = _named(line.name, names, seen.crossings, video.camera_id, "line", notes)
            counts += score_line(video.camera_id, line, found, tolerance_s)
        for zone in video.zones:
            stays = _named(zone.name, [z.name for z in video.zones], seen.dwells, video.camera_id, "zone", notes)
            dwells += score_zone(video.camera_id, zone, stays)
    return Evaluation(tuple(counts), tuple(dwells), tuple(notes))


def _named(
    name: str, true_names: Sequence[str], found: Mapping[str, Sequence[T]], camera_id: str, what: str, notes: list[str]
) -> Sequence[T]:
    """What was found under ``name``; where truth and results have one each, under whatever name."""
    if name in found or len(true_names) != 1 or len(found) != 1:
        return found.get(name, ())
    other = next(iter(found))
    notes.append(f"camera {camera_id}: {what} {other} of the results is taken for {what} {name} of the truth")
    return found[other]


def score_line(camera_id: str, line: LineTruth, counted: Sequence[Crossing], tolerance_s: float) -> list[CountScore]:
    """A row for each kind of the line's classes and each direction, also for those with nothing to count."""
    classes = expand(line.classes)
    found = [crossing for crossing in counted if crossing.class_name in classes]
    true = list(line.crossings)
    if line.undirected is not None:
        true += directed(line.undirected, found, tolerance_s)
    kinds = sorted({group_of(name) or name for name in classes})
    return [
        score
        for kind in kinds
        for score in _score_kind(
            (camera_id, line.name, kind),
            [crossing for crossing in true if crossing.kind == kind],
            [crossing for crossing in found if crossing.kind == kind],
            tolerance_s,
        )
    ]


def _score_kind(
    names: tuple[str, str, str], true: Sequence[Crossing], found: Sequence[Crossing], tolerance_s: float
) -> Iterator[CountScore]:
    for direction in DIRECTIONS:
        mine = sorted(crossing.t_s for crossing in true if crossing.direction == direction)
        others = sorted(crossing.t_s for crossing in true if crossing.direction != direction)
        times = sorted(crossing.t_s for crossing in found if crossing.direction == direction)
        pairs = match_times(mine, times, tolerance_s)
        matched = {index for _, index in pairs}
        extra = [t for index, t in enumerate(times) if index not in matched]
        # An unmatched one near a true crossing of its direction: that one is matched, or they would be a pair.
        double = [t for t in extra if _near(t, mine, tolerance_s)]
        opposite = [t for t in extra if not _near(t, mine, tolerance_s) and _near(t, others, tolerance_s)]
        false = len(extra) - len(double) - len(opposite)
        missed = len(mine) - len(pairs)
        yield CountScore(*names, direction, len(mine), len(times), missed, len(double), len(opposite), false)


def _near(t_s: float, rising_s: Sequence[float], tolerance_s: float) -> bool:
    after = bisect.bisect_left(rising_s, t_s)
    return any(abs(t_s - other) <= tolerance_s for other in rising_s[max(0, after - 1) : after + 1])


def match_times(truth_s: Sequence[float], counted_s: Sequence[float], tolerance_s: float) -> list[tuple[int, int]]:
    """Pairs of indices (truth, counted) no further apart than the tolerance: most pairs, then least total distance.

    Both sequences rise. Solved apart for each stretch of time that touches no other, so that long runs stay cheap.
    """
    pairs: list[tuple[int, int]] = []
    truth, counted = np.asarray(truth_s, np.float64), np.asarray(counted_s, np.float64)
    for mine, theirs in _stretches(truth, counted, tolerance_s):
        if len(mine) == 0 or len(theirs) == 0:
            continue
        distance = np.abs(truth[mine, None] - counted[None, theirs])
        # One pair more outweighs any gain in distance.
        forbidden = (tolerance_s + 1.0) * (min(distance.shape) + 1)
        rows, columns = least_cost_pairs(np.where(distance <= tolerance_s, distance, forbidden))
        kept = distance[rows, columns] <= tolerance_s
        pairs += zip(mine[rows[kept]].tolist(), theirs[columns[kept]].tolist(), strict=True)
    return pairs


def _stretches(
    truth_s: NDArray[np.float64], counted_s: NDArray[np.float64], tolerance_s: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of both sides, split wherever nothing happens for longer than the tolerance."""
    times = np.concatenate([truth_s, counted_s])
    order = np.argsort(times, kind="stable")
    cuts = np.flatnonzero(np.diff(times[order]) > tolerance_s) + 1
    for part in np.split(order, cuts):
        yield part[part < len(truth_s)], part[part >= len(truth_s)] - len(truth_s)


def directed(undirected: Undirected, counted: Sequence[Crossing], tolerance_s: float) -> list[Crossing]:
    """Give each time a direction so that the totals hold and the times lie nearest to what was counted.

    Lenient about which of the crossings went where, never about how many did.
    """
    left: list[Direction] = ["left"]
    right: list[Direction] = ["right"]
    slots = left * undirected.left + right * undirected.right
    cost = np.full((len(undirected.times_s), len(slots)), tolerance_s)
    for column, direction in enumerate(slots):
        times = np.array([crossing.t_s for crossing in counted if crossing.direction == direction])
        if len(times):
            apart = np.abs(np.asarray(undirected.times_s)[:, None] - times[None, :]).min(axis=1)
            cost[:, column] = np.minimum(apart, tolerance_s)
    rows, columns = least_cost_pairs(cost)
    return [
        Crossing(undirected.times_s[row], slots[column], undirected.class_name)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def score_zone(camera_id: str, zone: ZoneTruth, counted: Sequence[Dwell]) -> list[DwellScore]:
    """One row for each true stay, and one for each told stay that belongs to none; by time.

    Stays belong together by how much of their time they share (intersection over union; the sum over all is greatest).
    """
    classes = expand(zone.classes)
    true = list(zone.dwells)
    found = [dwell for dwell in counted if dwell.class_name in classes]
    shared = np.array([[_shared(a, b) for b in found] for a in true]).reshape(len(true), len(found))
    rows, columns = least_cost_pairs(-shared)
    pairs = {row: col for row, col in zip(rows.tolist(), columns.tolist(), strict=True) if shared[row, col] > 0}
    scores = [
        DwellScore(
            camera_id,
            zone.name,
            group_of(dwell.class_name) or dwell.class_name,
            dwell.entered_s,
            dwell.dwell_s,
            found[pairs[row]].dwell_s if row in pairs else None,
        )
        for row, dwell in enumerate(true)
    ]
    taken = set(pairs.values())
    scores += [
        DwellScore(camera_id, zone.name, group_of(d.class_name) or d.class_name, d.entered_s, None, d.dwell_s)
        for column, d in enumerate(found)
        if column not in taken
    ]
    return sorted(scores, key=lambda score: (score.entered_s, score.truth_s is None))


def _shared(a: Dwell, b: Dwell) -> float:
    both = min(a.left_s, b.left_s) - max(a.entered_s, b.entered_s)
    either = max(a.left_s, b.left_s) - min(a.entered_s, b.entered_s)
    same = (group_of(a.class_name) or a.class_name) == (group_of(b.class_name) or b.class_name)
    return both / either if same and both > 0 and either > 0 else 0.0
