"""Inference workers as processes on a real broker: killed at every step of the commit, stalled, scaled."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.chaos.cluster import Cluster, end
from tests.chaos.worker_process import STEPS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(broker: Broker, prefix: str, tmp_path: Path) -> Iterator[Cluster]:
    settings = broker.settings(prefix)
    with Cluster(settings, tmp_path) as made:
        yield made


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Whatever a test leaves behind is ended."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_worker_killed_at_every_step_of_the_commit_counts_once(
    cluster: Cluster, processes: list[subprocess.Popen[bytes]]
) -> None:
    cluster.feed(4)
    cluster.quota = 4
    cluster.keep_feeding(0.1)
    for step in STEPS:
        cluster.quota += 40  # on a slow machine, too, the last worker has an end before it
        count = 0 if step in {"restoring", "restored"} else 3 if step == "sending" else 1
        processes.append(cluster.worker("w1", step, str(count)))
        assert processes[-1].wait(180) == -signal.SIGKILL, f"{step}: {_log(cluster, 'w1')}"
    processes.append(cluster.worker("w1"))
    cluster.stop_feeding()
    cluster.wait_until_done(240)
    assert end(processes[-1]) == 0
    verdict = cluster.verdict()
    assert verdict.good, verdict
    assert verdict.records > 100


@pytest.mark.slow
def test_stalled_workers_and_scaling_from_one_to_three_and_back_count_once(
    cluster: Cluster, processes: list[subprocess.Popen[bytes]]
) -> None:
    cluster.feed(4)
    cluster.keep_feeding(0.2)
    first, second, third = (cluster.worker(f"w{n}") for n in (1, 2, 3))
    processes += [first, second, third]
    time.sleep(6)
    second.send_signal(signal.SIGSTOP)  # for longer than its session: the others take its cameras over
    time.sleep(9)
    second.send_signal(signal.SIGCONT)  # a zombie now: what it holds must not count
    time.sleep(3)
    first.kill()  # for good: its session times out
    assert end(third) == 0
    cluster.stop_feeding()
    cluster.wait_until_done(240)
    assert end(second) == 0
    verdict = cluster.verdict()
    assert verdict.good, verdict
    assert verdict.records > 100


def _log(cluster: Cluster, worker_id: str) -> str:
    return (cluster.folder / f"{worker_id}.log").read_text(errors="replace")[-3000:]
