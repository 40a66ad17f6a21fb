from __future__ import annotations

import numpy as np
import pytest

from pipeline.core import events as told
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from pipeline.errors import ConfigError
from tests.analytics.walks import HEIGHT, START_US, WIDTH, Player, Seen, car, crossings, instants, of_type, person, play

RULES = CameraRules(
    "gate",
    lines=(LineRule("street", ((0.0, 0.5), (1.0, 0.5)), wrong_way="left"),),
    zones=(
        ZoneRule("plaza", ((0.2, 0.2), (0.8, 0.2), (0.8, 0.9), (0.2, 0.9)), dwell_s=1, crowded_at=3, stopped_s=1,
                 direction=(0.0, 1.0)),
    ),
    count_window_s=2.0,
)  # fmt: skip


def busy(t: float) -> list[Seen]:
    seen = [person(150 + 50 * k, 100 + 40 * ((t + 1.3 * k) % 5)) for k in range(6)]
    return [*seen, car(450, 240 - 40 * (t % 4)), car(300, 200), *([person(400, 250)] if int(t) % 3 else [])]


def test_events_are_in_order_of_time_with_ids_of_their_own_and_all_their_keys() -> None:
    player = Player(RULES)
    player.tell("up", 0)
    for t in instants(20, 8):
        player.show(t, busy(t))
    player.tell("ended", 20.5)
    times = [event.time_us for event in player.events]
    assert times == sorted(times)
    assert len({event.id for event in player.events}) == len(player.events)
    shapes = {
        told.COUNT_WINDOW: told.CountWindow, told.LINE_CROSSED: told.LineCrossed, told.ZONE_ENTERED: told.ZoneEntered,
        told.ZONE_EXITED: told.ZoneExited, told.ZONE_DWELLED: told.ZoneDwelled, told.ZONE_CROWDED: told.ZoneCrowded,
        told.VEHICLE_STOPPED: told.VehicleStopped, told.DIRECTION_WRONG: told.DirectionWrong,
        told.CAMERA_STATUS: told.CameraStatus,
    }  # fmt: skip
    assert {event.type for event in player.events} == set(shapes)
    for event in player.events:
        assert set(event.data) == shapes[event.type].__required_keys__, event.type
        if "bbox" in event.data:
            assert all(0 <= side <= 1 for side in event.data["bbox"].values())
            assert event.data["frame"] == {"width": WIDTH, "height": HEIGHT}
            assert event.data["track_id"].startswith("gate/0/")
        if "provenance" in event.data:
            assert event.data["provenance"]["model_sha256"] == "aa"
            assert event.data["provenance"]["frames"] == sorted(event.data["provenance"]["frames"])
            assert event.data["origin"] == {"topic": "passerby.windows", "partition": 0, "offset": 7}


def test_the_same_input_gives_the_same_events() -> None:
    first, second = (play(RULES, busy, instants(10, 8)) for _ in range(2))
    assert [e.structured() for e in first] == [e.structured() for e in second]


def test_a_new_epoch_closes_the_old_one_and_numbers_begin_again() -> None:
    player = Player(RULES)
    for t in instants(3, 8):
        player.show(t, [person(300, 200)])
    player.epoch, player.index = 1, 0
    observation = player.show(60, [person(300, 200)])
    kinds = [event.type for event in observation.events]
    assert kinds == [told.ZONE_EXITED, told.COUNT_WINDOW]
    assert all(event.data["epoch"] == 0 and event.time_us == START_US + 3_000_000 for event in observation.events)
    for t in instants(1, 8)[1:]:
        view = player.show(60 + t, [person(300, 200)])
    assert [track.track_id for track in view.tracks] == ["gate/1/1"]


@pytest.mark.parametrize("state", ["ended", "down"])
def test_a_stream_that_ends_or_goes_down_closes_what_was_open_once(state: str) -> None:
    player = Player(RULES)
    for t in instants(3, 8):
        player.show(t, [person(300, 200)])
    closing = player.tell(state, 9.0).events  # type: ignore[arg-type]
    assert [event.type for event in closing] == [told.ZONE_EXITED, told.COUNT_WINDOW, told.CAMERA_STATUS]
    origin = {"topic": "passerby.windows", "partition": 0, "offset": 7}
    assert closing[-1].data == {"camera_id": "gate", "epoch": 0, "state": state, "reason": "because", "origin": origin}
    assert closing[-1].time_us == START_US + 9_000_000
    assert player.camera.close().events == ()
    later = [player.show(20 + t, [person(300, 200)]) for t in instants(1, 8)]
    assert later[-1].tracks[0].track_id == "gate/0/2", "the same epoch goes on: its numbers are not used again"


def test_a_status_before_the_first_frame() -> None:
    player = Player(RULES)
    assert [e.type for e in player.tell("down", 0).events] == [told.CAMERA_STATUS]
    assert player.camera.close().events == ()
    player.show(1, [person(300, 200)])


def test_frames_out_of_order_are_refused() -> None:
    player = Player(RULES, epoch=3)
    player.show(1, [])
    with pytest.raises(ValueError, match="not later"):
        player.show(1, [])
    player.epoch = 2
    with pytest.raises(ValueError, match="epoch 2 after epoch 3"):
        player.show(2, [])


def test_a_change_of_resolution_keeps_tracks_and_counts() -> None:
    player = Player(RULES)
    for t in instants(4, 8):
        big = t >= 2
        player.size = (WIDTH * 2, HEIGHT * 2) if big else (WIDTH, HEIGHT)
        name, corners, score = person(300, 100 + 45 * t)
        player.show(t, [(name, tuple(np.array(corners) * (2 if big else 1)), score)])  # type: ignore[list-item]
    (event,) = of_type(player.close(), told.LINE_CROSSED)
    assert event.data["track_id"] == "gate/0/1"
    assert event.data["bbox"]["x_min"] == pytest.approx(285 / WIDTH, abs=1e-3)


def test_the_live_view_shows_who_is_there() -> None:
    player = Player(RULES)
    for t in instants(2, 8):
        view = player.show(t, [person(300, 200), car(500, 300)])
    told_of = {track.class_name: (track.track_id, track.group, track.seen) for track in view.tracks}
    assert {name: (group, seen) for name, (_, group, seen) in told_of.items()} == {
        "car": ("vehicle", True),
        "person": ("person", True),
    }
    assert [track.track_id for track in view.tracks] == ["gate/0/1", "gate/0/2"]
    assert view.occupancy == {"person": 1, "vehicle": 1}
    view = player.show(2.1, [person(300, 200)])
    assert [track.seen for track in view.tracks].count(False) == 1, "a moment unseen is still there"
    view = player.show(3, [person(300, 200)])
    assert view.occupancy == {"person": 1, "vehicle": 0}


def test_classes_that_nobody_asked_for_are_not_followed() -> None:
    def dogs(t: float) -> list[Seen]:
        return [("bicycle", (100 + 40 * t, 100 + 40 * t, 160 + 40 * t, 140 + 40 * t), 0.9)]

    assert crossings(play(RULES, dogs, instants(4, 8))) == []
    asked = CameraRules("gate", lines=(LineRule("street", ((0.0, 0.5), (1.0, 0.5)), classes=("bicycle",)),))
    assert crossings(play(asked, dogs, instants(4, 8))) == [("street", "right")]


def test_a_wrong_tracker_setting_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="max_lost_s"):
        Player(CameraRules("gate", tracker={"max_lost": 1.0}))
