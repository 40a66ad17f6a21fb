"""The command line: one module a group of commands, errors as one line, exit codes as promised."""

from __future__ import annotations

import importlib
import sys

import typer

from pipeline import __version__
from pipeline.errors import PasserbyError

_MODULES = {
    "run": "run",
    "init": "init",
    "check": "check",
    "schema": "check",
    "probe": "probe",
    "topics": "topics",
    "models": "models",
    "detect": "detect",
    "scene": "scene",
    "eval": "evaluate",
    "demo": "demo",
    "contracts": "contracts",
    "tail": "tail",
    "lag": "lag",
    "replay": "replay",
    "evidence": "evidence",
    "harvest": "harvest",
    "apply": "apply",
    "ingest": "ingest",
    "infer": "infer",
}
"""Command -> the module that registers it."""

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


def build(command: str | None = None) -> typer.Typer:
    """The application with every command registered; only those of the module of ``command``, if there is one.

    Loading all of them takes a second of CPU time, most of it for libraries that one command does not use.
    """
    modules = [_MODULES[command]] if command in _MODULES else dict.fromkeys(_MODULES.values())
    for name in modules:
        importlib.import_module(f"pipeline.cli.{name}").register(app)
    return app


def main() -> None:
    """Entry point: errors raised on purpose become one line on stderr and their exit code."""
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except PasserbyError as error:
        sys.stderr.write(f"passerby: {error}\n")
        sys.exit(error.exit_code)
