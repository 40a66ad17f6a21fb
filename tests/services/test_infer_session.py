"""A session on the model of the log: plans, dead letters, cameras that go, what is freed."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.base import Message
from pipeline.bus.topics import CameraDocument
from pipeline.config import CameraConfig, camera_from_document, load_config
from pipeline.core.events import LINE_CROSSED
from pipeline.errors import ModelError, RecordTooLarge
from pipeline.metrics import InferMetrics
from pipeline.services import infer_worker
from pipeline.services.infer_session import InferSession
from pipeline.services.infer_worker import InferOptions, infer
from pipeline.services.plans import Plans
from pipeline.services.stages import UnknownCamera
from tests.chaos.log_model import LogModel, ModelBus, ModelReader
from tests.chaos.worker_process import PixelModels
from tests.chaos.world import Inline, PixelEngine, World, document, window


def _session(world: World, number: int = 99) -> InferSession:
    session = world.workers[number].session
    assert session is not None
    return session


def _plans(world: World, engine_of: Any = lambda _: PixelEngine()) -> Plans:
    def camera_of(camera_id: str, told: Any) -> CameraConfig:
        return camera_from_document(camera_id, told, {}, Path(), secrets=False)

    return Plans(ModelReader(world.log, world.topics.cameras, undecided=False), camera_of, engine_of)


def test_a_new_document_counts_from_its_first_window_on_and_totals_go_on() -> None:
    world = World(partitions=1)
    first = world.apply("a", document(0.5))
    for n in range(11):
        world.feed(window("a", n, revision=first))
    second = world.apply("a", document(0.6))
    for n in range(11, 22):
        world.feed(window("a", n, revision=second))
    world.settle()
    crossings = [json.loads(value) for headers, value in world.output()["t.events", "a"]
                 if value and dict(headers)["ce_type"] == LINE_CROSSED.encode()]  # fmt: skip
    bottoms = [crossing["bbox"]["y_max"] for crossing in crossings]
    assert len(bottoms) == 2
    assert bottoms[0] < 0.55 < bottoms[1]
    last = json.loads(world.output()["t.counts", "a"][-1][1] or b"")
    assert last["totals"]["middle"]["person"]["right"] == 2


def test_a_revision_that_is_gone_stands_for_the_next_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(partitions=1)
    world.apply("other", document())
    kept = world.apply("a", document(0.4))
    plans = _plans(world)
    for _ in range(3):
        assert plans.plan(window("a", 0, revision=0), 0).revision == kept  # 0 is of another camera
    assert caplog.text.count("is gone from the topic") == 1
    assert plans.plan(window("a", 0, revision=kept), 0) is plans.plan(window("a", 1, revision=kept), 0)


def test_a_document_that_comes_later_is_found_when_a_window_names_it() -> None:
    world = World(partitions=1)
    world.apply("a", document())
    plans = _plans(world)
    plans.read_all()
    later = world.apply("a", document(0.3))
    assert plans.plan(window("a", 0, revision=later), 0).camera.lines["middle"].points[0][1] == 0.3


def test_the_document_of_the_state_is_used_where_the_topic_has_lost_it() -> None:
    world = World(partitions=1)
    world.apply("other", document())
    world.apply("a", document(0.4))
    plans = _plans(world)
    plans.remember("a", 0, document(0.7))
    assert plans.plan(window("a", 0, revision=0), 0).camera.lines["middle"].points[0][1] == 0.7


def test_a_camera_without_a_usable_document_is_unknown() -> None:
    world = World(partitions=1)
    plans = _plans(world)
    with pytest.raises(UnknownCamera, match="no document"):
        plans.plan(window("a", 0), 0)
    broken = world.apply("a", {"lines": 3})
    with pytest.raises(UnknownCamera, match="cannot be used"):
        plans.plan(window("a", 0, revision=broken), 0)
    gone = world.apply("a", None)
    with pytest.raises(UnknownCamera, match="removed"):
        plans.plan(window("a", 0, revision=gone), 0)


def test_a_model_that_cannot_be_loaded_buries_the_windows_and_other_cameras_go_on() -> None:
    world = World(partitions=1)
    bad = world.apply("bad", document())
    good = world.apply("good", document())
    world.start(0)
    session, engine = _session(world, 0), PixelEngine()

    def engine_of(camera: CameraConfig) -> PixelEngine:
        if camera.id == "bad":
            raise ModelError("there is no model")
        return engine

    session._plans = _plans(world, engine_of)
    for n in range(11):
        world.feed(window("bad", n, revision=bad))
        world.feed(window("good", n, revision=good))
    for _ in range(60):
        world.turn(0)
    session.finish()
    output = world.output()
    assert len(output["t.dead-letters", "bad"]) == 11
    assert b"there is no model" in dict(output["t.dead-letters", "bad"][0][0])["dead_reason"]
    assert output["t.events", "good"]
    assert ("t.events", "bad") not in output


def test_the_state_of_a_removed_camera_goes_once_it_is_quiet() -> None:
    world = World(partitions=1, settings={"forget_after_s": 30.0})
    revision = world.apply("a", document())
    other = world.apply("b", document())
    for n in range(3):
        world.feed(window("a", n, revision=revision))
        world.feed(window("b", n, revision=other))
    world.settle()
    assert {"a", "b"} <= world.states().keys()
    world.apply("a", None)
    for _ in range(20):
        world.turn(99, 1.0)
    assert "a" in world.states()  # it might still send something
    for _ in range(60):
        world.turn(99, 1.0)
    assert "a" not in world.states()
    assert "b" in world.states()
    session = _session(world)
    assert "a" not in session.stages.cameras
    known = session._plans._known
    assert (list(known["a"].documents.values()), known["a"].plans) == ([None], {})
    assert known["b"].plans


def test_what_is_remembered_of_cameras_goes_with_their_partition() -> None:
    world = World(partitions=2)
    for camera_id in ("a", "b"):
        revision = world.apply(camera_id, document())
        for n in range(3):
            world.feed(window(camera_id, n, revision=revision))
    world.start(0)
    for _ in range(20):
        world.turn(0)
    session = _session(world, 0)
    assert set(session.stages.cameras) == {"a", "b"}
    session.revoked([0, 1])
    for kept in (session.stages.cameras, session.stages._fences, session._in_use, session._told, session._finished_s,
                 session._offsets, session._gathering.partitions):  # fmt: skip
        assert not kept


def test_a_state_nobody_can_read_is_buried_once_and_its_camera_begins_anew() -> None:
    world = World(partitions=1)
    revision = world.apply("a", document())
    world.feed(window("a", 0, revision=revision))
    world.settle()
    world.log.append(world.topics.state.name, Message("a", b"junk"), 0)
    for _ in range(2):  # the second restore finds nothing to bury
        world.feed(window("a", 1, epoch=2, revision=revision))
        world.settle()
    letters = world.output()["t.dead-letters", "a"]
    assert len(letters) == 1
    assert dict(letters[0][0])["origin_topic"] == b"t.state"


def _many_lines(count: int = 60) -> dict[str, Any]:
    told = document()
    told["lines"] |= {f"line-{n}": {"points": [[0.0, 0.5], [1.0, 0.5]], "classes": ["person"]} for n in range(count)}
    return told


def test_a_camera_whose_state_does_not_fit_is_refused_and_the_others_go_on() -> None:
    outputs = []
    for limited in (False, True):
        world = World(partitions=1)
        large, small = world.apply("large", _many_lines()), world.apply("small", document())
        if limited:
            world.log.limits[world.topics.state.name] = 12_000
        for n in range(11):
            world.feed(window("large", n, revision=large))
            world.feed(window("small", n, revision=small))
        world.settle()
        outputs.append(world.output())
    undisturbed, output = outputs
    for topic in ("t.counts", "t.events"):
        assert output[topic, "small"] == undisturbed[topic, "small"]
        assert (topic, "large") not in output
    letters = output["t.dead-letters", "large"]
    assert [dict(headers)["origin_offset"] for headers, _ in letters] == [b"%d" % (2 * n) for n in range(11)]
    assert {dict(headers)["dead_error"] for headers, _ in letters} == {b"RecordTooLarge"}
    assert all(b"too large for t.state" in dict(headers)["dead_reason"] for headers, _ in letters)
    metrics = _session(world)._metrics.registry
    assert metrics.value("passerby_dead_letters_total", topic="windows", reason="too_large") == 11

    fits = world.apply("large", document())  # somebody mends it
    for n in range(11, 22):
        world.feed(window("large", n, revision=fits))
    world.settle()
    output = world.output()
    assert len(output["t.dead-letters", "large"]) == 11
    assert output["t.events", "large"]


def test_a_camera_that_did_not_fit_is_tried_again_in_its_next_epoch() -> None:
    world = World(partitions=1)
    revision = world.apply("a", document())
    for n in range(3):
        world.feed(window("a", n, revision=revision))
    world.settle()
    world.log.limits[world.topics.state.name] = 100  # not even what lies in the log fits any more
    before = world.states()["a"]
    for n in range(3, 6):
        world.feed(window("a", n, revision=revision))
    world.settle()
    assert len(world.output()["t.dead-letters", "a"]) == 3
    assert world.states()["a"] == before, "the state is kept as it is"
    world.log.limits.clear()
    for n in range(3):
        world.feed(window("a", n, epoch=2, revision=revision))
    world.settle()
    assert len(world.output()["t.dead-letters", "a"]) == 3
    assert world.states()["a"] != before


def test_a_worker_that_goes_back_while_partitions_are_to_leave_it_lets_them_go() -> None:
    """It cannot move in its partitions before its listener has heard of the change, and went back for ever."""
    world = World(partitions=2)
    cameras = ["a", "b"]
    for camera_id in cameras:
        world.feed(window(camera_id, 0, revision=world.apply(camera_id, document(0.5))))
    world.start(1)
    for _ in range(3):
        world.turn(1)
    _session(world, 1)._transactions.answer_lost = True  # type: ignore[attr-defined]
    world.turn(1, seconds=1.0)  # its commit is not confirmed: it will go back
    assert _session(world, 1)._stale
    world.start(2)  # and now a partition is to leave it
    for number in (1, 2, 1, 2):
        world.turn(number)
    assert not _session(world, 1)._stale
    assert [len(_session(world, number)._consumer.assignment) for number in (1, 2)] == [1, 1]


def test_what_is_too_large_and_of_no_camera_ends_the_worker() -> None:
    world = World(partitions=1)
    revision = world.apply("a", document())
    world.log.limits[world.topics.state.name] = 10  # not even the marker of a partition
    world.feed(window("a", 0, revision=revision))
    with pytest.raises(RecordTooLarge, match="partition/0"):
        world.settle()


def test_the_command_works_until_the_log_is_idle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(partitions=2)
    world.topics = type(world.topics)("passerby")
    for camera_id in ("a", "b"):
        revision = world.apply(camera_id, document())
        for n in range(12):
            world.feed(window(camera_id, n, revision=revision))
    monkeypatch.setattr(infer_worker, "_models", lambda _config, _metrics: PixelModels())
    file = tmp_path / "worker.yaml"
    file.write_text("kafka: {commit_interval_s: 0.2}\n", encoding="utf-8")
    infer(load_config(file, cameras=False), InferOptions("w1", until_idle_s=0.3), ModelBus(world.log))
    for topic in (world.topics.counts, world.topics.events):
        for camera_id in ("a", "b"):
            assert world.output()[topic.name, camera_id]
    assert not world.log.members  # it left the group


def test_an_outage_is_no_idleness_and_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World(partitions=1)
    world.topics = type(world.topics)("passerby")
    revision = world.apply("a", document())
    reachable: list[bool] = []
    began_s = time.monotonic()

    def heard_s() -> float:
        """The broker is away for more than a second, and somebody's windows wait for it to be back."""
        now_s = time.monotonic()
        if now_s - began_s < 1.2:
            return began_s
        if not world.log.entries(world.topics.windows.name, 0):
            for n in range(12):
                world.feed(window("a", n, revision=revision))
        return now_s

    world.log.heard_s = heard_s
    monkeypatch.setattr(infer_worker, "_models", lambda _config, _metrics: PixelModels())
    monkeypatch.setattr(infer_worker, "QuietTime", partial(infer_worker.QuietTime, gap_s=0.9))
    monkeypatch.setattr(InferMetrics, "broker_reachable", lambda _self, told: reachable.append(told))
    file = tmp_path / "worker.yaml"
    file.write_text("kafka: {commit_interval_s: 0.2}\n", encoding="utf-8")
    infer(load_config(file, cameras=False), InferOptions("w1", until_idle_s=0.5), ModelBus(world.log))
    assert world.output()[world.topics.counts.name, "a"]
    away = reachable.index(False)
    assert all(reachable[:away]), "it was there when the cameras were read"
    assert reachable[-1]


