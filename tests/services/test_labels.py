"""Labels through the stages: out of the log once, the same however often a worker dies, replayed byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import CameraConfig, load_config
from pipeline.core.events import SCENE_EVENT, Event
from pipeline.core.frame import FrameWindow, Picture
from pipeline.core.rules import CameraRules
from pipeline.errors import ModelError
from pipeline.inference.batching import Batcher
from pipeline.inference.classifier import Classifier
from pipeline.services import wiring
from pipeline.services.evidence import cut, find_event, see_again
from pipeline.services.evidence_files import write_evidence
from pipeline.services.labels import Labeller
from pipeline.services.plans import Models
from pipeline.services.published import compare, published_from
from pipeline.services.replay import Replay, ReplayRequest
from tests.chaos.world import PixelEngine, World, document, marker, status, window
from tests.e2e.feeding import next_epoch, windows_of
from tests.inference.classifier_networks import brightness_classifier, day_and_night_clip
from tests.services.logged import EPOCH_2_LATER_US, TOPICS, Logged, laid

BREAKS_THE_CLASSIFIER = 77
"""Brightness of a picture."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier(brightness_classifier(tmp_path_factory.mktemp("labels") / "light"))


class Breaking(Labeller):
    """Fails on some pictures, or on all."""

    always = False

    def judge(self, picture: Picture) -> Any:
        if self.always or int(picture[-1, -1, -1]) == BREAKS_THE_CLASSIFIER:
            raise ModelError("the classifier ran out of something")
        return super().judge(picture)


class LabelEngine(PixelEngine):
    """Sees one person, and whether it is bright."""

    def __init__(self, labeller: Labeller) -> None:
        super().__init__()
        self.labeller = labeller

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        rules, provenance = super().rules(camera)
        labels = wiring.label_rules(camera, self.labeller.model) if camera.labels.is_on else None
        return replace(rules, labels=labels), provenance

    def labels(self, camera: CameraConfig) -> Labeller | None:
        return self.labeller if camera.labels.is_on else None


@pytest.fixture
def make_engine(model: Classifier) -> Callable[[], LabelEngine]:
    return lambda: LabelEngine(Breaking(model))


def _document(**labels: Any) -> dict[str, Any]:
    return document() | {"labels": {"model": "light", "every_s": 0.4, **labels}}


def _lit(n: int, brightness: int, **more: Any) -> FrameWindow:
    """A window of pictures of that brightness; what walks there walks on."""
    plain = window("a", n, **more)
    frames = []
    for frame in plain.frames:
        picture = np.full((24, 32, 3), brightness, np.uint8)
        picture[0, 0, 0] = frame.picture[0, 0, 0]
        frames.append(replace(frame, picture=picture))
    return replace(plain, frames=tuple(frames))


LIGHT = [220, 220, 220, 128, 30, 220, 30, 30, 220, 30, 30, 30, 30, 128, 220, 30]


def _feed(world: World, *, frames: int = 4, **labels: Any) -> None:
    revision = world.apply("a", _document(**labels))
    other = world.apply("b", document())
    for n, brightness in enumerate(LIGHT):
        parts = 4 // frames
        for part in range(parts):
            world.feed(_lit(n * parts + part, brightness, frames=frames, revision=revision))
        world.feed(window("b", n, revision=other))
    world.feed(status("a", 4 * len(LIGHT), "down", revision=revision))


def _labels(world: World, camera_id: str = "a") -> list[dict[str, Any]]:
    told = [json.loads(value or b"") for headers, value in world.output().get(("t.events", camera_id), [])
            if dict(headers)["ce_type"] == SCENE_EVENT.encode()]  # fmt: skip
    return [event for event in told if event["kind"] in ("day", "night")]


DAY_THEN_NIGHT = [("day", "start"), ("day", "end"), ("night", "start"), ("night", "end")]


def _phases(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["kind"], event["phase"]) for event in told]


@pytest.mark.parametrize("frames", [4, 2, 1])
def test_labels_come_out_of_the_log(make_engine: Callable[[], Any], frames: int) -> None:
    world = World(partitions=1, make_engine=make_engine)
    _feed(world, frames=frames)
    world.settle()
    told = _labels(world)
    assert _phases(told) == DAY_THEN_NIGHT
    for event in told:
        assert (event["provenance"]["model"], event["attention"]) == ("light", [1.0])
        assert event["provenance"]["config_sha256"] == "1" * 64, "the rest is the camera's"
    assert _labels(world, "b") == []


