"""The scripts: what happens in a scripted street, by name.

The street runs along y: lanes at x = -1.7 (towards the camera) and +1.7 (away), kerbs at x = +-5, pavements to
+-8.5, house fronts at +-9.5. One counting line lies across all of it. A script is drawn again until everything that
it counts can be seen (``_unfair``): truth never asks for what no camera could tell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.core.rules import LineRule, ZoneRule
from pipeline.errors import UsageError
from pipeline.sources.synthetic.bodies import VEHICLES, Body, Person, Vehicle, boxes_in_picture, full_boxes
from pipeline.sources.synthetic.crossing import Crossing, begins_or_ends_near, crossings_of
from pipeline.sources.synthetic.motion import Knot, Motion, Sway
from pipeline.sources.synthetic.perspective import Floats, Perspective
from pipeline.sources.synthetic.scene import Actor, Look, Scene

LANE_M = 1.7
KERB_M = 5.0
FRONT_M = 9.5

_ATTEMPTS = 60
_EASE_S = 0.6
_VIEWS = ("along", "across", "oblique")


Spans = tuple[tuple[float, float], ...]


@dataclass(slots=True)
class _Script:
    """A scene in the making."""

    rng: np.random.Generator
    camera: Perspective
    view: str
    duration_s: float
    line_y_m: float
    line: LineRule
    walk_span: tuple[float, float]  # y between which people are on their way, outside the picture or far
    drive_span: tuple[float, float]
    actors: list[Actor] = field(default_factory=list)
    zones: list[ZoneRule] = field(default_factory=list)
    strips: list[tuple[int, float]] = field(default_factory=list)
    lane_speed: dict[int, float] = field(default_factory=dict)
    lane_free_s: dict[int, float] = field(default_factory=dict)

    def between(self, low: float, high: float) -> float:
        """A number drawn evenly."""
        return float(self.rng.uniform(low, high))

    def either(self) -> int:
        """-1 or 1."""
        return int(self.rng.choice((-1, 1)))

    def instant(self, early: float = 0.15, late: float = 0.85) -> float:
        """An instant (s) between two fractions of the scene."""
        return self.between(early, late) * self.duration_s

    def add(self, body: Body, motion: Motion, blinks: Spans = ()) -> Actor:
        """Put one more actor into the scene."""
        actor = Actor(len(self.actors) + 1, body, motion, int(self.rng.integers(1 << 31)), blinks)
        self.actors.append(actor)
        return actor

    def person(self) -> Person:
        """Somebody: an adult, sometimes a child."""
        child = self.rng.random() < 0.12
        tall = self.between(1.15, 1.4) if child else self.between(1.56, 1.9)
        return Person(round(tall, 3), round(self.between(0.88, 1.2), 3), round(self.between(0.85, 1.1), 3))

    def strip(self, side: int = 0) -> float:
        """x of somebody's way on a pavement (``side`` -1 left, 1 right, 0 either); neighbours do not walk in step."""
        for again in range(2):
            for index, (of_side, x_m) in enumerate(self.strips):
                if side in {0, of_side}:
                    del self.strips[index]
                    return x_m + self.between(-0.1, 0.1)
            if not again:
                fresh = [(of_side, of_side * x_m) for of_side in (-1, 1) for x_m in (5.7, 6.3, 6.9, 7.5, 8.1)]
                self.strips += [fresh[k] for k in self.rng.permutation(len(fresh))]
        raise AssertionError("fresh strips cover both sides")

    def exit_y(self, body: Body, x_m: float, way: int) -> float:
        """y beyond the line at which this body, going ``way`` at ``x_m``, is out of the picture."""
        ys = self.line_y_m + way * np.arange(0.0, 40.0, 0.25)
        inside = ~np.isnan(self._boxes(body, x_m, ys, way)[:, 0])
        last = int(np.flatnonzero(inside)[-1]) if inside.any() else 0
        if last + 1 >= len(ys):
            raise _Unfair("this way never leaves the picture")
        return float(ys[last + 1])

    def _boxes(self, body: Body, x_m: float, ys: Floats, way: int) -> Floats:
        """The body's boxes in the picture, standing at each of these y and facing along ``way``."""
        where, still = np.stack([np.full_like(ys, x_m), ys], axis=-1), np.zeros_like(ys)
        points, radii = body.points(where, still + way * math.pi / 2, still)
        return boxes_in_picture(self.camera, points, radii, full_boxes(self.camera, points, radii))

    def just_off(self) -> float:
        """Metres: nobody stands on a line to the millimetre; a little before it or beyond."""
        return self.either() * self.between(0.02, 0.06)

    def on_line(self, body: Body, x_m: float, way: int) -> float:
        """y at which this body's anchor lies on the line when it faces along ``way`` (1: +y, -1: -y) at ``x_m``."""
        ys = np.linspace(self.line_y_m - 8.0, self.line_y_m + 8.0, 161)
        x0, _, x1, y1 = self._boxes(body, x_m, ys, way).T
        (ax, ay), (bx, by) = ((x * self.camera.width, y * self.camera.height) for x, y in self.line.points)
        side = (bx - ax) * (y1 - ay) - (by - ay) * ((x0 + x1) / 2 - ax)
        turns = np.flatnonzero(np.diff(np.sign(side)))
        turns = turns[~np.isnan(side[turns]) & ~np.isnan(side[turns + 1])]
        if not len(turns):
            raise _Unfair("the line cannot be reached here")
        k = int(turns[np.argmin(np.abs(ys[turns] - self.line_y_m))])
        return float(ys[k] + (ys[k + 1] - ys[k]) * side[k] / (side[k] - side[k + 1]))

    def slot(self, lane: int, length_m: float, hold_s: float = 0.0) -> float:
        """When the next vehicle of a lane may be on the line, so that it runs into nobody; it stays ``hold_s``."""
        if lane not in self.lane_speed:
            self.lane_speed[lane] = self.between(6.5, 11.5)
            self.lane_free_s[lane] = self.between(1.5, 4.0)
        at = self.lane_free_s[lane]
        self.lane_free_s[lane] = at + hold_s + (length_m + 4.0) / self.lane_speed[lane] + self.between(1.3, 4.5)
        return at


