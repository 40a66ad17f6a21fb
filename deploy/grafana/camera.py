"""One camera by the variable ``camera``: what it sees, and how well."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    Query,
    buckets,
    camera_choice,
    delay,
    graph,
    number,
    page,
    quantiles,
    section,
    states,
)

_THIS = '{camera="$camera"}'


def camera() -> Dashboard:
    """Occupancy, crossings, ledger, latency and reconnects of one camera."""
    return _quality(_sight(page("passerby-camera", "Passerby: camera", "One camera.").with_variable(camera_choice())))


def _sight(board: Dashboard) -> Dashboard:
    return section(
        board,
        "What it sees",
        number("People now", _present("person"), "In the newest published frame."),
        number("Vehicles now", _present("vehicle"), "In the newest published frame."),
        number(
            "Up",
            f"max(passerby_camera_up{_THIS})",
            "Whether it delivers.",
            unit="bool_on_off",
            color=RED,
            limits=[(1, GREEN)],
        ),
        number(
            "Observed",
            f"max(passerby_camera_coverage_ratio{_THIS})",
            "Fraction of the newest count window in which it was really seen.",
            unit="percentunit",
            color=RED,
            limits=[(0.5, ORANGE), (0.9, GREEN)],
        ),
        delay(
            "Behind",
            f"max(passerby_lag_seconds{_THIS})",
            "Seconds of video between its newest window and results.",
            5,
            30,
        ),
        delay(
            "Newest frame",
            f"time() - max(passerby_camera_last_frame_timestamp_seconds{_THIS})",
            "How long ago its newest frame came.",
            10,
            60,
        ),
        graph(
            "In the picture",
            [Query(f"max by (group) (passerby_objects_present{_THIS})", "{{group}}")],
            "Objects in the newest published frame.",
        ),
        graph(
            "In the zones",
            [Query(f"max by (zone, group) (passerby_zone_occupancy{_THIS})", "{{zone}}: {{group}}")],
            "Objects inside each zone.",
        ),
        graph(
            "Crossings a minute",
            [
                Query(
                    "60 * sum by (line, direction, group) "
                    f"(rate(passerby_objects_crossed_total{_THIS}[$__rate_interval]))",
                    "{{line}}: {{group}} to the {{direction}}",
                )
            ],
            "By line, direction and group. Left and right are as one walks from A to B.",
            stacked=True,
        ),
        graph(
            "Events a minute",
            [Query(f"60 * sum by (type) (rate(passerby_events_total{_THIS}[$__rate_interval]))", "{{type}}")],
            "Published, by type.",
            stacked=True,
        ),
        states(
            "Scenes",
            Query(f"clamp_max(max by (scene) (passerby_scene_open{_THIS}), 1)", "{{scene}}"),
            "Scene events from start to end: fights, falls, labels, what is wrong with the picture.",
            names=("no", "yes"),
            calm=True,
        ),
    )


def _quality(board: Dashboard) -> Dashboard:
    return section(
        board,
        "How well it is seen",
        graph(
            "Frame ledger",
            [
                Query(f"sum(rate(passerby_frames_captured_total{_THIS}[$__rate_interval]))", "captured"),
                Query(f"sum(rate(passerby_frames_sent_total{_THIS}[$__rate_interval]))", "sent to the log"),
                Query(f"sum(rate(passerby_frames_analysed_total{_THIS}[$__rate_interval]))", "analysed"),
                Query(f"sum(rate(passerby_frames_sampled_out_total{_THIS}[$__rate_interval]))", "sampled out"),
                Query(
                    f"sum by (cause) (rate(passerby_frames_dropped_total{_THIS}[$__rate_interval]))",
                    "dropped: {{cause}}",
                ),
            ],
            "Where every captured frame went, in frames a second.",
        ),
        quantiles(
            "Capture to event",
            "passerby_capture_to_event_seconds",
            "From a window's last frame until its counts and events can be read.",
            where=_THIS,
        ),
        states("Up", Query(f"max(passerby_camera_up{_THIS})", "$camera"), "As the source says.", width=12),
        graph(
            "Reconnects",
            [
                Query(
                    f"sum by (reason) (increase(passerby_camera_reconnects_total{_THIS}[$__rate_interval]))",
                    "{{reason}}",
                )
            ],
            "Attempts to connect again, by why the last connection ended.",
            bars=True,
            stacked=True,
        ),
        graph(
            "Damage",
            [
                Query(
                    f"sum(rate(passerby_camera_corrupt_packets_total{_THIS}[$__rate_interval]))",
                    "corrupt packets a second",
                ),
                Query(
                    f"sum(rate(passerby_camera_repaired_timestamps_total{_THIS}[$__rate_interval]))",
                    "repaired timestamps a second",
                ),
                Query(f"max(passerby_camera_hung_readers{_THIS})", "hung readers"),
            ],
            "What the decoder could not use. A steady rate is a bad line or a broken camera.",
        ),
        graph(
            "On the wire",
            [Query(f"3600 * sum(rate(passerby_windows_sent_bytes_total{_THIS}[$__rate_interval]))", "$camera")],
            "What an hour of this camera weighs in the log, at this moment's rate.",
            unit="bytes",
        ),
        graph(
            "In flight",
            [Query(f"sum by (instance) (passerby_frames_in_flight{_THIS})", "{{instance}}")],
            "Frames captured to be analysed that a worker still holds.",
        ),
        buckets("Capture to event, spread", "passerby_capture_to_event_seconds", "Windows by their age.", where=_THIS),
    )


def _present(group: str) -> str:
    return f'max(passerby_objects_present{{camera="$camera", group="{group}"}})'
