"""``passerby topics``: what is declared against what the broker has, and the way from the one to the other.

1. describe the topics that are there
2. plan: create what is missing, set what differs, refuse what cannot be had
3. where anything is refused, nothing is done
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pipeline.bus.declared import TOGETHER, TopicSpec
from pipeline.errors import BusUnavailable

Action = Literal["ok", "create", "change", "grow", "refuse"]
_OURS = ("retention.ms", "retention.bytes")
"""Settings that are ours even when they are not declared: what an earlier file set, goes back to the default."""


class Description(Protocol):
    """A topic as the broker has it: see ``pipeline.bus.kafka.TopicDescription``."""

    @property
    def partitions(self) -> int: ...
    @property
    def replication(self) -> int: ...
    @property
    def config(self) -> Mapping[str, str]: ...
    @property
    def set_here(self) -> Mapping[str, str]: ...


class Admin(Protocol):
    """What is asked of ``pipeline.bus.kafka.KafkaAdmin``."""

    def brokers(self) -> int: ...
    def describe(self, names: Sequence[str]) -> Mapping[str, Description]: ...
    def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool: ...
    def alter(self, name: str, config: Mapping[str, str | None]) -> None: ...
    def add_partitions(self, name: str, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do about a topic, or not to be done. what: in words. settings: for create and change."""

    topic: str
    action: Action
    what: str
    spec: TopicSpec
    replication: int = 0
    settings: Mapping[str, str | None] = field(default_factory=dict)


def plan(specs: Sequence[TopicSpec], there: Mapping[str, Description], brokers: int) -> list[Change]:
    """What has to be done, topic by topic in the order of ``specs``; ``ok`` for a topic that is as declared."""
    changes: list[Change] = []
    for spec in specs:
        description = there.get(spec.name)
        if description is None:
            changes.append(_missing(spec, brokers))
            continue
        told = f"{_many(description.partitions, 'partition')}, {_many(description.replication, 'copy', 'copies')}"
        changes += _differences(spec, description) or [Change(spec.name, "ok", told, spec)]
    return changes


def apply(admin: Admin, changes: Sequence[Change]) -> None:
    """Do it. Raises BusError, with what was done until then left done: to apply again goes on."""
    for change in changes:
        if change.action == "create":
            settings = {key: value for key, value in change.settings.items() if value is not None}
            admin.create(change.topic, change.spec.partitions, change.replication, settings)
        elif change.action == "change":
            admin.alter(change.topic, change.settings)
        elif change.action == "grow":
            admin.add_partitions(change.topic, change.spec.partitions)


def when_a_broker_answers(ask: Callable[[], int], wait_s: float, sleep: Callable[[float], None] = time.sleep) -> int:
    """What ``ask`` says, asked again for ``wait_s`` seconds while no broker answers. Raises BusError."""
    until = time.monotonic() + wait_s
    while True:
        try:
            return ask()
        except BusUnavailable:
            if time.monotonic() >= until:
                raise
            sleep(0.5)


def refused(changes: Sequence[Change]) -> list[Change]:
    """What cannot be done."""
    return [change for change in changes if change.action == "refuse"]


def _missing(spec: TopicSpec, brokers: int) -> Change:
    replication = spec.replication_on(brokers)
    if replication > brokers:
        what = f"{replication} copies need as many brokers, and {brokers} {'is' if brokers == 1 else 'are'} up"
        return Change(spec.name, "refuse", what, spec)
    settings: dict[str, str | None] = dict(spec.settings(replication))
    what = f"{_many(spec.partitions, 'partition')}, {_many(replication, 'copy', 'copies')}, {_told(settings)}"
    return Change(spec.name, "create", what, spec, replication, settings)


def _differences(spec: TopicSpec, there: Description) -> list[Change]:
    found: list[Change] = []
    if there.partitions != spec.partitions:
        found.append(_other_partitions(spec, there.partitions))
    if spec.replication is not None and there.replication != spec.replication:
        what = f"{_many(there.replication, 'copy', 'copies')}, not {spec.replication}: Kafka moves copies only by "
        found.append(Change(spec.name, "refuse", what + "kafka-reassign-partitions.sh", spec))
    wanted = spec.settings(there.replication)
    settings: dict[str, str | None] = {key: value for key, value in wanted.items() if there.config.get(key) != value}
    settings |= {key: None for key in _OURS if key in there.set_here and key not in wanted}
    if settings:
        was = there.config
        told = ", ".join(f"{key} {was.get(key, 'unset')} -> {value or 'default'}" for key, value in settings.items())
        found.append(Change(spec.name, "change", told, spec, settings=settings))
    return found


def _other_partitions(spec: TopicSpec, there: int) -> Change:
    what = f"{_many(there, 'partition')}, not {spec.partitions}: "
    if spec.kind in TOGETHER:
        what += "cameras would move away from their state; declare as many as there are, or take another prefix"
        return Change(spec.name, "refuse", what, spec)
    if there > spec.partitions:
        return Change(spec.name, "refuse", what + "Kafka cannot take partitions away", spec)
    what = f"{there} -> {spec.partitions} partitions: what a camera publishes next may lie in another one"
    return Change(spec.name, "grow", what, spec)


def _told(settings: Mapping[str, str | None]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def _many(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"
