"""The first page: what happens in front of the cameras, and whether all of it is seen."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import GREEN, RED, Query, cameras_table, delay, graph, number, page, section, states

# A camera is with one worker at a time; while it moves, two may tell it for a moment: the larger value is taken.
_PRESENT = "max by (camera, group) (passerby_objects_present)"
_PEOPLE = 'max by (camera) (passerby_objects_present{group="person"})'
_SCENES_OF_AN_HOUR = "sum by (camera, scene) (increase(passerby_scene_started_total[1h]))"
_VEHICLES = 'max by (camera) (passerby_objects_present{group="vehicle"})'


def overview() -> Dashboard:
    """People, vehicles, crossings, events; cameras and workers that are up."""
    board = page("passerby-overview", "Passerby: overview", "What happens in front of the cameras now.")
    board = section(
        board,
        "Now",
        number("People now", f"sum({_PEOPLE})", "In all pictures."),
        number("Vehicles now", f"sum({_VEHICLES})", "In all pictures."),
        number(
            "Crossings",
            "sum(increase(passerby_objects_crossed_total[$__range]))",
            "Of all lines in the span shown, estimated by Prometheus; the exact counts are in the topics.",
            decimals=0,
        ),
        number(
            "Cameras up",
            "sum(max by (camera) (passerby_camera_up))",
            "Cameras that deliver pictures.",
            color=RED,
            limits=[(1, GREEN)],
        ),
        number(
            "Cameras down",
            "sum(1 - max by (camera) (passerby_camera_up)) - sum(max by (camera) (passerby_camera_ended))",
            "Cameras that are configured and deliver nothing; recordings that came to their end are not meant.",
            color=GREEN,
            limits=[(1, RED)],
        ),
        delay(
            "Capture to event, p95",
            "histogram_quantile(0.95, sum by (le) (rate(passerby_capture_to_event_seconds_bucket[5m])))",
            "From a window's last frame until its events can be read; live cameras.",
            1.5,
            3,
            decimals=2,
        ),
    )
    board = section(
        board,
        "Course",
        graph("In the picture", [Query(f"sum by (group) ({_PRESENT})", "{{group}}")], "Over all cameras."),
        graph(
            "Crossings a minute",
            [
                Query(
                    "60 * sum by (group, direction) (rate(passerby_objects_crossed_total[$__rate_interval]))",
                    "{{group}} to the {{direction}}",
                )
            ],
            "Of all lines.",
            stacked=True,
        ),
        graph(
            "Events a minute",
            [Query("60 * sum by (type) (rate(passerby_events_total[$__rate_interval]))", "{{type}}")],
            "Published, by type.",
            stacked=True,
        ),
        graph(
            "Scene events of the last hour",
            [Query(_SCENES_OF_AN_HOUR, "{{camera}}: {{scene}}")],
            "How many began, by camera and kind.",
        ),
        graph(
            "People by camera",
            [Query(_PEOPLE, "{{camera}}")],
            "In the picture of each camera.",
        ),
    )
    return section(
        board,
        "Cameras",
        states("Up", Query("max by (camera) (passerby_camera_up)", "{{camera}}"), "As the sources say."),
        cameras_table(
            "All cameras",
            [
                ("up", "bool_yes_no", "max by (camera) (passerby_camera_up)"),
                ("people", "none", _PEOPLE),
                ("vehicles", "none", _VEHICLES),
                ("behind", "s", "max by (camera) (passerby_lag_seconds)"),
                ("seen of the last window", "percentunit", "max by (camera) (passerby_camera_coverage_ratio)"),
                (
                    "frames dropped in 5 min",
                    "short",
                    "sum by (camera) (increase(passerby_frames_dropped_total[5m]))",
                ),
            ],
            "The newest values. Click a camera for its own page.",
        ),
    )
