"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def _missing(what: str) -> None:
    """Skip on a user's machine; fail where CI promises that everything is there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI=true says it must be here")
    pytest.skip(f"{what} is not here")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``data`` with real videos, pictures and third-party models, beside the repository."""
    data = SHARED / "data"
    if not data.is_dir():
        _missing(f"{data.parent.name}/data beside the repository")
    return data
