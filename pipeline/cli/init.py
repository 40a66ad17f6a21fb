"""``passerby init``: a commented configuration to start from, and a still with a grid for every camera."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.config import CameraConfig, Config, config_from_videos
from pipeline.config.schema import schema_text
from pipeline.config.secrets import replace_secrets
from pipeline.core.frame import Picture
from pipeline.core.rules import Point
from pipeline.errors import OutputError, SourceError, UsageError
from pipeline.services.inspection import look
from pipeline.services.planning import SourceFacts
from pipeline.services.stills import still_with_grid

CONFIG_NAME, SCHEMA_NAME = "passerby.yaml", "passerby.schema.json"
_LINE: tuple[Point, ...] = ((0.0, 0.6), (1.0, 0.6))
_ZONE: tuple[Point, ...] = ((0.25, 0.5), (0.75, 0.5), (0.9, 0.95), (0.1, 0.95))
_OPEN_AT_ONCE = 8

Looked = tuple[SourceFacts, Picture] | SourceError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(_init)


def _init(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders, URLs or /dev/video0.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long a source may take to open.")
    ] = 20.0,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Write a commented passerby.yaml, and for each source a still with a grid to read coordinates off.

    A password in a URL is replaced by ${CAMERA_PASSWORD}: set that in the environment before running.

    \b
    passerby init street.mp4
    passerby init rtsp://user:secret@gate.example/stream yard.mp4 --out site

    Exit code: 0 fine, 2 something is there already, 3 a source could not be opened (the rest is written).
    """
    configure(log_format)
    config = config_from_videos(sources)
    targets = [out / CONFIG_NAME, out / SCHEMA_NAME, *(out / f"{camera_id}.png" for camera_id in config.cameras)]
    there = [str(path) for path in targets if path.exists()]
    if there and not force:
        raise UsageError(f"{', '.join(there)}: already there", mend="--force overwrites, --out DIR writes elsewhere")
    looked = _look(config, timeout_s)
    _refuse_missing_files(config, looked)
    try:
        written = _write(config, looked, out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from None
    failed = _closing_words(out, written, looked)
    raise typer.Exit(3 if failed else 0)


def _look(config: Config, timeout_s: float) -> dict[str, Looked]:
    def opened(camera: CameraConfig) -> Looked:
        try:
            return look(camera, timeout_s=timeout_s)
        except SourceError as error:
            return error

    with ThreadPoolExecutor(_OPEN_AT_ONCE) as pool:
        return dict(zip(config.cameras, pool.map(opened, config.cameras.values()), strict=True))


def _refuse_missing_files(config: Config, looked: Mapping[str, Looked]) -> None:
    """A camera may be away today; a file that cannot be read is most likely a slip of the pen."""
    for camera_id, camera in config.cameras.items():
        found = looked[camera_id]
        if camera.source.is_local_file and isinstance(found, SourceError):
            raise found


def _write(config: Config, looked: Mapping[str, Looked], out: Path) -> dict[str, str]:
    """Write everything; give the variables that have to be set, by name, with what each holds."""
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    variables: dict[str, str] = {}
    for camera_id, camera in config.cameras.items():
        source, needed = _source_text(camera, out, several=len(config.cameras) > 1)
        variables |= needed
        found = looked[camera_id]
        facts = None if isinstance(found, SourceError) else found[0]
        written[camera_id] = _camera_yaml(camera, source, facts, teach=not written)
        if not isinstance(found, SourceError):
            title = f"{camera_id}  {found[0].width}x{found[0].height}"
            still = still_with_grid(found[1], title=title, lines=[("line", _LINE)], zones=[("area", _ZONE)])
            still.save(out / f"{camera_id}.png")
    (out / CONFIG_NAME).write_text(_HEAD + "".join(written.values()), encoding="utf-8")
    (out / SCHEMA_NAME).write_text(schema_text(), encoding="utf-8")
    return variables


def _source_text(camera: CameraConfig, out: Path, *, several: bool) -> tuple[str, dict[str, str]]:
    """The source as it goes into the file, and the environment variables it then needs, with what each holds."""
    url = camera.source.location.reveal()
    if camera.source.is_local_file:
        relative = os.path.relpath(url, out.resolve())
        return (url if relative.startswith(os.path.join("..", "..")) else relative), {}
    prefix = re.sub(r"[^A-Z0-9]+", "_", camera.id.upper()).strip("_") if several else "CAMERA"
    if prefix[:1].isdigit():
        prefix = f"CAMERA_{prefix}"
    variables: dict[str, str] = {}

    def placeholder(_: str) -> str:
        name = f"{prefix}_PASSWORD" + (f"_{len(variables) + 1}" if variables else "")
        variables[name] = f"the password of {camera.id}"
        return f"${{{name}}}"

    return replace_secrets(url.replace("${", "$${"), placeholder), variables


_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_NAME}
#
# What Passerby watches. Check it with:  passerby check -c {CONFIG_NAME}
# and run it with:                       passerby run -c {CONFIG_NAME} --out out
# Every key: docs/configuration.md. Passwords do not belong here: write ${{NAME}} and set NAME in the environment,
# or use password_file.

