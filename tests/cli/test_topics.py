"""``passerby topics`` as typed, against a real broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.bus.declared import declared
from pipeline.bus.kafka import KafkaBus
from pipeline.cli import topics
from pipeline.config import KafkaConfig
from pipeline.errors import ConfigError, UsageError
from tests.broker import Broker


def passerby(*arguments: str) -> Result:
    app = typer.Typer()
    topics.register(app)
    app.command("x")(lambda: None)  # so that ``topics`` stays a group
    return CliRunner().invoke(app, ["topics", *arguments], catch_exceptions=True)


def written(folder: Path, broker: Broker, prefix: str, declaration: str = "") -> str:
    """A configuration for few partitions, which a broker makes quickly."""
    (folder / "topics.yaml").write_text(
        declaration
        or "{cameras: {partitions: 2}, windows: {partitions: 2}, state: {partitions: 2},"
        " counts: {partitions: 1}, events: {partitions: 1}, dead-letters: {partitions: 1}}"
    )
    file = folder / "passerby.yaml"
    kafka = f"bootstrap_servers: '{broker.bootstrap_servers}', prefix: {prefix}, topics: topics.yaml"
    file.write_text(f"kafka: {{{kafka}}}\n")
    return str(file)


@pytest.mark.kafka
def test_apply_makes_the_topics_and_the_second_time_nothing(broker: Broker, prefix: str, tmp_path: Path) -> None:
    file = written(tmp_path, broker, prefix)
    missing = passerby("check", "-c", file)
    assert missing.exit_code == 1
    assert missing.stdout.count("missing") == 6
    made = passerby("apply", "-c", file)
    assert made.exit_code == 0, made.output
    assert made.stdout.count("created") == 6
    again = passerby("apply", "-c", file)
    assert again.exit_code == 0
    assert again.stdout.count("as declared") == 6
    assert passerby("check", "-c", file).exit_code == 0
    listed = json.loads(passerby("list", "-c", file, "--json").stdout)
    assert {topic["topic"]: topic["partitions"] for topic in listed}[f"{prefix}.windows"] == 2
    with KafkaBus(broker.settings(prefix), client_id="test") as bus, bus.admin() as admin:
        settings = KafkaConfig(prefix=prefix, topics=str(tmp_path / "topics.yaml"))
        for spec in declared(settings):
            there = admin.describe([spec.name])[spec.name]
            assert {key: there.config[key] for key in spec.settings(1)} == spec.settings(there.replication)
    changed = "{cameras: {partitions: 2}, windows: {partitions: 2, retention: 2 h}, state: {partitions: 2},"
    file = written(tmp_path, broker, prefix, changed + " counts: {partitions: 3}, events: {partitions: 1},"
                   " dead-letters: {partitions: 1}}")  # fmt: skip
    assert passerby("check", "-c", file).exit_code == 1
    told = json.loads(passerby("apply", "-c", file, "--json").stdout)
    assert (told["ok"], told["applied"]) == (True, True)
    actions = {topic["topic"]: topic["action"] for topic in told["topics"]}
    assert actions[f"{prefix}.windows"] == "change"
    assert actions[f"{prefix}.counts"] == "grow"
    assert passerby("check", "-c", file).exit_code == 0

    file = written(tmp_path, broker, prefix)  # counts cannot go back to one partition: then nothing is done
    refused = passerby("apply", "-c", file)
    assert refused.exit_code == 1
    assert "cannot take partitions away" in refused.stderr
    assert "nothing was changed" in refused.stderr
    listed = json.loads(passerby("list", "-c", file, "--json").stdout)
    assert {topic["topic"]: topic["config"]["retention.ms"] for topic in listed if "windows" in topic["topic"]} == {
        f"{prefix}.windows": "7200000"
    }


def test_a_wrong_declaration_is_told_before_a_broker_is_asked(tmp_path: Path) -> None:
    file = written(tmp_path, Broker("localhost:1"), "p", "windows: {partitions: 7}")
    result = passerby("apply", "-c", file)
    assert isinstance(result.exception, ConfigError)
    assert "must have the same number" in str(result.exception)


def test_declared_is_the_file_to_begin_with(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text(passerby("declared").stdout)
    assert declared(KafkaConfig(topics=str(tmp_path / "topics.yaml"))) == declared(KafkaConfig())


def test_the_rights_are_printed_for_ones_own_names(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("kafka: {prefix: site, ingest_group: my-ingest}\n")
    rights = json.loads(passerby("acls", "-c", str(file), "--user", "ingest=cam", "--json").stdout)
    ingest = [right for right in rights if right["role"] == "ingest"]
    assert {right["principal"] for right in ingest} == {"User:cam"}
    assert {right["name"] for right in ingest if right["resource"] == "group"} == {"my-ingest"}
    commands = passerby("acls", "-c", str(file), "--commands").stdout.splitlines()
    wanted = "--add --allow-principal User:site-infer --operation Write --transactional-id site. "
    assert f"{wanted}--resource-pattern-type prefixed" in commands
    assert len(commands) == len(rights)
    assert isinstance(passerby("acls", "--user", "boss=me").exception, UsageError)
