"""docs/metrics.md from the catalogue: ``python -m pipeline.metrics.page > docs/metrics.md``; a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pipeline.metrics.catalogue import LABELS, SECTIONS, Metric

_INTRODUCTION = """\
# Metrics

<!-- Made by `python -m pipeline.metrics.page` from pipeline/metrics/catalogue.py; a test compares. -->

Every worker (`passerby run`, `ingest`, `infer`) answers on `--metrics-port`:

| path | answer |
| --- | --- |
| `/metrics` | what follows, and Prometheus' standard `process_*`; text, or OpenMetrics where that is asked for |
| `/livez` | 200 while the worker's loop turns; 503 with the reason when it stands still: restart it |
| `/readyz` | 200 when the worker has all it needs; 503 with what is missing, a line each |

`deploy/prometheus` has a scrape configuration and alert rules, `deploy/grafana` the dashboards.

- The topics (and `events.jsonl`) are the truth; counters of results are for watching. In `infer` they count what was
  *committed*: a transaction that is aborted and done again is counted once.
- Series begin at 0 when a camera comes to a worker and go when it leaves, so that a camera is told by one worker at a
  time. A counter that moves to another worker begins at 0 there: `sum by (camera) (increase(...))` goes on correctly.
- The ledger over the whole cluster: captured = sampled_out + dropped + sent + in_flight (ingest), and what is sent is
  analysed, void (`passerby_frames_dropped_total{cause="superseded_epoch"}`) or still in the log (`passerby_lag_*`).
  In `run`: captured = sampled_out + dropped + analysed + in_flight.
"""


def page() -> str:
    """The page, whole."""
    return "\n".join([_INTRODUCTION, *_sections(), *_labels()]) + "\n"


def _sections() -> Iterator[str]:
    for title, metrics in SECTIONS.items():
        yield f"## {title}\n"
        yield "| metric | type | labels | what | measured | in |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for metric in metrics:
            yield _row(metric)
        yield ""
        bucketed = [metric for metric in metrics if metric.buckets]
        if bucketed:
            yield from (f"Buckets of `{m.name}`: {', '.join(f'{bound:g}' for bound in m.buckets)}.\n" for m in bucketed)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (f"`{metric.name}`", metric.kind, labels, metric.help, metric.measured, ", ".join(metric.roles))
    return "| " + " | ".join(cells) + " |"


def _labels() -> Iterator[str]:
    yield "## Labels\n"
    yield "Each has few values, known beforehand; no URL, no track and no text of an error is ever a label.\n"
    yield "| label | values |"
    yield "| --- | --- |"
    yield from (f"| `{label}` | {values} |" for label, values in LABELS.items())


if __name__ == "__main__":
    sys.stdout.write(page())