class _Unfair(Exception):
    """This drawing asks for something no camera could tell; draw again."""


def _walk(script: _Script, t_s: float, *, x_m: float | None = None, way: int = 0, speed: float = 0.0) -> Actor:
    """Somebody crosses the line at ``t_s`` and walks on."""
    body, way = script.person(), way or script.either()
    x_m = script.strip() if x_m is None else x_m
    speed = speed or script.between(1.0, 1.65)
    y_m, (first, last) = script.on_line(body, x_m, way), script.walk_span[::way]
    drift = script.between(-0.15, 0.15)
    knots = (
        Knot(t_s - (y_m - first) * way / speed, x_m + drift, first),
        Knot(t_s, x_m, y_m),
        Knot(t_s + (last - y_m) * way / speed, x_m - drift, last),
    )
    return script.add(body, Motion(knots))


def _eased(knots: tuple[Knot, ...]) -> tuple[Knot, ...]:
    """The same way, slowing down only in the last 0.6 s before each stop and walking off as quickly after it."""

    def on_way(a: Knot, b: Knot, t_s: float) -> Knot:
        share = (t_s - a.t_s) / (b.t_s - a.t_s)
        return Knot(t_s, a.x_m + share * (b.x_m - a.x_m), a.y_m + share * (b.y_m - a.y_m))

    found = [knots[0]]
    for index, (a, b) in enumerate(itertools.pairwise(knots)):
        moves, long = (a.x_m, a.y_m) != (b.x_m, b.y_m), b.t_s - a.t_s > 2 * _EASE_S
        if moves and long and index > 0:
            found.append(on_way(a, b, a.t_s + _EASE_S))
        if moves and long and index + 2 < len(knots):
            found.append(on_way(a, b, b.t_s - _EASE_S))
        found.append(b)
    return tuple(found)


