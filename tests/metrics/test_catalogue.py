"""The catalogue keeps Prometheus' rules, and the page is made from it."""

from __future__ import annotations

import re
from typing import get_args
from wsgiref.util import setup_testing_defaults

import pytest

from pipeline.core.ledger import DropCause, FrameLedger
from pipeline.metrics import CATALOGUE, InferMetrics, IngestMetrics, Metric, RunMetrics, WorkerMetrics
from pipeline.metrics.catalogue import LABELS, SECTIONS, STAGES, STAGES_OF
from pipeline.metrics.page import page
from tests.conftest import ROOT
from tests.prometheus_server import promtool


def workers() -> list[WorkerMetrics]:
    return [IngestMetrics(FrameLedger()), InferMetrics(), RunMetrics(FrameLedger())]


def test_the_page_is_that_of_the_code() -> None:
    """Renew: python -m pipeline.metrics.page > docs/metrics.md"""
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"passerby(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert set(metric.labels) <= set(LABELS)
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.roles
    assert set(metric.scraped) <= set(metric.roles)
    wrong_units = ("_ms", "_us", "_milliseconds", "_minutes", "_percent", "_kb", "_mb")
    assert not metric.name.removesuffix("_total").endswith(wrong_units)
    words = metric.help.lower()
    if "second" in words or "how long" in words or metric.name.endswith("timestamp_seconds"):
        assert "_seconds" in metric.name
    if words.startswith("bytes"):
        assert "_bytes" in metric.name


def test_each_name_once_and_in_a_section_and_every_label_used() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(names) == len(set(names))
    assert [metric for section in SECTIONS.values() for metric in section] == list(CATALOGUE)
    assert {label for metric in CATALOGUE for label in metric.labels} == set(LABELS)


def test_words_of_labels_name_what_the_code_can_say() -> None:
    assert all(cause in LABELS["cause"] for cause in get_args(DropCause))
    assert {stage for stages in STAGES_OF.values() for stage in stages} == set(STAGES)


@pytest.mark.prometheus
@pytest.mark.parametrize("worker", workers(), ids=lambda worker: worker.registry.role)
def test_promtool_finds_nothing_to_say(worker: WorkerMetrics) -> None:
    assert promtool("check", "metrics", given=b"".join(_served(worker))) == ""


def _served(worker: WorkerMetrics) -> list[bytes]:
    environ: dict[str, object] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = "/metrics"
    return list(worker.wsgi_app()(environ, lambda *_: lambda _: None))
