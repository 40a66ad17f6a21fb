"""The shapes of actors: what they measure in metres, and where their parts are at any instant.

Body frame: forward, right, up, with the origin on the ground under the middle of the body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.synthetic.meshes import mesh_of
from pipeline.sources.synthetic.perspective import NEAREST_M, Floats, Perspective

# Joints of a person, in the order of Person.joints.
(
    HEAD, NECK, HIPS,
    L_SHOULDER, R_SHOULDER, L_ELBOW, R_ELBOW, L_HAND, R_HAND,
    L_HIP, R_HIP, L_KNEE, R_KNEE, L_ANKLE, R_ANKLE, L_TOE, R_TOE,
) = range(17)  # fmt: skip

_MASK_CELLS = 12


def _mask(rows: str) -> NDArray[np.bool_]:
    """A silhouette on 12 x 12 cells of the box from 12 numbers: how many cells each row fills, centred."""
    filled = np.zeros((_MASK_CELLS, _MASK_CELLS), bool)
    for row, count in enumerate(int(text, 16) for text in rows.split()):
        start = (_MASK_CELLS - count) // 2
        filled[row, start : start + count] = True
    return filled


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle on wheels: ``kind`` names its drawing (sedan, hatch, suv, van, bus, truck, motorcycle, bicycle).

    hull: convex enough points N x 3 (metres, body frame) that bound everything drawn.
    """

    kind: str
    class_name: str
    length_m: float
    width_m: float
    height_m: float
    wheel_m: float  # radius
    axles: tuple[float, ...]  # along forward, metres

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which cells of the box it fills, 12 x 12, seen from most sides."""
        if self.kind in {"motorcycle", "bicycle"}:
            return _mask("4 6 6 8 8 a a c c c c a")
        return _mask("8 8 a c c c c c c c c a") if self.class_name == "car" else _mask("a c c c c c c c c c c a")

    def hull(self) -> Floats:
        """N x 3 points in the body frame that bound what is drawn."""
        if self.kind not in {"motorcycle", "bicycle"}:
            return mesh_of(self.kind).hull()
        half, wide, high, tyre = self.length_m / 2, self.width_m / 2, self.height_m, 2 * self.wheel_m
        bars = [(self.axles[0] - 0.22, y, high) for y in (-wide, wide)]
        tyres = [(x, 0.0, z) for x in (-half, half) for z in (0.25 * tyre, 0.75 * tyre)]
        return np.array([*bars, *tyres, *((x, 0.0, z) for x in self.axles for z in (0.0, tyre))])

    def points(self, where: Floats, headings: Floats, _walked: Floats) -> tuple[Floats, Floats]:
        """World points T x N x 3 that bound it, and the radius of each (zeros)."""
        hull = self.hull()
        return place(hull[None], where, headings), np.zeros(len(hull))


@dataclass(frozen=True, slots=True)
class Person:
    """A pedestrian, or with ``seated`` a rider: pose follows from the way walked.

    saddle_m: height of a rider's hips; lean_rad: how far the rider bends forward.
    """

    height_m: float
    girth: float = 1.0
    swing: float = 1.0
    seated: bool = False
    saddle_m: float = 0.95
    lean_rad: float = 0.35
    class_name: str = "person"

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which cells of the box it fills, 12 x 12."""
        return _mask("4 4 8 a a a a 8 8 8 8 8")

    def radii(self) -> Floats:
        """17 radii of the joints, metres."""
        unit = self.height_m
        told = np.full(17, 0.035 * unit)
        told[HEAD] = 0.072 * unit
        told[NECK] = 0.04 * unit
        told[[HIPS, L_HIP, R_HIP]] = 0.06 * unit * self.girth
        told[[L_SHOULDER, R_SHOULDER]] = 0.045 * unit * self.girth
        told[[L_KNEE, R_KNEE]] = 0.042 * unit * self.girth
        told[[L_ANKLE, R_ANKLE]] = 0.030 * unit
        told[[L_TOE, R_TOE]] = 0.024 * unit
        return told

    def joints(self, walked: Floats) -> Floats:
        """T x 17 x 3 joints in the body frame for T lengths of way walked (metres)."""
        return self._riding(walked) if self.seated else self._walking(walked)

    def _walking(self, walked: Floats) -> Floats:
        unit = self.height_m
        phase = walked * (2 * math.pi / (0.83 * unit))  # two steps a cycle
        joints = np.zeros((len(walked), 17, 3))
        thigh, shank, hip_up = 0.245 * unit, 0.235 * unit, 0.52 * unit
        for side, hip, knee, ankle, toe, shoulder, elbow, hand in (
            (-1, L_HIP, L_KNEE, L_ANKLE, L_TOE, L_SHOULDER, L_ELBOW, L_HAND),
            (1, R_HIP, R_KNEE, R_ANKLE, R_TOE, R_SHOULDER, R_ELBOW, R_HAND),
        ):
            cycle = phase + (math.pi if side > 0 else 0.0)
            hip_angle = 0.42 * self.swing * np.sin(cycle)
            bend = self.swing * (0.10 + 0.75 * np.maximum(0.0, np.cos(cycle)) ** 2)
            joints[:, hip] = [0.0, side * 0.05 * unit * self.girth, hip_up]
            joints[:, knee] = joints[:, hip] + _swung(thigh, hip_angle)
            joints[:, ankle] = joints[:, knee] + _swung(shank, hip_angle - bend)
            joints[:, toe] = joints[:, ankle] + np.array([0.11 * unit, side * 0.01 * unit, -0.012 * unit])
            arm = -0.45 * self.swing * np.sin(cycle)
            joints[:, shoulder] = [0.0, side * 0.105 * unit * self.girth, 0.80 * unit]
            joints[:, elbow] = joints[:, shoulder] + _swung(0.17 * unit, arm)
            joints[:, elbow, 1] += side * 0.02 * unit
            joints[:, hand] = joints[:, elbow] + _swung(0.16 * unit, arm + 0.3)
        joints[:, HIPS] = [0.0, 0.0, hip_up]
        joints[:, NECK] = [0.012 * unit, 0.0, 0.845 * unit]
        joints[:, HEAD] = [0.025 * unit, 0.0, 0.928 * unit]
        return self._grounded(joints)

    def _grounded(self, joints: Floats) -> Floats:
        radii = self.radii()
        feet = [L_ANKLE, R_ANKLE, L_TOE, R_TOE]
        lowest = (joints[:, feet, 2] - radii[feet]).min(axis=1)
        joints[:, :, 2] -= lowest[:, None]
        return joints

    def _riding(self, walked: Floats) -> Floats:
        unit = self.height_m
        joints = np.zeros((len(walked), 17, 3))
        pedal = walked * 1.1
        back = np.array([math.sin(self.lean_rad), 0.0, math.cos(self.lean_rad)])
        hips = np.array([-0.22, 0.0, self.saddle_m])
        joints[:, HIPS] = hips
        for side, hip, knee, ankle, toe, shoulder, elbow, hand in (
            (-1, L_HIP, L_KNEE, L_ANKLE, L_TOE, L_SHOULDER, L_ELBOW, L_HAND),
            (1, R_HIP, R_KNEE, R_ANKLE, R_TOE, R_SHOULDER, R_ELBOW, R_HAND),
        ):
            cycle = pedal + (math.pi if side > 0 else 0.0)
            joints[:, hip] = hips + np.array([0.0, side * 0.09, 0.0])
            joints[:, ankle, 0] = 0.05 + 0.16 * np.cos(cycle)
            joints[:, ankle, 1] = side * 0.11
            joints[:, ankle, 2] = 0.36 + 0.16 * np.sin(cycle)
            joints[:, knee] = (joints[:, hip] + joints[:, ankle]) / 2 + np.array([0.20, side * 0.03, 0.08])
            joints[:, toe] = joints[:, ankle] + np.array([0.16, 0.0, -0.03])
            joints[:, shoulder] = hips + back * 0.30 * unit + np.array([0.0, side * 0.11 * unit * self.girth, 0.0])
            joints[:, hand] = np.array([0.42, side * 0.25, self.saddle_m + 0.12])
            joints[:, elbow] = (joints[:, shoulder] + joints[:, hand]) / 2 + np.array([0.0, side * 0.06, -0.08])
        joints[:, NECK] = hips + back * 0.335 * unit
        joints[:, HEAD] = hips + back * 0.41 * unit + np.array([0.05, 0.0, 0.02])
        return joints

    def points(self, where: Floats, headings: Floats, walked: Floats) -> tuple[Floats, Floats]:
        """World points T x 17 x 3 of the joints, and the radius of each."""
        return place(self.joints(walked), where, headings), self.radii()


