"""Every error of kafka-python has a meaning of ours, and secrets stay inside."""

from __future__ import annotations

import inspect
import socket
import threading
import time

import pytest

from pipeline.bus.base import Message, Topic
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.kafka.errors import MEANING, kafka_errors, ours, translate
from pipeline.bus.kafka.settings import check_installed, client_arguments, no_broker
from pipeline.config import KafkaConfig
from pipeline.errors import (
    BusDenied,
    BusError,
    BusMisconfigured,
    BusUnavailable,
    Fenced,
    OffsetGone,
    RecordTooLarge,
    TopicMissing,
    TransactionAborted,
)

TEXTS: Topic[bytes] = Topic("texts", Message, lambda message: message.value or b"")


def their_errors() -> list[type[kafka_errors.KafkaError]]:
    return [
        kind
        for kind in vars(kafka_errors).values()
        if inspect.isclass(kind) and issubclass(kind, kafka_errors.KafkaError)
    ]


def test_every_class_of_kafka_errors_is_mapped_by_its_own_name() -> None:
    found = their_errors()
    assert len(found) > 100
    assert [kind.__name__ for kind in found if kind not in MEANING] == []


def test_what_kafka_calls_retriable_is_retriable_here_but_for_a_missing_topic() -> None:
    gave_up = [kind.__name__ for kind in their_errors() if kind.retriable and not MEANING[kind].retriable]
    assert gave_up == ["UnknownTopicOrPartitionError"]


@pytest.mark.parametrize(
    ("theirs", "meant"),
    [
        (kafka_errors.KafkaTimeoutError("late"), BusUnavailable),
        (kafka_errors.NotCoordinatorError(), BusUnavailable),
        (kafka_errors.SaslAuthenticationFailedError("who?"), BusDenied),
        (kafka_errors.TopicAuthorizationFailedError({"t"}), BusDenied),
        (kafka_errors.UnknownTopicOrPartitionError(), TopicMissing),
        (kafka_errors.OffsetOutOfRangeError(), OffsetGone),
        (kafka_errors.ProducerFencedError(), Fenced),
        (kafka_errors.InvalidProducerEpochError(), Fenced),
        (kafka_errors.OutOfOrderSequenceNumberError(), TransactionAborted),
        (kafka_errors.MessageSizeTooLargeError(), RecordTooLarge),
        (kafka_errors.UnsupportedVersionError(), BusMisconfigured),
        (ConnectionResetError(104, "reset"), BusUnavailable),
        (RuntimeError("NetworkSelector closed!"), BusError),
    ],
)
def test_an_error_says_what_was_tried_and_keeps_its_words(theirs: Exception, meant: type[BusError]) -> None:
    told = translate(theirs, "read the windows")
    assert type(told) is meant
    assert "read the windows" in str(told)
    for word in theirs.args:
        assert str(word) in str(told)


def test_a_class_that_is_not_in_the_table_means_what_its_parent_means() -> None:
    class Sudden(kafka_errors.AuthorizationError):
        pass

    assert type(translate(Sudden(), "read")) is BusDenied


def test_our_own_errors_pass_unchanged() -> None:
    mine = OffsetGone("gone")
    with pytest.raises(OffsetGone) as caught, ours("read"):
        raise mine
    assert caught.value is mine


def test_what_must_be_installed_is(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr("kafka.record.util.crc32c_c", None)
    with pytest.raises(BusMisconfigured, match="pip install crc32c"):
        KafkaBus(KafkaConfig(), client_id="test")
    monkeypatch.undo()
    monkeypatch.setattr("kafka.codec.zstd", None)
    with pytest.raises(BusMisconfigured, match="pip install zstandard"):
        check_installed()


def test_settings_become_the_arguments_of_the_clients() -> None:
    settings = KafkaConfig.model_validate(
        {
            "bootstrap_servers": "a:1, b:2",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "username": "ingest",
            "password": "hunter22",
            "ca_file": "ca.pem",
            "cert_file": "cert.pem",
            "key_file": "key.pem",
            "key_password": "keyhunter",
        }
    )
    told = client_arguments(settings, "ingest-1")
    assert told["bootstrap_servers"] == ["a:1", "b:2"]
    assert (told["sasl_mechanism"], told["sasl_plain_username"]) == ("SCRAM-SHA-512", "ingest")
    assert told["sasl_plain_password"] == "hunter22"
    assert told["ssl_check_hostname"] is True
    assert (told["ssl_cafile"], told["ssl_certfile"], told["ssl_keyfile"]) == ("ca.pem", "cert.pem", "key.pem")
    assert told["ssl_password"] == "keyhunter"
    plain = client_arguments(KafkaConfig(), "ingest-1")
    assert not any(name.startswith(("sasl", "ssl")) for name in plain)


def test_where_nobody_answers_the_error_says_which_server_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bus.kafka.settings.BOOTSTRAP_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        servers = f"127.0.0.1:{port},127.0.0.1:{mute.getsockname()[1]}"
        settings = KafkaConfig.model_validate(
            {
                "bootstrap_servers": servers,
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "username": "ingest",
                "password": "hunter22",
            }
        )
        with KafkaBus(settings, client_id="test") as bus:
            with pytest.raises(BusUnavailable, match="connection refused") as caught:
                bus.admin().topics()
            assert "does not speak Kafka" in str(caught.value)
            assert "hunter22" not in repr(caught.value)
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__


def test_servers_are_asked_side_by_side_why_they_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)

    def why(server: str, _settings: KafkaConfig) -> str:
        together.wait(10)
        return f"asked for {server}"

    monkeypatch.setattr("pipeline.bus.kafka.settings._why", why)
    told = str(no_broker(KafkaConfig(bootstrap_servers="a:1,b:2,c:3"), "read"))
    assert "(a:1: asked for a:1; b:2: asked for b:2; c:3: asked for c:3)" in told


def test_a_worker_starts_and_closes_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bus.kafka.settings.BOOTSTRAP_S", 0.3)
    started = time.monotonic()
    with KafkaBus(KafkaConfig(bootstrap_servers="127.0.0.1:9"), client_id="test") as bus:
        producer = bus.producer(TEXTS, block_s=0.5)
        consumer = bus.consumer(TEXTS, "nobody")
        assert not producer.try_send("key", b"value")
        assert list(consumer.poll(0.3)) == []
        assert not producer.connected
        with pytest.raises(BusUnavailable):
            producer.send("key", b"value")
        assert consumer.assignment == ()
    assert time.monotonic() - started < 10
