"""The command line as a whole: what is loaded for which command."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from pipeline import cli

PRINTS_MODULES = "import sys; from pipeline.cli import main\ntry:\n    main()\nfinally:\n    print(*sys.modules)"


def loaded(*words: str) -> tuple[str, set[str]]:
    """What a command says, and the modules that it loaded."""
    done = subprocess.run([sys.executable, "-c", PRINTS_MODULES, *words], capture_output=True, text=True, check=False)
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    return said + done.stderr, set(modules.split())


def test_every_command_is_where_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = typer.main.get_command(cli.build())
    assert set(listed.commands) == set(cli._MODULES)  # type: ignore[attr-defined]
    for command in cli._MODULES:
        monkeypatch.setattr(cli, "app", typer.Typer())
        cli.app.callback()(cli._root)
        alone = typer.main.get_command(cli.build(command))
        assert command in alone.commands  # type: ignore[attr-defined]


def test_a_command_loads_what_it_uses() -> None:
    said, modules = loaded("contracts", "--help")
    assert "contracts" in said
    assert not modules & {"kafka", "av", "onnxruntime", "pipeline.cli.run"}


@pytest.mark.parametrize("words", [(), ("--help",), ("rnu",)])
def test_without_a_command_all_of_them_are_known(words: tuple[str, ...]) -> None:
    said, modules = loaded(*words)
    assert {f"pipeline.cli.{name}" for name in cli._MODULES.values()} <= modules
    assert "Did you mean 'run'" in said if words == ("rnu",) else "ingest" in said
