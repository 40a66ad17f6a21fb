"""A real Kafka broker (or three) without Docker: Java and Maven are all it needs.

    deploy/kafka/broker start                 fetch Kafka once, start one broker on localhost:9092, wait until it answers
    deploy/kafka/broker status                what runs, where, and whether it answers
    deploy/kafka/broker stop                  stop it; its data stay, and `start` goes on with them
    deploy/kafka/broker stop --kill --node 1  the hard way, for the first of several brokers (tests of outages)
    deploy/kafka/broker run --brokers 3       three brokers in the foreground, until Ctrl+C
    deploy/kafka/broker fetch                 only fetch, and print the folder of the jars

The brokers are for trying out and for tests: small heaps, few internal partitions, listening on 127.0.0.1. Each is
broker and controller at once (KRaft). With --port P, broker i (from 0) listens on P+i for clients, P+10+i for
controllers and P+20+i for the other brokers; the last two are always plain text on 127.0.0.1.

Security is Kafka's own configuration: --protocol names what clients speak, --config or --properties says the rest;
{dir}, {node} and {port} in a value are filled in. A broker with SCRAM users and access rules:

    deploy/kafka/broker start --port 9392 --protocol SASL_PLAINTEXT --scram alice=secret \\
        --config listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512 \\
        --config listener.name.client.scram-sha-512.sasl.jaas.config='org.apache.kafka.common.security.scram.ScramLoginModule required;' \\
        --config authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer \\
        --config super.users='User:ANONYMOUS;User:alice'
"""  # noqa: E501

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


class Trouble(Exception):
    """What the person in front of the terminal has to know, in one line."""


@dataclass(frozen=True)
class Node:
    """One broker: its number (from 1), its folder and its ports."""

    number: int
    folder: Path
    port: int
    controller_port: int
    internal_port: int

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"


# ---------------------------------------------------------------------------------------------------- fetching


def kafka_version() -> str:
    """The version the pom pins."""
    found = re.search(r"<kafka.version>([\d.]+)</kafka.version>", (HERE / "pom.xml").read_text())
    assert found is not None
    return found.group(1)


