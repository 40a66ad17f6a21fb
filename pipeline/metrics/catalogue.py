"""Every metric Passerby has: name, type, labels, buckets, help, and where it is measured.

Prometheus' rules: base units, ``_total`` on counters, ``_seconds``, ``_bytes``, ``_ratio``, ``_timestamp_seconds``,
``_info``; a label has few values, known beforehand from the configuration or from the code (``LABELS``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["ingest", "infer", "run"]
Kind = Literal["counter", "gauge", "histogram"]

INGEST: tuple[Role, ...] = ("ingest", "run")
INFER: tuple[Role, ...] = ("infer", "run")
CLUSTER: tuple[Role, ...] = ("ingest", "infer")
EVERY: tuple[Role, ...] = ("ingest", "infer", "run")

STAGES = (
    "decode", "encode", "send", "wire", "unpack", "batch_wait", "inference", "scene", "label", "analytics", "commit",
)  # fmt: skip
STAGES_OF: dict[Role, tuple[str, ...]] = {
    "ingest": ("decode", "encode", "send"),
    "infer": ("wire", "unpack", "batch_wait", "inference", "scene", "label", "analytics", "commit"),
    "run": ("decode", "batch_wait", "inference", "scene", "label", "analytics"),
}
OUTCOMES = ("committed", "aborted", "fenced")
RECONNECT_REASONS = ("unavailable", "denied", "unreadable", "stalled", "ended")
DEAD_REASONS = ("malformed", "invalid", "too_large", "other")
READ_TOPICS: dict[Role, tuple[str, ...]] = {
    "ingest": ("cameras", "state"),
    "infer": ("windows", "cameras", "state"),
    "run": (),
}
REBALANCES = ("assigned", "revoked", "lost")

LABELS = {
    "camera": "camera_id of the configuration; the series go when the camera leaves the worker",
    "cause": "why frames were given up: stale, backpressure, superseded_epoch, spool_full, shutdown, failed",
    "stage": "one of: " + ", ".join(STAGES),
    "type": "what happened, without `io.passerby.` and version: line.crossed, zone.entered, count.window, ...",
    "line": "name of a line in the camera's configuration",
    "zone": "name of a zone in the camera's configuration",
    "direction": "left or right of the line, walking from A to B",
    "group": "person, vehicle, or other (a class outside the two groups)",
    "model": "name of the model",
    "version": "version of the model, or of Passerby",
    "sha256": "of the model's weights",
    "provider": "execution provider that runs the network: cpu, cuda, ...",
    "outcome": "one of: " + ", ".join(OUTCOMES),
    "reason": "of a reconnect: " + ", ".join(RECONNECT_REASONS) + "; of a dead letter: " + ", ".join(DEAD_REASONS),
    "topic": "topic without its prefix: windows, cameras, state, ...",
    "partition": "number of a partition that the worker holds",
    "kind": "of a change of partitions: " + ", ".join(REBALANCES),
    "scene": "kind of a scene event: fight, fall, covered, moved, ..., or a class of a model of yours",
    "role": "ingest, infer or run",
    "python": "version of Python",
}
"""Every label there is, and what bounds its values."""

_FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_AGE_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    measured: where and when, in words. scraped: the roles in which it is read from elsewhere when Prometheus asks
    (in the others it is told to a recorder). buckets: upper bounds, of a histogram.
    """

    name: str
    kind: Kind
    help: str
    measured: str
    labels: tuple[str, ...] = ()
    roles: tuple[Role, ...] = EVERY
    scraped: tuple[Role, ...] = ()
    buckets: tuple[float, ...] = ()


_LEDGER = (
    Metric(
        "passerby_frames_captured_total", "counter", "Frames that left the decoder.",
        "frame ledger, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_frames_sampled_out_total", "counter", "Frames that were not to be analysed: sample_fps is lower.",
        "frame ledger, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_frames_sent_total", "counter", "Frames in windows that the log has acknowledged.",
        "frame ledger, read at the scrape", ("camera",), ("ingest",), ("ingest",),
    ),
    Metric(
        "passerby_frames_analysed_total", "counter", "Frames whose counts and events are published.",
        "infer: when their transaction is committed; run: frame ledger, read at the scrape", ("camera",), INFER,
        ("run",),
    ),
    Metric(
        "passerby_frames_dropped_total", "counter", "Frames that were given up, by cause.",
        "ingest, run: frame ledger, read at the scrape; infer: when the transaction that passes them is committed",
        ("camera", "cause"), EVERY, INGEST,
    ),
    Metric(
        "passerby_frames_in_flight", "gauge", "Frames captured to be analysed whose fate is not known yet.",
        "frame ledger, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_windows_void_total", "counter", "Windows of an older epoch that came behind a newer one.",
        "infer: when the transaction that passes them is committed", ("camera",), INFER,
    ),
    Metric(
        "passerby_windows_sent_total", "counter", "Windows that the log has acknowledged.",
        "when the acknowledgement comes", ("camera",), ("ingest",),
    ),
    Metric(
        "passerby_windows_sent_bytes_total", "counter", "Bytes of the windows that the log has acknowledged.",
        "when the acknowledgement comes", ("camera",), ("ingest",),
    ),
)  # fmt: skip

