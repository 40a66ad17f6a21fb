"""Describes, creates and changes topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient as Client
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.bus.kafka.errors import ours
from pipeline.errors import BusUnavailable


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

    def __init__(self, open_client: Callable[[], Client]) -> None:
        self._open_client = open_client
        self._opened: Client | None = None

    def brokers(self) -> int:
        """How many brokers are up."""
        with ours("ask the cluster"):
            return len(self._client.describe_cluster()["brokers"])

    def topics(self) -> tuple[str, ...]:
        """Names of the topics we may see, sorted; Kafka's own are left out."""
        with ours("list the topics"):
            found = self._client.describe_topics()
        return tuple(sorted(topic["name"] for topic in found if not topic.get("is_internal")))

    def describe(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of ``names`` that exist."""
        if not names:
            return {}
        with ours(f"describe {', '.join(names)}"):
            found = {}
            for topic in self._client.describe_topics(list(names)):
                error = kafka_errors.for_code(topic["error_code"])
                if error is kafka_errors.NoError:
                    found[topic["name"]] = topic
                elif error is not kafka_errors.UnknownTopicOrPartitionError:
                    raise error(topic["name"])
            configs = self._configs(list(found))
        return {
            name: TopicDescription(
                name,
                len(topic["partitions"]),
                min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0),
                *configs[name],
            )
            for name, topic in found.items()
        }

    def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> bool:
        """Create a topic and wait until it can be used; False when it was there already (it is left as it is)."""
        wanted = {
            name: {"num_partitions": partitions, "replication_factor": replication, "configs": dict(config)}
        }  # fmt: skip
        with ours(f"create {name}"):
            try:
                self._client.create_topics(wanted)
                made = True
            except kafka_errors.TopicAlreadyExistsError:
                made = False
            self._client.wait_for_topics([name], timeout_ms=30_000)
        return made

    def alter(self, name: str, config: Mapping[str, str | None]) -> None:
        """Set these settings of a topic (None: back to the broker's default); the others stay."""
        given = {key: value for key, value in config.items() if value is not None}
        back = [key for key, value in config.items() if value is None]
        with ours(f"change {name}"):
            if given:
                self._client.alter_configs([_resource(name, given)], incremental=True)
            if back:
                self._client.reset_configs([_resource(name, dict.fromkeys(back))], incremental=True)

    def add_partitions(self, name: str, total: int) -> None:
        """Raise the number of partitions to ``total``. Keys move to other partitions: think first."""
        with ours(f"add partitions to {name}"):
            self._client.create_partitions({name: total})
            self._client.wait_for_topics([name], timeout_ms=30_000)

    def delete(self, names: Sequence[str]) -> None:
        """Delete topics and wait until they are gone; those that are not there are passed over."""
        with ours(f"delete {', '.join(names)}"):
            for name in names:
                try:
                    self._client.delete_topics([name])
                except kafka_errors.UnknownTopicOrPartitionError:
                    continue
            until = time.monotonic() + 30
            while any(name in self.topics() for name in names):
                if time.monotonic() > until:
                    raise BusUnavailable(f"topics are still there after 30 s: {', '.join(names)}")
                time.sleep(0.05)

    def groups(self) -> tuple[str, ...]:
        """Names of the consumer groups, sorted."""
        with ours("list the groups"):
            return tuple(sorted(group["group_id"] for group in self._client.list_groups()))

    def close(self) -> None:
        """Leave."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _client(self) -> Client:
        if self._opened is None:
            self._opened = self._open_client()
        return self._opened

    def _configs(self, names: list[str]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """Of each topic: every setting, and those set on the topic."""
        if not names:
            return {}
        told = self._client.describe_configs([_resource(name, None) for name in names], config_filter="all")
        found = {}
        for name, settings in told["topic"].items():
            values = {key: str(entry["value"]) for key, entry in settings.items() if entry["value"] is not None}
            here = {key: values[key] for key, entry in settings.items() if key in values and _set_here(entry)}
            found[name] = (values, here)
        return found

    def __enter__(self) -> KafkaAdmin:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _resource(name: str, configs: Mapping[str, str | None] | None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, name, None if configs is None else dict(configs))


def _set_here(entry: Mapping[str, Any]) -> bool:
    """Whether the setting stands on the topic itself, not on the broker."""
    source = entry.get("config_source")
    return "TOPIC" in str(getattr(source, "name", source)).upper()
