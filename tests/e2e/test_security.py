"""A real broker with TLS, SCRAM, client certificates and an authorizer: each role can do its work, and no more.

The rights are those of pipeline/bus/acls.yaml, as ``passerby topics acls`` prints them; nothing else is allowed.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.acls import ROLES, Acl, acls
from pipeline.bus.base import Message
from pipeline.bus.declared import declared
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.topics import CameraDocument, PartitionState, Topics
from pipeline.config import KafkaConfig, load_config
from pipeline.errors import BusDenied, BusError, BusUnavailable, TopicMissing
from pipeline.services.topics import apply, plan
from tests import broker as brokers
from tests.broker import Broker
from tests.bus.samples import COUNTED, CROSSED, DEAD, DOCUMENT, window
from tests.conftest import _missing

pytestmark = pytest.mark.kafka

PREFIX = "site"
TOPICS = Topics(PREFIX)
PASSERBY = (sys.executable, "-c", "from pipeline.cli import main; main()")
PASSWORDS = {role: f"canary-of-{role}-9c1f" for role in (*ROLES, "root")}
KEY_PASSWORD = "canary-of-the-key-77aa"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PARTITIONS = """\
{cameras: {partitions: 2}, windows: {partitions: 2}, state: {partitions: 2}, counts: {partitions: 1},
 events: {partitions: 1}, dead-letters: {partitions: 1}}
