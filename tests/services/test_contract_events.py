"""Every event that comes out of the pipeline is as the contract says: no key more, none less, values in range."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from referencing import Registry, Resource

from pipeline.bus.base import Message
from pipeline.bus.cloudevents import encode_event
from pipeline.bus.topics import CameraDocument, CameraState, DeadLetter
from pipeline.config import read_config
from pipeline.core.events import DATA_TYPES, SCENE_EVENT, Event
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from pipeline.outputs.jsonl import encode_line
from pipeline.services.contracts import render
from pipeline.services.run import RunOptions, run
from tests.analytics import walks
from tests.analytics.walks import Player, car, person
from tests.services.logged import TOPICS, Logged

CONTRACT = {name: json.loads(text) for name, text in render().items() if name.endswith(".json")}
SHA = {"model_sha256": "a" * 64, "config_sha256": "b" * 64}


def closed(schema: Any) -> Any:
    """The schema without room for keys it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: closed(value) for key, value in schema.items()}
    return told | {"additionalProperties": False} if "properties" in told and told.get("type") == "object" else told


REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(closed(schema))) for name, schema in CONTRACT.items()
)
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


def faults(event: dict[str, Any]) -> list[str]:
    """What is wrong with a structured event, by path."""
    schema = closed(CONTRACT["cloudevent.schema.json"])
    validator = jsonschema.Draft202012Validator(schema, registry=REGISTRY, format_checker=FORMATS)
    known = f"{event.get('type')}.schema.json" in CONTRACT
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(event)] + (
        [] if known else [f"$.type: {event.get('type')} is in no schema"]
    )


def faults_of(events: Iterable[Event]) -> list[str]:
    """Of each as a line of JSON, and of the data alone as the value of a Kafka record."""
    found = []
    for event in events:
        found += faults(json.loads(encode_line(event)))
        value = json.loads(encode_event(event).value or b"")
        schema = closed(CONTRACT[f"{event.type}.schema.json"])
        found += [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)]
    return found