def _walk_and_stop(
    script: _Script, t_s: float, beyond_m: float, stays_s: float, goes_on: bool, sway_m: float = 0.0
) -> Actor:
    """Somebody walks to ``beyond_m`` past the line (negative: before it), is there at ``t_s``, and goes on or back."""
    body, way, x_m, speed = script.person(), script.either(), script.strip(), script.between(1.0, 1.5)
    y_m, (first, last) = script.on_line(body, x_m, way), script.walk_span[::way]
    stop = y_m + way * beyond_m
    leaves = t_s + max(stays_s, 0.2)
    end = last if goes_on else first
    knots = (
        Knot(t_s - abs(stop - first) / speed, x_m, first),
        Knot(t_s, x_m, stop),
        Knot(leaves, x_m, stop),
        Knot(leaves + abs(end - stop) / speed, x_m + script.between(-0.2, 0.2), end),
    )
    sways = (Sway(t_s, leaves, sway_m, script.between(0.5, 1.3), (0.25, 1.0)),) if sway_m else ()
    return script.add(body, Motion(_eased(knots), sways))


def _drive(
    script: _Script, body: Vehicle, lane: int, hold_s: float = 0.0, before_m: float = 0.0, back: bool = False
) -> list[Actor]:
    """A vehicle drives over the line.

    hold_s: it stops for so long, on the line or ``before_m`` short of it. back: it stops before it and reverses.
    """
    two_wheels = body.class_name in {"bicycle", "motorcycle"}
    x_m = lane * (3.8 if body.kind == "bicycle" else LANE_M) + script.between(-0.15, 0.15)
    if body.kind == "bicycle":
        t_s, speed = script.instant(), script.between(3.5, 5.5)
    else:
        t_s = script.slot(lane, body.length_m, hold_s + (16.0 if back else 2.0 * (hold_s > 0)))
        speed = script.lane_speed[lane]
    y_m, (first, last) = script.on_line(body, x_m, lane), script.drive_span[::lane]
    if back:
        y_m -= lane * script.between(2.0, 4.0)
        last = first
    elif hold_s:
        y_m += 3.0 * script.just_off() if before_m == 0.0 else -lane * before_m
    knots = [Knot(t_s - abs(y_m - first) / speed, x_m, first)]
    if hold_s or back:
        brake_m = min(8.0, abs(y_m - first) / 2)
        knots[0] = Knot(t_s - (abs(y_m - first) - brake_m) / speed - 2 * brake_m / speed, x_m, first)
        knots += [
            Knot(t_s - 2 * brake_m / speed, x_m, y_m - lane * brake_m),
            Knot(t_s, x_m, y_m),
            Knot(t_s + max(hold_s, 1.5), x_m, y_m),
        ]
        t_s += max(hold_s, 1.5)
        speed *= 0.5 if back else 0.8
    knots.append(Knot(t_s + abs(last - y_m) / speed, x_m, last))
    motion = Motion(tuple(knots), reverses=True)
    riders = []
    if two_wheels:
        saddle, lean = (0.95, script.between(0.25, 0.6)) if body.kind == "bicycle" else (0.80, 0.15)
        rider = Person(script.person().height_m, seated=True, saddle_m=saddle, lean_rad=round(lean, 3))
        riders = [script.add(rider, motion)]
    return [script.add(body, motion), *riders]


def _some_vehicle(script: _Script, kinds: tuple[str, ...] = ()) -> Vehicle:
    usual = ("sedan", "hatch", "suv", "van", "sedan", "hatch", "suv", "bus", "truck", "motorcycle")
    return VEHICLES[str(script.rng.choice(kinds or usual))]


def _traffic(script: _Script, count: int, kinds: tuple[str, ...] = ()) -> None:
    for _ in range(count):
        lane = script.either()
        if script.lane_free_s.get(lane, 0.0) < 0.85 * script.duration_s:
            _drive(script, _some_vehicle(script, kinds), lane)