Body = Vehicle | Person


def _swung(length: float, angle: Floats) -> Floats:
    """T x 3: a limb that hangs down, swung forward by ``angle``."""
    return np.stack([length * np.sin(angle), np.zeros_like(angle), -length * np.cos(angle)], axis=-1)


def place(points: Floats, where: Floats, headings: Floats) -> Floats:
    """Body-frame points (T or 1) x N x 3 to the world, for T positions (T x 2) and headings (T)."""
    cos, sin = np.cos(headings)[:, None], np.sin(headings)[:, None]
    forward, right, up = points[..., 0], points[..., 1], points[..., 2]
    # heading 0 faces +x, so right of it is -y
    x = where[:, None, 0] + forward * cos + right * sin
    y = where[:, None, 1] + forward * sin - right * cos
    return np.stack([x, y, np.broadcast_to(up, x.shape)], axis=-1)


def full_boxes(camera: Perspective, points: Floats, radii: Floats) -> Floats:
    """T x 4 xyxy pixel boxes around T x N x 3 world points of given radii, beyond the picture too; NaN behind it."""
    pixels, depth = camera.project(points)
    reach = radii * camera.focal_px / np.maximum(depth, NEAREST_M)
    box = np.concatenate([(pixels - reach[..., None]).min(axis=-2), (pixels + reach[..., None]).max(axis=-2)], axis=-1)
    box[depth.max(axis=-1) < NEAREST_M] = np.nan
    return np.asarray(box)


