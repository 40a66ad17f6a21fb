"""A street in a log, made once for the tests of those who read it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.services.replay import Replay
from tests.services.logged import TOPICS, Logged, logged


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Who changes its log puts it right again."""
    return logged(tmp_path_factory.mktemp("street"))


@pytest.fixture(scope="session")
def replay(street: Logged) -> Iterator[Replay]:
    with Replay(street.log, TOPICS, street.config) as made:
        yield made