_LATENCY = (
    Metric(
        "passerby_stage_duration_seconds", "histogram", "Time in a stage of the way from camera to event.",
        "decode: FFmpeg, a packet (about a frame; waiting for it not counted); encode: a window's pictures into "
        "bytes; send: a window handed to the client until acknowledged; wire: sent until polled; unpack: a window's "
        "bytes into pictures; batch_wait: the oldest picture of a batch; inference: a batch in the network; scene: a "
        "clip in the scene model, its new pictures encoded; label: a picture in the classifier; "
        "analytics: a window, with writing its results in run; commit: a transaction, from begin to committed",
        ("stage",), EVERY, (), _FAST_S,
    ),
    Metric(
        "passerby_capture_to_event_seconds", "histogram",
        "From the capture of a window's last frame until its counts and events are published; live cameras only.",
        "infer: when their transaction is committed; run: when they are written", ("camera",), INFER, (), _AGE_S,
    ),
    Metric(
        "passerby_inference_batch_size", "histogram", "Pictures in a batch; of a scene model: encoded for a clip.",
        "when the network has answered", ("model",), INFER, (), _BATCH,
    ),
    Metric(
        "passerby_lag_seconds", "gauge",
        "How far the camera's results are behind its newest windows, in seconds of live video; 0 when nothing waits.",
        "infer: now - sending of the camera's newest finished window, while its partition holds more; run: now - "
        "capture of the newest analysed frame, while frames are in flight; read at the scrape",
        ("camera",), INFER, INFER,
    ),
    Metric(
        "passerby_lag_records", "gauge", "Windows of a partition that are not finished.",
        "read at the scrape", ("partition",), ("infer",), ("infer",),
    ),
)  # fmt: skip

_CAMERAS = (
    Metric(
        "passerby_camera_up", "gauge", "1 while the camera delivers, 0 while it does not.",
        "when the source says so", ("camera",), INGEST,
    ),
    Metric(
        "passerby_camera_ended", "gauge", "1 once a recording was read to its end, 0 before and for every camera.",
        "when the source says so", ("camera",), INGEST,
    ),
    Metric(
        "passerby_camera_reconnects_total", "counter", "Attempts to connect again, by why the last connection ended.",
        "source, read at the scrape", ("camera", "reason"), INGEST, INGEST,
    ),
    Metric(
        "passerby_camera_last_frame_timestamp_seconds", "gauge", "When the decoder last gave a frame of the camera.",
        "the first scrape that finds more frames captured", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_camera_corrupt_packets_total", "counter", "Packets that could not be decoded and were skipped.",
        "source, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_camera_repaired_timestamps_total", "counter", "Timestamps that were missing or impossible.",
        "source, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_camera_hung_readers", "gauge", "Reader threads that hang inside the decoder and were given up.",
        "source, read at the scrape", ("camera",), INGEST, INGEST,
    ),
    Metric(
        "passerby_camera_coverage_ratio", "gauge", "Fraction of the newest count window that was really observed.",
        "when the count window is published", ("camera",), INFER,
    ),
    Metric(
        "passerby_camera_tampered", "gauge", "1 while its pictures are not what they should be.",
        "black, blinded, covered, defocused, moved or frozen; as passerby_events_total, by a new worker within 10 s",
        ("camera",), INFER,
    ),
)  # fmt: skip