def boxes_in_picture(camera: Perspective, points: Floats, radii: Floats, full: Floats) -> Floats:
    """T x 4 boxes around the part of each hull that is in the picture; NaN where less than a pixel is.

    A hull that reaches out of the picture is clipped as a solid, not as a box: of a car that leaves at the bottom
    only the part still seen counts. Every segment between two of its points is cut to the camera's view.
    """
    size = np.array([camera.width, camera.height] * 2, np.float64)
    box = np.where(np.isnan(full), np.nan, np.clip(full, 0.0, size))
    outside = (full[:, 2] < 0) | (full[:, 3] < 0) | (full[:, 0] > camera.width) | (full[:, 1] > camera.height)
    box[outside] = np.nan
    beyond = np.flatnonzero((np.abs(box - full) > 0).any(axis=1))  # False for NaN
    if len(beyond):
        box[beyond] = _cut_to_view(camera, points[beyond], radii)
    with np.errstate(invalid="ignore"):
        box[((box[:, 2:] - box[:, :2]) < 1.0).any(axis=1)] = np.nan
    return box


def _cut_to_view(camera: Perspective, points: Floats, radii: Floats) -> Floats:
    eye = (points - np.array([camera.x_m, camera.y_m, camera.height_m])) @ camera.axes().T
    first, second = np.triu_indices(points.shape[1], 1)
    a, b = eye[:, first], eye[:, second]
    half_w, half_h, focal = camera.width / 2, camera.height / 2, camera.focal_px
    planes = np.array(
        [[0, 0, 1, -NEAREST_M], [focal, 0, half_w, 0], [-focal, 0, half_w, 0], [0, focal, half_h, 0],
         [0, -focal, half_h, 0]]
    )  # fmt: skip
    enters, leaves = np.zeros(a.shape[:2]), np.ones(a.shape[:2])
    for plane in planes:
        at_a, at_b = a @ plane[:3] + plane[3], b @ plane[:3] + plane[3]
        with np.errstate(divide="ignore", invalid="ignore"):
            meets = at_a / (at_a - at_b)
        enters = np.where((at_a < 0) & (at_b >= 0), np.maximum(enters, meets), enters)
        leaves = np.where((at_a >= 0) & (at_b < 0), np.minimum(leaves, meets), leaves)
        leaves = np.where((at_a < 0) & (at_b < 0), -1.0, leaves)
    seen = enters <= leaves
    low, high = np.full((len(points), 2), np.inf), np.full((len(points), 2), -np.inf)
    for u in (enters, leaves):
        at = a + u[..., None] * (b - a)
        depth = np.maximum(at[..., 2], NEAREST_M)
        pixel = np.stack([at[..., 0], at[..., 1]], axis=-1) * (focal / depth)[..., None] + [half_w, half_h]
        reach = (np.maximum(radii[first], radii[second]) * focal / depth)[..., None]
        low = np.minimum(low, np.where(seen[..., None], pixel - reach, np.inf).min(axis=1))
        high = np.maximum(high, np.where(seen[..., None], pixel + reach, -np.inf).max(axis=1))
    size = np.array([camera.width, camera.height])
    found = np.concatenate([np.clip(low, 0, size), np.clip(high, 0, size)], axis=1)
    found[~seen.any(axis=1)] = np.nan
    return found


VEHICLES: dict[str, Vehicle] = {
    "sedan": Vehicle("sedan", "car", 4.6, 1.82, 1.46, 0.33, (1.38, -1.36)),
    "hatch": Vehicle("hatch", "car", 3.9, 1.74, 1.50, 0.31, (1.22, -1.20)),
    "suv": Vehicle("suv", "car", 4.6, 1.90, 1.72, 0.37, (1.38, -1.36)),
    "van": Vehicle("van", "car", 4.9, 1.95, 2.05, 0.34, (1.55, -1.50)),
    "bus": Vehicle("bus", "bus", 10.8, 2.52, 3.05, 0.48, (3.3, -2.9)),
    "truck": Vehicle("truck", "truck", 7.4, 2.40, 3.10, 0.46, (2.5, -1.6, -2.5)),
    "motorcycle": Vehicle("motorcycle", "motorcycle", 2.05, 0.72, 1.15, 0.31, (0.70, -0.70)),
    "bicycle": Vehicle("bicycle", "bicycle", 1.75, 0.58, 1.08, 0.34, (0.52, -0.52)),
}
