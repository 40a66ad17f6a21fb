"""``passerby ingest``: a worker that reads cameras and sends their windows to the log."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.logs import LogFormat, LogFormatOption, configure


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(_ingest)


def _ingest(
    config_file: Annotated[
        Path,
        typer.Option("-c", "--config", metavar="FILE", help="passerby.yaml: its kafka section; cameras are not read."),
    ],
    once: Annotated[bool, typer.Option("--once", help="Stop when every file of the fleet is sent to its end.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", metavar="PORT", help="Serve /metrics, /livez and /readyz; 0: any.")
    ] = None,
    worker_id: Annotated[
        str | None,
        typer.Option("--worker-id", help="Name of this worker, its own in the cluster; default: the host's."),
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option("--stop-after", metavar="SECONDS", min=0.1, help="Stop and drain after this long.")
    ] = None,
    session_timeout: Annotated[
        float | None,
        typer.Option(
            "--session-timeout", metavar="SECONDS", min=1, help="Silent for this long, others take over; default 10."
        ),
    ] = None,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Read the cameras that `passerby apply` put into the log, and send their windows to it.

    Start as many as you like: they share the cameras, and take over from one that dies. What FILE says of cameras is
    not read; secrets (${NAME}) come from this worker's environment. While no broker answers, windows of live cameras
    wait in the spool on disk.

    \b
    passerby topics apply -c passerby.yaml
    passerby apply -c passerby.yaml
    passerby ingest -c passerby.yaml --metrics-port 9100

    Exit code: 0 stopped or all sent, 2 wrong configuration, 3 a file failed (--once).
    """
    from pipeline.config import load_config
    from pipeline.services.ingest_worker import IngestOptions, ingest

    configure(log_format)
    config = load_config(config_file, os.environ, cameras=False)
    result = ingest(config, IngestOptions(once, worker_id, stop_after, metrics_port, session_timeout))
    for camera_id, reason in sorted(result.failures.items()):
        sys.stderr.write(f"passerby: {camera_id}: {reason}\n")
    raise typer.Exit(result.exit_code)
