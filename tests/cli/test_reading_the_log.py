"""The commands that read the log, where no broker answers."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.bus.kafka import KafkaBus
from pipeline.cli import build
from pipeline.errors import BusUnavailable


@pytest.mark.parametrize("words", ["tail", "lag", "replay --camera gate --verify --quiet", "evidence 4f0c2a9be1d34c55"])
def test_without_a_broker_they_soon_say_which_one_they_asked(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patience_s: list[float] = []

    class Remembering(KafkaBus):
        def __init__(self, *args: Any, answer_s: float = 1e9, **more: Any) -> None:
            patience_s.append(answer_s)
            super().__init__(*args, answer_s=answer_s, **more)

    monkeypatch.setattr("pipeline.bus.kafka.KafkaBus", Remembering)
    monkeypatch.setattr("pipeline.bus.kafka.settings.BOOTSTRAP_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # a connection is made, and nobody speaks
        server = f"127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", server)
        told = CliRunner().invoke(build(), words.split())
    assert isinstance(told.exception, BusUnavailable)
    assert server in str(told.exception)
    assert "kafka.bootstrap_servers" in str(told.exception)
    assert patience_s == [10.0]
