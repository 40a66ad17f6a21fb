"""Judgements become labels: so many in a row, no flicker, one end for every start, and exact after a restore."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analytics.camera import CameraAnalytics
from pipeline.analytics.labels import Judgement, LabelFact, LabelWatcher
from pipeline.core.events import SCENE_EVENT, Event, rfc3339
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.core.rules import CameraRules, LabelRules, SceneKind, SceneRules
from pipeline.errors import RecordMalformed
from tests.analytics.test_scenes import CLIP
from tests.analytics.test_scenes import seen as clip
from tests.analytics.walks import ORIGIN, PROVENANCE, START_US, detections, of_type

MADE = {"model": "light", "model_version": "2", "model_sha256": "dd"}
RULES = LabelRules(("day", "night"), every_s=1.0, score=0.7, votes=3, provenance=MADE)
DAY, NIGHT, UNSURE = Judgement("day", 0.9), Judgement("night", 0.8), Judgement("night", 0.69)
BY_LETTER = {"d": DAY, "n": NIGHT, "?": UNSURE, "r": Judgement("rain", 0.9)}


def facts(judged: str, rules: LabelRules = RULES) -> list[LabelFact]:
    """What is told of judgements a second apart: d(ay), n(ight), r(ain), ? (not sure), and the end of the stream."""
    watcher, told = LabelWatcher(rules), []
    for n, letter in enumerate(judged):
        told += watcher.observe(n * 1_000_000, BY_LETTER[letter])
    return told + watcher.close()


def phases(told: Iterable[LabelFact]) -> list[tuple[str, str]]:
    return [(fact.kind, fact.phase) for fact in told]


def test_three_in_a_row_begin_a_label_and_the_streams_end_ends_it() -> None:
    assert facts("dd") == []
    start, end = facts("?dddd?")
    assert (start.kind, start.phase, start.started_us, start.ended_us) == ("day", "start", 1_000_000, None)
    assert (end.kind, end.phase, end.started_us, end.ended_us) == ("day", "end", 1_000_000, 4_000_000)
    assert (start.score, start.judged_by) == (0.9, MADE)


@pytest.mark.parametrize("judged", ["dndndndndn", "ddnddnddn", "dd?dd?dd?", "n??n??n??", "??????"])
def test_flicker_and_doubt_never_begin_one(judged: str) -> None:
    assert facts(judged) == []


@pytest.mark.parametrize("judged", ["ddd", "dddnnd", "ddd????????", "dddnn?nn?nn", "dddndndndn"])
def test_flicker_and_doubt_never_end_one(judged: str) -> None:
    start, end = facts(judged)
    assert (start.kind, start.phase, end.kind, end.phase) == ("day", "start", "day", "end")
    last_us = 1_000_000 * judged.rindex("d")
    assert end.ended_us == last_us, "the last time it was surely seen"


def test_three_of_another_class_end_it_and_begin_that() -> None:
    told = facts("ddd?nnnn")
    assert phases(told) == [("day", "start"), ("day", "end"), ("night", "start"), ("night", "end")]
    assert (told[1].ended_us, told[2].started_us) == (2_000_000, 4_000_000)


def test_the_event_tells_the_highest_score_so_far() -> None:
    watcher = LabelWatcher(RULES)
    told = []
    for n, score in enumerate([0.75, 0.8, 0.77, 0.95, 0.9, 0.95]):
        told += watcher.observe(n * 1_000_000, Judgement("day", score))
    start, end = [*told, *watcher.close()]
    assert (start.score, end.score) == (0.8, 0.95)


def test_votes_and_score_are_the_rules_own() -> None:
    assert phases(facts("dn", replace(RULES, votes=1))) == [
        ("day", "start"), ("day", "end"), ("night", "start"), ("night", "end"),
    ]  # fmt: skip
    assert facts("nnnnn", replace(RULES, score=0.81)) == []
    assert phases(facts("???", replace(RULES, score=0.69))) == [("night", "start"), ("night", "end")]


def test_a_class_that_is_not_told_of_ends_what_is() -> None:
    told = facts("rrrdddrrrrrrddd")
    assert phases(told) == [("day", "start"), ("day", "end"), ("day", "start"), ("day", "end")]
    assert facts("rrrrrr") == []


def test_a_class_that_is_no_longer_told_of_ends_with_the_next_frame() -> None:
    watcher = LabelWatcher(RULES)
    for n in range(3):
        watcher.observe(n * 1_000_000, DAY)
    watcher.rules = replace(RULES, kinds=("night",))
    assert phases(watcher.observe(2_125_000, None)) == [("day", "end")]
    assert watcher.observe(2_250_000, None) == []


def test_a_camera_whose_classifier_is_taken_away_ends_its_label_once_and_keeps_nothing() -> None:
    watcher = LabelWatcher(RULES)
    for n in range(3):
        watcher.observe(n * 1_000_000, DAY)
    watcher.rules = None
    (end,) = watcher.observe(2_125_000, None)
    assert (end.phase, end.judged_by) == ("end", MADE), "as the model that saw it, which is not there any more"
    assert watcher.state() is None
    assert watcher.due([3_000_000], follows=True) == [False]


def test_votes_of_two_models_are_not_counted_together_and_an_open_label_goes_on() -> None:
    other = replace(RULES, provenance={**MADE, "model_sha256": "ee"})
    watcher = LabelWatcher(RULES)
    told = [fact for n in range(2) for fact in watcher.observe(n * 1_000_000, DAY)]
    watcher.rules = other
    told += [fact for n in range(2, 4) for fact in watcher.observe(n * 1_000_000, DAY)]
    assert told == []
    (start,) = watcher.observe(4_000_000, DAY)
    assert (start.started_us, start.judged_by["model_sha256"]) == (2_000_000, "ee")
    watcher.rules = RULES
    assert watcher.observe(5_000_000, Judgement("day", 0.99)) == []
    (end,) = watcher.close()
    assert (end.started_us, end.score, end.judged_by) == (2_000_000, 0.99, MADE), "who saw it last"


@pytest.mark.parametrize(
    ("every_s", "due"),
    [(1.0, [0, 8, 16]), (0.3, [0, 3, 6, 9, 12, 15, 18]), (100.0, [0]), (0.001, list(range(20)))],
)
def test_frames_are_due_by_the_clock(every_s: float, due: list[int]) -> None:
    watcher = LabelWatcher(replace(RULES, every_s=every_s))
    times = [n * 125_000 for n in range(20)]
    told = watcher.due(times, follows=True)
    assert [n for n, is_due in enumerate(told) if is_due] == due
    for n, at_us in enumerate(times):
        assert watcher.due([at_us], follows=True) == [told[n]], "as for the whole stretch"
        watcher.observe(at_us, DAY if told[n] else None)


def test_another_stream_is_judged_at_once() -> None:
    watcher = LabelWatcher(replace(RULES, every_s=60.0))
    watcher.observe(0, DAY)
    assert watcher.due([1_000_000, 2_000_000], follows=True) == [False, False]
    assert watcher.due([1_000_000, 2_000_000], follows=False) == [True, False]


@given(st.text("dnr?", max_size=60), st.integers(1, 4))
def test_starts_and_ends_alternate_and_every_start_has_votes_behind_it(judged: str, votes: int) -> None:
    told = facts(judged, replace(RULES, kinds=("day", "night", "rain"), votes=votes))
    assert [fact.phase for fact in told] == ["start", "end"] * (len(told) // 2)
    letters = {"day": "d", "night": "n", "rain": "r"}
    for start, end in zip(told[::2], told[1::2], strict=True):
        assert (start.kind, start.started_us) == (end.kind, end.started_us)
        first = start.started_us // 1_000_000
        assert judged[first : first + votes] == letters[start.kind] * votes
        assert end.ended_us is not None
        assert end.ended_us >= start.started_us
    for before, after in zip(told[1::2], told[2::2], strict=False):
        assert before.kind != after.kind


CAMERA = CameraRules("gate", labels=replace(RULES, every_s=0.3))


class Camera:
    """A camera whose frames are judged when they are due, in windows of some frames."""

    def __init__(self, rules: CameraRules = CAMERA) -> None:
        self.rules = rules
        self.camera = CameraAnalytics(rules, provenance=PROVENANCE)
        self.events: list[Event] = []
        self.epoch = 1
        self.index = 0

    def show(self, judged: Sequence[Judgement]) -> None:
        """A window, a frame each."""
        frames = []
        for _ in judged:
            at_us = self.index * 125_000
            frames.append(Frame(self.index, at_us, START_US + self.epoch + at_us, np.zeros((1, 1, 3), np.uint8)))
            self.index += 1
        window = FrameWindow("gate", self.epoch, self.index, tuple(frames), 640, 360, 8.0, "pts")
        for frame, said, is_due in zip(frames, judged, self.camera.to_judge(window), strict=True):
            observed = self.camera.observe(window, frame, detections([]), ORIGIN, None, said if is_due else None)
            self.events += observed.events

    def tell(self, state: str) -> None:
        status = StreamStatus(state, "because", START_US + self.index * 125_000)  # type: ignore[arg-type]
        window = FrameWindow("gate", self.epoch, self.index, (), 640, 360, 8.0, "pts", status)
        self.events += self.camera.status(window, ORIGIN).events

    def restart(self) -> None:
        """As another worker that takes over."""
        blob = self.camera.snapshot()
        self.camera = CameraAnalytics.restore(self.rules, PROVENANCE, blob)
        assert self.camera.snapshot() == blob


@pytest.mark.parametrize("frames", [1, 3, 8])
def test_restored_at_every_border_of_windows_it_goes_on_byte_for_byte(frames: int) -> None:
    script = [DAY] * 12 + [UNSURE] * 5 + [NIGHT] * 4 + [DAY] * 3 + [NIGHT] * 16 + [DAY] * 8
    straight, restored = Camera(), Camera()
    for epoch in (1, 2):
        straight.epoch = restored.epoch = epoch
        for n in range(0, len(script), frames):
            for camera in (straight, restored):
                camera.show(script[n : n + frames])
            restored.restart()
    for camera in (straight, restored):
        camera.tell("down")
    told = [json.dumps([event.structured() for event in camera.events]) for camera in (straight, restored)]
    assert told[0] == told[1]
    kinds = [(e.data["kind"], e.data["phase"]) for e in of_type(straight.events, SCENE_EVENT)]
    assert kinds == [("day", "start"), ("day", "end"), ("night", "start"), ("night", "end")] * 2
    assert len({event.id for event in straight.events}) == len(straight.events)


def test_the_event_is_as_the_contract_says() -> None:
    camera = Camera()
    camera.show([DAY] * 16)
    (start,) = of_type(camera.events, SCENE_EVENT)
    assert start.data["provenance"] == {**PROVENANCE, **MADE, "frames": [6]}
    assert (start.data["attention"], start.data["score"], start.data["ended_at"]) == ([1.0], 0.9, None)
    assert start.data["started_at"] == rfc3339(START_US + 1)
    assert start.time_us == START_US + 1 + 6 * 125_000, "when the third judgement was there"


def test_a_label_called_as_a_scene_models_kind_has_an_id_of_its_own() -> None:
    scene = SceneRules(CLIP, (SceneKind("fight", 0.6, 0.4, clips=1),), {"model": "s"})
    labels = replace(RULES, kinds=("fight",), votes=1)
    camera = CameraAnalytics(replace(CAMERA, scene=scene, labels=labels), provenance=PROVENANCE)
    frame = Frame(0, 0, START_US, np.zeros((1, 1, 3), np.uint8))
    window = FrameWindow("gate", 1, 1, (frame,), 640, 360, 8.0, "pts")
    told = camera.observe(window, frame, detections([]), ORIGIN, clip(0, 0.9), Judgement("fight", 0.9)).events
    assert [event.data["kind"] for event in told] == ["fight", "fight"]
    assert len({event.id for event in told}) == 2


def test_a_camera_without_a_classifier_asks_for_nothing_and_keeps_nothing() -> None:
    camera = Camera(CameraRules("gate"))
    camera.show([DAY] * 8)
    assert camera.camera.to_judge(FrameWindow("gate", 2, 9, (), 640, 360, 8.0, "pts")) == []
    assert b"labels" not in camera.camera.snapshot()
    assert of_type(camera.events, SCENE_EVENT) == []


@pytest.mark.parametrize("wrong", ["3", '{"last_us": 1}', '{"last_us": 1, "row": {"kind": "day"}, "open": null}'])
def test_a_state_that_is_none_is_refused(wrong: str) -> None:
    camera = Camera()
    camera.show([DAY])
    state = json.loads(camera.camera.snapshot()) | {"labels": json.loads(wrong)}
    with pytest.raises(RecordMalformed):
        CameraAnalytics.restore(CAMERA, PROVENANCE, json.dumps(state).encode())