def cache_folder() -> Path:
    """Where the jars are kept."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "passerby" / f"kafka-{kafka_version()}"


def need(program: str, package: str) -> str:
    """The path of ``program``; Trouble with the mend where it is missing."""
    found = shutil.which(program)
    if found is None:
        raise Trouble(f"{program} is not installed: Kafka needs it (Debian, Ubuntu: apt-get install {package})")
    return found


def fetch() -> Path:
    """The folder of the jars, fetched by Maven when it is not there. Safe when several run at once."""
    jars = cache_folder()
    if jars.is_dir():
        return jars
    maven = need("mvn", "maven")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with open(jars.parent / f".{jars.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        print(f"fetching Kafka {kafka_version()} by Maven into {jars}", file=sys.stderr)
        half = jars.with_name(f".{jars.name}.{os.getpid()}")
        done = subprocess.run(
            [maven, "-q", "-B", "-f", f"{HERE}/pom.xml", "dependency:copy-dependencies", f"-DoutputDirectory={half}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not list(half.glob("kafka_*.jar")):
            shutil.rmtree(half, ignore_errors=True)
            said = next((line for line in done.stdout.splitlines() if "ERROR" in line), done.stderr.strip())
            raise Trouble(f"Maven could not fetch Kafka {kafka_version()}: {said[:500]}")
        half.rename(jars)
    return jars


# ---------------------------------------------------------------------------------------------------- settings


def nodes(folder: Path, port: int, brokers: int) -> list[Node]:
    """The brokers of a cluster."""
    return [
        Node(i + 1, folder / f"node-{i + 1}", port + i, port + 10 + i, port + 20 + i) for i in range(brokers)
    ]  # fmt: skip


def default_folder(port: int) -> Path:
    """Where the brokers of ``port`` keep their data when nobody says otherwise."""
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return root / "passerby" / f"kafka-{port}"


def settings(node: Node, cluster: list[Node], protocol: str, more: dict[str, str]) -> dict[str, str]:
    """The server.properties of ``node``: fit for a small machine; ``more`` wins."""
    copies = str(min(3, len(cluster)))
    enough = "2" if len(cluster) >= 3 else "1"
    told = {
        "node.id": str(node.number),
        "process.roles": "broker,controller",
        "controller.quorum.voters": ",".join(f"{n.number}@{HOST}:{n.controller_port}" for n in cluster),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INTERNAL",
        "listeners": f"CLIENT://{HOST}:{node.port},INTERNAL://{HOST}:{node.internal_port},"
        f"CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"CLIENT://{HOST}:{node.port},INTERNAL://{HOST}:{node.internal_port}",
        "listener.security.protocol.map": f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": enough,
        # Topics of Kafka's own: by default 50 partitions each, three copies.
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": enough,
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": enough,
        # Quick: no waiting for members that might come, short sessions allowed, hanging transactions looked for often.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "controlled.shutdown.max.retries": "1",
        # Small.
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "num.recovery.threads.per.data.dir": "1",
    }
    told.update(more)
    filled = {"dir": str(node.folder.parent), "node": str(node.number), "port": str(node.port)}
    return {key: re.sub(r"\{(dir|node|port)\}", lambda m: filled[m.group(1)], value) for key, value in told.items()}


def read_more(args: argparse.Namespace) -> dict[str, str]:
    """What --properties and --config say."""
    more: dict[str, str] = {}
    lines = list(args.config or [])
    if args.properties:
        try:
            text = Path(args.properties).read_text()
        except OSError as error:
            raise Trouble(f"--properties {args.properties}: {error.strerror}") from error
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")] + lines
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals:
            raise Trouble(f"{line!r} is not key=value")
        more[key.strip()] = value.strip()
    return more


# ---------------------------------------------------------------------------------------------------- processes


def java_command(jars: Path, heap: str, *, quick: bool) -> list[str]:
    """Java up to the class to run. quick: only the first compiler, which costs less until it runs hot."""
    return [
        need("java", "openjdk-17-jre-headless"), f"-Xmx{heap}", "-XX:+UseSerialGC",
        *(["-XX:TieredStopAtLevel=1"] if quick else []),
        "-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-cp", f"{jars}/*",
    ]  # fmt: skip


def write_settings(cluster: list[Node], args: argparse.Namespace) -> None:
    """server.properties of every node. They may hold passwords, so only their owner reads them."""
    more = read_more(args)
    for node in cluster:
        node.folder.mkdir(parents=True, exist_ok=True)
        told = settings(node, cluster, args.protocol, more)
        with open(os.open(node.properties, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in told.items())


def format_storage(cluster: list[Node], java: list[str], scram: list[str]) -> None:
    """Give new data folders their cluster id (and the SCRAM users there are from the first moment)."""
    new = [node for node in cluster if not (node.folder / "data" / "meta.properties").exists()]
    identity = cluster[0].folder.parent / "cluster-id"
    if not identity.exists():
        identity.write_text(urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A"))
    users: list[str] = []
    for user in scram:
        name, equals, password = user.partition("=")
        if not equals:
            raise Trouble("--scram takes NAME=PASSWORD")
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            users += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
    cluster_id = identity.read_text()
    tools = [
        subprocess.Popen(
            [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(node.properties), *users],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for node in new
    ]  # fmt: skip
    for tool in tools:
        said, _ = tool.communicate()
        if tool.returncode:
            raise Trouble(f"Kafka could not prepare its data folder: {last_words(said)}")


def last_words(text: str) -> str:
    """The line of a Java log that says what went wrong."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    told = [line for line in lines if re.search(r"Exception|Error|ERROR|FATAL", line)]
    return (told or lines or ["it said nothing"])[-1].strip()[:500]


def pid_of(node: Node) -> int | None:
    """The process of ``node`` if it runs: the pid file's, and really ours (pids are used again)."""
    try:
        pid = int(node.pid_file.read_text())
    except (OSError, ValueError):
        return None
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]  # -ww: whole lines, whatever COLUMNS says
    told = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    return pid if str(node.properties) in told else None


