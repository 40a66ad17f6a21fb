"""The script of a street: the same for the same seed, continuous, and exact where it is counted."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core.classes import expand
from pipeline.errors import UsageError
from pipeline.sources.synthetic import CLASSES, SITUATIONS, Actor, Scene, detections, street

Floats = NDArray[np.float64]
DURATION_S = 20.0
_HZ = 200.0
SEEDS = (3, 4)  # few, since every test of a seed shares its scene


@functools.cache
def scene_of(situation: str, seed: int = 3) -> Scene:
    return street(seed, situation=situation, duration_s=DURATION_S)


def told(scene: Scene) -> list[tuple[object, ...]]:
    """Everything the truth says at a few instants, and all it counts."""
    rows: list[tuple[object, ...]] = [
        (truth.tracks.tobytes(), truth.boxes.tobytes(), truth.full_boxes.tobytes(), truth.visible.tobytes())
        for truth in scene.truths(np.linspace(0.0, scene.duration_s, 9).tolist())
    ]
    return [*rows, *map(tuple, map(repr, scene.crossings())), *map(tuple, map(repr, scene.dwells()))]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_same_seed_same_scene(situation: str) -> None:
    again = street(3, situation=situation, duration_s=DURATION_S)
    assert told(again) == told(scene_of(situation))


def test_other_seeds_are_other_scenes() -> None:
    assert len({repr(told(street(seed, situation="walk", duration_s=DURATION_S))) for seed in range(4)}) == 4


@pytest.mark.parametrize("situation", SITUATIONS)
def test_boxes_move_continuously(situation: str) -> None:
    """In 10 ms no side of an actor's box moves further than 20 m/s would take it, and none is outside the picture."""
    scene = scene_of(situation)
    times = np.arange(0.0, DURATION_S, 0.01)
    looked_at = 0
    for actor in scene.actors:
        clipped, full = actor.boxes(scene.camera, times)
        there = ~np.isnan(clipped).any(axis=1)
        assert (clipped[there, :2] < clipped[there, 2:]).all()
        assert (clipped[there] >= 0).all()
        assert (clipped[there] <= [scene.width, scene.height, scene.width, scene.height]).all()
        inside = there & (np.abs(clipped - full).max(axis=1) < 1e-6)
        both = inside[1:] & inside[:-1]
        looked_at += int(both.sum())
        if not both.any():
            continue
        height = (full[:, 3] - full[:, 1])[1:][both] / actor.body.height_m  # pixels a metre, about
        assert (np.abs(np.diff(full, axis=0))[both].max(axis=1) <= 20.0 * 0.01 * np.maximum(height, 2.0) * 2).all()
    assert looked_at > 500


# An independent count: sides by angles instead of cross products, at 200 Hz, with a state machine of its own.


def _resimulated(scene: Scene, actor: Actor) -> list[tuple[str, str, float]]:
    """(line, direction, seconds) of one actor, from where the bottom of its box was at 200 Hz."""
    times = np.arange(0.0, scene.duration_s, 1 / _HZ)
    box = actor.boxes(scene.camera, times)[0]
    found = []
    for line in scene.lines:
        if actor.class_name not in expand(line.classes):
            continue
        (ax, ay), (bx, by) = ((x * scene.width, y * scene.height) for x, y in line.points)
        x, y = (box[:, 0] + box[:, 2]) / 2 - ax, box[:, 3] - ay
        reach, angle = np.hypot(x, y), np.arctan2(y, x) - math.atan2(by - ay, bx - ax)
        aways = (reach * np.sin(angle)).tolist()  # y runs down: positive is to the right
        alongs = (reach * np.cos(angle) / math.hypot(bx - ax, by - ay)).tolist()
        margins = np.maximum(4.0, 0.12 * (box[:, 3] - box[:, 1])).tolist()
        side, before, since, crossed_between_ends = "", -1, 0.0, False
        for t_s, away, along, margin in zip(times.tolist(), aways, alongs, margins, strict=True):
            if math.isnan(away):
                side = ""
                continue
            if (away > 0) != (before > 0):
                before, since = (1 if away > 0 else -1), t_s
                crossed_between_ends = 0.0 <= along <= 1.0
            if abs(away) < margin:
                continue
            now = "right" if away > 0 else "left"
            if side and now != side and crossed_between_ends:
                found.append((line.name, now, since))
            side = now
    return found


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_crossings_agree_with_a_resimulation(situation: str, seed: int) -> None:
    scene = scene_of(situation, seed)
    for actor in scene.actors:
        mine = [one for one in scene.crossings() if one.track == actor.track]
        again = _resimulated(scene, actor)
        assert [(one.line, one.direction) for one in mine] == [(line, way) for line, way, _ in again]
        for one, (_, _, t_s) in zip(mine, again, strict=True):
            assert one.t_s == pytest.approx(t_s, abs=2 / _HZ)
            assert one.class_name == actor.class_name


