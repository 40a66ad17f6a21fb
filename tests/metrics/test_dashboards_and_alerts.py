"""Dashboards and alerts are made of metrics that exist, parse, and do what they say (promtool)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.metrics import CATALOGUE
from tests.conftest import ROOT
from tests.metrics.dashboards import (
    ALERT_TESTS,
    ALERTS,
    DASHBOARDS,
    alerts,
    as_rules,
    boards,
    panel_queries,
    panels,
)
from tests.prometheus_server import promtool

_KNOWN = {metric.name: metric for metric in CATALOGUE}
_BEYOND = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
_SELECTOR = re.compile(r"\b((?:passerby|process)_\w+|up)\b(?:\{([^}]*)\})?")
_BY_WHAT = re.compile(r"\b(?:by|on) \(([^)]*)\)")
_ADDED = {"instance", "job", "le"}


def expressions() -> Iterator[tuple[str, str]]:
    yield from ((str(query), query.filled()) for query in panel_queries())
    yield from ((alert["alert"], alert["expr"]) for alert in alerts())


def base_name(name: str) -> str:
    """Without what a histogram's series have behind their name."""
    for ending in ("_bucket", "_count", "_sum"):
        if name.endswith(ending) and name.removesuffix(ending) in _KNOWN:
            return name.removesuffix(ending)
    return name


def test_the_dashboards_are_those_of_the_code() -> None:
    """Renew: python -m deploy.grafana.generate"""
    told = subprocess.run(
        [sys.executable, "-m", "deploy.grafana.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    assert {path.name for path in DASHBOARDS.glob("*.json")} == {"overview.json", "camera.json", "pipeline-health.json"}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_and_label_that_is_asked_for_exists(where: str, expression: str) -> None:
    labels_of_all: set[str] = set(_ADDED)
    for name, matchers in _SELECTOR.findall(expression):
        base = base_name(name)
        if base in _BEYOND:
            continue
        assert base in _KNOWN, f"{where}: no metric {name}"
        assert (_KNOWN[base].kind == "histogram") == (name != base)
        labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers))
        assert labels <= {*_KNOWN[base].labels, *_ADDED}, f"{where}: {name} has no label {labels}"
        labels_of_all |= set(_KNOWN[base].labels)
    for grouping in _BY_WHAT.findall(expression):
        assert {label.strip() for label in grouping.split(",")} <= labels_of_all, where


def test_every_metric_is_looked_at_somewhere() -> None:
    asked = {base_name(name) for _, expression in expressions() for name, _ in _SELECTOR.findall(expression)}
    assert set(_KNOWN) - asked == set()


def test_counters_are_asked_for_their_rate() -> None:
    for where, expression in expressions():
        for name in re.findall(r"\bpasserby_\w+_total\b", expression):
            assert re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression), f"{where}: {name} bare"


@pytest.mark.prometheus
def test_every_query_of_every_panel_parses(tmp_path: Path) -> None:
    queries = {f"panel_query_{n}": query.filled() for n, query in enumerate(panel_queries())}
    assert len(queries) > 60
    words = promtool("check", "rules", as_rules(queries, tmp_path / "rules.yml"))
    assert f"{len(queries)} rules found" in words


def test_dashboards_are_whole() -> None:
    uids = {board["uid"] for board in boards().values()}
    assert uids == {"passerby-overview", "passerby-camera", "passerby-pipeline"}
    for title, panel in panels():
        assert panel["description"].endswith("."), f"{title}, {panel['title']}: says nothing of itself"
        assert panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for board in boards().values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, f"{board['title']}: {panel['title']} lies on another panel"
            assert all(x < 24 for x, _ in cells)
            taken |= cells
        links = re.findall(r"/d/([\w-]+)", str(board))
        assert set(links) <= uids


def test_provisioning_names_what_is_there() -> None:
    folder = DASHBOARDS.parent
    source = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    scrape = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    provider = yaml.safe_load((DASHBOARDS / "passerby.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards"


@pytest.mark.prometheus
@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_promtool_takes_the_configuration(name: str) -> None:
    assert "18 rules found" in promtool("check", "config", ALERTS.parent / name)


@pytest.mark.prometheus
def test_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", ALERT_TESTS)


def test_each_alert_is_tested_both_ways_and_says_what_to_do() -> None:
    cases = [case for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {alert["alert"] for alert in alerts()}
    assert fired == names
    assert quiet >= names - {"PasserbyCameraFlapping"}, (
        "its test has two cameras that must not fire beside one that must"
    )
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert len(alert["annotations"]["description"]) > 60, f"{alert['alert']}: what is to be done?"
    shown = {panel["title"] for _, panel in panels()}
    for named in re.findall(
        r"\(panel (\w+)\)|panel (\w+)[ .(]", " ".join(a["annotations"]["description"] for a in alerts())
    ):
        assert any(title.startswith(named[0] or named[1]) for title in shown), named
