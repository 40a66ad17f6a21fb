"""``passerby harvest``: frames worth learning from, as a set of labelled pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from pipeline.cli.consuming import names, time_us, worker_config
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.services.harvest import Harvested
    from pipeline.services.harvest.corrections import Correction
    from pipeline.services.harvest.looking import Look
    from pipeline.services.log import Log


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("harvest")(_harvest)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options say of which frames are looked at."""

    cameras: frozenset[str]
    since_us: int | None
    until_us: int | None

    def takes(self, at_us: int) -> bool:
        return (self.since_us is None or at_us >= self.since_us) and (self.until_us is None or at_us < self.until_us)


def _harvest(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder: the set of labelled pictures.")],
    videos: Annotated[
        list[str] | None, typer.Argument(metavar="[VIDEO]...", help="Recordings, in place of the log.")
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", metavar="FILE", help="passerby.yaml: where the log is; or, with --offline, its cameras."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the recordings that the cameras of -c name, not the log.")
    ] = False,
    cameras: Annotated[
        list[str] | None, typer.Option("--camera", help="Only this camera; may be repeated. Default: all.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Filmed then or later: 10m, 2026-01-01T08:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Filmed before then.")] = None,
    per_hour: Annotated[
        float,
        typer.Option("--per-hour", metavar="N", min=0, max=3600, help="Doubtful frames of a camera's hour at most."),
    ] = 60.0,
    corrections: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What an operator said, JSON Lines or CSV; see below.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The events.jsonl of the run that the corrections name events of."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="For VIDEO: the model whose doubts count.")] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="A better model that labels in its place (name or folder).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no closing words.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Gather the frames a model was unsure of, missed or got wrong, labelled as far as can be, for training.

    Looks at what the log still holds of the cameras, or at recordings. Kept are, of each camera: frames in which
    something was nearly believed or a followed object was not seen for a moment, at most --per-hour, spread in time
    and no near-duplicates; and every frame that a correction names. Privacy masks are painted in all of them. DIR then
    holds the pictures with labels (YOLO text), manifest.csv, data.yaml for passerby-train and index.html to look at.

    A correction is a line of JSON (or of a CSV with the same columns):

    \b
    {"event": "4f0c2a9b…", "verdict": "false"}            there is no such object
    {"event": "4f0c2a9b…", "verdict": "class: truck"}     it is a truck
    {"camera": "gate", "time": "2026-01-01T08:00:12Z", "verdict": "missed: person"}

    \b
    passerby harvest -c passerby.yaml --camera gate --since 2h --out harvest/gate
    passerby harvest clip.mp4 --teacher passerby-small --out harvest/clip
    passerby harvest clip.mp4 --corrections said.jsonl --events out/events.jsonl --out harvest/clip

    Exit code: 0, also where nothing was kept (then nothing is written).
    """
    from pipeline.outputs.labelled_set import LabelledSet
    from pipeline.services.harvest import Harvest, Rules
    from pipeline.services.harvest.labels import Labeller

    configure(log_format)
    wanted = _Wanted(
        names(cameras), *(_time(text, option) for text, option in ((since, "--since"), (until, "--until")))
    )
    labeller = Labeller(_teacher(teacher))
    console = Console(stderr=True, quiet=quiet)
    with (
        LabelledSet(out) as into,
        _opened(videos or [], config_file, model, wanted, offline=offline, console=console) as opened,
    ):
        said = _corrections(corrections, events, opened.find_event)
        told = Harvest(Rules(per_hour, said), labeller, into).run(opened.looks())
        pictures = into.finish(f"Harvest: {', '.join(sorted(opened.cameras))}")
    _tell(console, told, pictures, out)


@dataclass(frozen=True, slots=True)
class _Opened:
    """Where frames come from, and events that corrections name."""

    cameras: tuple[str, ...]
    looks: Callable[[], Iterable[Look]]
    find_event: Callable[[str], Mapping[str, Any]] | None = None


@contextmanager
def _opened(
    videos: list[str], config_file: Path | None, model: str | None, wanted: _Wanted, *, offline: bool, console: Console
) -> Iterator[_Opened]:
    """Recordings where they are named, else the log."""
    from pipeline.services.harvest import looks_at_recordings

    if videos or offline:
        config = _recordings(videos, config_file, model, wanted)
        yield _Opened(
            tuple(config.cameras), lambda: (each for each in looks_at_recordings(config) if wanted.takes(each.at_us))
        )
        return
    if model is not None:
        raise UsageError("--model is for VIDEO", mend="cameras of the log are judged by the model they had")
    from pipeline.bus.kafka import KafkaBus
    from pipeline.bus.topics import Topics
    from pipeline.services.replay import Replay

    config = worker_config(config_file)
    with (
        KafkaBus(config.kafka, client_id="passerby-harvest") as bus,
        Replay(bus, Topics(config.kafka.prefix), config) as replay,
    ):
        yield opened_log(bus, replay, wanted, console)


def opened_log(log: Log, replay: Any, wanted: _Wanted, console: Console) -> _Opened:
    """The cameras of a log, one after another."""
    from pipeline.services.evidence import find_event
    from pipeline.services.harvest import looks_at_log

    cameras = tuple(sorted(wanted.cameras)) or tuple(camera.id for camera in replay.plans().cameras())
    if not cameras:
        raise UsageError("the log has no cameras", mend="name some with --camera, or put them there: passerby apply")

    def looks() -> Iterator[Look]:
        for camera_id in cameras:
            with console.status(f"looking at {camera_id}") as status:

                def progress(
                    done: int, of: int, what: str = f"looking at {camera_id}", status: Status = status
                ) -> None:
                    status.update(f"{what}: {done} of {of} windows")

                found = looks_at_log(log, replay, camera_id, wanted.since_us, wanted.until_us, progress=progress)
                yield from (look for look in found if wanted.takes(look.at_us))

    def find(event_id: str) -> Mapping[str, Any]:
        event = find_event(log, replay.topics, event_id).event
        return {**event.data, "camera_id": event.camera_id, "time_us": event.time_us}

    return _Opened(cameras, looks, find)


def _recordings(videos: list[str], config_file: Path | None, model: str | None, wanted: _Wanted) -> Config:
    from pipeline.config import config_from_videos, load_config
    from pipeline.services.wiring import classes_of

    if videos:
        if config_file is not None:
            raise UsageError("VIDEO and -c cannot go together", mend="leave one out; with -c, say --offline")
        return config_from_videos(videos, model=model, classes_of=classes_of)
    if config_file is None or model is not None:
        raise UsageError("--offline wants -c, and no --model", mend="passerby harvest -c passerby.yaml --offline …")
    config = load_config(config_file, classes_of=classes_of)
    for name in sorted(wanted.cameras - set(config.cameras)):
        raise UsageError(
            f"--camera {name}: {config_file} has no such camera", mend=f"it has {', '.join(config.cameras)}"
        )
    chosen = {name: each for name, each in config.cameras.items() if not wanted.cameras or name in wanted.cameras}
    return config.model_copy(update={"cameras": chosen})


def _corrections(
    path: Path | None, events: Path | None, find_event: Callable[[str], Mapping[str, Any]] | None
) -> list[Correction]:
    from pipeline.services.harvest import read_corrections, read_events

    if path is None:
        return []
    if events is not None:
        find_event = read_events(events)

    def nowhere(event_id: str) -> Mapping[str, Any]:
        raise UsageError(f"where is event {event_id}?", mend="name the events.jsonl of that run with --events")

    return read_corrections(path, find_event or nowhere)


def _teacher(name: str | None) -> Any:
    from pipeline.inference.detector import Detector
    from pipeline.inference.store import load_model

    return Detector(load_model(name)) if name is not None else None


def _time(text: str | None, option: str) -> int | None:
    return time_us(text, option) if text is not None else None


def _tell(console: Console, told: Harvested, pictures: int, out: Path) -> None:
    for correction in told.not_found:
        sys.stderr.write(f"passerby: {correction.place}: its frame was not among those looked at\n")
    reasons = ", ".join(f"{count} {reason}" for reason, count in told.kept.most_common())
    console.print(
        f"{told.looked} frames looked at, {pictures} kept{f': {reasons}' if reasons else ''}", highlight=False
    )
    if pictures:
        console.print(f"[bold]look at them[/] {out / 'index.html'}   [bold]for training[/] {out / 'data.yaml'}")