def _walkers(script: _Script) -> None:
    for _ in range(int(script.rng.integers(4, 8))):
        _walk(script, script.instant())


def _drivers(script: _Script) -> None:
    _traffic(script, 9)
    if script.rng.random() < 0.6:
        _drive(script, VEHICLES["bicycle"], script.either())


def _stop_on_line(script: _Script) -> None:
    for lane in (-1, 1):
        _drive(script, _some_vehicle(script, ("sedan", "hatch", "suv", "van", "bus", "truck")), lane,
               hold_s=script.between(2.5, 7.0))  # fmt: skip
        _drive(script, _some_vehicle(script), lane)
    for _ in range(2):
        _walk_and_stop(script, script.instant(0.2, 0.6), script.just_off(), script.between(2.0, 6.0), goes_on=True)


def _jitter_on_line(script: _Script) -> None:
    for goes_on in (True, False, bool(script.rng.random() < 0.5)):
        _walk_and_stop(
            script, script.instant(0.2, 0.6), 0.0, script.between(3.0, 7.0), goes_on, sway_m=script.between(0.05, 0.11)
        )
    _traffic(script, 2)


def _turn_before(script: _Script) -> None:
    for _ in range(3):
        _walk_and_stop(script, script.instant(0.2, 0.75), -script.between(1.0, 2.5), script.between(0.0, 3.0), False)
    _drive(script, _some_vehicle(script, ("sedan", "hatch", "suv")), script.either(), back=True)
    _walk(script, script.instant())


def _turn_after(script: _Script) -> None:
    for _ in range(3):
        _walk_and_stop(script, script.instant(0.2, 0.7), script.between(1.6, 3.0), script.between(0.0, 3.0), False)
    _walk(script, script.instant())


def _group(script: _Script) -> None:
    for side in (-1, 1):
        way, speed, t_s = script.either(), script.between(1.05, 1.45), script.instant(0.25, 0.75)
        count = int(script.rng.integers(3, 5))
        for place in range(count):
            x_m = side * (5.8 + 2.3 * place / (count - 1)) + script.between(-0.08, 0.08)
            _walk(script, t_s + script.between(-0.35, 0.35), x_m=x_m, way=way, speed=speed * script.between(0.98, 1.02))
    _traffic(script, 2)


def _occlusion(script: _Script) -> None:
    for side in (-1, 1):
        t_s, x_m = script.instant(0.25, 0.75), side * script.between(6.2, 7.6)
        _walk(script, t_s, x_m=x_m, way=1)
        _walk(script, t_s + script.between(-1.5, 1.5), x_m=x_m + script.between(0.45, 0.7), way=-1)
    _traffic(script, 4, ("bus", "truck", "van"))
    _walk(script, script.instant())


def _leave_return(script: _Script) -> None:
    """People cross, walk out of the picture, and come back over the line."""
    for _ in range(3):
        body, x_m, speed = script.person(), script.strip(), script.between(1.6, 2.1)
        way = script.either() if script.view == "across" else -1  # elsewhere the other way is far, not out
        y_m, first = script.on_line(body, x_m, way), script.walk_span[::way][0]
        out, away_s = script.exit_y(body, x_m, way) + way * 0.5, script.between(0.8, 2.0)
        latest_s = script.duration_s - 2.0 - away_s - 2 * abs(out - y_m) / speed
        if latest_s < 1.6:
            raise _Unfair("no time to come back")
        t_s = script.between(1.6, latest_s)
        gone = t_s + abs(out - y_m) / speed
        back = gone + away_s
        knots = (
            Knot(t_s - abs(y_m - first) / speed, x_m, first),
            Knot(gone, x_m, out),
            Knot(back, x_m, out),
            Knot(back + abs(out - first) / speed, x_m, first),
        )
        script.add(body, Motion(_eased(knots)))
    _traffic(script, 2)


