"""The runbook knows every alert, and the pages name commands and files that exist."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main
import yaml

from pipeline.cli import build
from tests.conftest import ROOT

PAGES = ("README.md", "docs/running-a-cluster.md", "deploy/RUNBOOK.md")


def test_every_alert_has_its_section() -> None:
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    alerts = {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]}
    text = (ROOT / "deploy/RUNBOOK.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(alerts)
    for name, words in sections.items():
        assert f"**Means** ({alerts[name]})" in words, name
        assert "**Look**" in words, name
        assert "**Do**" in words, name


@pytest.mark.parametrize("page", PAGES)
def test_named_commands_exist(page: str) -> None:
    """Every `passerby COMMAND --option` of a page is one that there is."""
    root = typer.main.get_command(build())
    commands = re.findall(r"(?:\.venv/bin/|`|^ {4}|^)passerby ([^\n`#|]+)", (ROOT / page).read_text(), re.MULTILINE)
    known = 0
    for told in commands:
        words = shlex.split(told.replace("…", "").replace("&", ""), posix=True) if told.count('"') % 2 == 0 else []
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        if command is root:
            assert not words or words[0].startswith("-") or not re.fullmatch(r"[a-z]+", words[0]), told
            continue
        known += 1
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        unknown = [
            word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word) and word not in {*options, "--help"}
        ]
        assert not unknown, f"{told}: {unknown}"
    assert known, page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", (ROOT / page).read_text()):
        if "://" not in target:
            assert (folder / target).exists(), target