@pytest.mark.parametrize("frames", [4, 1])
def test_a_worker_that_dies_at_every_window_leaves_the_same_bytes(make_engine: Callable[[], Any], frames: int) -> None:
    straight = World(partitions=1, make_engine=make_engine)
    _feed(straight, frames=frames)
    straight.settle()
    troubled = World(partitions=1, make_engine=make_engine, settings={"commit_interval_s": 0.01, "max_in_flight": 2})
    _feed(troubled, frames=frames)
    lived = troubled.work_dying()
    troubled.settle()
    assert lived > len(LIGHT) * 4 // frames / 4, "it died again and again"
    assert _phases(_labels(straight)) == DAY_THEN_NIGHT
    assert troubled.output() == straight.output()


def test_a_label_ends_once_when_the_key_is_taken_away_and_begins_again_when_it_comes_back(
    make_engine: Callable[[], Any],
) -> None:
    world = World(partitions=1, make_engine=make_engine)
    revision = world.apply("a", _document())
    for n in range(4):
        world.feed(_lit(n, 220, revision=revision))
    revision = world.apply("a", document())
    for n in range(4, 8):
        world.feed(_lit(n, 220, revision=revision))
    world.settle()
    assert _phases(_labels(world)) == [("day", "start"), ("day", "end")]
    assert {event["provenance"]["model"] for event in _labels(world)} == {"light"}
    assert all(b"light" not in state for state in world.states().values()), "nothing of it stays"
    revision = world.apply("a", _document(kinds=["night"]))
    for n in range(8, 16):
        world.feed(_lit(n, 220 if n < 12 else 30, revision=revision))
    world.settle()
    assert _phases(_labels(world))[2:] == [("night", "start")]


def test_another_epoch_ends_the_label_and_is_judged_at_once(make_engine: Callable[[], Any]) -> None:
    world = World(partitions=1, make_engine=make_engine)
    revision = world.apply("a", _document(every_s=5.0, votes=1))
    world.feed(_lit(0, 220, revision=revision))
    world.feed(marker("a", 2, revision=revision))
    world.feed(_lit(0, 30, revision=revision, epoch=2, writer="i2"))
    world.settle()
    told = _labels(world)
    assert [(event["epoch"], event["kind"], event["phase"]) for event in told] == [
        (1, "day", "start"), (1, "day", "end"), (2, "night", "start"),
    ]  # fmt: skip


def test_a_window_the_classifier_fails_on_is_a_dead_letter_and_the_rest_goes_on(
    make_engine: Callable[[], Any],
) -> None:
    world = World(partitions=1, make_engine=make_engine)
    revision = world.apply("a", _document())
    for n in range(6):
        world.feed(_lit(n, BREAKS_THE_CLASSIFIER if n == 2 else 220, revision=revision))
    world.settle()
    (letter,) = world.output()["t.dead-letters", "a"]
    assert b"the classifier ran out of something" in dict(letter[0])["dead_reason"]
    assert _phases(_labels(world)) == [("day", "start")]


def test_a_classifier_that_fails_on_everything_ends_the_work_and_buries_nothing(model: Classifier) -> None:
    broken = Breaking(model)
    broken.always = True
    world = World(partitions=1, make_engine=lambda: LabelEngine(broken))
    world.feed(_lit(0, 220, revision=world.apply("a", _document())))
    with pytest.raises(ModelError, match="ran out of something"):
        world.settle()
    assert world.log.committed_offsets.get(0, 0) == 0


def test_a_classifier_that_cannot_be_loaded_buries_the_windows() -> None:
    class Lacking(PixelEngine):
        def labels(self, camera: CameraConfig) -> None:
            raise ModelError("there is no classifier")

    world = World(partitions=1, make_engine=Lacking)
    world.feed(_lit(0, 220, revision=world.apply("a", _document())))
    world.settle()
    letters = world.output()["t.dead-letters", "a"]
    assert b"there is no classifier" in dict(letters[0][0])["dead_reason"]


