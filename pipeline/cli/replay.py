"""``passerby replay``: a span of the log once more, to have its results again or to verify those published."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli.consuming import ConfigOption, log_for_people, names, time_us, worker_config
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.core.events import Event
    from pipeline.services.published import Comparison
    from pipeline.services.replay import Replayed, ReplayRequest
    from pipeline.services.spans import Progress as Told

_SHOWN_DIFFERENCES = 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(_replay)


def _replay(
    cameras: Annotated[list[str], typer.Option("--camera", help="The camera; may be repeated.")],
    config_file: ConfigOption = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From this time of the video on, or this offset of its partition."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to this time or offset.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write events.jsonl and counts.jsonl there.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Judge with this model (name or folder) instead of the camera's.")
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Compare with what was published, byte for byte.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the outcome as JSON on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Run any span of the windows topic once more through the very code that inference runs.

    What a camera saw is in the log for as long as its topic keeps it (a day). Exact results need the beginning of an
    epoch (of a connection to the camera): with --verify what comes before the first one left is not compared, and the
    command says so. Times are those of the video, as in the events: 2026-01-01T08:00:00Z, or 10m for ten minutes ago.

    \b
    passerby replay --camera gate --verify
    passerby replay --camera gate --from 2h --model passerby-small --out what-if

    Exit code: 0, or 1 when --verify found a difference.
    """
    configure(log_format)
    if out is None and not verify:
        raise UsageError("nothing is asked for", mend="say --out DIR, --verify, or both")
    if verify and model is not None:
        raise UsageError("--verify and --model cannot go together", mend="another model gives other results")
    from pipeline.bus.topics import Topics
    from pipeline.services.replay import Replay, ReplayRequest

    config = worker_config(config_file)
    requests = [
        ReplayRequest(camera, **_bounds(from_, to), model=model, exact=verify) for camera in sorted(names(cameras))
    ]
    console = Console(stderr=True, quiet=quiet)
    topics = Topics(config.kafka.prefix)
    with (
        log_for_people(config.kafka, "passerby-replay") as bus,
        Replay(bus, topics, config) as replay,
        _sink(out) as keep,
    ):
        found = [_one(bus, replay, request, keep, console, verify=verify) for request in requests]
    if as_json:
        sys.stdout.write(json.dumps([_as_json(*one) for one in found], ensure_ascii=False) + "\n")
    else:
        for one in found:
            _tell(*one, out)
    raise typer.Exit(1 if any(comparison and comparison.differences for _, comparison in found) else 0)


def _one(
    bus: Any, replay: Any, request: ReplayRequest, keep: Any, console: Console, *, verify: bool
) -> tuple[Replayed, Comparison | None]:
    from pipeline.services.published import compare, published_from

    events: list[Event] = []

    def sink(event: Event) -> None:
        keep(event)
        if verify:
            events.append(event)

    with _progress(console, request.camera_id) as (indexing, progress):
        told: Replayed = replay.run(request, sink, indexing=indexing, progress=progress)
    if not verify:
        return told, None
    sent_ms = told.index.windows[told.span.first].timestamp_ms
    published = published_from(bus, replay.topics, request.camera_id, told.span_offsets, sent_ms)
    return told, compare(published, events)


@contextmanager
def _sink(out: Path | None) -> Iterator[Any]:
    """Where events go beside the comparison."""
    from pipeline.outputs.jsonl import JsonLinesWriter

    if out is None:
        yield lambda _event: None
        return
    with JsonLinesWriter(out) as writer:
        yield writer.write
        writer.finish(order=True)


@contextmanager
def _progress(console: Console, camera_id: str) -> Iterator[tuple[Told, Told]]:
    told = TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[what]}")
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), told, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        index = shown.add_task(f"looking for {camera_id}", total=1, what="records")
        replayed = shown.add_task(f"replaying {camera_id}", total=1, what="windows", visible=False)
        yield (
            lambda done, of: shown.update(index, completed=done, total=of),
            lambda done, of: shown.update(replayed, completed=done, total=of, visible=True),
        )


def _bounds(from_: str | None, to: str | None) -> dict[str, int]:
    bounds = {}
    for text, name, option in ((from_, "from", "--from"), (to, "to", "--to")):
        if text is None:
            continue
        if text.strip().isascii() and text.strip().isdigit():
            bounds[f"{name}_offset"] = int(text)
        else:
            bounds[f"{name}_us"] = time_us(text, option)
    return bounds


def _tell(told: Replayed, comparison: Comparison | None, out: Path | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    first, last = told.span_offsets
    console.print(
        f"[bold]{told.index.camera_id}[/]  partition {told.index.partition}, offsets {first} to {last - 1}: "
        f"{told.span.last - told.span.first} windows, {told.frames} frames, {told.events} events"
    )
    for note in told.notes:
        console.print(f"  [yellow]{note}[/]")
    for offset, reason in told.refused:
        console.print(f"  [yellow]offset {offset} cannot be used: {reason}[/]")
    if out is not None:
        console.print(f"  [bold]events[/] {out / 'events.jsonl'}   [bold]counts[/] {out / 'counts.jsonl'}")
    if comparison is None:
        return
    if not comparison.differences:
        console.print(f"  [green]verified: {comparison.equal} published events and counts, each equal byte for byte[/]")
        return
    different = len(comparison.differences)
    console.print(
        f"  [bold red]{different} of {max(comparison.published, comparison.replayed)} differ[/]; "
        f"{comparison.equal} are equal"
    )
    for difference in comparison.differences[:_SHOWN_DIFFERENCES]:
        console.print(f"  {difference.told()}", markup=False)
    if different > _SHOWN_DIFFERENCES:
        console.print(f"  and {different - _SHOWN_DIFFERENCES} more")


def _as_json(told: Replayed, comparison: Comparison | None) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "camera_id": told.index.camera_id,
        "partition": told.index.partition,
        "offsets": list(told.span_offsets),
        "windows": told.span.last - told.span.first,
        "frames": told.frames,
        "events": told.events,
        "refused": [{"offset": offset, "reason": reason} for offset, reason in told.refused],
        "notes": told.notes,
    }
    return outcome if comparison is None else outcome | {"verified": asdict(comparison)}
