from __future__ import annotations

import sys

import numpy as np
import pytest

from pipeline.analytics.settings import TrackerSettings
from pipeline.analytics.tracker import Tracker, Tracks
from pipeline.core.classes import GROUPS, expand
from pipeline.core.detections import Detections
from pipeline.errors import ConfigError
from tests.analytics.walks import HEIGHT, WIDTH, Scene, Seen, box, car, detections, instants, person

SIZE = (WIDTH, HEIGHT)


def tracker(**settings: float) -> Tracker:
    return Tracker(TrackerSettings.of(settings), expand(GROUPS))


def follow(scene: Scene, times: list[float], **settings: float) -> list[Tracks]:
    one = tracker(**settings)
    return [one.step(round(t * 1e6), i, detections(scene(t)), SIZE)[0] for i, t in enumerate(times)]


def confirmed(tracks: Tracks) -> list[int]:
    return [number for number, sure in zip(tracks.numbers, tracks.confirmed, strict=True) if sure]


@pytest.mark.parametrize("fps", [25, 8, 5])
def test_one_walker_is_one_track(fps: float) -> None:
    seen = follow(lambda t: [person(50 + 60 * t, 200)], instants(8, fps))
    assert {n for tracks in seen for n in tracks.numbers} == {1}
    assert seen[-1].confirmed.all()


def test_uneven_times_and_a_gap_make_no_new_track() -> None:
    times = [0, 0.04, 0.2, 0.24, 0.5, 0.51, 0.7, 1.9, 2.0, 2.2]
    seen = follow(lambda t: [person(50 + 60 * t, 200)], times)
    assert {n for tracks in seen for n in tracks.numbers} == {1}


def test_two_who_cross_each_other_keep_their_numbers() -> None:
    def scene(t: float) -> list[Seen]:
        return [person(100 + 80 * t, 200), person(500 - 80 * t, 205)]

    seen = follow(scene, instants(5, 8))
    first, last = seen[3], seen[-1]
    assert first.boxes[first.numbers.index(1), 0] < 150
    assert last.boxes[last.numbers.index(1), 0] > 450
    assert {n for tracks in seen for n in tracks.numbers} == {1, 2}


def test_an_object_hidden_for_a_second_is_found_again() -> None:
    seen = follow(lambda t: [] if 2 < t < 3 else [car(60 + 100 * t, 200)], instants(5, 8))
    assert {n for tracks in seen for n in tracks.numbers} == {1}


@pytest.mark.parametrize("fps", [8, 5])
def test_a_car_that_jumps_over_its_own_length_between_frames_is_one_track(fps: float) -> None:
    lengths_a_frame = {8: 1.05, 5: 1.4}[fps]
    seen = follow(lambda t: [car(40 + 90 * lengths_a_frame * fps * t, 200)], instants(4.5 / fps, fps))
    assert {n for tracks in seen for n in tracks.numbers} == {1}


def test_a_person_never_becomes_a_vehicle_but_a_car_may_become_a_truck() -> None:
    def scene(t: float) -> list[Seen]:
        return [person(300, 200)] if t < 1 else [("car", box(300, 200), 0.9)]

    seen = follow(scene, instants(2, 8))
    assert seen[-1].numbers == [1, 2]
    assert seen[-1].class_names == ["person", "car"]

    def flips(t: float) -> list[Seen]:
        return [car(200 + 40 * t, 200, 0.5, "truck" if round(t * 8) % 3 == 0 else "car")]

    seen = follow(flips, instants(3, 8))
    assert {n for tracks in seen for n in tracks.numbers} == {1}
    assert seen[-1].class_names == ["car"]


def test_one_van_told_as_car_and_as_truck_is_one_object() -> None:
    seen = follow(lambda t: [car(200 + 40 * t, 200, 0.6), car(202 + 40 * t, 201, 0.5, "truck")], instants(3, 8))
    assert {n for tracks in seen for n in tracks.numbers} == {1}