def _flicker(script: _Script) -> None:
    made = [_walk(script, script.instant()) for _ in range(4)]
    _traffic(script, 3)
    made += [actor for actor in script.actors if actor not in made]
    for actor in made:
        start = min(max(actor.motion.starts_s, 0.0) + script.between(0.8, 1.6), script.duration_s)
        blinks = []
        while start < min(actor.motion.ends_s, script.duration_s):
            ends = start + script.between(0.08, 0.42)
            blinks.append((round(start, 3), round(ends, 3)))
            start = ends + script.between(1.0, 3.0)
        script.actors[actor.track - 1] = replace(actor, blinks=tuple(blinks))


def _plaza(script: _Script, side: int) -> ZoneRule:
    """A waiting place on one pavement, beside the line."""
    middle = script.line_y_m + (4.6 if script.view == "along" else -3.6)
    corners = [(5.2, -2.0), (8.4, -2.0), (8.4, 2.0), (5.2, 2.0)]
    world = np.array([[side * x, middle + y, 0.0] for x, y in corners])
    points = script.camera.project(world)[0] / [script.camera.width, script.camera.height]
    if (points < 0.005).any() or (points > 0.995).any():
        raise _Unfair("the waiting place is not wholly in the picture")
    named = tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)
    zone = ZoneRule("plaza", named, ("person",), dwell_s=5.0)
    script.zones.append(zone)
    return zone


def _wait_in_plaza(script: _Script, side: int, count: int, longest_s: float) -> None:
    """People come, stand in the waiting place for 3 s or more and go."""
    middle = script.line_y_m + (4.6 if script.view == "along" else -3.6)
    spots = [(x, y) for x in (5.9, 6.8, 7.7) for y in (-1.1, 0.0, 1.1)]
    for spot in script.rng.permutation(len(spots))[:count]:
        x_m, y_m = side * spots[spot][0], middle + spots[spot][1]
        body, way, speed = script.person(), script.either(), script.between(1.0, 1.5)
        first, last = script.walk_span[::way]
        last = first if script.rng.random() < 0.4 else last
        comes, stays = script.instant(0.1, 0.55), script.between(3.0, longest_s)
        knots = (
            Knot(comes - abs(y_m - first) / speed, x_m, first),
            Knot(comes, x_m, y_m),
            Knot(comes + stays, x_m, y_m),
            Knot(comes + stays + abs(last - y_m) / speed, x_m, last),
        )
        sway = Sway(comes, comes + stays, script.between(0.02, 0.06), script.between(0.3, 0.7), (1.0, 0.3))
        script.add(body, Motion(_eased(knots), (sway,)))


def _dwell(script: _Script) -> None:
    side = script.either()
    _plaza(script, side)
    _wait_in_plaza(script, side, 4, 14.0)
    _traffic(script, 2)


def _crowd(script: _Script) -> None:
    side = script.either()
    _plaza(script, side)
    _wait_in_plaza(script, side, 7, 10.0)
    _walk(script, script.instant())


def _street(script: _Script) -> None:
    """A bit of everything: what the demo shows."""
    side = script.either()
    _plaza(script, side)
    _wait_in_plaza(script, side, 2, 9.0)
    lane = script.either()
    waits = _some_vehicle(script, ("sedan", "suv", "bus"))
    _drive(script, waits, lane, hold_s=script.between(2.5, 4.5), before_m=script.between(0.6, 1.2))
    _traffic(script, max(4, round(script.duration_s / 3.5)))
    _drive(script, VEHICLES["bicycle"], script.either())
    _walk_and_stop(script, script.instant(0.2, 0.7), -script.between(1.2, 2.5), script.between(0.5, 2.0), False)
    _walk_and_stop(script, script.instant(0.2, 0.6), script.between(1.6, 3.0), script.between(0.5, 2.0), False)
    _walk_and_stop(script, script.instant(0.2, 0.6), script.just_off(), script.between(2.0, 4.0), True, sway_m=0.07)
    t_s, way, speed = script.instant(0.3, 0.7), script.either(), script.between(1.1, 1.4)
    for place in range(3):
        _walk(script, t_s + script.between(-0.3, 0.3), x_m=-side * (6.0 + place), way=way, speed=speed)
    for _ in range(max(2, round(script.duration_s / 7))):
        _walk(script, script.instant())


