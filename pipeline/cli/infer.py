"""``passerby infer``: an inference worker on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.config import load_config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("infer")(_infer)


def _infer(
    config_file: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE", help="passerby.yaml: its kafka and inference sections.")
    ],
    worker_id: Annotated[
        str | None,
        typer.Option("--worker-id", metavar="NAME", help="This worker's own name; default kafka.worker_id, or host."),
    ] = None,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", metavar="SECONDS", min=0.1, help="End after this long without a window."),
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option("--stop-after", metavar="SECONDS", min=0.1, help="Stop and drain after this long.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=0, max=65535, help="Serve /metrics, /livez and /readyz there; 0: any."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Pictures the network works on at once.")
    ] = None,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Count on the windows that ingest workers put into the log: each event once, whatever fails.

    Start as many as you like, each with a name of its own: they share the cameras, and take over from one that dies.
    Cameras, their lines and their models come from the log (`passerby apply`), the rest from FILE.

    \b
    passerby infer -c passerby.yaml --worker-id infer-1 --metrics-port 9101
    passerby infer -c passerby.yaml --until-idle 10

    Ends with SIGINT or SIGTERM: what was taken is finished and committed. Exit code: 0, or 2 for a wrong configuration.
    """
    from pipeline.services.infer_worker import InferOptions, infer

    configure(log_format)
    config = load_config(config_file, cameras=False)
    if threads is not None:
        config = config.model_copy(update={"inference": config.inference.model_copy(update={"threads": threads})})
    infer(config, InferOptions(worker_id, until_idle, stop_after, metrics_port))
