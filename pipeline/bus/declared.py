"""What is declared of the topics: ``topics.yaml`` beside this file, and over it the file that ``kafka.topics`` names.

Wrong files raise ConfigProblems with file, line and mend, as ``passerby.yaml`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import ConfigProblems, KafkaConfig, Problem
from pipeline.config.document import Node, dotted, merged, parse
from pipeline.config.problems import did_you_mean
from pipeline.errors import ConfigError

KINDS = ("cameras", "windows", "counts", "events", "state", "dead-letters")
TOGETHER = ("cameras", "windows", "state")
"""Have the same number of partitions: a camera's records lie in the partition of the same number in each."""

SHIPPED = Path(__file__).with_name("topics.yaml")
_AUTO_REPLICATION = 3
_KEYS = (
    "partitions", "replication", "min_insync", "compacted", "retention", "retention_bytes", "max_message", "config",
)  # fmt: skip
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MAX_PARTITIONS = 10_000
_OWN_SETTINGS = {  # settings of Kafka that have a key of their own here
    "cleanup.policy": "compacted",
    "retention.ms": "retention",
    "retention.bytes": "retention_bytes",
    "max.message.bytes": "max_message",
    "min.insync.replicas": "min_insync",
}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic should be. replication, min_insync: None for as many as the cluster allows, up to 3 and 2.

    retention_ms: None where the topic is compacted. retention_bytes: of a partition, None without a limit.
    """

    kind: str
    name: str
    partitions: int
    replication: int | None
    min_insync: int | None
    compacted: bool
    retention_ms: int | None
    retention_bytes: int | None
    max_message_bytes: int
    config: Mapping[str, str] = field(default_factory=dict)

    def replication_on(self, brokers: int) -> int:
        """Copies of each record in a cluster of ``brokers``."""
        return self.replication or max(1, min(_AUTO_REPLICATION, brokers))

    def settings(self, replication: int) -> dict[str, str]:
        """The topic's settings by Kafka's names, for a topic that has ``replication`` copies; sorted."""
        min_insync = self.min_insync or (2 if replication >= 3 else 1)
        told = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(self.max_message_bytes),
            "min.insync.replicas": str(min_insync),
            **self.config,
        }
        if self.retention_ms is not None:
            told["retention.ms"] = str(self.retention_ms)
        if self.retention_bytes is not None:
            told["retention.bytes"] = str(self.retention_bytes)
        return dict(sorted(told.items()))


def declared(settings: KafkaConfig) -> list[TopicSpec]:
    """The topics of ``settings.prefix``, in the order of ``KINDS``. Raises ConfigError naming file, line and mend."""
    root = _tree(SHIPPED)
    file = str(SHIPPED)
    if settings.topics is not None:
        file = settings.topics
        whole = merged(root, _tree(Path(file)))
        assert whole is not None
        root = whole
    return _Reader(root, file, settings.prefix).read()


def _tree(path: Path) -> Node:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", mend="kafka.topics names it") from None
    root, problems = parse(text, str(path))
    if root is not None and not isinstance(root.value, dict):
        problems.append(Problem(str(path), root.line, root.column, "", "not a map of topics", "", "not-a-map"))
    if root is None or problems:
        raise ConfigProblems(problems)
    return root


class _Reader:
    """Turns the tree into specs, and remembers what is wrong."""

    def __init__(self, root: Node, file: str, prefix: str) -> None:
        self._root, self._file, self._prefix = root, file, prefix
        self._problems: list[Problem] = []

    def read(self) -> list[TopicSpec]:
        assert isinstance(self._root.value, dict)
        for kind, entry in self._root.value.items():
            if kind not in KINDS:
                mend = did_you_mean(kind, KINDS)
                self._wrong((entry.line, entry.column), (kind,), f"there is no topic {kind!r}", mend, "unknown-key")
        specs = [spec for spec in map(self._topic, KINDS) if spec is not None]
        by_kind = {spec.kind: spec for spec in specs}
        for kind in TOGETHER:
            if kind in by_kind and "windows" in by_kind and by_kind[kind].partitions != by_kind["windows"].partitions:
                message = f"{by_kind[kind].partitions} partitions, but windows has {by_kind['windows'].partitions}"
                mend = f"{', '.join(TOGETHER)} must have the same number: a camera's records lie side by side"
                self._wrong(self._root.place((kind, "partitions")), (kind, "partitions"), message, mend, "partitions")
        if self._problems:
            raise ConfigProblems(self._problems)
        return specs

    def _topic(self, kind: str) -> TopicSpec | None:
        node = self._root.get(kind)
        if node is None or not isinstance(node.value, dict):
            place = self._root.place((kind,))
            self._wrong(place, (kind,), "must be a map of keys", f"known here: {', '.join(_KEYS)}", "wrong-type")
            return None
        before = len(self._problems)
        for key, entry in node.value.items():
            if key not in _KEYS:
                mend = did_you_mean(key, _KEYS)
                self._wrong((entry.line, entry.column), (kind, key), f"unknown key {key!r}", mend, "unknown-key")
        compacted = self._bool(kind, "compacted")
        retention_ms = self._unit(kind, "retention", _SECONDS, "24 h", needed=not compacted)
        if compacted and retention_ms is not None:
            place = self._root.place((kind, "retention"), at_key=True)
            self._wrong(place, (kind, "retention"), "compacted keeps for ever", "give one of the two", "compacted")
        spec = TopicSpec(
            kind, f"{self._prefix}.{kind}",
            self._whole(kind, "partitions", _MAX_PARTITIONS) or 1,
            self._whole(kind, "replication", 100, auto=True),
            self._whole(kind, "min_insync", 100, auto=True),
            compacted,
            None if compacted or retention_ms is None else retention_ms * 1000,
            self._unit(kind, "retention_bytes", _BYTES, "10 GiB", needed=False),
            self._unit(kind, "max_message", _BYTES, "8 MiB", needed=True) or 1,
            self._config(kind),
        )  # fmt: skip
        if spec.replication and spec.min_insync and spec.min_insync > spec.replication:
            place = self._root.place((kind, "min_insync"))
            message = f"{spec.min_insync} copies must be written, of {spec.replication}"
            self._wrong(place, (kind, "min_insync"), message, "nothing could be sent", "min-insync")
        return spec if len(self._problems) == before else None

    def _bool(self, kind: str, key: str) -> bool:
        node = self._root.find((kind, key))
        if node is None or node.value in (True, False):
            return bool(node is not None and node.value)
        self._wrong((node.line, node.column), (kind, key), "must be true or false", "", "wrong-type")
        return False

    def _whole(self, kind: str, key: str, most: int, *, auto: bool = False) -> int | None:
        node = self._root.find((kind, key))
        value = "auto" if node is None and auto else None if node is None else node.value
        if auto and value == "auto":
            return None
        if type(value) is int and 1 <= value <= most:
            return value
        message = f"must be a whole number from 1 to {most}{', or auto' if auto else ''}"
        self._wrong(self._root.place((kind, key)), (kind, key), message, "", "wrong-type")
        return None

    def _unit(self, kind: str, key: str, units: Mapping[str, int], example: str, *, needed: bool) -> int | None:
        """A number with its unit, in the unit's base (s, B)."""
        node = self._root.find((kind, key))
        if node is None and not needed:
            return None
        told = "" if node is None else str(node.value)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([A-Za-z]+)", told)
        if found is None or found[2] not in units or not float(found[1]):
            message = f"must be a number with a unit ({', '.join(units)})"
            self._wrong(self._root.place((kind, key)), (kind, key), message, f"for example {example}", "wrong-type")
            return None
        return round(float(found[1]) * units[found[2]])

    def _config(self, kind: str) -> dict[str, str]:
        node = self._root.find((kind, "config"))
        if node is None or node.is_null:
            return {}
        if not isinstance(node.value, dict):
            self._wrong((node.line, node.column), (kind, "config"), "must be a map of Kafka's settings", "", "type")
            return {}
        told: dict[str, str] = {}
        for key, entry in node.value.items():
            value, place = entry.node.value, (entry.line, entry.column)
            if key in _OWN_SETTINGS:
                mend = f"write {_OWN_SETTINGS[key]} beside config"
                self._wrong(place, (kind, "config", key), "has a key of its own", mend, "own-key")
            elif isinstance(value, dict | list) or value is None:
                self._wrong(place, (kind, "config", key), "must be text or a number", "", "wrong-type")
            else:
                told[key] = str(value).lower() if isinstance(value, bool) else str(value)
        return told

    def _wrong(self, place: tuple[int, int], path: tuple[str | int, ...], message: str, mend: str, code: str) -> None:
        self._problems.append(Problem(self._file, *place, dotted(path), message, mend, code))