_SCRIPTS: dict[str, Callable[[_Script], None]] = {
    "street": _street,
    "walk": _walkers,
    "drive": _drivers,
    "stop_on_line": _stop_on_line,
    "jitter_on_line": _jitter_on_line,
    "turn_before": _turn_before,
    "turn_after": _turn_after,
    "group": _group,
    "occlusion": _occlusion,
    "leave_return": _leave_return,
    "flicker": _flicker,
    "dwell": _dwell,
    "crowd": _crowd,
}

SITUATIONS: tuple[str, ...] = tuple(_SCRIPTS)
"""Names ``street`` takes as ``situation``; the first is its default, a street with a bit of everything."""


def street(
    seed: int,
    *,
    situation: str | None = None,
    width: int = 960,
    height: int = 540,
    duration_s: float = 30.0,
    night: bool = False,
    fair: bool = True,
) -> Scene:
    """A scripted scene, the same for the same arguments.

    seed: 0 or more; draws everything: camera (along, across or oblique to the street), actors, ways, light.
    situation: one of SITUATIONS. width, height: pixels, 160 or more. duration_s: 12 or more.
    fair: every crossing can be seen well enough to be counted (which takes longer to make).
    Raises UsageError for an argument outside these.
    """
    situation = situation or SITUATIONS[0]
    if situation not in _SCRIPTS:
        raise UsageError(f"no situation is called {situation!r}", mend=f"one of {', '.join(SITUATIONS)}")
    if seed < 0 or min(width, height) < 160 or duration_s < 12:
        raise UsageError("a scripted street takes seed >= 0, sides of 160 pixels or more, and 12 s or more")
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, SITUATIONS.index(situation), attempt])
        try:
            scene = _draw(rng, situation, (width, height), duration_s, night)
            scene.seed = seed
            return _made_fair(scene) if fair else scene
        except _Unfair:
            continue
    raise UsageError(f"no fair scene for seed {seed}, {situation}, {width}x{height}", mend="try another seed")


def _draw(rng: np.random.Generator, situation: str, size: tuple[int, int], duration_s: float, night: bool) -> Scene:
    view = str(rng.choice(_VIEWS))
    camera, line_y_m = _view(rng, view, size)
    ends = camera.project(np.array([[-8.7, line_y_m, 0.0], [8.7, line_y_m, 0.0]]))[0] / size
    points = tuple((round(float(x), 4), round(float(y), 4)) for x, y in np.clip(ends, 0.0, 1.0))
    line = LineRule("street", points)
    spans = {
        "along": ((3.0, 42.0), (-4.0, 75.0)),
        "across": ((line_y_m - 20.0, line_y_m + 20.0), (line_y_m - 24.0, line_y_m + 24.0)),
        "oblique": ((-4.0, 40.0), (-10.0, 75.0)),
    }[view]
    script = _Script(rng, camera, view, duration_s, line_y_m, line, *spans)
    _SCRIPTS[situation](script)
    daylight = float(rng.uniform(0.0, 0.3)) if night else float(rng.uniform(0.65, 1.0))
    look = Look(
        daylight=round(daylight, 3),
        flicker=0.25 if situation == "flicker" else 0.0,
        noise=round(float(rng.uniform(4.0, 7.0) if night else rng.uniform(1.5, 3.0)), 2),
    )
    return Scene(0, situation, camera, duration_s, tuple(script.actors), (line,), tuple(script.zones), look)