def test_a_whole_person_and_its_upper_body_are_one_object() -> None:
    def scene(t: float) -> list[Seen]:
        x = 200 + 40 * t
        return [person(x, 220, 0.6), ("person", (x - 14, 141, x + 15, 190), 0.5)]

    assert {n for tracks in follow(scene, instants(3, 8)) for n in confirmed(tracks)} == {1}


def test_low_scores_continue_a_track_but_never_make_one() -> None:
    seen = follow(lambda t: [person(100 + 40 * t, 200, 0.9 if t < 1 else 0.2)], instants(3, 8))
    assert {n for tracks in seen for n in tracks.numbers} == {1}
    assert seen[-1].seen.all()
    assert not any(confirmed(tracks) for tracks in follow(lambda t: [person(300, 200, 0.3)], instants(5, 8)))


def test_a_track_that_comes_into_sight_weakly_remembers_its_beginning() -> None:
    one = tracker()
    for i, t in enumerate(instants(1, 8)):
        one.step(round(t * 1e6), i, detections([person(100 + 40 * t, 200, 0.3 if t < 0.5 else 0.6)]), SIZE)
    assert one.rows["number"].tolist() == [1]
    assert one.rows["born_us"].tolist() == [0]


def test_a_flash_is_not_confirmed() -> None:
    for fps in (25, 8, 5):
        seen = follow(lambda t: [person(300, 200)] if t < 0.13 else [], instants(2, fps))
        assert not any(confirmed(tracks) for tracks in seen)
        assert len(seen[-1]) == 0


def test_the_order_of_detections_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    forward, shuffled = tracker(), tracker()
    for i in range(40):
        seen = [person(60 + 30 * k + 4 * i, 200 + 5 * (k % 3), 0.5) for k in range(12)]
        one, two = detections(seen), detections([seen[k] for k in rng.permutation(12)])
        a, _ = forward.step(i * 125_000, i, one, SIZE)
        b, _ = shuffled.step(i * 125_000, i, two, SIZE)
        assert a.numbers == b.numbers
        assert a.boxes.tobytes() == b.boxes.tobytes()
        assert a.predicted.tobytes() == b.predicted.tobytes()


def test_a_hundred_thousand_short_tracks_leave_nothing() -> None:
    one = tracker()
    rng = np.random.default_rng(0)
    held: list[int] = []
    frames, new, side = 1010, 100, 100_000
    for i in range(frames):
        corner = rng.uniform(0, side, (new, 2)).astype(np.float32)
        boxes = np.hstack([corner, corner + np.float32([20, 50])])
        seen = Detections(boxes, np.full(new, 0.9, np.float32), np.zeros(new, np.int64), ("person",))
        one.step(i * 500_000, i, seen, (side, side))
        if i % 100 == 99:
            held.append(sum(sys.getsizeof(array) for array in one.rows.values()) + len(one))
    assert one.next_number > 100_000
    assert max(held[1:]) <= held[0] * 1.05, "as much after the last as after the first"
    for i in range(frames, frames + 6):
        one.step(i * 500_000, i, detections([]), (20_100, 20_100))
    assert len(one) == 0
    assert all(len(array) == 0 for array in [*one.rows.values(), *one.motion.arrays().values()])


def test_a_track_that_left_the_picture_ends_at_once() -> None:
    one = tracker()
    for i, t in enumerate(instants(1.2, 8)):
        one.step(round(t * 1e6), i, detections([person(500 + 115 * t, 200)] if t < 1.1 else []), SIZE)
    _, ended = one.step(1_700_000, 99, detections([]), SIZE)
    assert ended.numbers == [1]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean high_score"):
        TrackerSettings.of({"hihg_score": 0.3})
    with pytest.raises(ConfigError, match="out of range"):
        TrackerSettings.of({"max_lost_s": -1})
    with pytest.raises(ConfigError, match="above high_score"):
        TrackerSettings.of({"low_score": 0.7})
    assert TrackerSettings.of({"high_score": 0.6}).birth_score == 0.6
