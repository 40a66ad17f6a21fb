"""A scripted scene: actors on their ways before one camera, and everything that is true of them at any instant."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.core.rules import LineRule, ZoneRule
from pipeline.sources.synthetic import crossing
from pipeline.sources.synthetic.bodies import Body, boxes_in_picture, full_boxes
from pipeline.sources.synthetic.crossing import Crossing, Dwell
from pipeline.sources.synthetic.motion import Motion
from pipeline.sources.synthetic.perspective import Floats, Perspective

CLASSES: tuple[str, ...] = ("person", "bicycle", "car", "motorcycle", "bus", "truck")
"""Classes of ``Detections`` made from truth, in the order of their ids."""

_MASK_CELLS = 12
_WAY_HZ = 50.0


@dataclass(frozen=True, slots=True)
class Look:
    """How a scene is lit. ``daylight`` 1 noon, 0.35 dusk, 0 night; ``flicker`` depth 0..1 of an unsteady exposure."""

    daylight: float = 1.0
    flicker: float = 0.0
    noise: float = 2.0  # standard deviation of the sensor's noise, of 255


@dataclass(frozen=True, slots=True)
class Actor:
    """One person or vehicle. ``track`` numbers it in the truth, for good: it keeps it when it leaves and returns.

    paint: seed of its colours. blinks: half-open spans (s) in which a detector would lose it although it is there.
    """

    track: int
    body: Body
    motion: Motion
    paint: int = 0
    blinks: tuple[tuple[float, float], ...] = ()

    @property
    def class_name(self) -> str:
        """One of CLASSES."""
        return self.body.class_name

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which of 12 x 12 cells of its box it fills."""
        return _mask_of(self.body)

    def boxes(self, camera: Perspective, at: Floats) -> tuple[Floats, Floats]:
        """Two T x 4 xyxy pixel boxes: around the part in the picture, and around all of it.

        NaN where it does not exist, or less than a pixel of it is in the picture.
        """
        motion = self.motion
        points, radii = self.body.points(motion.positions(at), motion.headings(at), motion.walked(at))
        full = full_boxes(camera, points, radii)
        full[(at < motion.starts_s) | (at > motion.ends_s)] = np.nan
        return boxes_in_picture(camera, points, radii, full), full

    def blinking(self, t_s: float) -> bool:
        """Whether a detector would lose it at this instant."""
        return any(start <= t_s < end for start, end in self.blinks)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """N actors in the picture at one instant, in the order of their tracks.

    boxes: N x 4 float32 xyxy pixels, clipped to the picture. full_boxes: the same, not clipped.
    visible: N float32 0..1, the part of the actor that is in the picture and not behind a nearer actor (estimated
    on a 12 x 12 grid over its box). tracks: N int64. class_ids: N int64, indices into CLASSES. blinking: N bool,
    a detector would lose it now.
    """

    t_s: float
    tracks: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    full_boxes: NDArray[np.float32]
    visible: NDArray[np.float32]
    blinking: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each actor."""
        return tuple(CLASSES[index] for index in self.class_ids)


@dataclass(slots=True)
class Scene:
    """A street with its script. ``render``, ``truth``, ``crossings`` and ``dwells`` depend on nothing else.

    seed, situation: what it was made from. width, height: of the picture in pixels. fps: the rate it is written at
    unless told otherwise. duration_s: the script's length. actors: sorted by track. ground: seed of the background.
    """

    seed: int
    situation: str
    camera: Perspective
    duration_s: float
    actors: tuple[Actor, ...]
    lines: tuple[LineRule, ...] = ()
    zones: tuple[ZoneRule, ...] = ()
    look: Look = field(default_factory=Look)
    fps: float = 12.5
    _painter: object = field(default=None, init=False, repr=False)
    _ways: dict[int, tuple[Floats, Floats]] = field(default_factory=dict, init=False, repr=False)

    @property
    def width(self) -> int:
        """Pixels."""
        return self.camera.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self.camera.height

    def render(self, t_s: float) -> Picture:
        """The picture at ``t_s``: H x W x 3 uint8 RGB, the same bytes whenever and wherever it is asked for."""
        from pipeline.sources.synthetic.painter import Painter

        if not isinstance(self._painter, Painter):
            self._painter = Painter(self)
        return self._painter.picture(t_s)

    def truth(self, t_s: float) -> Truth:
        """What is in the picture at ``t_s``."""
        return self.truths([t_s])[0]

    def truths(self, times_s: Sequence[float]) -> list[Truth]:
        """What is in the picture at each of many instants; cheaper than asking one by one."""
        at = np.array(times_s, np.float64)
        pairs = [actor.boxes(self.camera, at) for actor in self.actors]
        clipped = np.array([pair[0] for pair in pairs]).reshape(-1, len(at), 4)
        full = np.array([pair[1] for pair in pairs]).reshape(-1, len(at), 4)
        depth = np.array([self._depths(actor, at) for actor in self.actors]).reshape(-1, len(at))
        return [self._truth(float(t_s), clipped[:, k], full[:, k], depth[:, k]) for k, t_s in enumerate(at)]

    def way(self, actor: Actor) -> tuple[Floats, Floats]:
        """(T instants at about 50 Hz, T x 4 boxes in the picture) of one of the actors, within the script."""
        if actor.track not in self._ways:
            start, end = max(0.0, actor.motion.starts_s), min(self.duration_s, actor.motion.ends_s)
            span = max(0.0, end - start)
            at = np.linspace(start, start + span, 2 + int(span * _WAY_HZ))
            self._ways[actor.track] = at, actor.boxes(self.camera, at)[0]
        return self._ways[actor.track]

    def _depths(self, actor: Actor, at: Floats) -> Floats:
        where = actor.motion.positions(at)
        return self.camera.project(np.concatenate([where, np.zeros((len(at), 1))], axis=1))[1]

    def _truth(self, t_s: float, clipped: Floats, full: Floats, depth: Floats) -> Truth:
        present = np.flatnonzero(~np.isnan(clipped[:, 0]))
        actors = [self.actors[index] for index in present]
        visible = _visible(full[present], depth[present], [actor.mask for actor in actors], self.width, self.height)
        return Truth(
            t_s,
            np.array([actor.track for actor in actors], np.int64),
            np.array([CLASSES.index(actor.class_name) for actor in actors], np.int64),
            clipped[present].astype(np.float32),
            full[present].astype(np.float32),
            visible.astype(np.float32),
            np.array([actor.blinking(t_s) for actor in actors], bool),
        )

    def crossings(self) -> list[Crossing]:
        """Every crossing of every line, in time order; see ``crossing.crossings_of`` for what counts as one."""
        found = [
            one for line in self.lines for actor in self.actors for one in crossing.crossings_of(self, line, actor)
        ]
        return sorted(found, key=lambda one: (one.t_s, one.line, one.track))

    def dwells(self) -> list[Dwell]:
        """Every stay of a counted actor in a zone, in order of entry; see ``crossing.dwells_of``."""
        found = [one for zone in self.zones for actor in self.actors for one in crossing.dwells_of(self, zone, actor)]
        return sorted(found, key=lambda one: (one.entered_s, one.zone, one.track))


@functools.cache
def _mask_of(body: Body) -> NDArray[np.bool_]:
    return body.mask


@functools.cache
def _cells() -> Floats:
    centres = (np.arange(_MASK_CELLS) + 0.5) / _MASK_CELLS
    grid_y, grid_x = np.meshgrid(centres, centres, indexing="ij")
    return np.stack([grid_x, grid_y], axis=-1)


def _visible(full: Floats, depth: Floats, masks: list[NDArray[np.bool_]], width: int, height: int) -> Floats:
    """N fractions of each silhouette that lie in the picture and behind no silhouette of a smaller depth."""
    seen = np.ones(len(full))
    for index, (x0, y0, x1, y1) in enumerate(full):
        near = (depth < depth[index]) & (full[:, 0] < x1) & (full[:, 2] > x0) & (full[:, 1] < y1) & (full[:, 3] > y0)
        if not near.any() and x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
            continue
        points = (full[index, :2] + _cells() * (full[index, 2:] - full[index, :2]))[masks[index]]
        free = (points >= 0).all(axis=1) & (points[:, 0] < width) & (points[:, 1] < height)
        for other in np.flatnonzero(near):
            corner, size = full[other, :2], full[other, 2:] - full[other, :2]
            cell = np.floor((points - corner) / size * _MASK_CELLS).astype(int)
            inside = ((cell >= 0) & (cell < _MASK_CELLS)).all(axis=1)
            free[inside] &= ~masks[other][cell[inside, 1], cell[inside, 0]]
        seen[index] = free.mean()
    return seen


def detections(
    scene: Scene,
    t_s: float,
    *,
    min_visible: float = 0.3,
    jitter_px: float = 0.0,
    miss_rate: float = 0.0,
    seed: int = 0,
) -> Detections:
    """What a detector would give at ``t_s``: with the defaults a perfect one, boxes from truth.

    Actors seen less than ``min_visible`` or blinking are left out. jitter_px: standard deviation of each side.
    miss_rate: 0..1, the chance that a box is missing. The noise depends on ``seed`` and ``t_s`` alone.
    """
    truth = scene.truth(t_s)
    return detections_from(truth, scene, min_visible=min_visible, jitter_px=jitter_px, miss_rate=miss_rate, seed=seed)


def detections_from(
    truth: Truth,
    scene: Scene,
    *,
    min_visible: float = 0.3,
    jitter_px: float = 0.0,
    miss_rate: float = 0.0,
    seed: int = 0,
) -> Detections:
    """``detections`` from a truth that is there already (``Scene.truths`` makes many at once)."""
    kept = (truth.visible >= min_visible) & ~truth.blinking
    found = truth.boxes
    if jitter_px or miss_rate:
        rng = np.random.default_rng([seed, scene.seed, round(max(truth.t_s, 0.0) * 1e6)])
        noise, luck = rng.normal(size=(len(truth), 4)), rng.random(len(truth))
        found = truth.boxes + (noise * jitter_px).astype(np.float32)
        found = np.clip(found, 0, np.array([scene.width, scene.height, scene.width, scene.height], np.float32))
        kept &= luck >= miss_rate
    kept &= (found[:, 2] - found[:, 0] >= 1.0) & (found[:, 3] - found[:, 1] >= 1.0)
    scores = (0.5 + 0.5 * truth.visible)[kept]
    order = np.argsort(-scores, kind="stable")
    return Detections(
        np.ascontiguousarray(found[kept][order], np.float32),
        scores[order].astype(np.float32),
        truth.class_ids[kept][order],
        CLASSES,
    )
