"""``passerby eval``: how well was counted."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command group ``eval``."""
    group = typer.Typer(no_args_is_help=True, help="Compare what was counted with the truth.")
    app.add_typer(group, name="eval")
