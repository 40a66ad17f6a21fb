"""``passerby lag``: how far inference is behind."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.cli.consuming import ConfigOption, kafka_config, log_for_people, names, until_interrupted
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.core.events import rfc3339
from pipeline.outputs.wording import duration
from pipeline.services.lag import CameraLag, PartitionLag, measure, worst_s


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lag")(_lag)


def _lag(
    config_file: ConfigOption = None,
    cameras: Annotated[list[str] | None, typer.Option("--camera", help="Only this camera; may be repeated.")] = None,
    group: Annotated[
        str | None, typer.Option(help="The consumer group. Default: that of the inference workers.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Renew it until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.5, help="How often, with --watch.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    fail_above: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Exit code 1 when a camera is further behind.")
    ] = None,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """How many seconds of video wait for inference, per camera and partition.

    Behind is the video between the oldest frame that waits (after the committed offset) and the newest in the log.

    \b
    passerby lag
    passerby lag --watch
    passerby lag --json --fail-above 10 || echo "inference is too slow"

    Exit code: 0, or 1 with --fail-above when a camera is further behind.
    """
    configure(log_format)
    kafka = kafka_config(config_file)
    wanted = names(cameras)
    from pipeline.bus.topics import Topics

    topics, group_id = Topics(kafka.prefix), group or kafka.infer_group_name
    worst = 0.0
    with log_for_people(kafka, "passerby-lag") as bus:

        def look() -> list[PartitionLag]:
            return _only(measure(bus, topics, group_id), wanted)

        with until_interrupted():
            if not watch:
                lags = look()
                worst = worst_s(lags)
                _print_json(lags, group_id) if as_json else Console().print(table(lags))
            elif as_json:
                while True:
                    _print_json(look(), group_id)
                    time.sleep(every_s)
            else:
                with Live(console=Console(), auto_refresh=False) as live:
                    while True:
                        live.update(table(look()), refresh=True)
                        time.sleep(every_s)
    raise typer.Exit(1 if fail_above is not None and worst > fail_above else 0)


def _only(lags: list[PartitionLag], cameras: frozenset[str]) -> list[PartitionLag]:
    if not cameras:
        return lags
    kept = []
    for lag in lags:
        some = tuple(camera for camera in lag.cameras if camera.camera_id in cameras)
        if some:
            behind_s = max(camera.behind_s for camera in some)
            kept.append(PartitionLag(lag.partition, lag.committed, lag.end, lag.records_behind, behind_s, some))
    return kept


def _print_json(lags: list[PartitionLag], group: str) -> None:
    told = {"at": rfc3339(time.time_ns() // 1000), "group": group, "behind_s": worst_s(lags)}
    partitions = [_as_json(lag) for lag in lags]
    sys.stdout.write(json.dumps(told | {"partitions": partitions}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _as_json(lag: PartitionLag) -> dict[str, Any]:
    told = asdict(lag)
    for camera in told["cameras"]:
        camera["newest"] = rfc3339(camera.pop("newest_us"))
        camera["silent_s"] = round(camera["silent_s"], 3)
    return told


def table(lags: list[PartitionLag]) -> Table:
    """The lag for people: the camera that is most behind first. waiting: records of its partition."""
    shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    shown.add_column("camera", no_wrap=True)
    for name in ("behind", "newest frame (UTC)", "sent", "partition", "waiting"):
        shown.add_column(name, justify="right", no_wrap=True)
    rows = [(camera, lag) for lag in lags for camera in lag.cameras]
    for camera, lag in sorted(rows, key=lambda row: (-row[0].behind_s, row[0].camera_id)):
        shown.add_row(
            camera.camera_id,
            _behind(camera),
            Text(rfc3339(camera.newest_us)[:19].replace("T", " "), style="dim"),
            Text(f"{duration(camera.silent_s)} ago", style="dim"),
            str(lag.partition),
            Text(str(lag.records_behind), style="dim" if not lag.records_behind else ""),
        )
    if not rows:
        shown.add_row(Text("no windows in the log", style="dim"))
    return shown


def _behind(camera: CameraLag) -> Text:
    style = "green" if camera.behind_s < 5 else "yellow" if camera.behind_s < 30 else "bold red"
    return Text(("over " if camera.at_least else "") + duration(camera.behind_s), style=style)
