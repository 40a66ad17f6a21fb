"""Declared topics against those there are: what is planned, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.bus.declared import TopicSpec, declared
from pipeline.config import KafkaConfig
from pipeline.errors import BusDenied, BusUnavailable
from pipeline.services.topics import apply, plan, refused, when_a_broker_answers

SPECS = declared(KafkaConfig(prefix="p"))
WINDOWS = next(spec for spec in SPECS if spec.kind == "windows")
EVENTS = next(spec for spec in SPECS if spec.kind == "events")


@dataclass(frozen=True)
class There:
    partitions: int
    replication: int
    config: Mapping[str, str]
    set_here: Mapping[str, str] = field(default_factory=dict)


def there(spec: TopicSpec, **changed: Any) -> There:
    """The topic as it is declared, but for what is changed."""
    settings = spec.settings(1)
    return replace(There(spec.partitions, 1, {**settings, "other": "x"}, settings), **changed)


class Admin:
    """Remembers what it is told, and keeps topics."""

    def __init__(self, brokers: int = 1) -> None:
        self._brokers = brokers
        self.topics: dict[str, There] = {}
        self.calls: list[tuple[Any, ...]] = []

    def brokers(self) -> int:
        return self._brokers

    def describe(self, names: Any) -> dict[str, There]:
        return {name: self.topics[name] for name in names if name in self.topics}

    def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        self.calls.append(("create", name, partitions, replication))
        self.topics[name] = There(partitions, replication, dict(config), dict(config))
        return True

    def alter(self, name: str, config: Mapping[str, str | None]) -> None:
        self.calls.append(("alter", name, dict(config)))
        was = self.topics[name]
        told = {k: v for k, v in {**was.config, **config}.items() if v is not None}
        here = {k: v for k, v in {**was.set_here, **config}.items() if v is not None}
        self.topics[name] = replace(was, config=told, set_here=here)

    def add_partitions(self, name: str, total: int) -> None:
        self.calls.append(("grow", name, total))
        self.topics[name] = replace(self.topics[name], partitions=total)


@pytest.mark.parametrize(("brokers", "copies"), [(1, 1), (2, 2), (3, 3), (7, 3)])
def test_everything_is_created_once(brokers: int, copies: int) -> None:
    admin = Admin(brokers)
    apply(admin, plan(SPECS, {}, brokers))
    assert [call[0] for call in admin.calls] == ["create"] * 6
    assert {call[3] for call in admin.calls} == {copies}
    assert admin.topics["p.windows"].config["min.insync.replicas"] == ("2" if copies == 3 else "1")
    again = plan(SPECS, admin.describe([spec.name for spec in SPECS]), brokers)
    assert {change.action for change in again} == {"ok"}
    apply(admin, again)
    assert len(admin.calls) == 6


def test_settings_that_differ_are_set_and_old_ones_of_ours_taken_back() -> None:
    config = {**WINDOWS.settings(1), "retention.ms": "5", "retention.bytes": "77", "other": "x"}
    (change,) = plan([WINDOWS], {"p.windows": there(WINDOWS, config=config, set_here=config)}, 1)
    assert change.action == "change"
    assert change.settings == {"retention.ms": "86400000", "retention.bytes": None}
    assert "retention.ms 5 -> 86400000" in change.what
    assert "retention.bytes 77 -> default" in change.what
    admin = Admin()
    admin.topics["p.windows"] = there(WINDOWS, config=config, set_here=config)
    apply(admin, [change])
    (after,) = plan([WINDOWS], admin.topics, 1)
    assert after.action == "ok"


@pytest.mark.parametrize("partitions", [12, 48])
def test_partitions_of_windows_are_not_touched(partitions: int) -> None:
    (change,) = plan([WINDOWS], {"p.windows": there(WINDOWS, partitions=partitions)}, 1)
    assert change.action == "refuse"
    assert f"{partitions} partitions, not 24: cameras would move away from their state" in change.what
    assert refused([change]) == [change]


def test_partitions_of_results_can_be_added_never_taken_away() -> None:
    (grow,) = plan([EVENTS], {"p.events": there(EVENTS, partitions=6)}, 1)
    assert (grow.action, grow.what.startswith("6 -> 12 partitions")) == ("grow", True)
    admin = Admin()
    admin.topics["p.events"] = there(EVENTS, partitions=6)
    apply(admin, [grow])
    assert admin.topics["p.events"].partitions == 12
    (shrink,) = plan([EVENTS], {"p.events": there(EVENTS, partitions=13)}, 1)
    assert (shrink.action, "cannot take partitions away" in shrink.what) == ("refuse", True)


def test_copies_that_were_asked_for_must_be_there() -> None:
    three = replace(EVENTS, replication=3)
    (missing,) = plan([three], {}, 1)
    assert (missing.action, missing.what) == ("refuse", "3 copies need as many brokers, and 1 is up")
    (fewer,) = plan([three], {"p.events": there(EVENTS)}, 3)
    assert fewer.action == "refuse"
    assert "1 copy, not 3" in fewer.what
    (automatic,) = plan([EVENTS], {"p.events": there(EVENTS)}, 3)
    assert automatic.action == "ok"


def test_a_broker_that_comes_up_is_waited_for() -> None:
    answers: list[int | Exception] = [BusUnavailable("no"), BusUnavailable("no"), 3]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    slept: list[float] = []
    assert when_a_broker_answers(ask, 60, slept.append) == 3
    assert len(slept) == 2
    answers[:] = [BusUnavailable("no"), 1]
    with pytest.raises(BusUnavailable):
        when_a_broker_answers(ask, 0, slept.append)
    answers[:] = [BusDenied("no"), 1]
    with pytest.raises(BusDenied):
        when_a_broker_answers(ask, 60, slept.append)
