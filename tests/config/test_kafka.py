"""The section ``kafka``: what fits together, what does not, and files that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import ConfigProblems, KafkaConfig, load_config, read_config

CAMERA = "cameras: {a: {source: a.mp4}}\n"


def problems(kafka: str, folder: Path = Path("/nowhere")) -> str:
    with pytest.raises(ConfigProblems) as caught:
        read_config(CAMERA + f"kafka: {kafka}\n", "f.yaml", folder, {"PW": "canary-pw"})
    return str(caught.value)


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        (
            "{bootstrap_servers: kafka}",
            "f.yaml:2:28: kafka.bootstrap_servers: 'kafka' is not host:port; write",
        ),
        ("{bootstrap_servers: 'a:9092,b'}", "'b' is not host:port"),
        ("{bootstrap_servers: 'a:99999'}", "'a:99999' is not host:port"),
        ("{bootstrap_servers: 'user:canary-pw@a:9092'}", "an entry is not host:port"),
        ("{security_protocol: SASL_SSL}", "SASL_SSL needs sasl_mechanism, username and password"),
        ("{username: u, password: '${PW}'}", "user and password are not used with PLAINTEXT"),
        ("{security_protocol: SSL, username: u}", "not used with SSL; write security_protocol: SASL_SSL"),
        ("{ca_file: ca.pem}", "certificates are not used with PLAINTEXT; write security_protocol: SSL"),
        ("{security_protocol: SSL, cert_file: c.pem}", "cert_file and key_file belong together; give both or none"),
        (
            "{security_protocol: SSL, ca_file: no.pem}",
            "2:42: kafka.ca_file: there is no file /nowhere/no.pem",
        ),
        ("{topics: no.yaml}", "f.yaml:2:17: kafka.topics: there is no file /nowhere/no.yaml"),
        ("{commit_interval_s: 0.1}", "must be at least 0.2, not 0.1"),
        ("{commit_interval_s: 2}", "must be at most 1, not 2"),
        ("{session_timeout_s: 1}", "must be at least 6, not 1"),
        ("{worker_id: 'a b'}", "has characters that are not allowed here"),
        ("{spool: {max_bytes: 10}}", "kafka.spool.max_bytes: must be at least 1.04858e+06"),
        ("{spool: {folder: x}}", "unknown key 'folder'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_mend(kafka: str, told: str) -> None:
    said = problems(kafka)
    assert told in said
    assert "canary" not in said


def test_paths_begin_at_the_file_and_groups_at_the_prefix(tmp_path: Path) -> None:
    for name in ("ca.pem", "c.pem", "c.key", "topics.yaml"):
        (tmp_path / name).write_text("x")
    (tmp_path / "pw").write_text("canary-key-pw\n")
    (tmp_path / "p.yaml").write_text(
        "kafka: {prefix: site, security_protocol: SSL, ca_file: ca.pem, cert_file: c.pem, key_file: c.key,\n"
        "  key_password_file: pw, topics: topics.yaml, infer_group: mine, spool: {dir: data/spool}}\n"
    )
    kafka = load_config(tmp_path / "p.yaml", {}, cameras=False).kafka
    assert kafka.ca_file == f"{tmp_path}/ca.pem"
    assert (kafka.cert_file, kafka.key_file) == (f"{tmp_path}/c.pem", f"{tmp_path}/c.key")
    assert kafka.topics == f"{tmp_path}/topics.yaml"
    assert kafka.spool.dir == f"{tmp_path}/data/spool"
    assert (kafka.ingest_group_name, kafka.infer_group_name) == ("site.ingest", "mine")
    assert kafka.key_password is not None
    assert kafka.key_password.reveal() == "canary-key-pw"
    assert "canary" not in repr(kafka) + str(kafka) + kafka.model_dump_json() + str(kafka.model_dump())


@pytest.mark.parametrize("servers", ["localhost:9092", "a.b-c:1, [::1]:9092", "10.0.0.1:9093,b:9094"])
def test_servers_that_are_right(servers: str) -> None:
    assert KafkaConfig(bootstrap_servers=servers).bootstrap_servers == servers
