"""How the workers and the log do: where time goes, what waits, what is lost."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import GREEN, ORANGE, RED, Query, delay, graph, number, page, quantiles, section, states

_RATE = "[$__rate_interval]"


def pipeline_health() -> Dashboard:
    """Lag, stages, batches, transactions, spool, dead letters, drops, workers."""
    board = page("passerby-pipeline", "Passerby: pipeline health", "The workers, the log between them, and what waits.")
    return _workers(_log(_stages(_first(board))))


def _first(board: Dashboard) -> Dashboard:
    return section(
        board,
        "At a glance",
        number(
            "Workers ready",
            "sum(passerby_worker_ready)",
            "Workers whose /readyz says ready.",
            color=RED,
            limits=[(1, GREEN)],
        ),
        delay("Furthest behind", "max(passerby_lag_seconds)", "Of all cameras, in seconds of video.", 5, 30),
        number(
            "Windows waiting",
            "sum(passerby_lag_records)",
            "In the log, over all partitions.",
            color=GREEN,
            limits=[(1000, ORANGE)],
        ),
        number(
            "Spool",
            "sum(passerby_spool_size_bytes)",
            "On the disks of the ingest workers, waiting for a broker.",
            unit="bytes",
            color=GREEN,
            limits=[(1, ORANGE)],
        ),
        number(
            "Dead letters",
            "sum(increase(passerby_dead_letters_total[$__range]))",
            "Records set aside in the span shown.",
            color=GREEN,
            limits=[(1, RED)],
            decimals=0,
        ),
        number(
            "Frames dropped",
            'sum(increase(passerby_frames_dropped_total{cause!="superseded_epoch"}[$__range]))',
            "In the span shown, for any cause but a replaced reader.",
            color=GREEN,
            limits=[(1, ORANGE)],
            decimals=0,
        ),
    )


def _stages(board: Dashboard) -> Dashboard:
    return section(
        board,
        "The way of a window",
        graph(
            "Behind, by camera",
            [Query("max by (camera) (passerby_lag_seconds)", "{{camera}}")],
            "Seconds of video between the newest window and its results.",
            unit="s",
        ),
        graph(
            "Windows waiting, by partition",
            [Query("max by (partition) (passerby_lag_records)", "{{partition}}")],
            "In the log and not yet taken by a worker.",
        ),
        graph(
            "Stages, p95",
            [
                Query(
                    "histogram_quantile(0.95, sum by (le, stage) "
                    f"(rate(passerby_stage_duration_seconds_bucket{_RATE})))",
                    "{{stage}}",
                )
            ],
            "How long each stage takes; the largest is where to look first.",
            unit="s",
        ),
        quantiles(
            "Capture to event",
            "passerby_capture_to_event_seconds",
            "Over all live cameras.",
        ),
        graph(
            "Batches",
            [
                Query(
                    f"sum by (model) (rate(passerby_inference_batch_size_sum{_RATE})) / "
                    f"sum by (model) (rate(passerby_inference_batch_size_count{_RATE}))",
                    "{{model}}: pictures in a batch",
                )
            ],
            "Mean size. On a CPU it is 1: there several runs beside each other beat one wide one.",
        ),
        graph(
            "Pictures analysed",
            [Query(f"sum by (model) (rate(passerby_inference_batch_size_sum{_RATE}))", "{{model}}")],
            "A second, over all workers.",
        ),
        graph(
            "Frames captured and what became of them",
            [
                Query(f"sum(rate(passerby_frames_captured_total{_RATE}))", "captured"),
                Query(f"sum(rate(passerby_frames_analysed_total{_RATE}))", "analysed"),
                Query(f"sum(rate(passerby_frames_sampled_out_total{_RATE}))", "sampled out"),
            ],
            "A second, over all cameras.",
        ),
        graph(
            "Drops",
            [Query(f"sum by (cause) (rate(passerby_frames_dropped_total{_RATE}))", "{{cause}}")],
            "Frames a second that were given up, by cause.",
            stacked=True,
        ),
    )


def _log(board: Dashboard) -> Dashboard:
    return section(
        board,
        "The log",
        graph(
            "Transactions a second",
            [Query(f"sum by (outcome) (rate(passerby_transactions_total{_RATE}))", "{{outcome}}")],
            "Aborted ones are done again; a fenced one is a worker that was thought dead.",
            stacked=True,
        ),
        graph(
            "Dead letters and void windows",
            [
                Query(
                    f"sum by (topic, reason) (increase(passerby_dead_letters_total{_RATE}))",
                    "{{topic}}: {{reason}}",
                ),
                Query(f"sum(increase(passerby_windows_void_total{_RATE}))", "void windows"),
            ],
            "Records set aside because they could not be read; windows of readers that were already replaced.",
            bars=True,
        ),
        graph(
            "Windows on the wire",
            [Query(f"sum by (instance) (rate(passerby_windows_sent_bytes_total{_RATE}))", "{{instance}}")],
            "Bytes a second that the log acknowledged.",
            unit="Bps",
        ),
        graph(
            "Windows sent",
            [Query(f"sum by (instance) (rate(passerby_windows_sent_total{_RATE}))", "{{instance}}")],
            "A second, acknowledged by the log.",
        ),
        graph(
            "Spool",
            [
                Query("sum by (instance) (passerby_spool_size_bytes)", "{{instance}}"),
                Query("sum by (instance) (passerby_spool_capacity_bytes)", "{{instance}}: room"),
            ],
            "Windows on disk that wait for a broker.",
            unit="bytes",
        ),
        graph(
            "Spool, oldest window",
            [Query("max by (instance) (passerby_spool_oldest_age_seconds)", "{{instance}}")],
            "How long it waits; the outage so far.",
            unit="s",
        ),
        graph(
            "Spool, windows",
            [
                Query("sum by (instance) (passerby_spool_windows)", "{{instance}}: waiting"),
                Query(
                    f"sum by (instance) (increase(passerby_spool_dropped_windows_total{_RATE}))",
                    "{{instance}}: lost",
                ),
            ],
            "Waiting for a broker, and given up because the spool was full.",
        ),
        states("Broker", Query("passerby_broker_reachable", "{{instance}}"), "As each worker sees it.", width=12),
        graph(
            "Partitions and rebalances",
            [
                Query("passerby_partitions_assigned", "{{instance}}"),
                Query(f"sum by (kind) (increase(passerby_rebalances_total{_RATE}))", "partitions {{kind}}"),
            ],
            "What each worker holds, and when that changed.",
        ),
        quantiles(
            "Restoring state",
            "passerby_restore_duration_seconds",
            "When a partition comes to a worker.",
        ),
        quantiles(
            "Commit",
            "passerby_stage_duration_seconds",
            "A transaction, from begin to committed.",
            where='{stage="commit"}',
        ),
    )


def _workers(board: Dashboard) -> Dashboard:
    one_of_ours = '{job=~"passerby.*"}'
    return section(
        board,
        "The workers",
        states("Answering", Query(f"up{one_of_ours}", "{{instance}}"), "Prometheus reaches them.", width=12),
        states(
            "Ready",
            Query("passerby_worker_ready", "{{instance}}"),
            "As /readyz says.",
            names=("not", "ready"),
            width=12,
        ),
        graph(
            "Memory",
            [Query(f"process_resident_memory_bytes{one_of_ours}", "{{instance}}")],
            "Resident.",
            unit="bytes",
        ),
        graph("CPU", [Query(f"rate(process_cpu_seconds_total{one_of_ours}{_RATE})", "{{instance}}")], "Cores in use."),
        graph(
            "Threads and files",
            [
                Query("passerby_worker_threads", "{{instance}}: threads"),
                Query(f"process_open_fds{one_of_ours}", "{{instance}}: files"),
            ],
            "Both stay where they are while cameras come and go.",
        ),
        graph(
            "Since the loop last turned",
            [Query("time() - passerby_worker_last_turn_timestamp_seconds", "{{instance}}")],
            "/livez fails when it stands still for a minute.",
            unit="s",
        ),
        graph(
            "Versions",
            [
                Query("sum by (version, role) (passerby_build_info)", "Passerby {{version}} {{role}}"),
                Query(
                    "sum by (model, version, provider) (passerby_model_info)",
                    "{{model}} {{version}} on {{provider}}",
                ),
            ],
            "How many workers run which.",
        ),
    )