CONFIG = """
kafka: {prefix: passerby}
counts: {window_s: 4}
sample_fps: 2
labels: {model: ./light, every_s: 0.7, votes: 2, score: 0.6}
cameras:
  street:
    source: clip.mp4
    start: 2026-01-01T08:00:00Z
"""


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A clip that turns from day to night, filmed twice."""
    folder = tmp_path_factory.mktemp("street")
    brightness_classifier(folder / "light")
    day_and_night_clip(folder / "clip.mp4")
    (folder / "passerby.yaml").write_text(CONFIG, encoding="utf-8")
    config = load_config(folder / "passerby.yaml", {})
    first = windows_of(config, "street")
    return laid(config, [*first, *next_epoch(first, 2, EPOCH_2_LATER_US, "second")])


@pytest.mark.parametrize("from_epoch", [1, 2])
def test_replay_gives_the_labels_that_were_published(street: Logged, from_epoch: int) -> None:
    labels = [(e.data["epoch"], e.data["kind"], e.data["phase"]) for e in street.of_type(SCENE_EVENT)
              if e.data["kind"] in ("day", "night")]  # fmt: skip
    assert labels == [(epoch, *told) for epoch in (1, 2) for told in DAY_THEN_NIGHT]
    replayed: list[Event] = []
    offset = street.offset_of_epoch(from_epoch)
    with Replay(street.log, TOPICS, street.config) as replay:
        told = replay.run(ReplayRequest("street", exact=True, from_offset=offset), replayed.append)
    sent_ms = told.index.windows[told.span.first].timestamp_ms
    found = compare(published_from(street.log, TOPICS, "street", told.span_offsets, sent_ms), replayed)
    assert found.differences == []
    assert found.equal == sum(event.data["origin"]["offset"] >= offset for event in street.events)


def test_a_worker_loads_each_classifier_once_and_tells_of_what_it_judged(street: Logged) -> None:
    loaded: list[str] = []
    took: list[float] = []
    with Models(
        street.config,
        make_batcher=lambda network: Batcher(network, workers=1),
        on_loaded=lambda model: loaded.append(f"{model.provenance.model} on {model.provider}"),
        on_judged=took.append,
    ) as models:
        camera = street.config.cameras["street"]
        engine = models.engine(camera)
        rules, _ = engine.rules(camera)
        labels = engine.labels(camera)
        assert labels is models.labeller(camera)
        assert labels is not None
        labels.judge(np.full((90, 160, 3), 250, np.uint8))
    assert loaded == ["passerby-nano on cpu", "light on cpu"]
    assert len(took) == 1
    assert rules.labels is not None
    assert (rules.labels.kinds, rules.labels.every_s, rules.labels.votes) == (("day", "night"), 0.7, 2)
    assert rules.labels.score == 0.6


def test_the_models_own_score_counts_where_none_is_given(model: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "passerby.yaml"
    path.write_text("labels: {model: light}\ncameras: {gate: {source: rtsp://gate.example/s}}\n", encoding="utf-8")
    camera = load_config(path, {}).cameras["gate"]
    rules = wiring.label_rules(camera, model)
    assert (rules.score, rules.every_s, rules.votes, rules.kinds) == (0.7, 5.0, 3, ("day", "night"))


@pytest.mark.parametrize(("number", "bright"), [(0, True), (1, False), (2, False), (3, False)])
def test_the_evidence_of_a_label_is_the_frame_at_which_it_was_known(
    street: Logged, tmp_path: Path, number: int, bright: bool
) -> None:
    event = [e for e in street.of_type(SCENE_EVENT) if e.data["kind"] in ("day", "night")][number]
    found = find_event(street.log, TOPICS, event.id)
    shown = cut(street.log, TOPICS, found, before_s=1.0, after_s=1.0, most_s=60.0)
    (named,) = (each for each in shown.frames if each.named)
    assert event.data["origin"]["offset"] - named.place.offset <= 1, "the end of a stream is a window of its own"
    assert (named.frame.picture.mean() > 128) == bright, "what ended it, where it ended"
    with Replay(street.log, TOPICS, street.config) as replay:  # a model is loaded: the boxes are seen again
        written = write_evidence(tmp_path, shown, see_again(replay, shown), {"png"})
    assert [path.suffix for path in written] == [".png", ".json"]
    sidecar = json.loads(written[-1].read_text(encoding="utf-8"))
    assert [f["attention"] for f in sidecar["frames"] if f["named"]] == [1.0]
