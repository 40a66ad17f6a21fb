"""The section ``kafka`` of passerby.yaml as the arguments of kafka-python's clients; what must be installed."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, TypeVar

from kafka import errors as kafka_errors
from kafka.codec import has_zstd
from kafka.net.compat import KafkaNetClient
from kafka.record import util as kafka_checksum

from pipeline.bus.kafka.errors import translate
from pipeline.bus.kafka.repairs import mend_sockets
from pipeline.config import KafkaConfig
from pipeline.config.secrets import redact
from pipeline.errors import BusError, BusMisconfigured, BusUnavailable

C = TypeVar("C")
KIB = 1 << 10
MIB = 1 << 20
BOOTSTRAP_S = 5.0
"""How long a client looks for a broker before it says that there is none."""


def check_installed() -> None:
    """BusMisconfigured where a package is missing without which kafka-python works, but wrongly.

    Without ``crc32c`` its checksum in Python is 20 to 80 times slower; without ``zstandard`` it cannot read what
    other workers have compressed.
    """
    if getattr(kafka_checksum, "crc32c_c", None) is None:
        raise BusMisconfigured(
            "the package crc32c is missing: every record would be checked in Python, 20 to 80 times slower",
            mend="pip install crc32c",
        )
    if not has_zstd():
        raise BusMisconfigured(
            "the package zstandard is missing: counts and events are compressed with it", mend="pip install zstandard"
        )


def quiet_client() -> None:
    """kafka-python tells every refused connection several times a second; what counts comes as an error or a line of
    ours. Whoever wants to hear it sets the level of the logger ``kafka``; passwords are not in what it then says."""
    logger = logging.getLogger("kafka")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("kafka.") and _without_secrets not in (each := logging.getLogger(name)).filters:
            each.addFilter(_without_secrets)


def _without_secrets(record: logging.LogRecord) -> bool:
    """At DEBUG the admin client tells all its settings, and the transport every byte of SASL PLAIN."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


def client_arguments(settings: KafkaConfig, client_id: str) -> dict[str, Any]:
    """What every client of kafka-python is told."""
    told: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": 2_000,  # its 30 s would keep workers away long after a broker is back
        "request_timeout_ms": 30_000,
        "metadata_max_age_ms": 60_000,
        "bootstrap_timeout_ms": int(BOOTSTRAP_S * 1000),
        "metrics_enabled": False,  # ours are in pipeline.metrics; its own cost time for each record
    }
    if settings.security_protocol.startswith("SASL"):
        told |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": None if settings.password is None else settings.password.reveal(),
        }
    if settings.security_protocol.endswith("SSL"):
        told |= {
            "ssl_check_hostname": True,
            "ssl_cafile": settings.ca_file,
            "ssl_certfile": settings.cert_file,
            "ssl_keyfile": settings.key_file,
            # Empty instead of none: OpenSSL would ask whoever sits at the terminal, and wait.
            "ssl_password": "" if settings.key_password is None else settings.key_password.reveal(),
        }
    return told


def servers(settings: KafkaConfig) -> list[str]:
    """The bootstrap servers, one by one."""
    return [server.strip() for server in settings.bootstrap_servers.split(",")]


def open_client(make: Callable[..., C], arguments: dict[str, Any], settings: KafkaConfig, doing: str) -> C:
    """A client of kafka-python; BusUnavailable, BusDenied or BusMisconfigured, with the reason, when there is none.

    A constructor of kafka-python that finds no broker leaves its I/O thread and sockets behind: they are closed here.
    """
    mend_sockets()
    made: list[Any] = []

    def remember(**configs: Any) -> Any:
        made.append(KafkaNetClient(**configs))
        return made[-1]

    try:
        return make(kafka_client=remember, **arguments)
    except Exception as error:
        denied = _denied(made)
        for client in made:
            client.close()
        if isinstance(denied or error, kafka_errors.KafkaTimeoutError):
            raise no_broker(settings, doing) from None
        # No chain: the arguments, and with them the password, hang on the frames below.
        told = translate(denied or error, doing)
        raise type(told)(redact(str(told))) from None


def _denied(clients: list[Any]) -> BaseException | None:
    """The refusal of user or certificate that a client met while it said only that it found no broker."""
    for client in clients:
        for error in client._manager._auth_failures.values():
            return error if isinstance(error, BaseException) else None
    return None


def no_broker(settings: KafkaConfig, doing: str) -> BusError:
    """Why no broker answers, as far as one attempt by hand can tell."""
    asked = servers(settings)
    with ThreadPoolExecutor(len(asked)) as asking:  # each takes its two seconds
        reasons = asking.map(_why, asked, repeat(settings))
        told = "; ".join(f"{server}: {reason}" for server, reason in zip(asked, reasons, strict=True))
    text = f"cannot {doing}: no broker answers ({told})"
    return BusUnavailable(text, mend="check kafka.bootstrap_servers and kafka.security_protocol")


def _why(server: str, settings: KafkaConfig) -> str:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as plain:
            if not settings.security_protocol.endswith("SSL"):
                return "it is reached, but does not speak Kafka as we do"
            try:
                context = ssl.create_default_context(cafile=settings.ca_file)
            except ssl.SSLError:
                return "kafka.ca_file holds no certificate"
            if settings.cert_file:
                # An empty password instead of none: OpenSSL would ask whoever sits at the terminal.
                password = "" if settings.key_password is None else settings.key_password.reveal()
                try:
                    context.load_cert_chain(settings.cert_file, settings.key_file, password)
                except ssl.SSLError:
                    return "kafka.cert_file, key_file and key_password do not fit together"
            with context.wrap_socket(plain, server_hostname=host):
                return "it is reached with TLS, but does not speak Kafka as we do"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"no TLS with it: {(error.reason or 'the handshake failed').lower().replace('_', ' ')}"
    except socket.gaierror:
        return "no such host"
    except ConnectionRefusedError:
        return "connection refused"
    except TimeoutError:
        return "no answer within 2 s"
    except OSError as error:
        return error.strerror or "not reached"
