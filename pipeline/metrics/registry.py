"""Makes Prometheus' objects from the catalogue, for one role."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from pipeline.metrics import catalogue
from pipeline.metrics.catalogue import Metric, Role

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_log = logging.getLogger(__name__)

Sample = tuple[str, Sequence[str], float]
"""Name of a metric, the values of its labels in the catalogue's order, and the value."""

Reading = Callable[[], Iterable[Sample]]
"""Reads samples from where they live; called at each scrape."""


class MetricRegistry:
    """All metrics of a role, and the standard ones of its process (``process_*``). One per worker."""

    def __init__(self, role: Role) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, of no use here
        self.role = role
        self._registry = CollectorRegistry()
        self._metrics = {metric.name: metric for metric in catalogue.of(role)}
        self._told = {name: _made(m, self._registry) for name, m in self._metrics.items() if role not in m.scraped}
        self._readings: list[Reading] = []
        self._registry.register(_Readings(self._metrics, self._readings))
        ProcessCollector(registry=self._registry)

    def counter(self, name: str) -> Counter:
        """A counter of the catalogue; KeyError where the role has none of that name."""
        return cast(Counter, self._told[name])

    def gauge(self, name: str) -> Gauge:
        """A gauge of the catalogue."""
        return cast(Gauge, self._told[name])

    def histogram(self, name: str) -> Histogram:
        """A histogram of the catalogue."""
        return cast(Histogram, self._told[name])

    def read_at_scrape(self, reading: Reading) -> None:
        """Ask ``reading`` at each scrape. If it raises, that scrape lacks its samples, and the log says so."""
        self._readings.append(reading)

    def forget(self, **labels: str) -> None:
        """Remove all series with these labels (of metrics that have them)."""
        for name, made in self._told.items():
            if set(labels) <= set(self._metrics[name].labels):
                made.remove_by_labels(labels)

    def wsgi_app(self) -> WSGIApplication:
        """Serves the page that Prometheus reads (text or OpenMetrics, gzip, as it asks)."""
        return cast("WSGIApplication", make_wsgi_app(self._registry))

    def value(self, name: str, **labels: str) -> float | None:
        """One sample as it would be served now; None where there is no such series."""
        return self._registry.get_sample_value(name, labels)

    def series(self) -> list[tuple[str, dict[str, str], float]]:
        """Every sample as it would be served now: its name, labels, value."""
        return [(s.name, dict(s.labels), s.value) for family in self._registry.collect() for s in family.samples]


def _made(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


class _Readings(Collector):
    """What is read at the scrape, as families of the catalogue."""

    def __init__(self, metrics: Mapping[str, Metric], readings: Sequence[Reading]) -> None:
        self._metrics = metrics
        self._readings = readings

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        return iter(())

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for reading in self._readings:
            try:
                samples = list(reading())
            except Exception:
                _log.exception("metrics: a reading failed; its series are missing from this scrape")
                continue
            for name, labels, value in samples:
                if name not in families:
                    metric = self._metrics[name]
                    family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                    families[name] = family(name, metric.help, labels=metric.labels)
                families[name].add_metric(list(labels), value)
        yield from families.values()