"""


@dataclass
class Secured:
    """The broker, and what a client of it needs."""

    broker: Broker
    folder: Path

    def settings(self, role: str, **changed: Any) -> KafkaConfig:
        """The section ``kafka`` of a worker of that role."""
        user = "root" if role == "root" else f"{PREFIX}-{role}"
        told: dict[str, Any] = {
            "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "username": user,
            "password": PASSWORDS[role], "ca_file": f"{self.folder}/ca.pem", "cert_file": f"{self.folder}/client.pem",
            "key_file": f"{self.folder}/client.key", "key_password": KEY_PASSWORD,
            "topics": f"{self.folder}/topics.yaml",
        }  # fmt: skip
        told |= {"bootstrap_servers": f"127.0.0.1:{self.broker.port}", "prefix": PREFIX} | changed
        return KafkaConfig(**{key: value for key, value in told.items() if value is not None})

    def bus(self, role: str, **changed: Any) -> KafkaBus:
        return KafkaBus(self.settings(role, **changed), client_id=f"test-{role}")


def certificates(folder: Path) -> None:
    """A certificate authority, one for the broker (127.0.0.1), one for clients, and an authority of somebody else."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "30")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
        uses = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", *curve, "-noenc", *files, *uses)
    for name, more in (
        ("broker", ("-noenc", "-addext", "subjectAltName=IP:127.0.0.1")),
        ("client", ("-passout", f"pass:{KEY_PASSWORD}")),
    ):
        openssl("req", *curve, *more, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30",
                "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip
    (folder / "broker-store.pem").write_bytes(
        (folder / "broker.key").read_bytes() + (folder / "broker.pem").read_bytes()
    )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker with the topics and exactly the rights that are documented."""
    if lacking := brokers.missing():
        _missing(f"{lacking}, which a Kafka broker needs,")
    folder = tmp_path_factory.mktemp("secured")
    certificates(folder)
    (folder / "topics.yaml").write_text(_PARTITIONS)
    listener = "listener.name.client"
    broker = brokers.start(
        folder / "broker",
        protocol="SASL_SSL",
        config=[
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found=false",
            "super.users=User:ANONYMOUS;User:root",  # ANONYMOUS: the brokers among themselves
            f"{listener}.sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"{listener}.scram-sha-512.sasl.jaas.config={_SCRAM}",
            f"{listener}.ssl.keystore.type=PEM", f"{listener}.ssl.keystore.location={folder}/broker-store.pem",
            f"{listener}.ssl.truststore.type=PEM", f"{listener}.ssl.truststore.location={folder}/ca.pem",
            f"{listener}.ssl.client.auth=required",
        ],
        scram=[f"{'root' if role == 'root' else f'{PREFIX}-{role}'}={word}" for role, word in PASSWORDS.items()],
    )  # fmt: skip
    try:
        there = Secured(broker, folder)
        grant(there, acls(there.settings("root")))
        with there.bus("admin") as bus, bus.admin() as admin:  # the role that makes topics makes them
            specs = declared(there.settings("admin"))
            apply(admin, plan(specs, admin.describe([spec.name for spec in specs]), admin.brokers()))
            assert {c.action for c in plan(specs, admin.describe([spec.name for spec in specs]), 1)} == {"ok"}
        yield there
    finally:
        broker.stop()


def grant(there: Secured, rights: list[Acl]) -> None:
    """What ``kafka-acls.sh`` does with the output of ``passerby topics acls --commands``."""
    from kafka import KafkaAdminClient
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    settings = there.settings("root")
    client = KafkaAdminClient(
        bootstrap_servers=settings.bootstrap_servers, security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="root", sasl_plain_password=PASSWORDS["root"], ssl_cafile=settings.ca_file,
        ssl_certfile=settings.cert_file, ssl_keyfile=settings.key_file, ssl_password=KEY_PASSWORD,
    )  # fmt: skip
    words = {"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}
    entries = [
        ACL(
            right.principal, "*", ACLOperation[words.get(right.operation, right.operation.upper())],
            ACLPermissionType.ALLOW,
            ResourcePattern(
                ResourceType[right.resource.upper()], right.name,
                ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL,
            ),
        )
        for right in rights
    ]  # fmt: skip
    try:
        result = client.create_acls(entries)
        assert len(result["succeeded"]) == len(entries), result
    finally:
        client.close()


# -- what each role does ----------------------------------------------------------------------------------------------


def _ingest(bus: KafkaBus) -> None:
    with bus.consumer(TOPICS.cameras, f"{PREFIX}.ingest", session_timeout_s=6) as cameras:
        _poll(cameras)
    with bus.producer(TOPICS.windows) as windows, bus.producer(TOPICS.state) as state:
        windows.send("gate", window(1))
        state.send("partition/0", PartitionState(0, 0))
        windows.flush(30), state.flush(30)
    with bus.producer(TOPICS.dead_letters) as letters:
        letters.send("gate", DEAD)
        letters.flush(30)
    _read(bus.reader(TOPICS.state)), _read(bus.reader(TOPICS.windows))


def _infer(bus: KafkaBus) -> None:
    with (
        bus.consumer(TOPICS.windows, f"{PREFIX}.infer", session_timeout_s=6) as windows,
        bus.transactions(f"{PREFIX}.infer-1", windows) as transactions,
    ):
        records = _poll(windows)
        with transactions.transaction() as t:
            t.send(TOPICS.events.name, TOPICS.events.encode("gate", CROSSED))
            t.send(TOPICS.counts.name, TOPICS.counts.encode("gate", COUNTED))
            t.send(TOPICS.dead_letters.name, TOPICS.dead_letters.encode("gate", DEAD))
            state = PartitionState(records[0].partition, records[0].offset + 1)
            t.send(TOPICS.state.name, TOPICS.state.encode(state.key, state), partition=state.partition)
            t.offsets({records[0].partition: records[0].offset + 1})
    assert bus.committed(f"{PREFIX}.infer", TOPICS.windows.name)
    _read(bus.reader(TOPICS.state)), _read(bus.reader(TOPICS.cameras))


def _consumer(bus: KafkaBus) -> None:
    for topic in (TOPICS.events, TOPICS.counts):
        with bus.consumer(topic, f"{PREFIX}.consumer-dashboard", session_timeout_s=6) as events:
            events.commit(_poll(events))


def _operator(bus: KafkaBus) -> None:
    for topic in (TOPICS.windows, TOPICS.counts, TOPICS.events, TOPICS.state, TOPICS.cameras, TOPICS.dead_letters):
        reader: Any = bus.reader(topic)
        _read(reader)
    bus.committed(f"{PREFIX}.infer", TOPICS.windows.name)


def _admin(bus: KafkaBus) -> None:
    with bus.admin() as admin:
        admin.alter(TOPICS.events.name, {"retention.ms": "86400000"})
        assert admin.describe([TOPICS.events.name])[TOPICS.events.name].config["retention.ms"] == "86400000"
    with bus.producer(TOPICS.cameras) as cameras:
        cameras.send("gate", DOCUMENT)
        cameras.flush(30)
    _read(bus.reader(TOPICS.cameras))


def _poll(consumer: Any) -> Any:
    for _ in range(150):
        if records := consumer.poll(0.2, 1):
            return records
    raise AssertionError("nothing came within 30 s")


def _read(reader: Any) -> None:
    with reader:
        assert sum(len(list(reader.read(p, reader.beginning(p), reader.end(p)))) for p in reader.partitions()) > 0


def test_each_role_can_do_its_work_with_the_documented_rights(secured: Secured) -> None:
    for role, work in {
        "admin": _admin, "ingest": _ingest, "infer": _infer, "consumer": _consumer, "operator": _operator
    }.items():  # fmt: skip
        with secured.bus(role) as bus:
            work(bus)


# -- and what it must not ---------------------------------------------------------------------------------------------


def _send(kind: str, message: Message) -> Callable[[KafkaBus], None]:
    def wrong(bus: KafkaBus) -> None:
        topic: Any = getattr(TOPICS, kind)
        with bus.producer(topic) as producer:
            producer.send_message(message)
            producer.flush(30)

    return wrong


def _look(kind: str) -> Callable[[KafkaBus], None]:
    return lambda bus: _read(bus.reader(getattr(TOPICS, kind)))


def _join(kind: str, group: str) -> Callable[[KafkaBus], None]:
    def wrong(bus: KafkaBus) -> None:
        with bus.consumer(getattr(TOPICS, kind), group, session_timeout_s=6) as consumer:
            _poll(consumer)

    return wrong


def _transact(bus: KafkaBus) -> None:
    with (
        bus.consumer(TOPICS.events, f"{PREFIX}.consumer-x", session_timeout_s=6) as consumer,
        bus.transactions(f"{PREFIX}.infer-1", consumer) as transactions,
        transactions.transaction() as t,
    ):
        t.send(TOPICS.events.name, TOPICS.events.encode("gate", CROSSED))


WRONG: dict[str, tuple[str, Callable[[KafkaBus], None]]] = {
    "ingest publishes a count": ("ingest", _send("counts", TOPICS.counts.encode("gate", COUNTED))),
    "ingest changes a camera": ("ingest", _send("cameras", TOPICS.cameras.encode("gate", CameraDocument("gate", {})))),
    "ingest joins inference": ("ingest", _join("windows", f"{PREFIX}.infer")),
    "infer sends windows": ("infer", _send("windows", TOPICS.windows.encode("gate", window(0)))),
    "infer joins ingest": ("infer", _join("windows", f"{PREFIX}.ingest")),
    "a consumer publishes an event": ("consumer", _send("events", TOPICS.events.encode("gate", CROSSED))),
    "a consumer looks at pictures": ("consumer", _look("windows")),
    "a consumer takes a group of ours": ("consumer", _join("events", f"{PREFIX}.infer")),
    "a consumer has a transaction": ("consumer", _transact),
    "an operator forgets a state": ("operator", _send("state", Message("gate", None))),
    "an admin sends windows": ("admin", _send("windows", TOPICS.windows.encode("gate", window(0)))),
    "an admin deletes": ("admin", lambda bus: bus.admin().delete([TOPICS.events.name])),
    "an operator makes topics": ("operator", lambda bus: bool(bus.admin().create(f"{PREFIX}.x", 1, 1, {}))),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_allowed_is_refused_in_one_line(
    secured: Secured, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    role, wrong = WRONG[what]
    caplog.set_level(logging.DEBUG, "kafka")
    with pytest.raises((BusDenied, TopicMissing)) as caught, secured.bus(role) as bus:
        wrong(bus)
    one_clear_line(caught.value)
    assert "docs/security.md" in str(caught.value)
    no_secret_in(str(caught.value), caplog.text)
    assert "kafka" in caplog.text  # its own lines were looked through, too


# -- who may not even come in -----------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], type[BusError], str]] = {
    "wrong password": ({"password": "canary-of-wrong-5555"}, BusDenied, "uthenticat"),
    "nobody we know": ({"username": "mallory"}, BusDenied, "uthenticat"),
    "wrong authority": ({"ca_file": "other.pem"}, BusError, "certificate"),
    "the machine's own authorities": ({"ca_file": None}, BusError, "certificate"),
    "no certificate of our own": (
        {"cert_file": None, "key_file": None, "key_password": None}, BusError, "certificate|handshake|TLS|alert",
    ),
    "no TLS": (
        {"security_protocol": "SASL_PLAINTEXT", "ca_file": None, "cert_file": None, "key_file": None}, BusUnavailable,
        "does not speak Kafka as we do",
    ),
    "nothing at all": (
        {"security_protocol": "PLAINTEXT", "sasl_mechanism": None, "username": None, "password": None, "ca_file": None,
         "cert_file": None, "key_file": None}, BusUnavailable, "does not speak Kafka as we do",
    ),
    "another name than in the certificate": ({"bootstrap_servers": "localhost"}, BusError, "mismatch"),
    "wrong password of the key": ({"key_password": "canary-of-wrong-6666"}, BusError, "key_password do not fit"),
    "another mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, BusError, "echanism|SCRAM-SHA-256"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_who_cannot_come_in_is_told_why_in_one_line(
    secured: Secured, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    changed, kind, words = BAD[what]
    changed = dict(changed)
    if changed.get("ca_file") == "other.pem":
        changed["ca_file"] = str(secured.folder / "other.pem")
    if changed.get("bootstrap_servers"):
        changed["bootstrap_servers"] = f"localhost:{secured.broker.port}"
    settings = secured.settings("ingest", **changed)
    caplog.set_level(logging.DEBUG, "kafka")
    with pytest.raises(kind, match=words) as caught, KafkaBus(settings, client_id="test") as bus, bus.admin() as admin:
        admin.brokers()
    one_clear_line(caught.value)
    no_secret_in(str(caught.value), caplog.text, repr(settings), str(settings), settings.model_dump_json())


def one_clear_line(error: BusError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    assert "Traceback" not in str(error)


def no_secret_in(*texts: str) -> None:
    for text in texts:
        for word in (*PASSWORDS.values(), KEY_PASSWORD, "canary"):
            assert word not in text, f"a secret in {text[max(0, text.index(word) - 300) : text.index(word)]!r}..."


# -- the whole way, as typed ------------------------------------------------------------------------------------------


@dataclass
class Site:
    """Folders with a configuration for each role, and the programs run as that role."""

    secured: Secured
    folder: Path
    said: list[str] = field(default_factory=list)

    def run(self, role: str, *arguments: str, ok: bool = True) -> str:
        """Run ``passerby`` as ``role``; its output."""
        told = self.secured.settings(role)
        kafka = {
            "bootstrap_servers": told.bootstrap_servers, "prefix": PREFIX, "topics": told.topics,
            "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "username": told.username,
            "password": "${KAFKA_PASSWORD}", "ca_file": told.ca_file, "cert_file": told.cert_file,
            "key_file": told.key_file, "key_password_file": "key-password", "spool": {"dir": f"spool-{role}"},
        }  # fmt: skip
        (self.folder / "key-password").write_text(KEY_PASSWORD + "\n")
        cameras = {"street": {"source": "synthetic://street?seed=7&duration=12", "sample_fps": 5}}
        file = self.folder / f"{role}.yaml"
        file.write_text(json.dumps({"kafka": kafka, "counts": {"window_s": 2}, "cameras": cameras}))
        env = {**os.environ, "KAFKA_PASSWORD": PASSWORDS[role]}
        command = [*PASSERBY, *arguments, "-c", str(file)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
        self.said.append(done.stdout + done.stderr)
        assert (done.returncode == 0) is ok, f"{arguments}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)  # five programs, one after the other, on whatever machine this is
def test_the_whole_way_with_a_user_for_each_step(secured: Secured, tmp_path: Path) -> None:
    site = Site(secured, tmp_path)
    site.run("admin", "topics", "apply")
    assert "1 new" in site.run("admin", "apply", "--prune")
    site.run("ingest", "ingest", "--once", "--worker-id", "ingest-1")
    site.run("infer", "infer", "--until-idle", "5", "--worker-id", "infer-1")
    seen = site.run("operator", "tail", "--beginning", "--until-idle", "3", "--json")
    events = [json.loads(line) for line in seen.splitlines() if line.startswith("{")]
    assert {event["subject"] for event in events if event["subject"] == "street"} == {"street"}
    assert any(event["type"] == "io.passerby.count.window.v1" for event in events)
    denied = site.run("consumer", "infer", "--until-idle", "5", ok=False)
    assert "Traceback" not in denied
    assert "passerby: cannot" in denied or "this user may not see it" in denied
    no_secret_in(*site.said)
    no_secret_in(secured.broker.log())
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "key-password":
            no_secret_in(path.read_text(errors="replace"))


def test_a_worker_reads_the_same_file_as_the_test(secured: Secured, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        f"kafka: {{security_protocol: SASL_SSL, sasl_mechanism: SCRAM-SHA-512, username: u, password: '${{P}}',\n"
        f"  ca_file: {secured.folder}/ca.pem, cert_file: {secured.folder}/client.pem, key_file: missing.key}}\n"
    )
    with pytest.raises(Exception, match=r"p.yaml:2:.*kafka.key_file: there is no file") as caught:
        load_config(file, {"P": "canary-of-p"}, cameras=False)
    no_secret_in(str(caught.value))
