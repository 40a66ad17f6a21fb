"""``passerby apply``: the cameras of a configuration into the log, for the workers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.cli.logs import LogFormat, LogFormatOption, configure

_SIGNS = {"new": "[green]+[/]", "changed": "[yellow]~[/]", "removed": "[red]-[/]"}
_WITHIN_S = 60.0
"""In which the cameras that are in the log have to be read: they are a few hundred records."""
_COLORS = {"+": "green", "-": "red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("apply")(_apply)


def _apply(
    config_file: Annotated[
        Path, typer.Option("-c", "--config", metavar="FILE", help="passerby.yaml with the cameras as they are to be.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove cameras that are not in FILE without asking.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Put the cameras of FILE into the log: the workers take up what changed, while everything runs.

    Only what differs is sent, after it is shown. A changed line, zone or threshold interrupts nothing; a changed
    source, mask, frame rate or model opens that camera anew. Secrets stay ${NAME}: the workers fill them in.

    \b
    passerby apply -c passerby.yaml --dry-run
    passerby apply -c passerby.yaml

    Exit code: 0 done, 2 wrong configuration, 1 the log cannot be reached.
    """
    from pipeline.bus.kafka import KafkaBus
    from pipeline.bus.topics import Topics
    from pipeline.config import load_config
    from pipeline.services.documents import CamerasView, compare, send, wanted
    from pipeline.services.wiring import classes_of

    configure(log_format)
    config = load_config(config_file, os.environ, classes_of=classes_of, secrets=False)
    want = wanted(config)
    console = Console(highlight=False, soft_wrap=True)
    topics = Topics(config.kafka.prefix)
    with KafkaBus(config.kafka, client_id="passerby-apply") as bus:
        changes = compare(want, CamerasView(bus.reader(topics.cameras)).refresh(within_s=_WITHIN_S))
        for change in changes:
            if change.kind != "unchanged":
                console.print(f"{_SIGNS[change.kind]} {change.camera_id}  [dim]{change.kind}[/]")
                for line in change.lines() if change.kind == "changed" else ():
                    console.print(f"    [{_COLORS[line[0]]}]{escape(line)}[/]")
        gone = [change.camera_id for change in changes if change.kind == "removed"]
        if gone and not prune and not dry_run and not _confirmed(gone):
            console.print(f"kept: {', '.join(gone)} (not in {config_file}; --prune removes them)")
            changes = [change for change in changes if change.kind != "removed"]
        count = {kind: sum(c.kind == kind for c in changes) for kind in ("new", "changed", "removed", "unchanged")}
        if not dry_run:
            send(bus.producer(topics.cameras, compression="zstd"), changes)
        told = ", ".join(f"{number} {kind}" for kind, number in count.items() if number)
        console.print(f"[bold]{told or 'no cameras'}[/]{' (nothing was sent: --dry-run)' if dry_run else ''}")


def _confirmed(gone: list[str]) -> bool:
    """Ask a person; where nobody sits, nothing is removed."""
    if not sys.stdin.isatty():
        return False
    return typer.confirm(f"Remove {', '.join(gone)} from the log?", default=False)
