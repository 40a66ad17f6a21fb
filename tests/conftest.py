"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def _missing(what: str) -> None:
    """Skip on a user's machine; fail where CI promises that everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI=true says it must be here")
    pytest.skip(f"{what} is not here")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that sets up its logs on a captured stream must not leave them to the next test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = [h for h in root.handlers if type(h).__module__.startswith("_pytest")]
    root.handlers += [h for h in handlers if h not in root.handlers]
    root.setLevel(level)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``data`` with real videos, pictures and third-party models, beside the repository."""
    data = SHARED / "data"
    if not data.is_dir():
        _missing(f"{data.parent.name}/data beside the repository")
    return data