_RESULTS = (
    Metric(
        "passerby_events_total", "counter", "Events published; the topics are the truth, this is for watching.",
        "infer: when their transaction is committed; run: when they are written", ("camera", "type"), INFER,
    ),
    Metric(
        "passerby_scene_open", "gauge", "Scene events of that kind that began and have not ended.",
        "as passerby_events_total; by a new worker with the next update of what is going on",
        ("camera", "scene"), INFER,
    ),
    Metric(
        "passerby_scene_started_total", "counter", "Scene events that began; the topics are the truth.",
        "as passerby_events_total", ("camera", "scene"), INFER,
    ),
    Metric(
        "passerby_objects_crossed_total", "counter", "Crossings of a line; the topics are the truth.",
        "as passerby_events_total", ("camera", "line", "direction", "group"), INFER,
    ),
    Metric(
        "passerby_objects_present", "gauge", "Objects in the picture now.",
        "newest published frame", ("camera", "group"), INFER,
    ),
    Metric(
        "passerby_zone_occupancy", "gauge", "Objects inside a zone now.",
        "newest published frame", ("camera", "zone", "group"), INFER,
    ),
)  # fmt: skip

_LOG = (
    Metric(
        "passerby_transactions_total", "counter", "Transactions, by how they ended.",
        "when they end", ("outcome",), ("infer",),
    ),
    Metric(
        "passerby_dead_letters_total", "counter", "Records that could not be read and were set aside.",
        "when the dead letter is sent", ("topic", "reason"), CLUSTER,
    ),
    Metric(
        "passerby_partitions_assigned", "gauge", "Partitions that the worker holds.",
        "when they come and go", (), CLUSTER,
    ),
    Metric(
        "passerby_rebalances_total", "counter", "Changes of the worker's partitions, by what happened to them.",
        "when they happen", ("kind",), CLUSTER,
    ),
    Metric(
        "passerby_restore_duration_seconds", "histogram", "Reading the state of the cameras of new partitions.",
        "at an assignment", (), ("infer",), (), _FAST_S,
    ),
    Metric(
        "passerby_broker_reachable", "gauge", "1 while a broker answers, 0 while none is heard of.",
        "each turn of the worker's loop: answers to heartbeats and fetches; ingest: acknowledgements, too", (), CLUSTER,
    ),
    Metric(
        "passerby_spool_size_bytes", "gauge", "Bytes of windows on disk that wait for the broker.",
        "read at the scrape", (), ("ingest",), ("ingest",),
    ),
    Metric(
        "passerby_spool_capacity_bytes", "gauge", "Bytes that the spool may hold.",
        "read at the scrape", (), ("ingest",), ("ingest",),
    ),
    Metric(
        "passerby_spool_windows", "gauge", "Windows on disk that wait for the broker.",
        "read at the scrape", (), ("ingest",), ("ingest",),
    ),
    Metric(
        "passerby_spool_oldest_age_seconds", "gauge", "How long the oldest window in the spool waits; 0 when empty.",
        "read at the scrape", (), ("ingest",), ("ingest",),
    ),
    Metric(
        "passerby_spool_dropped_windows_total", "counter", "Windows given up because the spool was full.",
        "read at the scrape", (), ("ingest",), ("ingest",),
    ),
)  # fmt: skip

_WORKER = (
    Metric(
        "passerby_build_info", "gauge", "1; what runs, in its labels.", "at the start",
        ("version", "python", "role"),
    ),
    Metric(
        "passerby_model_info", "gauge", "1; the models that are loaded, in its labels.", "when a model is loaded",
        ("model", "version", "sha256", "provider"), INFER,
    ),
    Metric(
        "passerby_worker_ready", "gauge", "1 while /readyz says ready.", "read at the scrape",
        (), EVERY, EVERY,
    ),
    Metric(
        "passerby_worker_last_turn_timestamp_seconds", "gauge", "When the worker's loop last made a turn.",
        "read at the scrape", (), EVERY, EVERY,
    ),
    Metric(
        "passerby_worker_threads", "gauge", "Python threads that are alive.", "read at the scrape",
        (), EVERY, EVERY,
    ),
)  # fmt: skip

CATALOGUE: tuple[Metric, ...] = (*_LEDGER, *_LATENCY, *_CAMERAS, *_RESULTS, *_LOG, *_WORKER)

SECTIONS: dict[str, tuple[Metric, ...]] = {
    "Frames": _LEDGER,
    "Latency and lag": _LATENCY,
    "Cameras": _CAMERAS,
    "Results": _RESULTS,
    "The log": _LOG,
    "The worker": _WORKER,
}


def of(role: Role) -> tuple[Metric, ...]:
    """The metrics that a worker of ``role`` has."""
    return tuple(metric for metric in CATALOGUE if role in metric.roles)
