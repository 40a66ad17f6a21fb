"""/metrics, /livez and /readyz as a probe, Prometheus and a hostile client see them."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from pipeline.core.ledger import FrameLedger
from pipeline.errors import UsageError
from pipeline.metrics import RunMetrics
from pipeline.services.health import Health, HealthServer, serve


class _Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def health(clock: _Clock) -> Health:
    return Health("models", "broker", stall_s=30, now_s=clock)


@pytest.fixture
def server(health: Health) -> Iterator[HealthServer]:
    with serve(0, RunMetrics(FrameLedger()), health, address="127.0.0.1") as running:
        yield running


def _get(server: HealthServer, path: str, accept: str = "") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_readyz_names_what_is_missing_until_all_is_there(server: HealthServer, health: Health) -> None:
    health.missing("broker", "no broker at localhost:9092\nsecond line")
    assert _get(server, "/readyz")[::2] == (503, "models: not yet\nbroker: no broker at localhost:9092\n")
    health.ready("models")
    assert _get(server, "/readyz")[::2] == (503, "broker: no broker at localhost:9092\n")
    assert "passerby_worker_ready 0.0" in _get(server, "/metrics")[2]
    health.ready("broker")
    assert _get(server, "/readyz")[::2] == (200, "ready\n")
    assert "passerby_worker_ready 1.0" in _get(server, "/metrics")[2]
    health.missing("broker", "went away")
    assert _get(server, "/readyz")[0] == 503


def test_livez_fails_once_the_loop_stands_still(server: HealthServer, health: Health, clock: _Clock) -> None:
    assert _get(server, "/livez")[::2] == (200, "alive\n")
    clock.s += 30.0
    assert _get(server, "/livez")[0] == 200
    clock.s += 12.0
    code, _, words = _get(server, "/livez")
    assert code == 503
    assert "has not turned for 42 s (limit 30 s)" in words
    health.turned()
    assert _get(server, "/livez")[0] == 200
    clock.s += 5.0
    assert health.last_turn_s == pytest.approx(time.time() - 5.0, abs=2)


def test_metrics_in_the_format_that_is_asked_for(server: HealthServer) -> None:
    status, kind, words = _get(server, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert 'passerby_build_info{python="' in words
    assert "process_resident_memory_bytes" in words
    assert "_created" not in words
    kind, words = _get(server, "/metrics", "application/openmetrics-text; version=1.0.0")[1:]
    assert kind.startswith("application/openmetrics-text")
    assert words.endswith("# EOF\n")


def test_nothing_else_is_answered(server: HealthServer) -> None:
    assert _get(server, "/")[::2] == (404, "here are /metrics, /livez and /readyz\n")
    assert _get(server, "/metrics/../secrets")[0] == 404


def test_a_port_in_use_is_one_clear_error(server: HealthServer, health: Health) -> None:
    with pytest.raises(UsageError, match=rf"--metrics-port {server.port}: cannot listen there: .*in use.*another port"):
        serve(server.port, RunMetrics(FrameLedger()), health, address="127.0.0.1")
    with pytest.raises(UsageError, match="ports end at 65535"):
        serve(65536, RunMetrics(FrameLedger()), health)


def test_clients_that_say_nothing_or_nonsense_hold_nobody_up(server: HealthServer) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
    try:
        silent[0].sendall(b"GET /metr")
        silent[1].sendall(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n")
        silent[2].close()
        began_s = time.monotonic()
        assert _get(server, "/livez")[0] == 200
        assert time.monotonic() - began_s < 2
    finally:
        for each in silent:
            each.close()


def test_every_address_of_the_machine_answers_and_closing_frees_the_port(health: Health) -> None:
    threads = threading.active_count()
    with serve(0, RunMetrics(FrameLedger()), health) as running:
        assert _get(running, "/livez")[0] == 200
        if socket.has_dualstack_ipv6():
            with urllib.request.urlopen(f"http://[::1]:{running.port}/livez", timeout=5) as answer:
                assert answer.status == 200
    with serve(running.port, RunMetrics(FrameLedger()), health):
        pass
    assert threading.active_count() <= threads
