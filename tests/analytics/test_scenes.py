"""Clips become events: gates, so many in a row, hysteresis, and one end for every start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.analytics.clips import ClipSeen
from pipeline.analytics.scenes import LAPSE_S, SceneFact, SceneWatcher, restored
from pipeline.core.events import SCENE_EVENT
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules, ClipRule, SceneKind, SceneRules
from tests.analytics.walks import ORIGIN, PROVENANCE, Player, detections, of_type, person

FIGHT = SceneKind("fight", start=0.6, end=0.4, clips=2)
CLIP = ClipRule(16, 8, 0.125, 1.0, "motion", 0.5, 0.5, 0.8)
SCENE = SceneRules(CLIP, (FIGHT,), {"model": "s", "model_version": "3", "model_sha256": "cc"})


def seen(n: int, score: float, *, follows: bool = True, kind: str = "fight") -> ClipSeen:
    """The ``n``-th clip: two seconds, one after the last."""
    first = 8 * n
    frames = tuple(range(first, first + 16))
    attention = tuple([0.0] * 15 + [1.0])
    return ClipSeen(
        frames,
        first * 125_000,
        (first + 15) * 125_000,
        {"fight": score},
        attention,
        (0.1, 0.2, 0.6, 0.7),
        follows,
        frozenset({kind}),
    )


def facts(scores: Sequence[float], *, broken: Sequence[int] = ()) -> list[SceneFact]:
    watcher, told = SceneWatcher((FIGHT,)), []
    for n, score in enumerate(scores):
        clip = seen(n, score, follows=n > 0 and n not in broken)
        told += watcher.observe(clip.ends_us, clip)
    return told + watcher.close()


def phases(told: Sequence[SceneFact]) -> list[tuple[str, float]]:
    return [(fact.phase, fact.score) for fact in told]


def test_one_clip_is_not_enough_and_two_in_a_row_are() -> None:
    assert facts([0.9, 0.1, 0.9, 0.1, 0.59, 0.59, 0.59]) == []
    assert phases(facts([0.1, 0.7, 0.8])) == [("start", 0.8), ("end", 0.8)]


def test_clips_on_both_sides_of_a_gap_are_not_in_a_row() -> None:
    assert facts([0.9, 0.9], broken=[1]) == []
    assert phases(facts([0.9, 0.9, 0.7], broken=[1])) == [("start", 0.9), ("end", 0.9)]


def test_it_ends_after_two_clips_below_the_lower_bar_and_what_is_between_keeps_it_open() -> None:
    told = facts([0.7, 0.7, 0.5, 0.3, 0.5, 0.3, 0.45, 0.39, 0.2, 0.9])
    assert phases(told) == [("start", 0.7), ("end", 0.7)]
    start, end = told
    assert (start.started_us, start.ended_us) == (0, None)
    assert end.started_us == 0
    assert end.ended_us == seen(6, 0).ends_us, "the last clip that was not below the lower bar"


def test_a_higher_score_is_told_at_once_and_a_long_event_from_time_to_time() -> None:
    told = facts([0.6, 0.6, 0.62, 0.7, 0.7])
    assert phases(told) == [("start", 0.6), ("update", 0.7), ("end", 0.7)]
    assert told[1].frames == seen(3, 0).frames, "frames and attention are those of the clip of the highest score"
    assert [fact.phase for fact in facts([0.7] * 24)] == ["start", "update", "update", "end"]


def test_kinds_do_not_know_each_other() -> None:
    watcher = SceneWatcher((FIGHT, SceneKind("fall", 0.5, 0.5, clips=1)))
    both = [watcher.observe(seen(n, 0).ends_us, ClipSeen(
        seen(n, 0).frames, seen(n, 0).starts_us, seen(n, 0).ends_us, {"fight": 0.9, "fall": fall}, (), None, n > 0,
        frozenset({"fight", "fall"}),
    )) for n, fall in enumerate([0.9, 0.1, 0.1])]  # fmt: skip
    assert [[(f.kind, f.phase) for f in each] for each in both] == [
        [("fall", "start")], [("fight", "start"), ("fall", "end")], [],
    ]  # fmt: skip


def test_without_clips_it_ends() -> None:
    watcher = SceneWatcher((FIGHT,))
    for n in range(2):
        watcher.observe(seen(n, 0.9).ends_us, seen(n, 0.9, follows=n > 0))
    last_us = seen(1, 0).ends_us
    assert watcher.observe(last_us + int(LAPSE_S * 1e6), None) == []
    assert [fact.phase for fact in watcher.observe(last_us + int(LAPSE_S * 1e6) + 1, None)] == ["end"]
    assert watcher.observe(last_us + int(2 * LAPSE_S * 1e6), None) == []
    assert watcher.states == {}


def test_a_shut_gate_counts_as_nothing_seen() -> None:
    watcher = SceneWatcher((FIGHT,))
    told = [
        fact
        for n, clip in enumerate(
            [seen(0, 0.9, follows=False), seen(1, 0.9), seen(2, 0.9, kind="x"), seen(3, 0.9, kind="x")]
        )
        for fact in watcher.observe(seen(n, 0).ends_us, clip)
    ]
    assert [fact.phase for fact in told] == ["start", "end"]


def test_states_go_through_json_and_go_on_alike() -> None:
    scores = [0.1, 0.7, 0.9, 0.5, 0.3, 0.9, 0.3, 0.3, 0.8, 0.8]
    straight, again = SceneWatcher((FIGHT,)), SceneWatcher((FIGHT,))
    for n, score in enumerate(scores):
        clip = seen(n, score, follows=n > 0)
        assert straight.observe(clip.ends_us, clip) == again.observe(clip.ends_us, clip)
        plain = json.loads(json.dumps({kind: asdict(state) for kind, state in again.states.items()}))
        states, again = restored(plain), SceneWatcher((FIGHT,), clip_us=again.clip_us)
        again.states = states
        assert states == straight.states
    assert straight.close() == again.close()


RULES = CameraRules("gate", scene=SCENE)


def _play(player: Player, scores: Sequence[float], restore: bool = False, rules: CameraRules = RULES) -> None:
    """One frame at the end of each clip."""
    for n, score in enumerate(scores):
        clip = seen(n, score, follows=n > 0)
        at_us = clip.ends_us
        frame = Frame(clip.frames[-1], at_us, at_us, np.zeros((8, 8, 3), np.uint8))
        window = FrameWindow("gate", player.epoch, 0, (frame,), 640, 360, 8.0, "pts")
        player.events += player.camera.observe(window, frame, detections([person(300, 200)]), ORIGIN, clip).events
        if restore:
            player.camera = CameraAnalytics.restore(rules, PROVENANCE, player.camera.snapshot())


def test_the_event_says_what_the_contract_asks() -> None:
    player = Player(RULES)
    _play(player, [0.7, 0.8, 0.7])
    (start, end) = of_type(player.close(), SCENE_EVENT)
    assert start.data["kind"] == "fight"
    assert (start.data["phase"], end.data["phase"]) == ("start", "end")
    assert start.data["started_at"] == "1970-01-01T00:00:00.000000Z"
    assert start.data["ended_at"] is None
    assert end.data["ended_at"] == "1970-01-01T00:00:03.875000Z"
    assert start.data["score"] == 0.8
    assert start.data["region"] == {"x_min": 0.1, "y_min": 0.2, "x_max": 0.6, "y_max": 0.7}
    provenance = start.data["provenance"]
    assert provenance == {"model": "s", "model_version": "3", "model_sha256": "cc", "config_sha256": "bb",
                          "frames": list(range(8, 24))}  # fmt: skip
    assert len(start.data["attention"]) == 16
    assert sum(start.data["attention"]) == pytest.approx(1)
    assert start.time_us == 23 * 125_000, "when it was known"
    assert start.id != end.id


def test_a_new_epoch_ends_what_is_open_in_the_epoch_it_was_of() -> None:
    player = Player(RULES)
    _play(player, [0.9, 0.9])
    player.epoch, player.index = 1, 0
    player.show(100, [])
    told = of_type(player.events, SCENE_EVENT)
    assert [(event.data["phase"], event.data["epoch"]) for event in told] == [("start", 0), ("end", 0)]
    assert of_type(player.close(), SCENE_EVENT) == told


@pytest.mark.parametrize("state", ["down", "ended"])
def test_a_camera_that_stops_ends_what_is_open(state: str) -> None:
    player = Player(RULES)
    _play(player, [0.9, 0.9])
    player.tell(state, 5)  # type: ignore[arg-type]
    assert [event.data["phase"] for event in of_type(player.events, SCENE_EVENT)] == ["start", "end"]


def test_restored_after_every_clip_it_goes_on_byte_for_byte() -> None:
    scores = [0.2, 0.7, 0.9, 0.96, 0.5, 0.3, 0.9, 0.3, 0.3, 0.8, 0.8]
    straight, again = Player(RULES), Player(RULES)
    _play(straight, scores)
    _play(again, scores, restore=True)
    assert [e.structured() for e in straight.close()] == [e.structured() for e in again.close()]
    assert len(of_type(straight.events, SCENE_EVENT)) == 5


def test_a_kind_that_is_not_watched_any_more_is_ended() -> None:
    player = Player(RULES)
    _play(player, [0.9, 0.9])
    for rules in (CameraRules("gate"), CameraRules("gate", scene=SceneRules(CLIP, (), SCENE.provenance))):
        camera = CameraAnalytics.restore(rules, PROVENANCE, player.camera.snapshot())
        frame = Frame(24, 3_000_000, 3_000_000, np.zeros((8, 8, 3), np.uint8))
        window = FrameWindow("gate", 0, 1, (frame,), 640, 360, 8.0, "pts")
        told = of_type(camera.observe(window, frame, detections([]), ORIGIN).events, SCENE_EVENT)
        assert [event.data["phase"] for event in told] == ["end"]
        assert "scenes" not in json.loads(camera.snapshot())
