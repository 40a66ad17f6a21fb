"""``passerby eval``: how well was counted."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import UsageError
from pipeline.services.evaluation import CountScore, DwellScore, Evaluation, VideoTruth, evaluate


def register(app: typer.Typer) -> None:
    """Add the command group ``eval``."""
    group = typer.Typer(no_args_is_help=True, help="Compare what was counted with the truth.")
    group.callback()(_eval)
    group.command("count")(_count)
    app.add_typer(group, name="eval")


def _eval() -> None:
    """Compare what was counted with the truth."""


def _count(
    truth: Annotated[Path, typer.Option("--truth", metavar="FILE", help="What really happened; see below.")],
    events: Annotated[
        Path | None, typer.Option("--events", metavar="DIR|FILE", help="Results of a run: its folder, or events.jsonl.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option("--videos", metavar="DIR", help="Where the clips lie that the truth names.")
    ] = None,
    run: Annotated[
        bool, typer.Option("--run", help="First count on the truth's clips, with its lines and zones.")
    ] = False,
    model: Annotated[str | None, typer.Option("--model", help="With --run: a model's name or folder.")] = None,
    sample_fps: Annotated[float | None, typer.Option("--sample-fps", min=0.1, help="With --run.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="With --run.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="With --run: keep its results here.")] = None,
    cameras: Annotated[
        list[str] | None, typer.Option("--camera", help="Only this camera of the truth; may be repeated.")
    ] = None,
    tolerance_s: Annotated[
        float, typer.Option("--tolerance-s", min=0.0, help="How far apart in time a crossing and its truth may lie.")
    ] = 1.5,
    max_error: Annotated[
        int | None, typer.Option("--max-error", min=0, help="Exit 1 if the total absolute error is above this.")
    ] = None,
    max_dwell_error_s: Annotated[
        float | None,
        typer.Option("--max-dwell-error-s", min=0.0, help="Exit 1 if any stay is missed, made up or further off."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Count error per line, direction and class: truth, counted, missed, double, opposite, false; MAE and bias.

    FILE is {"videos": [{"file", "camera", "lines": {NAME: {"points", "classes", "anchor", "crossings": [{"t_s",
    "direction", "class"}]}}, "zones": {NAME: {"points", "classes", "dwells": [{"entered_s", "left_s", "class"}]}}}]},
    or a list of clips with the frame numbers of their crossings.

    \b
    passerby eval count --truth truth.json --events out
    passerby eval count --truth truth.json --run --videos clips --model passerby-nano --max-error 3

    Exit code: 0, or 1 when --max-error or --max-dwell-error-s is exceeded, 2 wrong call, 3 a clip could not be read.
    """
    from pipeline.services.recount import find_clip, frame_rate
    from pipeline.services.truth import counted_of, read_events, read_truth

    configure(log_format)
    run = run or (videos is not None and events is None)
    if run == (events is not None):
        raise UsageError("say what to compare with the truth", mend="either --events DIR, or --run to count first")
    told = read_truth(truth, lambda file: frame_rate(find_clip(file, truth, videos)))
    told = _only(told, cameras or [], truth)
    starts = {video.camera_id: video.start_us for video in told if video.start_us is not None}
    failures: dict[str, str] = {}
    if events is not None:
        scored = evaluate(told, counted_of(read_events(events), starts), tolerance_s)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = out or Path(scratch)
            failures = _recount(told, truth, videos, folder, (model, sample_fps, threads), keep=out is not None)
            scored = evaluate(told, counted_of(read_events(folder)), tolerance_s)
    _print_json(scored) if as_json else print_tables(scored)
    for camera_id, why in failures.items():
        sys.stderr.write(f"passerby: {camera_id}: {why}\n")
    raise typer.Exit(3 if failures else 0 if _good_enough(scored, max_error, max_dwell_error_s) else 1)


def _only(truth: Sequence[VideoTruth], cameras: Sequence[str], path: Path) -> list[VideoTruth]:
    known = [video.camera_id for video in truth]
    for camera in cameras:
        if camera not in known:
            raise UsageError(f"{path} tells nothing of camera {camera}", mend=f"it has {', '.join(known)}")
    return [video for video in truth if not cameras or video.camera_id in cameras]


