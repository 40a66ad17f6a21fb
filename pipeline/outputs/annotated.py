"""What the pipeline saw, painted on the picture, and the video of it."""

from __future__ import annotations

import itertools
import math
import urllib.parse
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.core.classes import expand, group_of
from pipeline.core.events import utc
from pipeline.core.frame import Picture
from pipeline.core.geometry import anchor_points, inside_polygon
from pipeline.core.rules import CameraRules, LineRule, Point, ZoneRule
from pipeline.core.tracks import TrackView
from pipeline.encoding import VideoWriter
from pipeline.errors import OutputError
from pipeline.outputs import drawing
from pipeline.outputs.drawing import Box, Colour, Layer, Part, Scale

Totals = Mapping[str, Mapping[str, Mapping[str, int]]]
"""line -> group (or class outside the groups) -> {"left": n, "right": n}."""

_SHORT_WORD = {"person": "people", "vehicle": "vehicles"}


@dataclass(slots=True)
class _Trail:
    colour: Colour
    points: deque[tuple[int, float, float]]  # when in microseconds, x and y in 0..1


@dataclass(slots=True)
class _Camera:
    """What is remembered of one camera between two frames."""

    trails: dict[str, _Trail] = field(default_factory=dict)
    last_us: int = 0
    drawn_for: tuple[CameraRules, tuple[tuple[Point, ...], ...], Scale] | None = None
    layer: Layer | None = None


class Annotator:
    """Paints tracks, trails, lines, zones and totals. Keeps the trails of each camera's last ``trail_s`` seconds.

    Not thread-safe: one a thread, or one a camera. Same calls, same pixels.
    """

    def __init__(self, *, trail_s: float = 2.0) -> None:
        self._trail_us = round(trail_s * 1e6)
        self._cameras: dict[str, _Camera] = {}

    def draw(
        self,
        picture: Picture,
        *,
        size: tuple[int, int],
        tracks: Sequence[TrackView],
        rules: CameraRules,
        totals: Totals,
        when_us: int,
        camera_id: str,
        masks: Sequence[Sequence[Point]] = (),
    ) -> Picture:
        """A new picture of the same shape. ``size``: (width, height) of the source, the space of the boxes.

        when_us: the frame's time, UTC microseconds. masks: the privacy masks, outlined.
        """
        camera = self._cameras.setdefault(camera_id, _Camera())
        scale = Scale(picture.shape[1], picture.shape[0])
        self._remember(camera, tracks, size, when_us)
        image = Image.fromarray(picture)  # a view: copied before anything is painted
        image = image.copy()
        draw = ImageDraw.Draw(image, "RGBA")
        layer = _layer_of(camera, rules, masks, scale)
        if layer is not None:
            layer.paste_on(image)
        boxed = [(track, _normalised(track.bbox, size)) for track in tracks]
        inside = {zone.name: _inside(zone, boxed) for zone in rules.zones}
        for zone in rules.zones:
            if zone.crowded_at and len(inside[zone.name]) >= zone.crowded_at:
                draw.polygon([scale.at(p) for p in zone.points], fill=(*drawing.ALARM, 50), outline=drawing.ALARM)
        for trail in camera.trails.values():
            _draw_trail(draw, trail, scale, when_us, self._trail_us)
        # Far objects first: a near one's label lies on top.
        for track, box in sorted(boxed, key=lambda item: (item[1][3], item[0].track_id)):
            _draw_box(draw, scale, track, box)
        taken: list[Box] = []
        stamp = utc(when_us).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5]
        title = [Part(camera_id[:60]), Part(f"{stamp} UTC")]
        drawing.label(draw, scale, (scale.pad_px, scale.pad_px), title, taken=taken)
        for line in rules.lines:
            _draw_totals(draw, scale, line, totals.get(line.name, {}), taken)
        for zone in rules.zones:
            _draw_zone_label(draw, scale, zone, inside[zone.name], taken)
        return np.asarray(image)

    def _remember(self, camera: _Camera, tracks: Sequence[TrackView], size: tuple[int, int], when_us: int) -> None:
        """Lengthen the trails, and forget what is older than a trail (or of another run of the stream)."""
        if when_us < camera.last_us:
            camera.trails.clear()
        camera.last_us = when_us
        for track in tracks:
            trail = camera.trails.setdefault(track.track_id, _Trail(_colour(track), deque()))
            left, _, right, bottom = _normalised(track.bbox, size)
            trail.points.append((when_us, (left + right) / 2, bottom))
        for track_id, trail in list(camera.trails.items()):
            while trail.points and trail.points[0][0] < when_us - self._trail_us:
                trail.points.popleft()
            if not trail.points:
                del camera.trails[track_id]


