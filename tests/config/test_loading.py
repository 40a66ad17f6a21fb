"""A right file: what comes out of it."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.analytics.settings import TrackerSettings
from pipeline.config import Config, TrackerConfig, load_config, read_config
from pipeline.config.sections import InferenceConfig, SourceConfig
from pipeline.core.rules import CONDITION_KINDS, CameraRules, LineRule, ZoneRule
from pipeline.sources.base import StreamSettings

CONTRACT = """\
# passerby.yaml: global defaults, then cameras; any default may be overridden in a camera
model: passerby-nano
sample_fps: 8
windows: {encoding: jpeg, quality: 85}                       # raw | jpeg; default: raw in `run`, jpeg on Kafka
kafka: {bootstrap_servers: "${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}", prefix: passerby}
cameras:
  gate:
    source: rtsp://user:${GATE_PASSWORD}@gate.example/stream     # URL, file, folder or /dev/video0
    start: 2026-01-01T08:00:00Z                              # files only: the time of the first frame
    lines:
      street: {points: [[0.0, 0.62], [1.0, 0.62]], classes: [vehicle], anchor: center}   # A, B; x right, y down, 0..1
    zones:
      plaza: {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9], [0.1, 0.9]], classes: [person], dwell_s: 10, crowded_at: 8}
    masks: [[[0, 0], [0.2, 0], [0.2, 0.1], [0, 0.1]]]
