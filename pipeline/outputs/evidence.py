"""An event's pictures with what was seen in them drawn in: boxes, the rule, the object's track, and words."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipeline.core.events import Event, utc
from pipeline.core.frame import Picture
from pipeline.core.geometry import anchor_points
from pipeline.core.rules import Anchor, CameraRules
from pipeline.core.tracks import TrackView
from pipeline.encoding import VideoWriter
from pipeline.errors import OutputError
from pipeline.outputs import drawing
from pipeline.outputs.drawing import Box, Part, Scale
from pipeline.outputs.tail import in_words

_SHOWN_WIDTH = 960
_BAR_SHARE, _BARS_SHARE = 0.014, 0.12  # of the picture: width of one bar of attention, height of the highest


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A frame to draw. tracks: as recomputed, in pixels of ``size``. named: the event's provenance names it."""

    index: int
    at_us: int
    picture: Picture
    tracks: tuple[TrackView, ...]
    named: bool


@dataclass(slots=True)
class EvidencePainter:
    """Draws the frames of one event, in order.

    size: width and height of the camera's original pictures. object_id: the track that is the event's object.
    box_index: the frame that the published box belongs to.
    """

    event: Event
    rules: CameraRules | None
    size: tuple[int, int]
    object_id: str | None = None
    box_index: int | None = None
    _trail: list[tuple[float, float]] = field(default_factory=list)

    def draw(self, seen: SeenFrame) -> Picture:
        """The frame, enlarged by a whole factor where it is small, with everything drawn in."""
        height, width = seen.picture.shape[:2]
        factor = max(1, round(_SHOWN_WIDTH / width))
        image = Image.fromarray(seen.picture).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
        scale = Scale(image.width, image.height)
        draw = ImageDraw.Draw(image, "RGBA")
        if self.rules is not None:
            layer = drawing.rules_layer(concerned(self.rules, self.event), (), scale)
            if layer is not None:
                layer.paste_on(image)
        for track in seen.tracks:
            self._track(draw, scale, track)
        self._published(draw, scale, seen)
        self._region(draw, scale)
        self._attention(draw, scale, seen)
        self._labels(draw, scale, seen)
        return np.asarray(image)

    def _track(self, draw: ImageDraw.ImageDraw, scale: Scale, track: TrackView) -> None:
        box = self._on_screen(scale, track.bbox)
        colour = drawing.colour_of(track.group or track.class_name)
        if track.track_id != self.object_id:
            draw.rectangle(box, outline=(*colour, 150), width=max(1, scale.stroke_px - 1))
            return
        ((x, y),) = anchor_points(np.array([box]), _anchor(self.rules, self.event)).tolist()
        self._trail.append((x, y))
        for start, end in itertools.pairwise(self._trail):
            draw.line((start, end), fill=(*drawing.INK, 120), width=scale.stroke_px * 3)
        for start, end in itertools.pairwise(self._trail):
            draw.line((start, end), fill=colour, width=scale.stroke_px * 2)
        draw.rectangle(box, outline=colour, width=scale.stroke_px * 2)
        name = f"{track.class_name} {track.track_id.rpartition('/')[2]}  {track.score:.2f}"
        drawing.label(draw, scale, box[:2], [Part(name)], align=(0.0, 1.0), paper=(*colour, 235), ink=drawing.INK)

    def _published(self, draw: ImageDraw.ImageDraw, scale: Scale, seen: SeenFrame) -> None:
        """The box as the event tells it, white, in the frame it belongs to."""
        bbox = self.event.data.get("bbox")
        if bbox is None or seen.index != self.box_index:
            return
        left, top = scale.at((bbox["x_min"], bbox["y_min"]))
        right, bottom = scale.at((bbox["x_max"], bbox["y_max"]))
        reach = scale.stroke_px * 2
        box = (left - reach, top - reach, right + reach, bottom + reach)
        draw.rectangle(box, outline=drawing.INK, width=scale.stroke_px + 2)
        draw.rectangle(box, outline=drawing.PAPER, width=scale.stroke_px)

    def _region(self, draw: ImageDraw.ImageDraw, scale: Scale) -> None:
        """The part of the picture that a scene model looked at, in every frame."""
        region = self.event.data.get("region")
        if region is None:
            return
        box = (*scale.at((region["x_min"], region["y_min"])), *scale.at((region["x_max"], region["y_max"])))
        draw.rectangle(box, outline=drawing.INK, width=scale.stroke_px + 2)
        draw.rectangle(box, outline=drawing.ALARM, width=scale.stroke_px)

    def _attention(self, draw: ImageDraw.ImageDraw, scale: Scale, seen: SeenFrame) -> None:
        """How much a scene model looked at each frame: a bar a frame in the corner, the present one in red."""
        weights = attention_of(self.event)
        if not weights:
            return
        bar = max(3, round(scale.width * _BAR_SHARE))
        height, pad = round(scale.height * _BARS_SHARE), scale.pad_px
        right, bottom = scale.width - pad, scale.height - pad
        left, top = right - bar * len(weights) - 2 * pad, bottom - height - 2 * pad
        draw.rectangle((left, top, right, bottom), fill=(*drawing.INK, 200))
        most = max(weights.values())
        for place, (index, weight) in enumerate(weights.items()):
            x, tall = left + pad + place * bar, max(1, round(height * weight / most)) if most > 0 else 1
            colour = drawing.ALARM if index == seen.index else drawing.PAPER
            draw.rectangle((x, bottom - pad - tall, x + bar - 2, bottom - pad), fill=colour)

    def _labels(self, draw: ImageDraw.ImageDraw, scale: Scale, seen: SeenFrame) -> None:
        taken: list[Box] = []
        stamp = utc(seen.at_us).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        head = [Part(self.event.camera_id), Part(f"{stamp} UTC"), Part(f"frame {seen.index}")]
        if seen.named:
            weight = attention_of(self.event).get(seen.index)
            looked = "" if weight is None else f", attention {weight:.0%}"
            head.append(Part(f"named by the event{looked}", drawing.ALARM))
        drawing.label(draw, scale, (scale.pad_px, scale.pad_px), head, taken=taken)
        foot = [Part(in_words(self.event)[:90])]
        if self.event.data.get("bbox") is not None and seen.index == self.box_index:
            foot.append(Part("the published box", drawing.PAPER))
        at = (scale.pad_px, scale.height - scale.pad_px)
        drawing.label(draw, scale, at, foot, align=(0.0, 1.0), taken=taken)

    def _on_screen(self, scale: Scale, bbox: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        width, height = self.size
        left, top = scale.at((bbox[0] / width, bbox[1] / height))
        right, bottom = scale.at((bbox[2] / width, bbox[3] / height))
        return left, top, max(left, right), max(top, bottom)


def attention_of(event: Event) -> dict[int, float]:
    """How much the model of a scene event looked at each frame, by index in their order; empty for other events."""
    attention = event.data.get("attention") or ()
    frames = event.data["provenance"]["frames"] if attention else ()
    return dict(zip(frames, attention, strict=False))


def box_of(event: Event) -> Mapping[str, float] | None:
    """The published box of the object that the event is about; of a fall that is its region. None for other events."""
    box: Mapping[str, float] | None = event.data.get("bbox")
    return event.data.get("region") if box is None and event.data.get("track_id") else box


def concerned(rules: CameraRules, event: Event) -> CameraRules:
    """The rule that the event is about, alone; all of them where it is about none."""
    line, zone = event.data.get("line"), event.data.get("zone")
    if line is None and zone is None:
        return rules
    return replace(
        rules,
        lines=tuple(rule for rule in rules.lines if rule.name == line),
        zones=tuple(rule for rule in rules.zones if rule.name == zone),
    )


def _anchor(rules: CameraRules | None, event: Event) -> Anchor:
    if rules is None:
        return "bottom_center"
    kept = concerned(rules, event)
    anchors = [*(rule.anchor for rule in kept.lines), *(rule.anchor for rule in kept.zones)]
    return anchors[0] if anchors else "bottom_center"


def write_video(path: Path, pictures: Sequence[Picture], times_us: Sequence[int]) -> None:
    """An MP4 of the pictures (H x W x 3 uint8 RGB, of one size), each at its own time. Raises OutputError."""
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times_us))
    fps = 1e6 / gaps[len(gaps) // 2] if gaps and gaps[len(gaps) // 2] > 0 else 8.0
    height, width = pictures[0].shape[:2]
    try:
        with VideoWriter(path, width, height, min(fps, 120.0)) as writer:
            for picture, at_us in zip(pictures, times_us, strict=True):
                writer.write(picture, (at_us - times_us[0]) / 1e6)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def write_picture(path: Path, picture: Picture) -> None:
    """A PNG. Raises OutputError."""
    try:
        Image.fromarray(picture).save(path, "PNG")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """A file of exactly these bytes. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def write_sidecar(path: Path, told: Mapping[str, Any]) -> None:
    """The JSON beside the pictures. Raises OutputError."""
    write_bytes(path, (json.dumps(told, ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode())


def file_facts(path: Path) -> dict[str, Any]:
    """sha256 and size of a file. Raises OutputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