def _layer_of(camera: _Camera, rules: CameraRules, masks: Sequence[Sequence[Point]], scale: Scale) -> Layer | None:
    wanted = (rules, tuple(tuple(mask) for mask in masks), scale)
    if camera.drawn_for != wanted:
        camera.drawn_for, camera.layer = wanted, drawing.rules_layer(rules, masks, scale)
    return camera.layer


def _normalised(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _inside(zone: ZoneRule, boxed: Sequence[tuple[TrackView, tuple[float, float, float, float]]]) -> list[TrackView]:
    """The tracks that count for the zone and whose anchor lies in it."""
    chosen = expand(zone.classes)
    mine = [(track, box) for track, box in boxed if track.class_name in chosen]
    if not mine:
        return []
    anchors = anchor_points(np.array([box for _, box in mine]), zone.anchor)
    inside = inside_polygon(anchors, np.array(zone.points, np.float64))
    return [track for (track, _), is_inside in zip(mine, inside, strict=True) if is_inside]


def _colour(track: TrackView) -> Colour:
    return drawing.colour_of(track.group or track.class_name)


def _draw_trail(draw: ImageDraw.ImageDraw, trail: _Trail, scale: Scale, now_us: int, span_us: int) -> None:
    points = list(trail.points)
    for (_, x0, y0), (at_us, x1, y1) in itertools.pairwise(points):
        freshness = 1 - (now_us - at_us) / max(span_us, 1)
        segment = [scale.at((x0, y0)), scale.at((x1, y1))]
        draw.line(segment, fill=(*trail.colour, round(40 + 180 * freshness)), width=scale.stroke_px)


def _draw_box(
    draw: ImageDraw.ImageDraw, scale: Scale, track: TrackView, box: tuple[float, float, float, float]
) -> None:
    (left, top), (right, bottom) = scale.at(box[:2]), scale.at(box[2:])
    if not all(math.isfinite(side) for side in (left, top, right, bottom)):
        return
    left, right = sorted((min(max(left, 0), scale.width - 1), min(max(right, 0), scale.width - 1)))
    top, bottom = sorted((min(max(top, 0), scale.height - 1), min(max(bottom, 0), scale.height - 1)))
    colour, stroke = _colour(track), scale.stroke_px
    if track.seen:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(*drawing.INK, 140), width=stroke + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=stroke)
    else:  # predicted, not seen: thinner and paler
        draw.rectangle((left, top, right, bottom), outline=(*colour, 120), width=max(1, stroke - 1))
    text = track.track_id.rpartition("/")[2]
    if (right - left) > scale.font_px * 2.5:
        text = f"{track.class_name} {text}"
    paper = (*colour, 235 if track.seen else 120)
    drawing.label(draw, scale, (left, top), [Part(text)], align=(0.0, 1.0), paper=paper, ink=drawing.INK)


def _draw_zone_label(
    draw: ImageDraw.ImageDraw, scale: Scale, zone: ZoneRule, inside: Sequence[TrackView], taken: list[Box]
) -> None:
    counts = dict.fromkeys(_kinds(zone.classes), 0)
    for track in inside:
        counts[track.group or track.class_name] = counts.get(track.group or track.class_name, 0) + 1
    parts = [Part(zone.name[:40]), *(Part(str(count), drawing.colour_of(kind)) for kind, count in counts.items())]
    crowded = bool(zone.crowded_at and len(inside) >= zone.crowded_at)
    if crowded:
        parts.append(Part("crowded"))
    paper = (*drawing.ALARM, 230) if crowded else (*drawing.INK, 190)
    at = scale.at(min(zone.points, key=lambda point: (point[1], point[0])))
    drawing.label(draw, scale, (at[0] + scale.pad_px, at[1] + scale.pad_px), parts, paper=paper, taken=taken)