def test_the_state_of_a_camera_does_not_grow_with_the_tracks_it_saw() -> None:
    world = World(partitions=1)
    revision = world.apply("a", document(zone=True))
    sizes = []
    for n in range(200):
        world.feed(window("a", n, revision=revision))
        if n in (60, 199):
            world.settle()
            sizes.append(len(world.states()["a"]))
            world.stop(99)
    assert sizes[1] < 1.3 * sizes[0]


def test_the_model_of_the_log_keeps_what_is_open_from_readers() -> None:
    log = LogModel(1)
    bus = ModelBus(log)
    topics = World().topics
    consumer = bus.consumer(topics.windows_raw, "g", listener=None)  # type: ignore[arg-type]
    transactions = bus.transactions("w", consumer)
    log.members[0].generation = log.generation
    with transactions.transaction() as transaction:
        transaction.send("t.events", Message("a", b"1"), 0)
        assert log.visible("t.events", 0) == []
    assert log.visible("t.events", 0) == []  # committed, its marker is on its way
    log.deliver_a_marker()
    assert [message.value for _, message in log.visible("t.events", 0)] == [b"1"]


def test_documents_travel_as_they_are() -> None:
    world = World(partitions=1)
    world.apply("a", document())
    (_, message), *_ = world.log.visible(world.topics.cameras.name, 0)
    assert world.topics.cameras.decode(message) == CameraDocument("a", document())
    assert Inline().submit(lambda: 3).result() == 3
