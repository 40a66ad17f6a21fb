"""``passerby evidence``: the pictures behind an event."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline.cli.consuming import ConfigOption, log_for_people, names, time_us, worker_config
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.services.evidence import Cut, Seen
    from pipeline.services.evidence_files import Format

_MOST_S = 120.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evidence")(_evidence)


def _evidence(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="The event's id (ce_id).")],
    config_file: ConfigOption = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Of this camera: finds it sooner.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Published then or later: 10m, 2026-01-01T08:00:00Z.")
    ] = None,
    before_s: Annotated[
        float, typer.Option("--before", metavar="SECONDS", min=0, max=_MOST_S, help="Of video before it.")
    ] = 2.0,
    after_s: Annotated[
        float, typer.Option("--after", metavar="SECONDS", min=0, max=_MOST_S, help="Of video after it.")
    ] = 2.0,
    formats: Annotated[
        str, typer.Option("--format", metavar="A,B", help="mp4, png, frames (each as it lies in the log).")
    ] = "mp4,png",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path("evidence"),
    plain: Annotated[
        bool, typer.Option("--plain", help="Draw only the published box: needs no model, recomputes nothing.")
    ] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Cut the very frames the model saw for an event out of the log, as video, picture and JSON with hashes.

    Boxes, the rule and the object's track are drawn in; CAMERA-EVENT_ID.json names each frame's place in the log and
    the hash of its bytes there. Pictures are there for as long as the windows topic keeps them (a day). Events of
    `passerby run` have no log that pictures could be cut from.

    \b
    passerby evidence 4f0c2a9be1d34c55a7a0c1f2d3e4b5a6 --out evidence
    passerby evidence 4f0c2a9be1d34c55a7a0c1f2d3e4b5a6 --camera gate --before 5 --format png
    """
    configure(log_format)
    wanted = _formats(formats)
    if event_id.endswith((".jsonl", ".json")) or "/" in event_id:
        raise UsageError(
            f"{event_id} is no event's id",
            mend="give the id of an event in the log; events of `passerby run` have no log to cut pictures from",
        )
    from pipeline.bus.topics import Topics
    from pipeline.services.evidence import cut, find_event, see_again
    from pipeline.services.evidence_files import write_evidence
    from pipeline.services.replay import Replay

    config = worker_config(config_file)
    topics = Topics(config.kafka.prefix)
    since_ms = time_us(since, "--since") // 1000 if since is not None else None
    console = Console(stderr=True)
    with (
        log_for_people(config.kafka, "passerby-evidence") as bus,
        Replay(bus, topics, config) as replay,
        console.status("looking for the event") as status,
    ):
        event = find_event(
            bus, topics, event_id, camera_id=camera, since_ms=since_ms,
            looked=lambda count: status.update(f"looking for the event: {count} records"),
        )  # fmt: skip
        status.update("cutting its frames")
        found = cut(bus, topics, event, before_s=before_s, after_s=after_s, most_s=_MOST_S)
        status.update("looking at them again")
        seen = None if plain else see_again(replay, found)
        written = write_evidence(out, found, seen, wanted)
    _tell(console, found, seen)
    for path in written if "frames" not in wanted else [path for path in written if path.parent == out]:
        sys.stdout.write(f"{path}\n")


def _formats(text: str) -> list[Format]:
    from pipeline.services.evidence_files import FORMATS

    asked = names([text])
    for name in sorted(asked - set(FORMATS)):
        raise UsageError(f"--format: there is no {name!r}", mend=", ".join(FORMATS))
    return [name for name in FORMATS if name in asked]


def _tell(console: Console, found: Cut, seen: Seen | None) -> None:
    from pipeline.core.events import rfc3339
    from pipeline.outputs.tail import in_words

    event = found.event.event
    console.print(f"[bold]{event.camera_id}[/] {rfc3339(event.time_us)} {in_words(event)}", highlight=False)
    first, last = found.frames[0], found.frames[-1]
    console.print(
        f"{len(found.frames)} frames of {found.topic}, partition {first.place.partition}, offsets {first.place.offset} "
        f"to {last.place.offset}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for note in [*found.notes, *(seen.notes if seen is not None else [])]:
        console.print(f"[yellow]{note}[/]", soft_wrap=True)
