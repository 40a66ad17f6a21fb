"""``passerby probe``: what a camera or file really sends, and what to write into passerby.yaml."""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer

from pipeline.errors import SourceError
from pipeline.sources.probing import ProbeReport, probe

_FAILED = 3
_DRIFT_WORTH_TELLING = 0.05  # over a few seconds the network's jitter alone may look like 3 %


def register(app: typer.Typer) -> None:
    """Add the command ``probe``."""
    app.command("probe")(command)


def command(
    sources: Annotated[list[str], typer.Argument(metavar="URL|FILE|FOLDER|/dev/videoN...", help="What to look at.")],
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to watch a live source.")] = 4.0,
    transport: Annotated[Literal["tcp", "udp"], typer.Option(help="How RTSP is carried.")] = "tcp",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
) -> None:
    """Say what a camera or file really sends: codec, size, real frame rate, GOP, clock, and a piece of passerby.yaml.

    Example: [bold]passerby probe rtsp://user:password@camera/stream clip.mp4[/bold]

    A source that cannot be read is named on stderr, the others are still shown; the exit code is then 3.
    """
    with ThreadPoolExecutor(max_workers=min(16, len(sources))) as pool:
        results = list(pool.map(lambda source: _look(source, seconds, transport), sources))
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, SourceError):
            sys.stderr.write(f"passerby: {result}\n")
        elif as_json:
            typer.echo(json.dumps(result.as_dict()))
        else:
            _show(source, result)
    if any(isinstance(result, SourceError) for result in results):
        raise typer.Exit(_FAILED)


def _look(source: str, seconds: float, transport: Literal["tcp", "udp"]) -> ProbeReport | SourceError:
    try:
        return probe(source, seconds=seconds, transport=transport)
    except SourceError as error:
        return error


def _show(source: str, report: ProbeReport) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title=report.source, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _rows(report):
        table.add_row(f"[dim]{name}[/dim]", value)
    console.print(table)
    for warning in _warnings(report):
        console.print(f"[yellow]![/yellow] {warning}")
    console.print("\n[dim]passerby.yaml:[/dim]")
    console.print(snippet(source, report), markup=False, soft_wrap=True)


def _rows(r: ProbeReport) -> list[tuple[str, str]]:
    profile = f" {r.profile}" if r.profile else ""
    rows = [
        ("video", f"{r.codec}{profile}, {r.width}x{r.height}, {r.pixel_format or 'unknown pixels'}"),
        ("frame rate", f"{_fps(r.measured_fps)} measured, {_fps(r.declared_fps)} declared"),
        ("GOP", f"{_gop(r)}, {'with' if r.b_frames else 'no'} B-frames"),
        ("audio", r.audio or "none"),
        ("length", _duration(r)),
    ]
    if r.transport:
        rows.append(("transport", f"RTSP over {r.transport}"))
    if r.clock_drift is not None:
        rows.append(("clock", f"{r.clock_drift:+.1%} against this machine"))
    if r.rotation_degrees:
        rows.append(("turned", f"{r.rotation_degrees} degrees; shown upright"))
    if r.corrupt_packets:
        rows.append(("damage", f"{r.corrupt_packets} corrupt packets among those seen"))
    return rows


def _warnings(r: ProbeReport) -> list[str]:
    told = []
    if r.measured_fps and r.declared_fps and abs(r.measured_fps / r.declared_fps - 1) > 0.1:
        told.append("the declared frame rate is wrong; Passerby goes by timestamps and is not misled")
    if not r.has_timestamps:
        told.append("its frames carry no times: a live source is timed by arrival, a file by its declared rate")
    if r.clock_drift is not None and abs(r.clock_drift) > _DRIFT_WORTH_TELLING:
        told.append("its clock runs wrong; events carry this machine's time")
    if r.duration_s is None and r.gop is not None and r.measured_fps and r.gop / r.measured_fps > 5:
        told.append(f"a key frame only every {r.gop / r.measured_fps:.0f} s: coming back after a break takes that long")
    if r.measured_fps and r.measured_fps < 5:
        told.append("below 5 frames a second fast objects may be missed")
    return told


def snippet(source: str, report: ProbeReport) -> str:
    """The camera's part of passerby.yaml; a password in the URL becomes an environment variable."""
    name = _camera_name(source)
    lines = ["cameras:", f"  {name}:"]
    where = report.source
    prefix = re.sub(r"[^A-Z0-9]", "_", name.upper())
    if "***@" in where:
        where = where.replace("***@", f"${{{prefix}_LOGIN}}@")
        lines.append(f"    # export {prefix}_LOGIN=user:password   (special characters percent-encoded)")
    for key in re.findall(r"[?&]([^=&]+)=\*\*\*", where):
        variable = f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', key.upper())}"
        where = where.replace(f"{key}=***", f"{key}=${{{variable}}}")
        lines.append(f"    # export {variable}=...")
    lines.append(f"    source: {json.dumps(where)}")
    if report.transport == "udp":
        lines[-1:] = ["    source:", f"      url: {json.dumps(where)}", "      transport: udp"]
    if report.measured_fps and report.measured_fps < 8:
        lines.append(f"    sample_fps: {max(1, round(report.measured_fps))}")
    lines += ["    lines:", "      line1: {points: [[0.0, 0.6], [1.0, 0.6]]}"]
    return "\n".join(lines)


def _camera_name(source: str) -> str:
    if "://" in source:
        try:
            stem = urlsplit(source).hostname or "camera"
        except ValueError:
            stem = "camera"
    else:
        stem = Path(source).stem
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "camera"
    return name if name[0].isalpha() else f"cam-{name}"


def _fps(value: float | None) -> str:
    return f"{value:.4g} fps" if value else "unknown"


def _gop(r: ProbeReport) -> str:
    if r.gop is None:
        return "no second key frame seen"
    seconds = f" ({r.gop / r.measured_fps:.1f} s)" if r.measured_fps else ""
    return f"{r.gop:.0f} frames{seconds}"


def _duration(r: ProbeReport) -> str:
    clips = f"first of {r.clips} clips: " if r.clips else ""
    if r.duration_s is None:
        return "live" if r.kind not in ("file", "folder") else f"{clips}not declared"
    return f"{clips}{r.duration_s:.1f} s"
