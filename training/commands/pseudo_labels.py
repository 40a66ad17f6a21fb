"""``passerby-train pseudo-label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("pseudo-label")(pseudo_label)


def pseudo_label(
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders with videos anywhere in them.")],
    teacher: Annotated[list[str], typer.Option(help="A name or folder, or FAMILY:FILE.onnx; @WxH. May be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder of the set: pictures, labels.json (COCO), data.yaml.")],
    every_s: Annotated[float, typer.Option(min=0.04, help="Look at a frame so often (seconds of the video).")] = 2.0,
    most: Annotated[int, typer.Option(min=1, help="Pictures of one video.")] = 12,
    sure: Annotated[float, typer.Option(min=0, max=1, help="Score from which on it is an object.")] = 0.5,
    unsure: Annotated[float, typer.Option(min=0, max=1, help="Score from which on it is a region to ignore.")] = 0.2,
    night: Annotated[bool, typer.Option("--night", help="Also label what passerby-daylight takes for night.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet here (.png or .jpg).")] = None,
) -> None:
    """Label videos by models: objects where a teacher is sure, regions to ignore where one is in doubt, nothing else.

    Larger inputs than a model runs at make it its own teacher. By night teachers see little, so such pictures are left
    out. What comes of it trains (`detector --data`); it is never held out to judge by. Look at it first:

        passerby-train pseudo-label cameras/ --teacher passerby-small@960x544 --out pseudo --sheet sheet.png

        passerby-train pseudo-label day.mp4 --teacher passerby-small --teacher gfl:picodet_s_416_coco.onnx --out pseudo
    """
    from pipeline.cli.detect import files_in
    from training.annotations import CLIPS
    from training.checking import check_set, write_sheet
    from training.commands.contenders import contender_of
    from training.pseudo_labels import LABELS_FILE, Rules, taken_by_day, write_pseudo_labels

    if unsure > sure:
        raise UsageError(f"--unsure {unsure:g} is above --sure {sure:g}", mend="what is sure scores more than a doubt")
    rules = Rules(every_s, most, sure, unsure)
    teachers = [contender_of(each).detector(unsure) for each in teacher]
    told = write_pseudo_labels(
        files_in(videos, CLIPS, "no video"), teachers, out, rules, by_day=None if night else taken_by_day(), show=True
    )
    for path, why in told.broken.items():
        typer.echo(f"left out, cannot be read to its end: {path}: {why}", err=True)
    for what, counts in (("labels", told.labels), ("ignored", told.ignored), ("frames left out", told.skipped)):
        shown = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
        typer.echo(f"{what}: {shown}")
    if sheet is not None:
        checked = check_set(out / LABELS_FILE, out / "images", None)
        write_sheet(sheet, checked, 48)
        typer.echo(f"{sheet}: written")
    typer.echo(f"{out}: {told.pictures} pictures; train on them with --data {out / 'data.yaml'}, or beside other sets")
