"""``passerby models add``: a network of one's own, or a model's whole folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.cli.model_facts import facts, usable_as
from pipeline.errors import ModelError, UsageError
from pipeline.inference.manifest import AnyFamily, Color, Resize, Scale
from pipeline.inference.models import WHAT, AnyModel, copy_model, load_any, refuse_other_task, run_once
from pipeline.inference.scene import SceneFiles

if TYPE_CHECKING:
    from pipeline.inference.adding import Examined


def add_model(
    path: Annotated[Path, typer.Argument(metavar="FILE.onnx|DIR", help="The network, or a model's folder.")],
    family: Annotated[AnyFamily | None, typer.Option("--family", help="What a file's outputs mean; see below.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it: `model: NAME`.")] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The model is written to DIR/NAME.")] = Path("models"),
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="A,B,C|coco80", help="Names of its classes, in order.")
    ] = None,
    resize: Annotated[Resize | None, typer.Option("--resize", help="How pictures are fitted.")] = None,
    color: Annotated[Color | None, typer.Option("--color", help="The order of the channels.")] = None,
    scale: Annotated[Scale | None, typer.Option("--scale", help="The range of the values.")] = None,
    score_threshold: Annotated[
        float | None, typer.Option("--score-threshold", min=0.01, max=0.99, help="A detection one can trust.")
    ] = None,
    nms_iou: Annotated[
        float | None, typer.Option("--nms-iou", min=0.05, max=1.0, help="Boxes that overlap more are one object.")
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option("--shapes", metavar="WxH,WxH", help="Input sizes, where the network leaves them free."),
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="Named in every event. [1]")] = None,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Look at an ONNX file or a model's folder, try it on a picture, and make a model of it.

    The file itself is not changed. Families: yolox (YOLOX), gfl (PicoDet, NanoDet), ultralytics (YOLOv8 and later,
    1 x (4+classes) x N), detr (logits and boxes), boxes_scores (decoded boxes and scores), passerby (our own),
    classifier (uint8 N x H x W x 3 RGB to N x C probabilities). A scene model is two networks, so it is brought as a
    folder: manifest.yaml, encoder and head.

    \b
    passerby models add yolox_nano.onnx --family yolox --name nano
    passerby models add best.onnx --family ultralytics --name mine --classes person,forklift
    passerby models add weather.onnx --family classifier --name weather --classes rain,dry
    passerby models add runs/loitering-model

    Exit code: 0 written, 2 it cannot work (one line says why).
    """
    configure(log_format)
    if path.is_dir():
        file_only = (classes, resize, color, scale, score_threshold, nms_iou, shapes, version)
        if any(each is not None for each in file_only):
            raise UsageError(f"{path}: a folder's manifest says all but its --name and --to", mend="mend manifest.yaml")
        return _add_folder(path, family, name, to)
    if family is None or name is None:
        missing = "--family" if family is None else "--name"
        raise UsageError(f"{path}: {missing} is missing", mend="a file needs both; a folder with a manifest neither")
    settings = {"resize": resize, "color": color, "scale": scale, "nms_iou": nms_iou}
    if family == "classifier":
        from pipeline.inference.adding_classifier import WantedLabels, examine_classifier

        if told := [key for key, value in settings.items() if value is not None]:
            raise UsageError(f"--{told[0].replace('_', '-')} is not for classifiers", mend="leave it out")
        sizes = _shapes(shapes)
        if sizes is not None and len(sizes) > 1:
            raise UsageError(f"--shapes {shapes!r}: a classifier runs at one", mend="name the one it was trained at")
        labels = WantedLabels(name, _class_names(classes), sizes[0] if sizes else None, score_threshold, version or "1")
        return _keep(examine_classifier(path, labels), path, to)
    from pipeline.inference.adding import Wanted, examine

    wanted = Wanted(
        family=family, name=name, classes=_class_names(classes), resize=resize, color=color, scale=scale,
        score_threshold=score_threshold, nms_iou=nms_iou, shapes=_shapes(shapes), version=version or "1",
    )  # fmt: skip
    return _keep(examine(path, wanted), path, to)


def _keep(examined: Examined, path: Path, to: Path) -> None:
    """Write what works and say what it is."""
    manifest = examined.manifest
    refuse_other_task(to / manifest.name, manifest.name, manifest.task)
    model = examined.keep(to)
    console = Console()
    table = facts(model.manifest, most_classes=12)
    table.title = f"{path.name}: {len(examined.data) / 1e6:.1f} MB"
    for line in examined.inputs:
        table.add_row("network in", escape(line))
    for line in examined.outputs[:8]:
        table.add_row("network out", escape(line))
    for line in examined.found:
        table.add_row("found", escape(line))
    console.print(table)
    for line in examined.warnings:
        sys.stderr.write(f"passerby: warning: {line}\n")
    _written(model)


def _add_folder(path: Path, family: AnyFamily | None, name: str | None, to: Path) -> None:
    """Check a model's folder of any task and copy it."""
    model = load_any(path)
    mine = None if isinstance(model, SceneFiles) else model.manifest.family
    if family is not None and family != mine:
        what = WHAT[model.manifest.task] if mine is None else f"of family {mine}"
        raise ModelError(f"{path}: is {what}, not of family {family}", mend="leave --family out")
    run_once(model)
    place = to / (name or model.name)
    if place.resolve() == model.folder.resolve():
        raise UsageError(f"{path}: is there already", mend="another --name or --to")
    _written(copy_model(model, place, name))


def _written(model: AnyModel) -> None:
    where, what = escape(str(model.folder)), WHAT[model.manifest.task]
    use = _USED_AS[model.manifest.task].format(usable_as(model))
    Console().print(f"{what}, written to [bold]{where}[/]; use it with [bold]{escape(use)}[/]")


_USED_AS = {"detection": "model: {}", "classification": "labels: {{model: {}}}", "scene": "scene: {{model: {}}}"}
"""Task -> what to write into the configuration."""


def _class_names(told: str | None) -> tuple[str, ...] | None:
    if told is None:
        return None
    names = tuple(name.strip() for name in told.split(","))
    if not all(names):
        raise UsageError(f"--classes {told!r} holds an empty name")
    return names


def _shapes(told: str | None) -> tuple[tuple[int, int], ...] | None:
    if told is None:
        return None
    shapes = []
    for part in told.split(","):
        match = re.fullmatch(r"\s*(\d{2,4})x(\d{2,4})\s*", part)
        if match is None:
            raise UsageError(f"--shapes {told!r}: {part!r} is not WIDTHxHEIGHT", mend="for example 640x384,512x512")
        shapes.append((int(match[1]), int(match[2])))
    return tuple(shapes)