def _recount(
    told: Sequence[VideoTruth],
    truth: Path,
    videos: Path | None,
    folder: Path,
    how: tuple[str | None, float | None, int | None],
    *,
    keep: bool,
) -> dict[str, str]:
    from pipeline.services.recount import RecountOptions, find_clip, recount

    clips = {video.camera_id: find_clip(video.file, truth, videos) for video in told}
    options = RecountOptions(*how, report=keep, live_view=sys.stderr.isatty())
    result = recount(told, clips, folder, options)
    stopped = {"the count": "stopped before the clips ended: the figures are of what was seen until then"}
    return {**result.failures, **(stopped if result.stopped else {})}


def _good_enough(scored: Evaluation, max_error: int | None, max_dwell_error_s: float | None) -> bool:
    if max_error is not None and scored.total_absolute_error > max_error:
        return False
    if max_dwell_error_s is None:
        return True
    return all(score.error_s is not None and abs(score.error_s) <= max_dwell_error_s for score in scored.dwells)


def _print_json(scored: Evaluation) -> None:
    told = {
        "counts": [{**dataclasses.asdict(score), "error": score.error} for score in scored.counts],
        "dwells": [{**dataclasses.asdict(score), "error_s": score.error_s} for score in scored.dwells],
        "total_absolute_error": scored.total_absolute_error,
        "mae": scored.mae,
        "bias": scored.bias,
        "wrong": scored.wrong,
        "dwell_mae_s": scored.dwell_mae_s,
        "dwell_bias_s": scored.dwell_bias_s,
        "notes": list(scored.notes),
    }
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False))


def print_tables(scored: Evaluation) -> None:
    """What was counted against what was true, as tables on stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    if scored.counts:
        console.print(_count_table(scored.counts))
        console.print(
            f"total absolute error {scored.total_absolute_error} over {len(scored.counts)} rows"
            f"   MAE {scored.mae:.2f}   bias {scored.bias:+.2f}   single mistakes {scored.wrong}"
        )
    if scored.dwells:
        console.print(_dwell_table(scored.dwells))
        missed = sum(score.counted_s is None for score in scored.dwells)
        extra = sum(score.truth_s is None for score in scored.dwells)
        mae, bias = scored.dwell_mae_s, scored.dwell_bias_s
        found = "" if mae is None or bias is None else f"   MAE {mae:.2f} s   bias {bias:+.2f} s"
        console.print(f"dwell: {len(scored.dwells) - extra} stays   {missed} missed   {extra} made up{found}")
    for note in scored.notes:
        console.print(Text(f"note: {note}", style="yellow"))


def _count_table(scores: Sequence[CountScore]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("camera", "line", "counts", "to the"):
        table.add_column(name, overflow="fold")
    for name in ("truth", "counted", "error", "missed", "double", "opposite", "false"):
        table.add_column(name, justify="right")
    for score in scores:
        style = "dim" if score.truth == score.counted == 0 else "" if score.wrong == 0 else "bold"
        numbers = (score.missed, score.double, score.opposite, score.false)
        table.add_row(
            *(Text(text) for text in (score.camera_id, score.line, score.kind, score.direction)),
            str(score.truth),
            str(score.counted),
            Text(f"{score.error:+d}" if score.error else "0", style="red" if score.error else "green"),
            *(Text(str(number), style="yellow" if number else "dim") for number in numbers),
            style=style,
        )
    return table


def _dwell_table(scores: Sequence[DwellScore]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("camera", "zone", "who"):
        table.add_column(name, overflow="fold")
    for name in ("entered at", "truth", "counted", "error"):
        table.add_column(name, justify="right")
    for score in scores:
        counted = "missed" if score.counted_s is None else f"{score.counted_s:.1f} s"
        true = "nobody" if score.truth_s is None else f"{score.truth_s:.1f} s"
        error = "" if score.error_s is None else f"{score.error_s:+.1f} s"
        names = (Text(text) for text in (score.camera_id, score.zone, score.kind))
        table.add_row(*names, f"{score.entered_s:.1f} s", true, counted, error, style="" if error else "bold")
    return table
