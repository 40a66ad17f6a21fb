from __future__ import annotations

import json
import random

import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.core.events import LINE_CROSSED, ZONE_EXITED, Event
from pipeline.core.rules import CameraRules, LineRule
from pipeline.errors import RecordMalformed
from tests.analytics.test_camera import RULES
from tests.analytics.walks import PROVENANCE, Player, Seen, crossings, instants, of_type, person


def noisy(seed: int, t: float) -> list[Seen]:
    rng = random.Random(f"{seed} {t}")
    seen = [person(150 + 60 * k, 100 + 40 * ((t + 1.3 * k) % 5), rng.uniform(0.2, 0.9)) for k in range(6)]
    return [one for one in seen if rng.random() < 0.9]


def told(events: list[Event]) -> bytes:
    return json.dumps([event.structured() for event in events]).encode()


def test_restored_after_every_frame_it_goes_on_byte_for_byte() -> None:
    straight, restored = Player(RULES), Player(RULES)
    for t in instants(12, 8):
        if 5 < t < 5.6:
            straight.epoch = restored.epoch = 1
            straight.index = restored.index = 0 if t < 5.2 else straight.index
        straight.show(t, noisy(1, t))
        restored.show(t, noisy(1, t))
        blob = restored.camera.snapshot()
        assert blob == straight.camera.snapshot()
        restored.camera = CameraAnalytics.restore(RULES, PROVENANCE, blob)
        assert restored.camera.snapshot() == blob
    assert told(straight.close()) == told(restored.close())
    assert of_type(straight.events, LINE_CROSSED)


def test_a_fresh_camera_can_be_saved() -> None:
    blob = CameraAnalytics(RULES, provenance=PROVENANCE).snapshot()
    player = Player(RULES)
    player.camera = CameraAnalytics.restore(RULES, PROVENANCE, blob)
    player.show(0, [])


def test_the_state_stays_small() -> None:
    player = Player(RULES)
    for t in instants(30, 8):
        player.show(t, noisy(2, t))
    assert len(player.camera.snapshot()) < 20_000


@pytest.mark.parametrize("blob", [b"", b"{}", b"[]", b"\xff\xfe", b'{"version": 99}', b'{"version": 1, "scene": 3}'])
def test_what_is_not_a_snapshot_is_refused(blob: bytes) -> None:
    with pytest.raises(RecordMalformed):
        CameraAnalytics.restore(RULES, PROVENANCE, blob)


def test_rules_may_change_meanwhile() -> None:
    player = Player(RULES)
    for t in instants(4, 8):
        player.show(t, [person(300, 100 + 40 * t)])
    assert crossings(player.events) == [("street", "right")]
    changed = CameraRules(
        "gate",
        lines=(
            LineRule("street", ((0.0, 0.8), (1.0, 0.8)), classes=("person", "bicycle")),
            LineRule("new", ((0.0, 0.85), (1.0, 0.85))),
        ),
    )
    player.rules = changed
    player.camera = CameraAnalytics.restore(changed, PROVENANCE, player.camera.snapshot())
    for t in instants(7, 8)[33:]:
        player.show(t, [person(300, 100 + 40 * t)] if t < 6.4 else [])
    events = player.close()
    assert crossings(events) == [("street", "right"), ("street", "right"), ("new", "right")]
    assert {e.data["track_id"] for e in of_type(events, LINE_CROSSED)} == {"gate/0/1"}
    totals = events[-1].data["totals"]
    assert totals["street"]["person"]["right"] == 2, "totals go on by the line's name"
    assert totals["new"]["person"]["right"] == 1
    assert of_type(events, ZONE_EXITED) == [], "the zone is gone, and its stays with it"
