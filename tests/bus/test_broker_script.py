"""deploy/kafka/broker: a real broker for people without Docker, and for the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bus.base import Message
from pipeline.bus.kafka import KafkaBus
from tests.broker import SCRIPT, Broker, BrokerMaker
from tests.bus.kafka_log import bus_with, committed_values, texts


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [("--help",), ("start", "--help"), ("stop", "--help")])
def test_help_teaches(arguments: tuple[str, ...]) -> None:
    told = script(*arguments)
    assert told.returncode == 0
    for word in ("start", "deploy/kafka/broker") if arguments == ("--help",) else ("--port", "--node"):
        assert word in told.stdout


@pytest.mark.parametrize(("lacking", "package"), [("java", "openjdk"), ("mvn", "maven")])
def test_what_is_not_installed_is_named_in_one_line(tmp_path: Path, lacking: str, package: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in ("sh", "dirname", "ps", "java", "mvn"):
        found = shutil.which(program)
        if program != lacking and found is not None:
            (tools / program).symlink_to(found)
    jars = tmp_path / "cache"
    if lacking == "java":  # the jars are there already
        version = SCRIPT.with_name("pom.xml").read_text().split("<kafka.version>")[1].split("<")[0]
        (jars / "passerby" / f"kafka-{version}").mkdir(parents=True)
    told = script(
        "start", "--dir", str(tmp_path / "data"), PATH=str(tools), PYTHON=sys.executable, XDG_CACHE_HOME=str(jars)
    )
    assert told.returncode == 1
    assert told.stderr.strip().count("\n") == 0
    assert f"{lacking} is not installed" in told.stderr
    assert package in told.stderr


@pytest.mark.kafka
def test_a_port_that_is_taken_is_named(tmp_path: Path, own_broker: BrokerMaker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = script("start", "--dir", str(tmp_path), "--port", str(port))
    assert told.returncode == 1
    assert f"port {port} is taken" in told.stderr


@pytest.mark.kafka
@pytest.mark.slow
def test_a_wrong_setting_is_told_in_the_brokers_words(tmp_path: Path, own_broker: BrokerMaker) -> None:
    with pytest.raises(RuntimeError, match=r"log\.retention\.hours"):
        own_broker(config=["log.retention.hours=often"])


@pytest.mark.kafka
@pytest.mark.slow
def test_data_stay_over_stop_and_kill_and_status_tells(mortal_broker: Broker, prefix: str) -> None:
    broker = mortal_broker
    place = ("--dir", str(broker.folder), "--port", str(broker.port))
    topic = texts(f"{prefix}.kept")
    with bus_with(broker, prefix, "kept", partitions=1) as bus:
        producer = bus.producer(topic)
        producer.send("gate", "before")
        producer.flush(20)
    assert script("status", *place).returncode == 0
    broker.kill()
    down = script("status", *place)
    assert (down.returncode, "down" in down.stdout) == (1, True)
    broker.start()
    broker.start()
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        producer = bus.producer(topic)
        producer.send("gate", "after")
        producer.flush(60)
        assert committed_values(bus, topic) == ["before", "after"]
    assert "stopped 1 of 1" in script("stop", *place).stdout
    assert "stopped 0 of 1" in script("stop", *place).stdout
    assert broker.folder is not None
    settings = broker.folder / "node-1" / "server.properties"
    assert settings.stat().st_mode & 0o077 == 0, "it may hold passwords"


@pytest.mark.kafka
@pytest.mark.slow
def test_of_three_brokers_one_may_die(own_broker: BrokerMaker, prefix: str) -> None:
    broker = own_broker(brokers=3)
    topic = texts(f"{prefix}.in")
    with KafkaBus(broker.settings(prefix), client_id="test") as bus:
        admin = bus.admin()
        assert admin.brokers() == 3
        admin.create(topic.name, 3, 3, {"min.insync.replicas": "2"})
        producer = bus.producer(topic)
        for n in range(60):
            if n == 20:
                broker.kill(2)
            producer.send_message(Message("gate", f"{n}".encode()), n % 3)
        producer.flush(90)
        values = committed_values(bus, topic)
        assert values == [f"{n}" for p in range(3) for n in range(p, 60, 3)]
        broker.start(2)
        assert admin.brokers() == 3
