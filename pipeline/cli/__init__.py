"""The command line: one module a group of commands, errors as one line, exit codes as promised."""

from __future__ import annotations

import importlib
import sys

import typer

from pipeline import __version__
from pipeline.errors import PasserbyError

_COMMANDS = (
    "run",
    "init",
    "check",
    "probe",
    "topics",
    "models",
    "detect",
    "scene",
    "evaluate",
    "demo",
    "contracts",
    "tail",
    "lag",
    "replay",
    "evidence",
    "harvest",
    "apply",
    "ingest",
    "infer",
)

app = typer.Typer(
    name="passerby",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Cameras in; people and vehicle counts and scene events out.\n\n"
    "Start with: [bold]passerby run VIDEO --line 0,0.6,1,0.6 --out out[/bold]",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"passerby {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say the version and stop."
    ),
) -> None:
    """Passerby."""


def build() -> typer.Typer:
    """The application with every command registered."""
    for name in _COMMANDS:
        importlib.import_module(f"pipeline.cli.{name}").register(app)
    return app


def main() -> None:
    """Entry point: errors raised on purpose become one line on stderr and their exit code."""
    try:
        build()()
    except PasserbyError as error:
        sys.stderr.write(f"passerby: {error}\n")
        sys.exit(error.exit_code)