def _view(rng: np.random.Generator, view: str, size: tuple[int, int]) -> tuple[Perspective, float]:
    """The camera, and where (y in metres) the line across the street lies before it."""
    width, height = size
    focal = max(0.78 * width, 1.38 * height)
    tall = float(rng.uniform(5.0, 6.5))
    if view == "along":
        x_m, line_y_m = float(rng.uniform(-3.0, 3.0)), float(rng.uniform(14.5, 16.5))
        yaw, pitch = math.atan2(-x_m, 18.0), float(rng.uniform(16.0, 19.0))
        return Perspective(x_m, 0.0, tall, yaw, math.radians(pitch), focal, width, height), line_y_m
    if view == "across":
        pitch, yaw = float(rng.uniform(12.0, 15.0)), float(rng.uniform(85.0, 95.0))
        camera = Perspective(-18.5, 0.0, tall, math.radians(yaw), math.radians(pitch), focal, width, height)
        return camera, float(rng.uniform(-1.5, 1.5))
    pitch, yaw = float(rng.uniform(14.0, 18.0)), float(rng.uniform(42.0, 48.0))
    camera = Perspective(-12.0, 0.0, tall, math.radians(yaw), math.radians(pitch), focal, width, height)
    return camera, float(rng.uniform(9.5, 11.0))


def _unfair(scene: Scene, *, first_only: bool) -> dict[int, str]:
    """Tracks whose crossings truth cannot fairly ask for, and why; ``first_only``: stop at the first.

    A counted crossing is not ambiguous (half or twice the margin changes nothing), not within 1.5 s of either end, the
    actor is wholly in the picture on the line, and within 1.5 s of it never hidden for more than 0.6 s at a time.
    """
    why: dict[int, str] = {}
    counted: list[Crossing] = []
    for line, actor in itertools.product(scene.lines, scene.actors):
        found = crossings_of(scene, line, actor)
        told = [one.direction for one in found]
        if any(not 1.5 <= one.t_s <= scene.duration_s - 1.5 for one in found):
            why[actor.track] = "a crossing too near to the start or the end"
        elif begins_or_ends_near(scene, line, actor):
            why[actor.track] = "on the line as the scene begins or ends"
        elif any([one.direction for one in crossings_of(scene, line, actor, k)] != told for k in (0.6, 2.0)):
            why[actor.track] = "an ambiguous crossing"
        else:
            counted += found
        if why and first_only:
            return why
    return why | _hidden(scene, counted)


_AROUND_S = (0.0, *np.linspace(-1.5, 1.5, 21).tolist())
_LONGEST_HIDDEN = 4  # of those instants in a row: 0.6 s


def _hidden(scene: Scene, counted: list[Crossing]) -> dict[int, str]:
    """Tracks that cannot be seen well enough when they cross, and why."""
    why: dict[int, str] = {}
    truths = scene.truths([one.t_s + after_s for one in counted for after_s in _AROUND_S])
    for index, one in enumerate(counted):
        on_line, *around = truths[index * len(_AROUND_S) : (index + 1) * len(_AROUND_S)]
        mine = on_line.tracks == one.track
        if not np.allclose(on_line.boxes[mine], on_line.full_boxes[mine], atol=0.5):
            why[one.track] = "not wholly in the picture on the line"
        seen = [float(truth.visible[truth.tracks == one.track].sum()) >= 0.35 for truth in around]
        longest = max((len(list(run)) for is_seen, run in itertools.groupby(seen) if not is_seen), default=0)
        if longest > _LONGEST_HIDDEN or not any(seen[:4]) or not any(seen[-4:]):
            why[one.track] = "hidden while crossing"
    return why


def _made_fair(scene: Scene) -> Scene:
    """The scene, if it is fair; a busy street loses its unfair actors, any other script is _Unfair as a whole."""
    for _ in range(4):
        why = _unfair(scene, first_only=scene.situation != "street")
        if not why:
            return scene
        if scene.situation != "street":
            raise _Unfair(next(iter(why.values())))
        gone = {id(actor.motion) for actor in scene.actors if actor.track in why}  # a rider goes with the vehicle
        scene.actors = tuple(actor for actor in scene.actors if id(actor.motion) not in gone)
    raise _Unfair("still unfair")
