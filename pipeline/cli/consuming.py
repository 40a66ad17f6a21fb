"""What the commands that read the log share: where it is, and times as people write them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config import Config, KafkaConfig, load_config
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.bus.kafka import KafkaBus

_ANSWER_S = 10.0
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c", "--config", metavar="FILE",
        help="Where the log is: passerby.yaml. Without it: KAFKA_BOOTSTRAP_SERVERS, or localhost:9092.",
    ),
]  # fmt: skip

_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|min|m|h|d)(?: ago)?")
_UNIT_S = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}


def kafka_config(config_file: Path | None) -> KafkaConfig:
    """The section ``kafka`` of the file, or what goes without one."""
    return worker_config(config_file).kafka


def log_for_people(settings: KafkaConfig, client_id: str) -> KafkaBus:
    """The log for a command that somebody waits for: without a broker it says so within some ten seconds."""
    from pipeline.bus.kafka import KafkaBus

    return KafkaBus(settings, client_id=client_id, answer_s=_ANSWER_S)


def worker_config(config_file: Path | None) -> Config:
    """The file without its cameras: they are taken from the log."""
    if config_file is not None:
        return load_config(config_file, cameras=False)
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or "localhost:9092"
    return Config(kafka=KafkaConfig(bootstrap_servers=servers), cameras={})


def time_us(text: str, option: str) -> int:
    """UTC microseconds since 1970 of ``2026-01-01T08:00:00Z`` or ``10m`` (ago). Raises UsageError."""
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return round((time.time() - float(ago[1]) * _UNIT_S[ago[2]]) * 1e6)
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is no time", mend="write 2026-01-01T08:00:00Z, or 10m for ten minutes ago"
        ) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1e6)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C, and a reader that went away (``| head``), are how one ends what is watched: neither is a failure."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # What is still in the buffer of stdout must not fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def names(values: list[str] | None) -> frozenset[str]:
    """Of ``--camera gate --camera yard,door`` the three names."""
    return frozenset(name.strip() for value in values or () for name in value.split(",") if name.strip())