"""


def read(text: str, folder: Path = Path("/site"), **env: str) -> Config:
    return read_config(text, "passerby.yaml", folder, env)


def test_the_file_of_the_contract() -> None:
    config = read(CONTRACT, GATE_PASSWORD="pw")
    gate = config.camera("gate")
    assert gate.source.location.reveal() == "rtsp://user:pw@gate.example/stream"
    assert gate.start == datetime(2026, 1, 1, 8, tzinfo=UTC)
    assert gate.masks == (((0, 0), (0.2, 0), (0.2, 0.1), (0, 0.1)),)
    assert (gate.windows.encoding, gate.windows.quality) == ("jpeg", 85)
    assert config.kafka.bootstrap_servers == "localhost:9092"
    square = ((0.1, 0.2), (0.9, 0.2), (0.9, 0.9), (0.1, 0.9))
    assert gate.rules() == CameraRules(
        "gate",
        (LineRule("street", ((0.0, 0.62), (1.0, 0.62)), ("vehicle",), "center"),),
        (ZoneRule("plaza", square, ("person",), dwell_s=10.0, crowded_at=8),),
        count_window_s=10.0,
        sample_fps=8.0,
        tracker={},
        condition=CONDITION_KINDS,
    )


def test_all_the_rest_of_the_rules() -> None:
    config = read(
        "counts: {window_s: 60}\ntracker: {max_lost_s: 3, confirm_hits: 4}\ncameras:\n  a:\n    source: a.mp4\n"
        "    tracker: {confirm_hits: 2}\n"
        "    lines: {l: {points: [[0, 0], [0.5, 0.5], [1, 0]], classes: car, wrong_way: left}}\n"
        "    zones: {z: {points: [[0, 0], [1, 0], [1, 1], [0, 0]], "
        "stopped_s: 20, direction: [3, 4], anchor: top_center}}\n"
    )
    rules = config.camera("a").rules()
    assert rules.count_window_s == 60
    assert rules.tracker == {"max_lost_s": 3.0, "confirm_hits": 2.0}
    assert rules.lines[0] == LineRule("l", ((0, 0), (0.5, 0.5), (1, 0)), ("car",), wrong_way="left")
    assert rules.zones[0] == ZoneRule(
        "z", ((0, 0), (1, 0), (1, 1)), anchor="top_center", stopped_s=20.0, direction=(0.6, 0.8)
    )


def test_a_camera_overrides_key_by_key_and_lists_as_a_whole() -> None:
    config = read(
        "sample_fps: 5\nwindows: {encoding: jpeg, quality: 70}\nsource: {transport: udp, max_staleness_s: 9}\n"
        "cameras:\n"
        "  a: {source: a.mp4}\n"
        "  b: {source: {url: 'rtsp://h/x', transport: tcp}, sample_fps: 2, windows: {quality: 50}}\n"
    )
    a, b = config.camera("a"), config.camera("b")
    assert (a.sample_fps, a.windows.quality, a.source.transport, a.source.max_staleness_s) == (5, 70, "udp", 9)
    assert (b.sample_fps, b.windows.quality, b.source.transport, b.source.max_staleness_s) == (2, 50, "tcp", 9)
    assert (b.windows.encoding, b.windows.window_frames) == ("jpeg", 8)
    assert (a.id, b.id) == ("a", "b")


def test_a_key_without_a_value_is_as_if_not_there() -> None:
    config = read(
        "sample_fps: 5\ncameras:\n  a:\n    source: a.mp4\n    sample_fps:\n    lines:\n    zones: ~\n    masks:\n"
    )
    camera = config.camera("a")
    assert (camera.sample_fps, camera.lines, camera.zones, camera.masks) == (8, {}, {}, ())


def test_a_configuration_cannot_be_changed() -> None:
    config = read("cameras: {a: {source: a.mp4}}")
    with pytest.raises(ValidationError, match="frozen"):
        config.camera("a").sample_fps = 3  # type: ignore[misc]


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "own").mkdir(parents=True)
    (site / "own" / "manifest.yaml").touch()
    (site / "f.yaml").write_text(
        "cameras:\n  a: {source: clips/a.mp4, model: own}\n  b: {source: /abs/b.mp4, model: ./own}\n"
        "  c: {source: /dev/video0}\n  d: {source: 'http://h/x.m3u8'}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config("site/f.yaml", {})
    told = {name: camera.source.location.reveal() for name, camera in config.cameras.items()}
    assert told == {"a": f"{site}/clips/a.mp4", "b": "/abs/b.mp4", "c": "/dev/video0", "d": "http://h/x.m3u8"}
    assert [camera.model for camera in config.cameras.values()][:3] == [f"{site}/own", f"{site}/own", "passerby-nano"]
    assert config.camera("a").source.is_local_file
    assert not any(config.camera(name).source.is_local_file for name in "cd")


def test_yaml_1_2_types() -> None:
    config = read(
        "sample_fps: 1e1\ncameras:\n"
        "  no: {source: on, lines: {yes: {points: [[0, .5], [1, 5e-1]]}}}\n"
        "  007: {source: 1:30, output-dir: null}\n".replace(", output-dir: null", "")
    )
    assert config.sample_fps == 10.0
    assert set(config.cameras) == {"no", "007"}
    assert config.camera("no").source.location.reveal() == "/site/on"
    assert config.camera("007").source.location.reveal() == "/site/1:30"
    assert config.camera("no").lines["yes"].points == ((0, 0.5), (1, 0.5))


def test_anchors_and_merges() -> None:
    config = read(
        "x-wide: &wide {classes: [vehicle], anchor: center}\n"
        "cameras:\n"
        "  a: &a\n    source: a.mp4\n    lines: {l: {<<: *wide, points: [[0, 0], [1, 1]], classes: [car]}}\n"
        "  b:\n    <<: *a\n    source: b.mp4\n"
    )
    a, b = config.camera("a"), config.camera("b")
    assert (a.lines["l"].anchor, a.lines["l"].classes) == ("center", ("car",))
    assert (b.lines, b.source.location.reveal()) == (a.lines, "/site/b.mp4")


def test_aliases_cannot_grow_without_bound() -> None:
    from pipeline.config import ConfigProblems

    bomb = "x-0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
    for n in range(1, 9):
        bomb += f"x-{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n"
    with pytest.raises(ConfigProblems, match="aliases nest too deep"):
        read(bomb)
    with pytest.raises(ConfigProblems, match="aliases nest too deep"):
        read("x-a: &a [*a]\ncameras: {a: {source: a.mp4}}")


def test_environment_variables_fill_in_any_text() -> None:
    config = read(
        "sample_fps: ${FPS}\nmodel: ${MODEL:-passerby-nano}\nkafka: {prefix: '${A}-${B:-x}-$${C}'}\n"
        "cameras: {a: {source: '${DIR}/a.mp4'}}".replace("-$${C}", ""),
        FPS="5", A="p", DIR="/data", B="",
    )  # fmt: skip
    assert (config.sample_fps, config.model, config.kafka.prefix) == (5.0, "passerby-nano", "p-x")
    assert config.camera("a").source.location.reveal() == "/data/a.mp4"
    assert read("cameras: {a: {source: '/x/$${A}.mp4'}}").camera("a").source.location.reveal() == "/x/${A}.mp4"


def test_a_place_in_the_file_is_found_again() -> None:
    config = read(CONTRACT, GATE_PASSWORD="pw")
    assert config.place(("cameras", "gate", "lines", "street", "points", 1)) == (11, 38)
    assert config.place(("cameras", "gate", "lines", "street"), at_key=True) == (11, 7)
    assert config.place(("cameras", "gate", "sample_fps")) == (3, 13)  # where the camera has it from
    assert config.place(("cameras", "gate", "source")) == (8, 13)
    told = config.problem(("cameras", "gate", "zones", "plaza"), "what", "how", code="c")
    assert str(told) == "passerby.yaml:13:14: cameras.gate.zones.plaza: what; how"


def test_the_trackers_settings_are_those_that_analytics_know() -> None:
    """Scores come from ``thresholds``; all else of the tracker can be set here, under the same name."""
    assert set(TrackerConfig.model_fields) == {f.name for f in fields(TrackerSettings)} - {"high_score", "low_score"}
    config = read("tracker: {reach_sigma: 2, coast_s: 0}\ncameras: {a: {source: a.mp4}}")
    assert TrackerSettings.of(config.camera("a").rules().tracker).reach_sigma == 2


def test_the_defaults_of_a_stream_are_those_of_the_sources() -> None:
    here, there = SourceConfig(), StreamSettings("a", "b")
    pairs = [
        (here.transport, there.transport), (here.mode, there.mode), (here.max_staleness_s, there.max_staleness_s),
        (here.open_timeout_s, there.open_timeout_s), (here.stall_timeout_s, there.stall_timeout_s),
        (here.retry_initial_s, there.backoff_first_s), (here.retry_max_s, there.backoff_cap_s),
    ]  # fmt: skip
    assert all(mine == theirs for mine, theirs in pairs), pairs


def test_the_providers_are_those_that_inference_knows() -> None:
    from pipeline.inference import onnx

    known = InferenceConfig.model_json_schema()["properties"]["provider"]["enum"]
    assert set(known) == set(onnx.PROVIDERS)


def test_conditions() -> None:
    told = "cameras:\n  a:\n    source: a.mp4\n  b:\n    source: b.mp4\n    condition: {kinds: []}\n"
    config = read("condition: {kinds: [frozen, black]}\n" + told)
    assert config.camera("a").rules().condition == ("black", "frozen")
    assert config.camera("b").rules().condition == ()


def test_falls_are_asked_for() -> None:
    zones = "{bed: {points: [[0, 0], [1, 0], [1, 1]]}, floor: {points: [[0, 0], [1, 0], [1, 1]], falls: true}}"
    told = f"cameras:\n  a:\n    source: a.mp4\n    zones: {zones}\n  b:\n    source: b.mp4\n    falls: false\n"
    off, on = read(told), read("falls: true\n" + told)
    assert [off.camera("a").rules().falls, on.camera("a").rules().falls, on.camera("b").rules().falls] == [
        False, True, False,
    ]  # fmt: skip
    assert {zone.name: zone.falls for zone in off.camera("a").rules().zones} == {"bed": False, "floor": True}
