"""Logs on stderr, for people or as JSON lines; secrets are redacted in both."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from pipeline.config import redact


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"
    JSON = "json"


LogFormatOption = Annotated[LogFormat, typer.Option("--log-format", help="Log lines for people or as JSON.")]


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            told["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)


def configure(log_format: LogFormat = LogFormat.CONSOLE, level: int = logging.INFO) -> None:
    """Send the logs of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format is LogFormat.JSON else _Console("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # kafka-python tells of every attempt to connect, as errors; what is wrong is told by us, once and with the mend.
    logging.getLogger("kafka").setLevel(logging.CRITICAL if level > logging.DEBUG else level)