def _kinds(classes: Sequence[str]) -> list[str]:
    """What is counted apart: the groups that are selected, and selected classes outside both groups."""
    chosen = expand(classes)
    kinds: list[str] = [group for group in ("person", "vehicle") if any(group_of(name) == group for name in chosen)]
    return kinds + sorted(name for name in chosen if group_of(name) is None)


def _draw_totals(
    draw: ImageDraw.ImageDraw, scale: Scale, line: LineRule, totals: Mapping[str, Mapping[str, int]], taken: list[Box]
) -> None:
    """The running totals, each on the side of the line its objects went to."""
    middle, right = drawing.middle_of([scale.at(point) for point in line.points])
    kinds = list(dict.fromkeys([*_kinds(line.classes), *sorted(totals)]))
    for side, sign in (("left", -1), ("right", 1)):
        parts = [Part(f"{line.name[:30]} {side}")] + [
            Part(f"{totals.get(kind, {}).get(side, 0)} {_SHORT_WORD.get(kind, kind)}", drawing.colour_of(kind))
            for kind in kinds
        ]
        away = scale.font_px * (2.0 if side == "right" else 0.9)
        at = (middle[0] + sign * right[0] * away, middle[1] + sign * right[1] * away)
        align = (0.5 - 0.5 * sign * right[0], 0.5 - 0.5 * sign * right[1])
        drawing.label(draw, scale, at, parts, align=align, taken=taken)


class AnnotatedVideo:
    """One mp4 a camera, ``folder/annotated/<camera>.mp4``, each picture at its own time.

    A picture of another size than the camera's first is fitted into that size, so that a camera is one file.
    """

    def __init__(self, folder: Path, *, fps: float = 8.0) -> None:
        """fps: what the file declares; pictures are shown at their own times whatever it says."""
        self._folder, self._fps = folder / "annotated", fps
        self._writers: dict[str, tuple[VideoWriter, int, tuple[int, int]]] = {}
        self._paths: dict[str, Path] = {}

    def write(self, camera_id: str, picture: Picture, at_us: int) -> None:
        """Append a picture (H x W x 3 uint8 RGB) shown at ``at_us`` (UTC). Raises OutputError."""
        try:
            if camera_id not in self._writers:
                self._open(camera_id, picture, at_us)
            writer, first_us, shape = self._writers[camera_id]
            if picture.shape[:2] != shape:
                picture = _fitted(picture, shape)
            writer.write(picture, max(0, at_us - first_us) / 1e6)
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot write the annotated video of {camera_id}: {error}") from error

    def _open(self, camera_id: str, picture: Picture, at_us: int) -> None:
        if camera_id in self._paths:
            raise ValueError("it is closed already")
        self._folder.mkdir(parents=True, exist_ok=True)
        # A camera's name is the user's: it must not become a path.
        path = self._folder / f"{urllib.parse.quote(camera_id, safe=' ')}.mp4"
        height, width = picture.shape[:2]
        self._writers[camera_id] = VideoWriter(path, width, height, self._fps), at_us, (height, width)
        self._paths[camera_id] = path

    def close(self) -> None:
        """Finish every file, even when one of them fails; the first failure is raised as OutputError."""
        failure: OutputError | None = None
        while self._writers:
            camera_id, (writer, _, _) = self._writers.popitem()
            try:
                writer.close()
            except (OSError, ValueError, OutputError) as error:
                failure = failure or OutputError(f"cannot finish the annotated video of {camera_id}: {error}")
        if failure:
            raise failure

    @property
    def paths(self) -> dict[str, Path]:
        """camera_id -> file, of every camera that had a picture."""
        return dict(self._paths)

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _fitted(picture: Picture, shape: tuple[int, int]) -> Picture:
    """The picture as large as fits into (height, width), in the middle of black."""
    height, width = shape
    ratio = min(width / picture.shape[1], height / picture.shape[0])
    inner = Image.fromarray(picture).resize(
        (max(1, round(picture.shape[1] * ratio)), max(1, round(picture.shape[0] * ratio))), Image.Resampling.BILINEAR
    )
    whole = Image.new("RGB", (width, height))
    whole.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    return np.asarray(whole)
