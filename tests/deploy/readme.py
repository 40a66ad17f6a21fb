"""Commands out of the Markdown pages, so that what is written and what is tested are one thing."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STEP = re.compile(r"^# (\d+)\. (.*)$")


def block_after(page: Path, words: str) -> str:
    """The first shell block behind ``words`` in ``page``."""
    _, found, rest = page.read_text(encoding="utf-8").partition(words)
    assert found, f"{page.name} does not say: {words}"
    block = _BLOCK.search(rest)
    assert block is not None, f"{page.name}: no shell block behind: {words}"
    return block.group(1)


def steps(block: str) -> list[tuple[str, str]]:
    """(title, commands) of each ``# N. title`` in a block, N counting from 0 without gaps."""
    told: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if title := _STEP.match(line):
            assert int(title.group(1)) == len(told), f"step {title.group(1)} is out of order"
            told.append((title.group(2), []))
        else:
            assert told, f"a command before the first step: {line}"
            told[-1][1].append(line)
    return [(title, "\n".join(lines)) for title, lines in told]
