"""``passerby demo``: render a scripted street, run the main job on it, compare what was counted with the truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli.evaluate import print_tables
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import OutputError
from pipeline.sources.synthetic import Scene

CAMERA_ID = "street"
DEFAULT_OUT = Path("out/demo")
DEFAULT_SEED = 11
DEFAULT_MODEL = "passerby-nano"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(_demo)


def _demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the clip and the results go.")] = DEFAULT_OUT,
    seed: Annotated[int, typer.Option(min=0, help="Which street; every number is another one.")] = DEFAULT_SEED,
    duration_s: Annotated[float, typer.Option("--duration", min=12, max=600, help="Seconds of street.")] = 36.0,
    night: Annotated[bool, typer.Option("--night", help="The street by night.")] = False,
    model: Annotated[str, typer.Option("--model", help="A model's name or folder.")] = DEFAULT_MODEL,
    annotate: Annotated[bool, typer.Option(help="Also write a video with boxes, lines and totals drawn in.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the table.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """A street with nobody real in it: draw it, count on it, and compare with the truth, which is known exactly.

    DIR then holds street.mp4, truth.json and passerby.yaml, and what `passerby run` makes of them: events.jsonl,
    counts.jsonl, ledger.json and report.html.

    \b
    passerby demo --out out/demo
    passerby demo --seed 7 --night

    Exit code: 0 when the clip was counted to its end, however well.
    """
    from pipeline.config import load_config
    from pipeline.services.evaluation import evaluate
    from pipeline.services.run import RunOptions, run
    from pipeline.services.truth import counted_of, read_events, read_truth
    from pipeline.sources.synthetic import street

    configure(log_format)
    console = Console(stderr=True, quiet=quiet)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out}: {error.strerror}") from error
    scene = street(seed, duration_s=duration_s, night=night)
    truth = _render(scene, out, console)
    config_file = out / "passerby.yaml"
    config_file.write_text(configuration(scene, "street.mp4", model), encoding="utf-8")
    console.print(f"[bold]running[/] passerby run -c {config_file} --out {out}")
    result = run(load_config(config_file), RunOptions(out, annotate=annotate, live_view=not quiet))
    print_tables(evaluate(read_truth(truth), counted_of(read_events(out))))
    for camera_id, reason in result.failures.items():
        sys.stderr.write(f"passerby: {camera_id}: {reason}\n")
    console.print(
        f"[bold]report[/] {out / 'report.html'}   (open it in a browser)   [bold]events[/] {out / 'events.jsonl'}"
    )
    raise typer.Exit(result.exit_code)


def _render(scene: Scene, out: Path, console: Console) -> Path:
    """Write the clip and its truth, showing how far it is; the truth's path."""
    from pipeline.sources.synthetic import write_video

    told = TextColumn("{task.completed:.0f}/{task.total:.0f} frames")
    columns = (TextColumn("[bold]drawing the street"), BarColumn(), told, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("draw", total=int(scene.duration_s * scene.fps))
        truth = write_video(
            scene,
            out / "street.mp4",
            camera_id=CAMERA_ID,
            truth=out / "truth.json",
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    counted = len(scene.crossings())
    console.print(f"[bold]drawn[/] {out / 'street.mp4'}: {scene.duration_s:.0f} s, {counted} crossings of the line")
    return truth


def configuration(scene: Scene, clip: str, model: str) -> str:
    """The passerby.yaml that watches a scene's lines and zones on ``clip`` (a path beside the file)."""
    told = [
        "# What the demo runs; the same as yours would look like.",
        f"model: {json.dumps(model)}",
        "cameras:",
        f"  {CAMERA_ID}:",
        f"    source: {json.dumps(clip)}",
        "    lines:",
    ]
    for line in scene.lines:
        rule = {"points": line.points, "classes": line.classes, "anchor": line.anchor}
        told.append(f"      {line.name}: {json.dumps(rule)}")
    told += ["    zones:"] * bool(scene.zones)
    for zone in scene.zones:
        area = {"points": zone.points, "classes": zone.classes, "anchor": zone.anchor, "dwell_s": zone.dwell_s}
        told.append(f"      {zone.name}: {json.dumps(area)}")
    return "\n".join(told) + "\n"
