"""Scene events through the stages: the same whoever looks, however often a worker dies, and whatever else is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scene_cost import looked_at
from pipeline.analytics.clips import Clip, persons_in
from pipeline.config import CameraConfig
from pipeline.core.clip_crop import gray_grid
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules
from pipeline.errors import ModelError
from pipeline.inference.scene import SceneModel
from pipeline.services import wiring
from pipeline.services.scenes import CameraScenes, SceneEngine
from tests.analytics.walks import detections, person
from tests.chaos.log_model import ModelReader
from tests.chaos.world import BREAKS_THE_NETWORK, PixelEngine, World, document, status, window
from tests.inference.scene_networks import scene_model
from training.scene.frames import People

CROP = {"rule": "motion", "width": 0.5, "height": 0.5, "keep": 0.8}
KINDS = {"fight": {"start": 0.6, "end": 0.4}, "fall": {"start": 0.6, "end": 0.4, "persons": 1}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SceneModel:
    return SceneModel(scene_model(tmp_path_factory.mktemp("scene") / "tiny", crop=CROP, kinds=KINDS))


@dataclass
class SceneAndPixelEngine(PixelEngine):
    """Sees one person, and what the scene model sees."""

    engine: SceneEngine

    def __post_init__(self) -> None:
        super().__init__()

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        rules, provenance = super().rules(camera)
        watched = wiring.scene_rules(camera, self.engine.model, 0.1) if camera.scene.is_on else None
        return replace(rules, scene=watched), provenance

    def scenes(self, camera: CameraConfig) -> CameraScenes | None:
        watched = self.rules(camera)[0].scene
        return CameraScenes(self.engine, watched) if watched is not None else None


@pytest.fixture
def make_engine(model: SceneModel) -> Iterator[Callable[[], SceneAndPixelEngine]]:
    looked: list[tuple[str, int, float]] = []
    with SceneEngine(model, threads=3, on_clip=lambda *told: looked.append(told)) as engine:
        yield lambda: SceneAndPixelEngine(engine)


def _document(**scene: Any) -> dict[str, Any]:
    return document() | {"scene": {"model": "tiny", **scene}}


def _red(n: int, red: int, *, frames: int = 8, revision: int = 0, camera_id: str = "a", epoch: int = 1) -> FrameWindow:
    """A window whose pictures are more or less red, and in which something moves about."""
    plain = window(camera_id, n, frames=frames, revision=revision, epoch=epoch)
    made: list[Frame] = []
    for frame in plain.frames:
        picture = np.random.default_rng(frame.index).integers(0, 40, (36, 64, 3), dtype=np.uint8)
        picture[..., 0] = red
        place = (frame.index // 20 * 24) % 48  # moves on from time to time: the crop follows it
        picture[(frame.index % 2) * 12 :: 3, place : place + 12, 1] = 200
        picture[0, 0, 0] = frame.index % 44
        made.append(replace(frame, picture=picture))
    return replace(plain, frames=tuple(made))


REDS = [0, 180, 180, 180, 250, 250, 120, 30, 30, 30, 200, 200, 200, 10, 10, 10]


def _feed(world: World, *, frames: int = 8, **scene: Any) -> None:
    revision = world.apply("a", _document(**scene))
    other = world.apply("b", document())
    for n, red in enumerate(REDS):
        parts = 8 // frames
        for part in range(parts):
            world.feed(_red(n * parts + part, red, frames=frames, revision=revision))
        world.feed(window("b", n, revision=other))
    world.feed(status("a", 2 * len(REDS), "down", revision=revision))


def _scenes(world: World, camera_id: str = "a") -> list[dict[str, Any]]:
    told = [json.loads(value or b"") for headers, value in world.output().get(("t.events", camera_id), [])
            if dict(headers)["ce_type"] == b"io.passerby.scene.event.v1"]  # fmt: skip
    return [event for event in told if event["kind"] in KINDS]  # not what rules say of the pictures' condition


@pytest.mark.parametrize("frames", [8, 4, 2])
def test_scene_events_come_out_of_the_log(make_engine: Callable[[], Any], frames: int) -> None:
    world = World(partitions=1, make_engine=make_engine)
    _feed(world, frames=frames)
    world.settle()
    told = _scenes(world)
    assert [(event["kind"], event["phase"]) for event in told][:2] == [("fight", "start"), ("fight", "update")]
    phases = [event["phase"] for event in told]
    assert phases.count("start") == phases.count("end") == 2
    assert all(event["provenance"]["model"] == "tiny-scene" for event in told)
    assert all(sum(event["attention"]) == pytest.approx(1, abs=1e-4) for event in told)
    assert all(len(event["attention"]) == len(event["provenance"]["frames"]) == 16 for event in told)
    assert _scenes(world, "b") == []


@pytest.mark.parametrize("frames", [8, 4])
def test_a_worker_that_dies_at_every_window_leaves_the_same_bytes(make_engine: Callable[[], Any], frames: int) -> None:
    straight = World(partitions=1, make_engine=make_engine)
    _feed(straight, frames=frames)
    straight.settle()
    troubled = World(partitions=1, make_engine=make_engine, settings={"commit_interval_s": 0.01, "max_in_flight": 2})
    _feed(troubled, frames=frames)
    lived = troubled.work_dying()
    troubled.settle()
    assert lived > len(REDS) * 8 // frames / 4, "it died again and again"
    assert _scenes(straight)
    assert troubled.output() == straight.output()


def test_pictures_that_are_gone_begin_the_clip_anew_and_nothing_ends(
    make_engine: Callable[[], Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(partitions=1, make_engine=make_engine)
    revision = world.apply("a", _document())
    for n in range(5):
        world.feed(_red(n, 220, revision=revision))
    world.settle()
    assert [event["phase"] for event in _scenes(world)] == ["start"]
    read, windows = ModelReader.read, world.topics.windows.name

    def read_what_is_left(self: ModelReader, partition: int, begin: int, end: int) -> Iterator[Any]:
        return (r for r in read(self, partition, begin, end) if r.topic != windows or r.offset > 4)

    monkeypatch.setattr(ModelReader, "read", read_what_is_left)
    for n in range(5, 9):
        world.feed(_red(n, 220, revision=revision))
    world.feed(status("a", 20, "down", revision=revision))
    world.settle()
    assert "its clip begins anew" in caplog.text
    assert [event["phase"] for event in _scenes(world)] == ["start", "end"]


def test_a_window_the_network_failed_on_breaks_the_clip_and_no_more(make_engine: Callable[[], Any]) -> None:
    world = World(partitions=1, make_engine=make_engine)
    revision = world.apply("a", _document())
    for n in range(8):
        told = _red(n, 220, revision=revision)
        if n == 4:
            broken = told.frames[3].picture.copy()
            broken[0, 0, 0] = BREAKS_THE_NETWORK
            frames = tuple(replace(f, picture=broken) if i == 3 else f for i, f in enumerate(told.frames))
            told = replace(told, frames=frames)
        world.feed(told)
    world.settle()
    assert len(world.output()["t.dead-letters", "a"]) == 1
    assert [event["phase"] for event in _scenes(world)] == ["start"]


def test_kinds_and_scores_are_the_cameras_own(make_engine: Callable[[], Any], model: SceneModel) -> None:
    for scene, expected in (
        ({"kinds": ["fall"]}, 0), ({"kinds": []}, 0), ({"thresholds": {"fight": {"start": 0.99}}}, 0), ({}, 2),
    ):  # fmt: skip
        world = World(partitions=1, make_engine=make_engine)
        _feed(world, **scene)
        world.settle()
        starts = [event for event in _scenes(world) if event["phase"] == "start"]
        assert len(starts) == expected, scene


def test_features_that_both_clips_share_are_encoded_once(model: SceneModel) -> None:
    looked: list[int] = []
    with SceneEngine(model, threads=1, on_clip=lambda _name, encoded, _s: looked.append(encoded)) as engine:
        world = World(partitions=1, make_engine=lambda: SceneAndPixelEngine(engine))
        revision = world.apply("a", _document())
        for n in range(6):
            still = _red(n, 220, revision=revision)
            moving = []
            for frame in still.frames:
                picture = np.full((36, 64, 3), 30, np.uint8)
                picture[8:16, 8:16, 1] = 200 * (frame.index % 2)
                moving.append(replace(frame, picture=picture))
            world.feed(replace(still, frames=tuple(moving)))
        world.settle()
    assert looked == [16, 8, 8, 8, 8]


@pytest.mark.parametrize("persons", [0, 1])
def test_the_benchmark_counts_what_the_pipeline_encodes(tmp_path: Path, persons: int) -> None:
    """benchmarks/scene_cost.py counts clips without pictures or networks: as many as are encoded here."""
    crop = CROP | {"rule": "persons_motion", "keep": 0.9}
    kinds = {"fight": {"start": 0.6, "persons": persons, "persons_share": 0.5}, "fall": {"start": 0.6, "persons": 2}}
    model = SceneModel(scene_model(tmp_path / "counted", crop=crop, kinds=kinds))
    rules = wiring.scene_rules_of(model, 0.1)
    random, encoded = np.random.default_rng(4), list[int]()
    seen = [detections([person(60 + 4 * n, 300)] if n % 40 < 20 else []) for n in range(96)]
    windows = [_red(n, int(random.integers(256))) for n in range(12)]
    with SceneEngine(model, threads=1, on_clip=lambda _name, many, _s: encoded.append(many)) as engine:
        scenes, clip = CameraScenes(engine, rules), Clip()
        for n, each in enumerate(windows):
            clip = scenes.look(each, n, seen[8 * n : 8 * n + 8], clip).clip
    frames = [frame for each in windows for frame in each.frames]
    persons_of = [persons_in(each, (windows[0].width, windows[0].height), 0.1) for each in seen]
    people = People(
        np.array([frame.captured_at_us for frame in frames]), np.stack([gray_grid(frame.picture) for frame in frames]),
        [each[:, :4] for each in persons_of], [each[:, 4] for each in persons_of],
    )  # fmt: skip
    told = looked_at(people, rules.clip, rules.kinds, rules.low_score)
    assert [each.encoded for each in told if each.encoded is not None] == encoded
    assert {8, 16} <= set(encoded)
    assert any(each.moved for each in told)
    assert (None in [each.encoded for each in told]) == (persons > 0)


def test_a_shut_gate_costs_no_network(tmp_path: Path) -> None:
    looked: list[int] = []
    kinds = {"fight": {"start": 0.6, "persons": 2}, "fall": {"start": 0.6, "persons": 1, "person_score": 0.95}}
    model = SceneModel(scene_model(tmp_path / "gated", kinds=kinds))
    with SceneEngine(model, threads=1, on_clip=lambda _name, encoded, _s: looked.append(encoded)) as engine:
        world = World(partitions=1, make_engine=lambda: SceneAndPixelEngine(engine))
        _feed(world)  # one person of 0.9 in every picture
        world.settle()
    assert looked == []
    assert _scenes(world) == []


def test_a_scene_model_that_cannot_be_loaded_buries_the_windows(make_engine: Callable[[], Any]) -> None:
    class Lacking(PixelEngine):
        def scenes(self, camera: CameraConfig) -> None:
            raise ModelError("there is no scene model")

    world = World(partitions=1, make_engine=Lacking)
    revision = world.apply("a", _document())
    world.feed(_red(0, 0, revision=revision))
    world.settle()
    letters = world.output()["t.dead-letters", "a"]
    assert b"there is no scene model" in dict(letters[0][0])["dead_reason"]
