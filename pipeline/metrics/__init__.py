"""What a worker tells of itself, for Prometheus: one catalogue, and recorders named after what happened.

The only importer of prometheus_client. ``catalogue`` lists every metric; ``IngestMetrics``, ``InferMetrics`` and
``RunMetrics`` are what the services call; ``docs/metrics.md`` is written from the same catalogue.
"""

from pipeline.metrics.catalogue import CATALOGUE, Metric, Role
from pipeline.metrics.parts import ObservationLike, SourceHealth, SpoolState
from pipeline.metrics.recorders import InferMetrics, IngestMetrics, RunMetrics, WorkerMetrics

__all__ = [
    "CATALOGUE",
    "InferMetrics",
    "IngestMetrics",
    "Metric",
    "ObservationLike",
    "Role",
    "RunMetrics",
    "SourceHealth",
    "SpoolState",
    "WorkerMetrics",
]
