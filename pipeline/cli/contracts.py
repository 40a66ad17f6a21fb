"""``passerby contracts``: what is published, for machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("contracts")(_contracts)


def _contracts(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where they go.")] = Path("docs/contracts"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: exit 1 if DIR differs from the code or breaks DIR/v1.")
    ] = False,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Also promise it: renew DIR/v1, which later versions may only add to.")
    ] = False,
) -> None:
    """Write the JSON Schemas of every event and the AsyncAPI document of the topics.

    One file a CloudEvents type, the structured envelope (cloudevent.schema.json), and asyncapi.yaml.

    \b
    passerby contracts --out schemas
    passerby contracts --out docs/contracts --check

    Exit code: 0 written (or nothing to say), 1 --check found something, 2 --freeze would break v1.
    """
    from pipeline.services import contracts

    if check:
        promised = out / contracts.BASELINE
        found = contracts.differences(out)
        if promised.is_dir():
            found += [
                f"v1 is broken: {line}"
                for line in contracts.incompatibilities(contracts.read(promised), contracts.render())
            ]
        for line in found:
            sys.stderr.write(f"passerby: {out}/{line}\n" if not line.startswith("v1 ") else f"passerby: {line}\n")
        raise typer.Exit(1 if found else 0)
    promised_now = contracts.freeze(out) if freeze else []
    for name in contracts.write(out, contracts.render()):
        sys.stdout.write(f"{out / name}\n")
    for name in promised_now:
        sys.stdout.write(f"{out / contracts.BASELINE / name}\n")