@pytest.mark.parametrize("situation", ["street", "dwell", "crowd"])
def test_dwells_agree_with_a_resimulation(situation: str) -> None:
    scene = scene_of(situation)
    times = np.arange(0.0, scene.duration_s, 1 / _HZ)
    (zone,) = scene.zones
    corners = [(x * scene.width, y * scene.height) for x, y in zone.points]
    assert scene.dwells()
    for dwell in scene.dwells():
        (actor,) = (actor for actor in scene.actors if actor.track == dwell.track)
        box = actor.boxes(scene.camera, times)[0]
        points = np.stack([(box[:, 0] + box[:, 2]) / 2, box[:, 3]], axis=-1)
        # the waiting place is convex: inside is on the same side of every edge
        sides = np.array([
            (bx - ax) * (points[:, 1] - ay) - (by - ay) * (points[:, 0] - ax)
            for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True)
        ])  # fmt: skip
        inside = (sides > 0).all(axis=0) | (sides < 0).all(axis=0)
        during = (times > dwell.entered_s) & (times < dwell.left_s)
        assert inside[during].mean() > 0.85  # somebody at its edge sways
        for edge, step in ((dwell.entered_s, 0.012), (dwell.left_s, -0.012)):
            if 0.1 < edge < scene.duration_s - 0.1:
                assert np.interp(edge + step, times, inside) > 0.5
                assert np.interp(edge - step, times, inside) < 0.5


# Every situation happens in its scene.


def anchors(scene: Scene, actor: Actor, times: Floats) -> tuple[Floats, Floats]:
    """Distance of the bottom centre from the line in heights of the box, and the heights in pixels."""
    x0, y0, x1, y1 = actor.boxes(scene.camera, times)[0].T
    (ax, ay), (bx, by) = (np.array(p) * (scene.width, scene.height) for p in scene.lines[0].points)
    away = ((bx - ax) * (y1 - ay) - (by - ay) * ((x0 + x1) / 2 - ax)) / math.hypot(bx - ax, by - ay)
    return away / (y1 - y0), y1 - y0


def longest_near_the_line(scene: Scene, kinds: set[str]) -> float:
    """Seconds that an actor of these classes was within a tenth of its height of the line, the longest of all."""
    times = np.arange(0.0, scene.duration_s, 0.02)
    near = [np.abs(anchors(scene, a, times)[0]) < 0.15 for a in scene.actors if a.class_name in kinds]
    return max(float(one.sum()) * 0.02 for one in near)


def crossings_by_track(scene: Scene) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {actor.track: [] for actor in scene.actors}
    for one in scene.crossings():
        found[one.track].append(one.direction)
    return found


VEHICLES = {"car", "bus", "truck", "motorcycle"}


@pytest.mark.parametrize("seed", SEEDS)
def test_walk_and_drive_go_both_ways_or_at_least_over(seed: int) -> None:
    assert {one.class_name for one in scene_of("walk", seed).crossings()} == {"person"}
    assert len(scene_of("walk", seed).crossings()) >= 4
    driven = [one for one in scene_of("drive", seed).crossings() if one.class_name in VEHICLES]
    assert {one.direction for one in driven} == {"left", "right"}


@pytest.mark.parametrize("seed", SEEDS)
def test_stops_on_the_line(seed: int) -> None:
    scene = scene_of("stop_on_line", seed)
    assert longest_near_the_line(scene, VEHICLES) > 2.0
    assert longest_near_the_line(scene, {"person"}) > 1.5
    assert max(len(ways) for ways in crossings_by_track(scene).values()) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_jitters_on_the_line(seed: int) -> None:
    """Somebody changes sides four times or more without that being more than one crossing, or none."""
    scene = scene_of("jitter_on_line", seed)
    times = np.arange(0.0, scene.duration_s, 0.02)
    changes = {
        actor.track: int((np.diff(np.sign(anchors(scene, actor, times)[0])) != 0).sum())
        for actor in scene.actors
        if actor.class_name == "person"
    }
    ways = crossings_by_track(scene)
    restless = [track for track, count in changes.items() if count >= 4]
    assert restless
    assert {len(ways[track]) for track in changes} == {0, 1}


