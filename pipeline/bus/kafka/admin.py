"""Describes, creates and changes topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the broker has it. ``config`` holds every setting in force, ``set_here`` those set on the topic."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    set_here: Mapping[str, str]


class KafkaAdmin:
    """Made by ``KafkaBus.admin``. Every call raises BusUnavailable or BusDenied where that is so."""

    def brokers(self) -> int:
        """How many brokers are up."""
        raise NotImplementedError

    def topics(self) -> tuple[str, ...]:
        """Names of the topics we may see, sorted."""
        raise NotImplementedError

    def describe(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of ``names`` that exist."""
        raise NotImplementedError

    def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        """Create a topic and wait until it can be used; False when it was there already (it is left as it is)."""
        raise NotImplementedError

    def alter(self, name: str, config: Mapping[str, str | None]) -> None:
        """Set these settings of a topic (None: back to the broker's default); the others stay."""
        raise NotImplementedError

    def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to ``total``. Keys move to other partitions: think first."""
        raise NotImplementedError

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics; those that are not there are passed over."""
        raise NotImplementedError

    def groups(self) -> tuple[str, ...]:
        """Names of the consumer groups, sorted."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave."""
        raise NotImplementedError