Started = dict[Node, "subprocess.Popen[bytes]"]


def launch(node: Node, java: list[str]) -> subprocess.Popen[bytes]:
    """Start the JVM of ``node``; its words go to its log."""
    with open(node.log, "ab") as log:
        process = subprocess.Popen(
            [*java, "kafka.Kafka", str(node.properties)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=node.folder,
        )  # fmt: skip
    node.pid_file.write_text(str(process.pid))
    return process


def wait_for_port(port: int, patience_s: float = 10) -> None:
    """Wait until ``port`` is free: a broker that was just killed may hold it for a moment. Raises Trouble."""
    until_s = time.monotonic() + patience_s
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
                return
            except OSError as error:
                if time.monotonic() >= until_s:
                    raise Trouble(f"port {port} is taken by something else (choose another --port)") from error
        time.sleep(0.2)


def brokers_seen(node: Node) -> int:
    """How many brokers ``node`` knows to be up, by its own word (a Metadata request); 0 while it does not answer."""
    request = struct.pack(">hhih4si", 3, 1, 1, 4, b"wait", 0)
    try:
        with socket.create_connection((HOST, node.internal_port), 2) as wire:
            wire.settimeout(5)
            wire.sendall(struct.pack(">i", len(request)) + request)
            stream = wire.makefile("rb")
            size, _correlation, count = struct.unpack(">iii", stream.read(12))
            return int(count) if size > 8 else 0
    except (OSError, struct.error):
        return 0


def wait_until_up(cluster: list[Node], members: int, timeout_s: float, started: Started) -> None:
    """Return when each of these knows of ``members`` brokers; Trouble when one dies or the time is over."""
    until = time.monotonic() + timeout_s
    while any(brokers_seen(node) < members for node in cluster):
        for node, process in started.items():
            if process.poll() is not None:
                words = last_words(node.log.read_text())
                raise Trouble(f"broker {node.number} ended at once: {words} (log: {node.log})")
        if time.monotonic() > until:
            raise Trouble(f"no answer within {timeout_s:.0f} s (logs: {cluster[0].folder.parent}/node-*/log)")
        time.sleep(0.1)


def stop(cluster: list[Node], *, kill: bool, timeout_s: float = 30) -> int:
    """End what runs of ``cluster`` and say how many that were."""
    pids = {node: pid for node in cluster if (pid := pid_of(node)) is not None}
    for pid in pids.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
    until = time.monotonic() + timeout_s
    for node, pid in pids.items():
        while pid_of(node) is not None:
            if time.monotonic() > until:  # the last of three brokers waits for a quorum that is gone
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        node.pid_file.unlink(missing_ok=True)
    return len(pids)


# ---------------------------------------------------------------------------------------------------- commands


def chosen(args: argparse.Namespace) -> list[Node]:
    """The nodes a command is about. Without --brokers: as many as the folder has, or one."""
    folder = Path(args.dir).resolve() if args.dir else default_folder(args.port)
    brokers = args.brokers or len(list(folder.glob("node-*"))) or 1
    return nodes(folder, args.port, brokers)


def bring_up(args: argparse.Namespace) -> tuple[list[Node], Started]:
    """The cluster, and what of it was not running and is started now."""
    cluster = chosen(args)
    jars = fetch()
    java = java_command(jars, args.heap, quick=args.quick)
    missing = [node for node in cluster if pid_of(node) is None and args.node in (None, node.number)]
    for node in missing:
        for port in (node.port, node.internal_port, node.controller_port):
            wait_for_port(port)
    if not all(node.properties.exists() for node in cluster) or args.config or args.properties:
        write_settings(cluster, args)
    format_storage(cluster, java_command(jars, args.heap, quick=True), args.scram or [])
    return cluster, {node: launch(node, java) for node in missing}


def bootstrap(cluster: list[Node]) -> str:
    return ",".join(f"localhost:{node.port}" for node in cluster)


def start_command(args: argparse.Namespace) -> int:
    """Start in the background, wait until all answer, print the bootstrap servers."""
    cluster, started = bring_up(args)
    asked = [node for node in cluster if args.node in (None, node.number)]
    try:
        wait_until_up(asked, sum(pid_of(node) is not None for node in cluster), args.timeout, started)
    except Trouble:
        for process in started.values():
            process.kill()
        raise
    print(bootstrap(cluster))
    return 0


def run_command(args: argparse.Namespace) -> int:
    """Run in the foreground until SIGINT or SIGTERM."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    cluster, started = bring_up(args)
    try:
        wait_until_up(cluster, len(cluster), args.timeout, started)
        print(f"{bootstrap(cluster)} answers; data in {cluster[0].folder.parent}; Ctrl+C stops", flush=True)
        while all(process.poll() is None for process in started.values()):
            time.sleep(0.2)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        stop(cluster, kill=False)


def stop_command(args: argparse.Namespace) -> int:
    cluster = [node for node in chosen(args) if args.node in (None, node.number)]
    print(f"stopped {stop(cluster, kill=args.kill)} of {len(cluster)}")
    return 0


def status_command(args: argparse.Namespace) -> int:
    """One line a broker; exit 0 when all of them answer, 1 when not."""
    cluster = chosen(args)
    well = True
    for node in cluster:
        pid = pid_of(node)
        answers = pid is not None and brokers_seen(node) > 0
        well = well and answers
        what = "down" if pid is None else f"pid {pid}, " + ("answers" if answers else "does not answer")
        print(f"broker {node.number}  localhost:{node.port}  {what}  {node.folder}")
    return 0 if well else 1


def fetch_command(_: argparse.Namespace) -> int:
    print(fetch())
    return 0


@contextlib.contextmanager
def told_as_one_line() -> Iterator[None]:
    try:
        yield
    except Trouble as trouble:
        sys.exit(f"broker: {trouble}")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("broker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="fetch|run|start|stop|status")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--port", type=int, default=9092, help="of the first broker, for clients (9092)")
    where.add_argument("--brokers", type=int, choices=(1, 2, 3), help="how many (1, or as many as the folder has)")
    where.add_argument("--dir", help="for data, logs and settings (~/.local/state/passerby/kafka-PORT)")
    where.add_argument("--node", type=int, help="only this one of the brokers (from 1)")
    how = argparse.ArgumentParser(add_help=False)
    how.add_argument("--config", action="append", metavar="KEY=VALUE", help="a setting of the broker; may be repeated")
    how.add_argument("--properties", metavar="FILE", help="settings of the broker as a properties file")
    how.add_argument("--protocol", choices=PROTOCOLS, default="PLAINTEXT", help="what clients speak (PLAINTEXT)")
    how.add_argument("--scram", action="append", metavar="NAME=PASSWORD", help="a SCRAM user of a new cluster")
    how.add_argument("--heap", default="384m", help="of each JVM (384m)")
    how.add_argument("--quick", action="store_true", help="starts sooner, is slower under load: for tests")
    how.add_argument("--timeout", type=float, default=180, metavar="S", help="seconds to wait for an answer (180)")
    for name, act, parents, told in (
        ("fetch", fetch_command, [], "fetch Kafka and print the folder of its jars"),
        ("run", run_command, [where, how], "run in the foreground until Ctrl+C"),
        ("start", start_command, [where, how], "start in the background and wait until it answers"),
        ("stop", stop_command, [where], "stop; the data stay"),
        ("status", status_command, [where], "what runs; exit 1 when a broker does not answer"),
    ):
        command = commands.add_parser(name, parents=parents, help=told, description=told)
        command.set_defaults(act=act)
        if name == "stop":
            command.add_argument("--kill", action="store_true", help="kill -9, as when the power fails")
    return top


def main() -> int:
    args = parser().parse_args()
    with told_as_one_line():
        return int(args.act(args))


if __name__ == "__main__":
    sys.exit(main())