def every_type(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """A camera in front of which everything happens that the rules know."""
    monkeypatch.setattr(walks, "PROVENANCE", {"model": "m", "model_version": "1", **SHA})
    square = ((0.2, 0.2), (0.9, 0.2), (0.9, 0.9), (0.2, 0.9))
    zone = ZoneRule("plaza", square, dwell_s=2, crowded_at=2, stopped_s=2, direction=(-1.0, 0.0))
    line = LineRule("kerb", ((0.5, 0.0), (0.5, 1.0)), wrong_way="left")
    player = Player(CameraRules("gate", (line,), (zone,), count_window_s=5.0))
    player.tell("up", 0)
    for n in range(80):
        t = n / 8
        seen = [person(60 + 40 * t, 200), person(60 + 40 * t, 260)] if t < 9 else []
        player.show(t, [*seen, car(300, 120)] if 1 < t < 9 else seen)
    player.tell("ended", 11)
    return player.events


def test_what_the_analytics_say_is_as_the_contract_says(monkeypatch: pytest.MonkeyPatch) -> None:
    events = every_type(monkeypatch)
    assert {event.type for event in events} == set(DATA_TYPES) - {SCENE_EVENT}
    assert faults_of(events) == []


def test_the_check_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    good = [event.structured() for event in every_type(monkeypatch)]
    for event in good:
        assert faults(event) == []
        for key in event["data"]:
            less = {name: value for name, value in event["data"].items() if name != key}
            assert any(key in fault for fault in faults(event | {"data": less}))
            assert faults(event | {"data": event["data"] | {key: object}}) != []
        assert any("odd" in fault for fault in faults(event | {"data": event["data"] | {"odd": 1}}))
        assert any("odd" in fault for fault in faults(event | {"odd": 1}))
        assert faults(event | {"time": "2026-01-01 08:00"}) != []
        assert any("in no schema" in fault for fault in faults(event | {"type": "io.passerby.odd.v1"}))


def test_a_scene_event_can_be_told() -> None:
    observed = {
        "frame": {"width": 640, "height": 360},
        "time_source": "wall",
        "provenance": {"model": "m", "model_version": "1", **SHA, "frames": [1, 2]},
        "origin": {"topic": "passerby.windows", "partition": 0, "offset": 3},
    }
    told = {
        "camera_id": "gate", "epoch": 1, "kind": "fight", "phase": "start", "ended_at": None, "score": 0.9,
        "started_at": "2026-01-01T08:00:00.000000Z", "attention": [0.25, 0.75], **observed,
    }  # fmt: skip
    assert faults_of([Event("1", SCENE_EVENT, "gate", 1, told)]) == []
    assert faults_of([Event("1", SCENE_EVENT, "gate", 1, told | {"ended_at": "2026-01-01T08:00:05.000000Z"})]) == []
    assert faults_of([Event("1", SCENE_EVENT, "gate", 1, told | {"score": 1.5})]) != []


def test_what_a_scripted_street_gives_is_as_the_contract_says(street: Logged) -> None:
    assert len(street.events) > 40
    assert faults_of(street.events) == []


def test_what_lies_in_the_other_topics_has_the_headers_the_contract_says() -> None:
    """Cameras, windows, state and dead letters, as their codecs write them."""
    frame = Frame(0, 0, 1_767_254_400_000_000, np.zeros((8, 8, 3), np.uint8))
    marker = FrameWindow("gate", 2, 0, (), 0, 0, 0.0, "wall", writer="w")
    letter = DeadLetter(Message("gate", b"x", (("epoch", b"1"),)), "why", "RecordMalformed", "t", 0, 1, 2, "infer")
    messages = yaml.safe_load(render()["asyncapi.yaml"])["components"]["messages"]
    for name, message in (
        ("camera", TOPICS.cameras.encode("gate", CameraDocument("gate", {"source": "a.mp4"}))),
        ("frameWindow", TOPICS.windows.encode("gate", FrameWindow("gate", 1, 0, (frame,), 8, 8, 8.0, "wall"))),
        ("frameWindow", TOPICS.windows.encode("gate", marker)),
        ("state", TOPICS.state.encode("", CameraState("gate", 1, 1, 1, {}, b"x"))),
        ("deadLetter", TOPICS.dead_letters.encode("gate", letter)),
    ):
        headers = {key: text.decode() for key, text in message.headers if not key.startswith("header.")}
        schema = closed(messages[name]["headers"])
        assert list(jsonschema.Draft202012Validator(schema).iter_errors(headers)) == [], name
        if messages[name]["contentType"] == "application/json":
            body = closed(messages[name]["payload"])
            assert list(jsonschema.Draft202012Validator(body).iter_errors(json.loads(message.value or b""))) == []
        assert "odd" in str(list(jsonschema.Draft202012Validator(schema).iter_errors(headers | {"odd": "1"})))


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("clip", ["pedestrians_square.mp4", "tfl_jamcam_625_201707211410.mp4"])
def test_what_a_run_over_a_real_clip_writes_is_as_the_contract_says(shared: Path, tmp_path: Path, clip: str) -> None:
    told = {
        "output": {"report": False},
        "cameras": {
            "square": {
                "source": str(shared / "videos" / clip),
                "lines": {"middle": {"points": [[0.5, 0.0], [0.5, 1.0]], "wrong_way": "left"}},
                "zones": {
                    "all": {
                        "points": [[0.1, 0.1], [0.9, 0.1], [0.9, 0.95], [0.1, 0.95]], "dwell_s": 2, "crowded_at": 2,
                        "stopped_s": 2, "direction": "up",
                    }
                },
            }
        },
    }  # fmt: skip
    config = read_config(json.dumps(told), "a real clip", Path.cwd(), {})
    result = run(config, RunOptions(tmp_path / "out", stop_after_s=60, live_view=False))
    assert result.failures == {}
    lines = [
        json.loads(line)
        for name in ("events.jsonl", "counts.jsonl")
        for line in (tmp_path / "out" / name).read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) > 5
    assert [fault for line in lines for fault in faults(line)] == []
