"""``passerby run``: the main job in one process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.config import Config, config_from_videos, load_config
from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(_run)


def _run(
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VIDEO]...", help="Files, folders, URLs or devices, without a -c file."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("-c", "--config", metavar="FILE", help="passerby.yaml; `passerby init` writes one.")
    ] = None,
    lines: Annotated[
        list[str] | None,
        typer.Option(
            "--line", metavar="X0,Y0,X1,Y1", help="A line to count crossings of, 0..1 of the picture; may be repeated."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the results go.")] = Path("out"),
    model: Annotated[str | None, typer.Option("--model", help="A model's name or folder, for VIDEO runs.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B", help="What --line counts; default person,vehicle.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", help="Point of a box that crosses --line: bottom_center, center, top_center."),
    ] = None,
    sample_fps: Annotated[
        float | None, typer.Option("--sample-fps", help="Frames a second to analyse; default 8.")
    ] = None,
    annotate: Annotated[bool, typer.Option("--annotate", help="Also write an annotated video of each camera.")] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Pictures the network works on at once.")
    ] = None,
    stop_after: Annotated[
        float | None, typer.Option("--stop-after", metavar="SECONDS", min=0.1, help="Stop and drain after this long.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", metavar="PORT", min=0, help="Answer /metrics (Prometheus), /livez and /readyz there."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No live view and no closing words.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Count people and vehicles on files, streams and webcams.

    Ends when its files end; live sources run until Ctrl-C or --stop-after. DIR then holds events.jsonl, counts.jsonl,
    ledger.json and report.html.

    \b
    passerby run street.mp4 --line 0,0.6,1,0.6 --out out
    passerby run -c passerby.yaml --out out --annotate

    Exit code: 0 all read to the end, 2 wrong configuration, 3 a source failed.
    """
    from pipeline.services.run import RunOptions, run

    configure(log_format)
    config = _config(videos or [], config_file, lines or [], model, classes, anchor, sample_fps)
    if threads is not None:
        config = config.model_copy(update={"inference": config.inference.model_copy(update={"threads": threads})})
    options = RunOptions(
        out, annotate=annotate, stop_after_s=stop_after, live_view=not quiet, metrics_port=metrics_port
    )
    result = run(config, options)
    for camera_id, reason in result.failures.items():
        sys.stderr.write(f"passerby: {camera_id}: {reason}\n")
    if not quiet:
        _closing_words(out, result.exit_code, config)
    raise typer.Exit(result.exit_code)


def _config(
    videos: list[str],
    config_file: Path | None,
    lines: list[str],
    model: str | None,
    classes: str | None,
    anchor: str | None,
    sample_fps: float | None,
) -> Config:
    from pipeline.services.wiring import classes_of

    if config_file is not None:
        for name, given in (("VIDEO", videos), ("--line", lines), ("--model", model), ("--classes", classes),
                            ("--anchor", anchor), ("--sample-fps", sample_fps)):  # fmt: skip
            if given:
                raise UsageError(f"{name} and -c cannot go together", mend=f"write it into {config_file}")
        return load_config(config_file, classes_of=classes_of)
    if not videos:
        raise UsageError("nothing to run on", mend="give a VIDEO, or a configuration with -c passerby.yaml")
    return config_from_videos(
        videos,
        lines,
        classes=tuple(classes.split(",")) if classes else ("person", "vehicle"),
        anchor=anchor or "bottom_center",
        model=model,
        sample_fps=sample_fps,
        classes_of=classes_of,
    )


def _closing_words(out: Path, exit_code: int, config: Config) -> None:
    console = Console(stderr=True)
    console.print(f"[bold]events[/] {out / 'events.jsonl'}   [bold]counts[/] {out / 'counts.jsonl'}")
    if config.output.report:
        console.print(f"[bold]report[/] {out / 'report.html'}   (open it in a browser)")
    if exit_code:
        console.print(f"[yellow]some sources failed, see above; what was counted is kept (exit code {exit_code})[/]")
