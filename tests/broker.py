"""A real Kafka broker for tests: deploy/kafka/broker on ports of its own, or what KAFKA_BOOTSTRAP_SERVERS names.

def test_it(broker: Broker, prefix: str) -> None:            # shared by the whole session
    with KafkaBus(broker.settings(prefix), client_id="test") as bus: ...

def test_outage(own_broker: BrokerMaker) -> None:             # stopped, killed, secured as the test likes
    broker = own_broker(brokers=3)
    broker.kill(2)
    broker.start()
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import KafkaConfig

SCRIPT = Path(__file__).resolve().parents[1] / "deploy" / "kafka" / "broker"
_OFFSETS = (0, 1, 2, 10, 11, 12, 20, 21, 22)
_START_S = 240


class Broker:
    """One to three brokers, or a cluster somebody else runs (then it can only be used)."""

    def __init__(self, bootstrap_servers: str, folder: Path | None = None, options: Sequence[str] = ()) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.folder = folder
        self._options = list(options)

    @property
    def ours(self) -> bool:
        """Started by the tests, and so theirs to stop."""
        return self.folder is not None

    @property
    def port(self) -> int:
        """Client port of the first broker."""
        return int(self.bootstrap_servers.split(",")[0].rpartition(":")[2])

    def settings(self, prefix: str = "passerby", **more: Any) -> KafkaConfig:
        """The section ``kafka`` of a configuration that uses this broker."""
        return KafkaConfig(bootstrap_servers=self.bootstrap_servers, prefix=prefix, **more)

    def start(self, node: int | None = None) -> None:
        """Start what does not run (after stop or kill: on the same data), and wait until it answers."""
        self._script("start", *self._options, *([] if node is None else ["--node", str(node)]))

    def stop(self, node: int | None = None) -> None:
        """Stop orderly."""
        self._script("stop", *([] if node is None else ["--node", str(node)]))

    def kill(self, node: int | None = None) -> None:
        """kill -9."""
        self._script("stop", "--kill", *([] if node is None else ["--node", str(node)]))

    def freeze(self, node: int = 1) -> None:
        """SIGSTOP: the sockets stay open, nothing answers."""
        os.kill(self.pid(node), signal.SIGSTOP)

    def thaw(self, node: int = 1) -> None:
        """SIGCONT."""
        os.kill(self.pid(node), signal.SIGCONT)

    def pid(self, node: int = 1) -> int:
        """The process of a broker."""
        assert self.folder is not None
        return int((self.folder / f"node-{node}" / "pid").read_text())

    def log(self, node: int = 1) -> str:
        """What a broker has said so far."""
        assert self.folder is not None
        return (self.folder / f"node-{node}" / "log").read_text(errors="replace")

    def _script(self, command: str, *options: str) -> None:
        assert self.folder is not None, "a broker of somebody else's is not ours to start or stop"
        done = subprocess.run(
            [str(SCRIPT), command, "--dir", str(self.folder), "--port", str(self.port), *options],
            capture_output=True, text=True, timeout=_START_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"broker {command}: {done.stderr.strip() or done.stdout.strip()}")


BrokerMaker = Callable[..., Broker]


def missing() -> str | None:
    """What is not here of what a broker needs; None when everything is."""
    lacking = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return " and ".join(lacking) or None


def existing() -> Broker | None:
    """The cluster that KAFKA_BOOTSTRAP_SERVERS names."""
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    return Broker(servers) if servers else None


def start(
    folder: Path,
    *,
    brokers: int = 1,
    protocol: str = "PLAINTEXT",
    config: Sequence[str] = (),
    scram: Sequence[str] = (),
) -> Broker:
    """Brokers of one's own in ``folder``, on free ports. config: "key=value"; scram: "name=password"."""
    port = _free_port()
    servers = ",".join(f"localhost:{port + node}" for node in range(brokers))
    options = ["--quick", "--brokers", str(brokers), "--protocol", protocol]
    for setting in config:
        options += ["--config", setting]
    for user in scram:
        options += ["--scram", user]
    broker = Broker(servers, folder, options)
    broker.start()
    return broker


_GIVEN: set[int] = set()


def _free_port() -> int:
    """A port with everything free that up to three brokers take, below where the system takes ports from itself."""
    for base in range(20_000 + os.getpid() % 1000 * 10, 32_000, 30):
        if base not in _GIVEN and all(_is_free(base + offset) for offset in _OFFSETS):
            _GIVEN.add(base)  # for good: one that was killed comes back on its own port
            return base
    raise RuntimeError("no free ports for a broker")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
