"""Who may do what on the broker: ``acls.yaml`` beside this file, for one prefix and its groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.config import KafkaConfig

ROLES = ("ingest", "infer", "consumer", "operator", "admin")
SHIPPED = Path(__file__).with_name("acls.yaml")
_FLAGS = {"topic": "--topic", "group": "--group", "transactional_id": "--transactional-id"}


@dataclass(frozen=True, slots=True)
class Acl:
    """``principal`` may do ``operation`` on the resource. prefixed: on all whose names begin with ``name``."""

    role: str
    principal: str
    resource: Literal["topic", "group", "transactional_id"]
    name: str
    prefixed: bool
    operation: str

    def command(self) -> str:
        """The arguments of Kafka's own ``kafka-acls.sh`` that set it."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return f"--add --allow-principal {self.principal} --operation {self.operation} " + (
            f"{_FLAGS[self.resource]} {self.name}{pattern}"
        )


def acls(settings: KafkaConfig, principals: Mapping[str, str] | None = None) -> list[Acl]:
    """Every right of every role. principals: the user of a role (``{"ingest": "User:cam-ingest"}``).

    A role without one is played by ``User:<prefix>-<role>``.
    """
    told: dict[str, dict[str, dict[str, list[str]]]] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return [acl for role in ROLES for acl in _of_role(role, told[role], settings, dict(principals or {}))]


def _of_role(role: str, told: Mapping[str, Any], settings: KafkaConfig, principals: Mapping[str, str]) -> Iterator[Acl]:
    principal = principals.get(role, f"User:{settings.prefix}-{role}")
    groups = {"ingest": settings.ingest_group_name, "infer": settings.infer_group_name}
    kinds: tuple[tuple[Literal["topic", "group", "transactional_id"], str], ...] = (
        ("topic", "topics"), ("group", "groups"), ("transactional_id", "transactional_ids"),
    )  # fmt: skip
    for resource, key in kinds:
        for name, operations in told.get(key, {}).items():
            stem = name.removesuffix("*")
            full = groups.get(name, "") if resource == "group" else ""
            for operation in operations:
                yield Acl(role, principal, resource, full or f"{settings.prefix}.{stem}", name.endswith("*"), operation)
