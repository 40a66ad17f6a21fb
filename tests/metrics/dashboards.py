"""The queries of every panel and the expressions of every alert, as they are committed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
ALERT_TESTS = ROOT / "deploy" / "prometheus" / "tests" / "alerts_test.yml"


@dataclass(frozen=True)
class PanelQuery:
    """A query as Grafana asks it, but for its variables."""

    dashboard: str
    panel: str
    expression: str

    def filled(self, *, camera: str = "gate", span: str = "1m") -> str:
        """With the variables replaced as Grafana would."""
        text = self.expression.replace("$camera", camera)
        for variable in ("$__rate_interval", "$__range", "$__interval"):
            text = text.replace(variable, span)
        assert "$" not in text, f"a variable nobody fills: {text}"
        return text

    def __str__(self) -> str:
        return f"{self.dashboard}, {self.panel}"


@cache
def boards() -> dict[str, dict[str, Any]]:
    """File name -> dashboard."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that is no headline, with its dashboard's title."""
    for board in boards().values():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield board["title"], panel


@cache
def panel_queries() -> tuple[PanelQuery, ...]:
    """Every query of every panel."""
    return tuple(
        PanelQuery(title, panel["title"], target["expr"]) for title, panel in panels() for target in panel["targets"]
    )


@cache
def alerts() -> tuple[dict[str, Any], ...]:
    """Every alert."""
    told = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return tuple(rule for group in told["groups"] for rule in group["rules"])


def as_rules(expressions: dict[str, str], path: Path) -> Path:
    """A file of recording rules with these expressions, so that promtool reads them."""
    rules = [{"record": name, "expr": expression} for name, expression in expressions.items()]
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    return path