@pytest.mark.parametrize("seed", SEEDS)
def test_turns_back(seed: int) -> None:
    before, after = scene_of("turn_before", seed), scene_of("turn_after", seed)
    times = np.arange(0.0, DURATION_S, 0.02)
    ways = crossings_by_track(before)
    near = [np.nanmin(np.abs(anchors(before, a, times)[0])) for a in before.actors if not ways[a.track]]
    assert sum(distance < 0.8 for distance in near) >= 3, "several come near the line and go back"
    both = [way for way in crossings_by_track(after).values() if len(way) == 2]
    assert len(both) >= 2, "some may come back only after the end"
    assert all(first != second for first, second in both)


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_cross_together(seed: int) -> None:
    people = [one for one in scene_of("group", seed).crossings() if one.class_name == "person"]
    together = [
        sum(abs(one.t_s - other.t_s) < 1.0 and one.direction == other.direction for other in people) for one in people
    ]
    assert max(together) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_is_hidden(seed: int) -> None:
    scene = scene_of("occlusion", seed)
    truths = scene.truths(np.arange(0.0, DURATION_S, 0.1).tolist())
    inside = [(truth.visible < 0.5) & (np.abs(truth.boxes - truth.full_boxes).max(axis=1) < 0.5) for truth in truths]
    assert sum(int(hidden.sum()) for hidden in inside) >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_leaves_and_returns(seed: int) -> None:
    scene = scene_of("leave_return", seed)
    times = np.arange(0.0, DURATION_S, 0.02)
    ways = crossings_by_track(scene)
    came_back = 0
    for actor in scene.actors:
        there = np.flatnonzero(~np.isnan(actor.boxes(scene.camera, times)[0][:, 0]))
        absent_s = float(np.diff(there).max(initial=0)) * 0.02
        came_back += absent_s > 0.7 and len(set(ways[actor.track])) == 2
    assert came_back == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_flicker_loses_boxes_for_a_moment(seed: int) -> None:
    scene = scene_of("flicker", seed)
    times = np.arange(0.0, DURATION_S, 0.04).tolist()
    lost = sum(int((truth.blinking & (truth.visible > 0.9)).sum()) for truth in scene.truths(times))
    assert lost > 20
    assert all(0 < end - start < 0.45 for actor in scene.actors for start, end in actor.blinks)


@pytest.mark.parametrize("seed", SEEDS)
def test_dwell_and_crowd_stay_in_the_zone(seed: int) -> None:
    assert max(one.left_s - one.entered_s for one in scene_of("dwell", seed).dwells()) > 4.0
    crowd = scene_of("crowd", seed).dwells()
    most = max(sum(one.entered_s <= t < one.left_s for one in crowd) for t in np.arange(0, DURATION_S, 0.2))
    assert most >= 3


def test_all_classes_and_all_views_appear() -> None:
    scenes = [scene_of("street", seed) for seed in (3, 4, 5, 11)]
    assert {actor.class_name for scene in scenes for actor in scene.actors} == set(CLASSES)
    assert len({round(scene.camera.yaw_rad, 1) for scene in scenes}) >= 2


# Detections made from truth.


def test_perfect_detections_are_the_visible_truth() -> None:
    scene = scene_of("occlusion")
    for t_s in np.arange(0.5, DURATION_S, 1.7):
        truth, found = scene.truth(float(t_s)), detections(scene, float(t_s))
        seen = {tuple(box) for box in truth.boxes[truth.visible >= 0.3].tolist()}
        assert {tuple(box) for box in found.boxes.tolist()} == seen
        assert (np.diff(found.scores) <= 0).all()
        assert found.classes == CLASSES
        assert found.boxes.dtype == np.float32
        assert found.boxes.flags.c_contiguous


def test_noise_is_repeatable_and_as_strong_as_asked() -> None:
    scene = scene_of("walk")
    times = np.arange(1.0, DURATION_S, 0.25).tolist()
    noisy = [detections(scene, t, jitter_px=3.0, miss_rate=0.3, seed=5) for t in times]
    again = [detections(scene, t, jitter_px=3.0, miss_rate=0.3, seed=5) for t in times]
    clean = [detections(scene, t) for t in times]
    assert all(a.boxes.tobytes() == b.boxes.tobytes() for a, b in zip(noisy, again, strict=True))
    assert 0.15 < 1 - sum(map(len, noisy)) / sum(map(len, clean)) < 0.45
    moved = [
        np.abs(box - one.boxes).max(axis=1).min() for one, two in zip(clean, noisy, strict=True) for box in two.boxes
    ]
    assert 1.0 < float(np.median(moved)) < 9.0


@pytest.mark.parametrize(
    ("seed", "more"),
    [(-1, {}), (0, {"situation": "parade"}), (0, {"duration_s": 5.0}), (0, {"width": 100})],
)
def test_refuses_what_it_cannot_script(seed: int, more: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        street(seed, **more)  # type: ignore[arg-type]
