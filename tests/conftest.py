"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import broker as brokers
from tests.broker import Broker, BrokerMaker

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure() -> None:
    """A shell that starts the tests in the background has SIGINT ignored, here and in every process we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _missing(what: str) -> None:
    """Skip on a user's machine; fail where CI promises that everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI=true says it must be here")
    pytest.skip(f"{what} is not here")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that sets up its logs on a captured stream must not leave them to the next test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = [h for h in root.handlers if type(h).__module__.startswith("_pytest")]
    root.handlers += [h for h in handlers if h not in root.handlers]
    root.setLevel(level)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``data`` with real videos, pictures and third-party models, beside the repository."""
    data = SHARED / "data"
    if not data.is_dir():
        _missing(f"{data.parent.name}/data beside the repository")
    return data


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka broker that the whole session shares: use a ``prefix`` of your own, and leave it running."""
    there = brokers.existing()
    if there is not None:
        yield there
        return
    if lacking := brokers.missing():
        _missing(f"{lacking}, which a Kafka broker needs,")
    started = brokers.start(tmp_path_factory.mktemp("kafka"))
    yield started
    started.kill()  # its data go with the folder


@pytest.fixture(scope="session")
def _mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if lacking := brokers.missing():
        _missing(f"{lacking}, which a Kafka broker needs,")
    started = brokers.start(tmp_path_factory.mktemp("mortal"))
    yield started
    started.kill()


@pytest.fixture
def mortal_broker(_mortal_broker: Broker) -> Broker:
    """One broker, kept for the tests that stop, freeze and kill it one after the other; it runs when a test begins."""
    _mortal_broker.start()
    return _mortal_broker


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerMaker]:
    """Makes brokers of a test's own, to stop, kill and secure; arguments as ``tests.broker.start``."""
    if lacking := brokers.missing():
        _missing(f"{lacking}, which a Kafka broker needs,")
    made: list[Broker] = []

    def make(**options: object) -> Broker:
        made.append(brokers.start(tmp_path_factory.mktemp("kafka"), **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def prefix() -> str:
    """A prefix of topics that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}"
