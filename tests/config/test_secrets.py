"""A canary for a password, and every way out that it must not take."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest

from pipeline.config import Config, ConfigProblems, SecretText, SecretUrl, config_sha256, read_config, redact
from pipeline.config.secrets import names_secret, redact_shape

CANARY = "c4nary/p@ss#w:rd"
ENCODED = "c4nary%2Fp%40ss%23w%3Ard"
PIECES = ("c4nary", "ss#w", "ss%23w")


def read(text: str, folder: Path = Path("/site"), **env: str) -> Config:
    return read_config(text, "f.yaml", folder, {"GATE_PASSWORD": CANARY, **env})


def assert_clean(text: str) -> None:
    assert not [piece for piece in PIECES if piece in text], text


WAYS_IN = {
    "in the url": "source: 'rtsp://u:${GATE_PASSWORD}@h/x'",
    "as a key": "source: {url: 'rtsp://h/x', username: u, password: '${GATE_PASSWORD}'}",
    "in a file": "source: {url: 'rtsp://h/x', username: u, password_file: secret}",
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_a_password_goes_in_and_comes_out_only_where_it_is_asked_for(way: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY + "\n")
    config = read(f"cameras: {{gate: {{{WAYS_IN[way]}}}}}", tmp_path)
    gate = config.camera("gate")
    assert gate.source.location.reveal() == f"rtsp://u:{ENCODED}@h/x"
    for told in (
        repr(config), str(config), repr(gate.source), str(gate.source.location), repr(gate.source.location),
        f"{gate.source.location}", config.model_dump_json(), json.dumps(config.model_dump(mode="json")),
        config.redacted_yaml(), repr(vars(gate.source.location)) if hasattr(gate.source.location, "__dict__") else "",
        str(config.problem(("cameras", "gate"), f"FFmpeg: cannot open {gate.source.location.reveal()}", code="x")),
        redact(f"[rtsp] Did you mean file:{gate.source.location.reveal()}?"), redact(f"password was {CANARY}"),
    ):  # fmt: skip
        assert_clean(told)


def test_the_whole_url_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"rtsp://u:{ENCODED}@h/x?token=abc123def")
    for key in ("source_file: url", "source: {url_file: url}", "source_file: url, source: {transport: udp}"):
        config = read(f"cameras: {{gate: {{{key}}}}}", tmp_path)
        assert config.camera("gate").source.location.reveal() == f"rtsp://u:{ENCODED}@h/x?token=abc123def"
        assert_clean(repr(config))
        assert "abc123def" not in repr(config)
    assert config.camera("gate").source.transport == "udp"


@pytest.mark.parametrize(
    "text",
    [
        "cameras: {gate: {source: 'rtsp://u:${GATE_PASSWORD}@h:port/x', lines: 5}}",
        "cameras: {gate: {source: 'rtps://u:${GATE_PASSWORD}@h/x'}}",
        "cameras: {gate: {source: {url: [], username: u, password: ['${GATE_PASSWORD}']}}}",
        "cameras: {gate: {source: {url: 5, password: '${GATE_PASSWORD}'}}}",
        "sample_fps: ${GATE_PASSWORD}\ncameras: {gate: {source: a.mp4}}",
        "windows: {encoding: '${GATE_PASSWORD}'}\ncameras: {gate: {source: a.mp4}}",
        "cameras: {gate: {source: a.mp4, start: '${GATE_PASSWORD}', model: {a: '${GATE_PASSWORD}'}}}",
        f"cameras: {{gate: {{source: 'rtsp://u:{CANARY}@h/x'}}}}\nb: [\n",
        f"cameras: {{gate: {{source: 'rtsp://u:{CANARY}@h/x'}}}}",
        f"password: {CANARY}\ncameras: {{gate: {{source: {{url: 'rtsp://h/x', password: '{CANARY}'}}}}}}",
        f"cameras:\n  gate: {{source: 'rtsp://u:{CANARY}@h/x'}}\n  gate: \"{CANARY}\n",
    ],
)
def test_no_error_shows_a_password(text: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        read(text)
    error = caught.value
    assert_clean("".join(traceback.format_exception(error)))
    assert_clean(repr(error) + str(error) + json.dumps([problem.as_json() for problem in error.problems]))
    seen: BaseException | None = error
    while seen is not None:  # nor does an error behind the error
        assert_clean(repr(seen) + str(seen))
        seen = seen.__cause__ or seen.__context__


def test_the_hash_knows_no_password() -> None:
    text = "cameras: {gate: {source: 'rtsp://u:${GATE_PASSWORD}@h/x?token=${T}'}}"
    one, other = read(text, GATE_PASSWORD="one-password", T="t-one"), read(text, GATE_PASSWORD="two", T="t-two")
    assert config_sha256(one) == config_sha256(other)
    in_path = "cameras: {gate: {source: 'http://h/${STREAM_TOKEN}/x.m3u8'}}"
    hidden = [config_sha256(read(in_path, STREAM_TOKEN=value)) for value in ("abcdef", "ghijkl")]
    assert hidden[0] == hidden[1]
    assert "abcdef" not in repr(read(in_path, STREAM_TOKEN="abcdef"))


def test_a_secret_leaves_by_no_back_door() -> None:
    secret = SecretText(CANARY)
    assert (str(secret), repr(secret)) == ("***", "SecretText('***')")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(secret)
    assert secret == SecretText(CANARY)
    assert secret != SecretText("other")
    assert secret != CANARY


def test_credentials_are_percent_encoded_into_the_url() -> None:
    url = SecretUrl("rtsp://old:pw@h:554/x?y=1").with_credentials("me@home", CANARY)
    assert url.reveal() == f"rtsp://me%40home:{ENCODED}@h:554/x?y=1"
    assert str(url) == "rtsp://me%40home:***@h:554/x?y=1"


def test_a_password_that_is_encoded_already_is_not_encoded_again() -> None:
    config = read("cameras: {gate: {source: 'rtsp://u:${P}@h/x'}}", P="a%40b%zz")
    assert config.camera("gate").source.location.reveal() == "rtsp://u:a%40b%25zz@h/x"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("open rtsp://admin:Welcome1@10.0.0.5:554/x failed", "open rtsp://admin:***@10.0.0.5:554/x failed"),
        ("rtsp://admin:a@b/c#d@h/x", "rtsp://admin:***@h/x"),
        ("rtsp://admin:@h/x", "rtsp://admin:***@h/x"),
        ("http://h/video?user=a&password=geheim&n=1", "http://h/video?user=a&password=***&n=1"),
        ("http://h/x?access_token=abc#f", "http://h/x?access_token=***#f"),
        (
            "rtsp://10.1.1.1:554/user=admin_password=tlJwpbo6_channel=1.sdp",
            "rtsp://10.1.1.1:554/user=admin_password=***",
        ),
        ("two rtsp://a:b@c/d rtsp://e:f@g/h", "two rtsp://a:***@c/d rtsp://e:***@g/h"),
        ("rtsp://h:554/x and a file a:b", "rtsp://h:554/x and a file a:b"),
        ("http://h/x?compass=north&bypass=1&n=2", "http://h/x?compass=***&bypass=***&n=2"),
        ("nothing to hide: 5 @ 3", "nothing to hide: 5 @ 3"),
    ],
)
def test_redaction_by_shape(text: str, clean: str) -> None:
    assert redact_shape(text) == clean


def test_names_that_tell_of_secrets() -> None:
    told = ("GATE_PASSWORD", "GATEPASS", "PASS", "API_KEY", "KEY", "STREAM_TOKEN", "PWD_X", "X_AUTH")
    assert all(map(names_secret, told))
    assert not any(
        map(names_secret, ("FPS", "KAFKA_BOOTSTRAP_SERVERS", "DESIGN", "KEYFRAME_FPS", "COMPASSION", "HOST"))
    )
