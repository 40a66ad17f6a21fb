"""Whatever is shown: order, sums, and saving and restoring between any two frames."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.analytics.camera import CameraAnalytics
from pipeline.core.events import COUNT_WINDOW, LINE_CROSSED, Event
from tests.analytics.test_camera import RULES
from tests.analytics.walks import PROVENANCE, Player, Seen, car, of_type, person

some = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def wild(seed: int) -> list[tuple[float, list[Seen]]]:
    """Objects that come, go, jitter and jump, at uneven times."""
    rng = np.random.default_rng(seed)
    frames, t = [], 0.0
    at = rng.uniform([0, 0], [640, 360], (8, 2))
    speed = rng.normal(0, 60, (8, 2))
    for _ in range(70):
        step = float(rng.choice([0.04, 0.125, 0.2, 0.9], p=[0.3, 0.5, 0.15, 0.05]))
        t += step
        at = (at + speed * step + rng.normal(0, 2, at.shape)) % [640, 360]
        made = [
            (car if k % 3 == 0 else person)(float(x), float(y), float(rng.uniform(0.05, 1)))
            for k, (x, y) in enumerate(at)
        ]
        frames.append((t, [one for one in made if rng.random() < 0.85]))
    return frames


def told(events: list[Event]) -> str:
    return json.dumps([event.structured() for event in events])


@some
@given(st.integers(0, 2**32 - 1), st.integers(0, 69))
def test_saved_and_restored_after_any_frame_the_rest_is_byte_equal(seed: int, cut: int) -> None:
    straight, restored = Player(RULES), Player(RULES)
    for i, (t, seen) in enumerate(wild(seed)):
        straight.show(t, seen)
        restored.show(t, seen)
        if i == cut:
            restored.camera = CameraAnalytics.restore(RULES, PROVENANCE, restored.camera.snapshot())
    assert told(straight.close()) == told(restored.close())


@some
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_order_of_detections_changes_nothing(seed: int, shuffle: int) -> None:
    rng = np.random.default_rng(shuffle)
    first, second = Player(RULES), Player(RULES)
    for t, seen in wild(seed):
        # Equal scores, so that sorting by score does not undo the shuffle.
        level = [(name, corners, round(score, 1)) for name, corners, score in seen]
        first.show(t, level)
        second.show(t, [level[k] for k in rng.permutation(len(level))])
    assert told(first.close()) == told(second.close())


@some
@given(st.integers(0, 2**32 - 1))
def test_times_never_go_back_ids_are_unique_and_windows_add_up(seed: int) -> None:
    player = Player(RULES)
    for t, seen in wild(seed):
        player.show(t, seen)
    events = player.close()
    times = [event.time_us for event in events]
    assert times == sorted(times)
    assert len({event.id for event in events}) == len(events)
    windows = of_type(events, COUNT_WINDOW)
    summed = sum(c["left"] + c["right"] for w in windows for line in w.data["lines"].values() for c in line.values())
    final = sum(c["left"] + c["right"] for line in windows[-1].data["totals"].values() for c in line.values())
    assert summed == final == len(of_type(events, LINE_CROSSED))
    assert all(0 <= w.data["coverage"] <= 1 for w in windows)
    assert not player.camera.lines[0].passing
    assert not player.camera.zones[0].stays
    assert len(player.camera.tracker) == 0
