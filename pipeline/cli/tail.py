"""``passerby tail``: events and counts as they are published."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer
from rich.console import Console

from pipeline.cli.consuming import ConfigOption, kafka_config, log_for_people, names, time_us, until_interrupted
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.core.events import EVENT_TYPES, Event
from pipeline.errors import UsageError
from pipeline.services.tail import EventFilter, EventTail, short_type

_Many = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tail")(_tail)


def _tail(
    config_file: ConfigOption = None,
    cameras: Annotated[_Many, typer.Option("--camera", help="Only this camera; may be repeated.")] = None,
    types: Annotated[
        _Many, typer.Option("--type", help="Only this type: line.crossed, count.window …; may be repeated.")
    ] = None,
    lines: Annotated[_Many, typer.Option("--line", help="Only what concerns this line.")] = None,
    zones: Annotated[_Many, typer.Option("--zone", help="Only what concerns this zone.")] = None,
    directions: Annotated[_Many, typer.Option("--direction", help="Only crossings to this side: left, right.")] = None,
    classes: Annotated[
        _Many, typer.Option("--class", help="Only objects of this class (car) or group (person, vehicle).")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Begin with what was published then: 10m, 2h, 2026-01-01T08:00:00Z."),
    ] = None,
    beginning: Annotated[bool, typer.Option("--beginning", help="Begin with the oldest there is.")] = False,
    counts_only: Annotated[bool, typer.Option("--counts", help="Only the count windows.")] = False,
    events_only: Annotated[bool, typer.Option("--events", help="Only what is not a count window.")] = False,
    number: Annotated[int | None, typer.Option("-n", min=1, help="Stop after this many lines.")] = None,
    until_idle: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.1, help="Stop once nothing came for this long.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="CloudEvents as JSON, one a line.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Watch events and counts as they are published, each once (read_committed), until Ctrl-C.

    Times are those of the video, in UTC; totals are those of the line since the counters' reset.

    \b
    passerby tail
    passerby tail --camera gate --type line.crossed --class vehicle --since 10m
    passerby tail --json --counts | jq '.data.groups'
    """
    configure(log_format)
    wanted = EventFilter(
        names(cameras), _types(types), names(lines), names(zones), _sides(directions), names(classes),
        counts=counts_only or not events_only, events=events_only or not counts_only,
    )  # fmt: skip
    since_ms = 0 if beginning else time_us(since, "--since") // 1000 if since is not None else None
    kafka = kafka_config(config_file)
    from pipeline.bus.topics import Topics

    topics = Topics(kafka.prefix)
    with (
        until_interrupted(),
        log_for_people(kafka, "passerby-tail") as bus,
        EventTail(bus, [topics.counts, topics.events], since_ms=since_ms) as tail,
    ):
        tail.wait_ready()
        _show(tail, wanted, _Json() if as_json else _Words(), number, until_idle)


def _show(
    tail: EventTail, wanted: EventFilter, shown: _Json | _Words, number: int | None, idle_s: float | None
) -> None:
    told, since_s = 0, time.monotonic()
    for record in tail:
        if record is None:
            if idle_s is not None and time.monotonic() - since_s > idle_s:
                return
            continue
        since_s = time.monotonic()
        if not isinstance(record.value, Event):
            place = f"{record.topic} partition {record.partition} offset {record.offset}"
            sys.stderr.write(f"passerby: {place}: {record.value.reason}\n")
            continue
        shown.take(record.value)
        if wanted.wants(record.value):
            shown.show(record.value)
            told += 1
            if number is not None and told >= number:
                return


class _Json:
    """Structured CloudEvents, in the bytes of events.jsonl."""

    def take(self, event: Event) -> None:
        """Nothing to remember."""

    def show(self, event: Event) -> None:
        from pipeline.outputs.jsonl import encode_line

        sys.stdout.buffer.write(encode_line(event))
        sys.stdout.buffer.flush()


class _Words:
    """Lines for people."""

    def __init__(self) -> None:
        from pipeline.outputs.tail import EventLines

        self._console = Console(highlight=False, soft_wrap=True)
        self._lines = EventLines()

    def take(self, event: Event) -> None:
        """Totals need every event, shown or not."""
        self._lines.totals.take(event)

    def show(self, event: Event) -> None:
        day = self._lines.day(event)
        if day is not None:
            self._console.print(day)
        self._console.print(self._lines.line(event))


def _types(values: list[str] | None) -> frozenset[str]:
    known = {short_type(type_) for type_ in EVENT_TYPES} | set(EVENT_TYPES)
    asked = names(values)
    for name in sorted(asked - known):
        raise UsageError(f"--type: there is no {name!r}", mend=", ".join(sorted(map(short_type, EVENT_TYPES))))
    return asked


def _sides(values: list[str] | None) -> frozenset[str]:
    asked = names(values)
    for name in sorted(asked - {"left", "right"}):
        raise UsageError(f"--direction: {name!r} is neither left nor right")
    return asked