# ---- defaults for all cameras; any of them may be written again inside a camera ----

model: passerby-nano        # passerby-small sees more at twice the cost; or any of passerby models list, or a folder
sample_fps: 8               # frames a second that are analysed; 5 to 10 suit walking and driving
counts: {{window_s: 10}}      # a count every 10 seconds
# thresholds: {{score: 0.4}}  # higher: fewer false objects; lower: fewer missed ones; default: the model's own
# source: {{transport: tcp}}  # of RTSP cameras; udp loses pictures

# ---- the cameras; the name is the camera_id in every event ----
# Points are [x, y] in 0..1 of the picture: x to the right, y down. Each camera has a still with a grid beside this
# file, NAME.png, to read them off.

cameras:
"""


_LESSON = {
    "lines": """\
      # Drawn from A to B. Who crosses goes to the left or to the right, as seen by somebody walking from A to B: for a
      # line drawn from left to right, "right" is towards the bottom of the picture. An object counts when the bottom
      # centre of its box (its feet, its wheels) has gone over; anchor: center suits views from above.
      # Draw it where whole objects are seen, across the way they take, not near the edge of the picture.
""",
    "more_lines": """\
      # exit: {points: [[0.2, 0.8], [0.5, 0.8]], classes: [vehicle], wrong_way: left}   # to the left is also an event
""",
    "zones": """\
      # Corners in order round an area. Who enters and leaves is an event, and how many are inside is in every count.
""",
    "more_zones": """\
      # parking:
      #   points: [[0.0, 0.7], [0.3, 0.7], [0.3, 1.0], [0.0, 1.0]]
      #   dwell_s: 30       # an event for each object that stays this long
      #   crowded_at: 8     # an event when this many are inside
      #   stopped_s: 20     # an event for a vehicle that stands still this long
      #   falls: true       # an event for somebody who fell inside and stays down; wants model: passerby-falls
      #   direction: up     # an event for what moves against it (up, down, left, right or [dx, dy])
    # masks:                # painted black before anything leaves the camera's reader: privacy, or a waving flag
    #   - [[0.0, 0.0], [0.2, 0.0], [0.2, 0.1], [0.0, 0.1]]
""",
}


def _camera_yaml(camera: CameraConfig, source: str, facts: SourceFacts | None, *, teach: bool) -> str:
    """One camera of the file. teach: with the comments that are worth reading once."""
    seen = f"   # {facts.width}x{facts.height}" + (f", {facts.fps:.3g} fps" if facts.fps else "") if facts else ""
    if facts is None:
        seen = "   # could not be opened when this file was made"
    start = ""
    if camera.source.is_local_file:
        start = "    # start: 2026-01-01T08:00:00Z   # when the first frame was taken; without it time begins in 1970\n"
    rate = ""
    if facts is not None and facts.fps and facts.fps < camera.sample_fps:
        rate = f"    sample_fps: {max(1, int(facts.fps))}                         # the source has no more\n"
    lesson = _LESSON if teach else dict.fromkeys(_LESSON, "")
    return f"""
  {camera.id}:
    source: {_scalar(source)}{seen}
{start}{rate}    lines:
{lesson["lines"]}      line: {{points: {_points(_LINE)}, classes: [person, vehicle]}}
{lesson["more_lines"]}    zones:
{lesson["zones"]}      area: {{points: {_points(_ZONE)}, classes: [person, vehicle]}}
{lesson["more_zones"]}"""


def _points(points: Sequence[Point]) -> str:
    return str([list(point) for point in points])


def _scalar(text: str) -> str:
    """``text`` as a YAML scalar, with quotes only where they are needed."""
    return yaml.safe_dump(text, width=10_000, allow_unicode=True).removesuffix("\n").removesuffix("\n...")


def _closing_words(out: Path, variables: Mapping[str, str], looked: Mapping[str, Looked]) -> bool:
    """Say what was written and what comes next; whether a source failed."""
    say = Console(soft_wrap=True, highlight=False).print
    say(f"[bold]{escape(str(out / CONFIG_NAME))}[/]  the configuration, with comments")
    failed = False
    for camera_id, found in looked.items():
        if isinstance(found, SourceError):
            sys.stderr.write(f"passerby: {camera_id}: {found}; no still was made\n")
            failed = True
        else:
            say(f"[bold]{escape(str(out / f'{camera_id}.png'))}[/]  a still with a grid to read coordinates off")
    for name, what in variables.items():
        say(f"set [bold]{name}[/] in the environment: {escape(what)}")
    say(f"then: passerby check -c {escape(str(out / CONFIG_NAME))}")
    return failed
