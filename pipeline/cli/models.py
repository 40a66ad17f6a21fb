"""``passerby models``: bring a network of one's own, see what there is, promote what is good."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.cli.scene_models import is_scene_model, scene_row, show_scene_model
from pipeline.errors import ModelError, UsageError
from pipeline.inference.families import few
from pipeline.inference.manifest import MANIFEST_NAME, Color, Family, Manifest, Resize, Scale, read_manifest
from pipeline.inference.store import (
    SHIPPED,
    Model,
    default_search,
    find_model,
    list_models,
    load_model,
    promote_model,
    promoted_folder,
)

_SHIPPED_DETECTOR = "passerby-nano"


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    models = typer.Typer(no_args_is_help=True, help="Models: bring your own ONNX, list, inspect, promote.")
    models.command("add")(_add)
    models.command("list")(_list)
    models.command("inspect")(_inspect)
    models.command("promote")(_promote)
    app.add_typer(models, name="models")


def _add(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The network, in one file.")],
    family: Annotated[Family, typer.Option("--family", help="What its outputs mean; see below.")],
    name: Annotated[str, typer.Option("--name", help="What to call it: `model: NAME`.")],
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
    version: Annotated[str, typer.Option("--version", help="Named in every event.")] = "1",
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Look at an ONNX file, try it on a picture, and make a model of it.

    The file itself is not changed. Families: yolox (YOLOX), gfl (PicoDet, NanoDet), ultralytics (YOLOv8 and later,
    1 x (4+classes) x N), detr (logits and boxes), boxes_scores (decoded boxes and scores), passerby (our own).

    \b
    passerby models add yolox_nano.onnx --family yolox --name nano
    passerby models add best.onnx --family ultralytics --name mine --classes person,forklift

    Exit code: 0 written, 2 the file cannot work (one line says why).
    """
    from pipeline.inference.adding import Wanted, examine

    configure(log_format)
    examined = examine(
        file,
        Wanted(
            family=family,
            name=name,
            classes=_class_names(classes),
            resize=resize,
            color=color,
            scale=scale,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            shapes=_shapes(shapes),
            version=version,
        ),
    )
    model = examined.keep(to)
    console = Console()
    table = _facts(model.manifest, most_classes=12)
    table.title = f"{file.name}: {len(examined.data) / 1e6:.1f} MB"
    for line in examined.inputs:
        table.add_row("network in", escape(line))
    for line in examined.outputs[:8]:
        table.add_row("network out", escape(line))
    for line in examined.found:
        table.add_row("found", escape(line))
    console.print(table)
    for line in examined.warnings:
        sys.stderr.write(f"passerby: warning: {line}\n")
    console.print(f"written to [bold]{escape(str(model.folder))}[/]; use it with [bold]model: {_usable_as(model)}[/]")


def _list(log_format: LogFormatOption = LogFormat.CONSOLE) -> None:
    """All models that `model: NAME` finds.

    \b
    passerby models list
    """
    configure(log_format)
    table = Table("name", "version", "family", "classes", "shapes (ms)", "where")
    broken = []
    for folder in list_models():
        try:
            if is_scene_model(folder):
                table.add_row(*scene_row(folder))
                continue
            manifest = read_manifest(folder / MANIFEST_NAME)
        except ModelError as error:
            broken.append(str(error))
            continue
        where = "ships with Passerby" if folder.parent == SHIPPED else str(folder)
        classes = str(len(manifest.classes)) if len(manifest.classes) > 6 else ", ".join(manifest.classes)
        name = folder.name if folder.name == manifest.name else f"{folder.name} ({manifest.name})"
        table.add_row(name, manifest.version, manifest.family, classes, _shape_costs(manifest), where)
    if table.row_count:
        Console().print(table)
    else:
        Console().print(f"no model in {', '.join(str(place) for place in default_search())}")
    for line in broken:
        sys.stderr.write(f"passerby: warning: {line}\n")


def _inspect(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A model's name or folder.")],
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Check one model and show its manifest, shapes, costs, thresholds and card.

    \b
    passerby models inspect passerby-nano
    """
    from rich.markdown import Markdown

    configure(log_format)
    if is_scene_model(find_model(name)):
        show_scene_model(name)
        return
    model = load_model(name)
    _run_once(model)  # what is shown is known to work
    console = Console()
    table = _facts(model.manifest, most_classes=len(model.manifest.classes))
    table.title = f"{model.name} {model.manifest.version}"
    table.add_row("folder", escape(str(model.folder)))
    console.print(table)
    if model.manifest.card is not None:
        card = model.folder / model.manifest.card
        if card.is_file():
            console.print(Markdown(card.read_text(encoding="utf-8")))
        else:
            sys.stderr.write(f"passerby: warning: its card {card} is missing\n")


def _promote(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A model's name or folder.")],
    gate: Annotated[
        Path | None, typer.Option("--gate", metavar="FILE", help="Scores of it and of the present model, see below.")
    ] = None,
    present: Annotated[
        str | None,
        typer.Option("--present", help="The model whose place it takes; default: the one of its name, or the shipped."),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", min=0, max=1, help="AP it may be worse by, in any group, view and input.")
    ] = 0.01,
    without_gate: Annotated[
        bool, typer.Option("--without-gate", help="Nothing is compared: you have judged it yourself.")
    ] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Copy a checked model to where `model: NAME` finds it from any folder, if it is not worse than the present one.

    That is $PASSERBY_MODELS, or passerby/models in your data folder (~/.local/share). It is replaced whole or not at
    all: a worker that starts meanwhile reads the old model or the new one. Workers that run keep what they have loaded:
    give a new model a name of its own, write it into the configuration, and `passerby apply` swaps it.

    \b
    passerby-train evaluate models/mine-2 mine --out scores.json
    passerby models promote models/mine-2 --present mine --gate scores.json
    passerby models promote models/theirs --without-gate

    Exit code: 0 promoted, 2 refused (one line says why).
    """
    configure(log_format)
    model = load_model(name)
    _run_once(model)
    if model.folder.parent.resolve() == promoted_folder().resolve():
        raise UsageError(f"{model.name} is promoted already: {model.folder}")
    if not without_gate:
        _pass_gate(model, _present(model, present), gate, margin)
    elif gate is not None:
        raise UsageError("--gate and --without-gate cannot go together", mend="leave one out")
    kept = promote_model(model)
    Console().print(f"promoted to [bold]{escape(str(kept.folder))}[/]; use it with [bold]model: {kept.name}[/]")


def _run_once(model: Model) -> None:
    """Load the network and run it on an empty picture. Raises ModelError."""
    from pipeline.inference.classifier import Classifier
    from pipeline.inference.detector import Detector

    if model.manifest.task == "classification":
        Classifier(model)
    else:
        Detector(model)


def _present(model: Model, named: str | None) -> Model:
    """The model whose place is taken."""
    if named is not None:
        return load_model(named)
    elsewhere = (promoted_folder(), SHIPPED)
    there = {folder.name for folder in list_models(elsewhere)}
    return load_model(model.name if model.name in there else _SHIPPED_DETECTOR, elsewhere)


def _pass_gate(model: Model, present: Model, scores: Path | None, margin: float) -> None:
    """Tell how the two compare. Raises ModelError where the model may not take the present one's place."""
    from pipeline.inference.gate import judge

    if scores is None:
        raise UsageError(
            f"nothing shows that {model.name} is not worse than {present.name} {present.manifest.version}",
            mend=f"passerby-train evaluate {model.folder} {present.folder} --out scores.json, then --gate scores.json; "
            "or --without-gate",
        )
    gate = judge(scores, model, present.manifest, margin)
    console = Console(highlight=False)
    for each in gate.compared:
        console.print(f"  {escape(each.words())} ({each.gain:+.3f})")
    console.print(f"  parity: {escape(gate.parity)}")
    if gate.refusals:
        raise ModelError(f"{model.name} stays where it is: {'; '.join(gate.refusals)}")


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


def _facts(manifest: Manifest, *, most_classes: int) -> Table:
    """The manifest as a table for a person, with so many class names at most."""
    spec, thresholds = manifest.input, manifest.thresholds
    table = Table(show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("family", manifest.family)
    table.add_row("input", f"{spec.name}: {spec.dtype} {spec.layout}, {spec.color}, {spec.scale}, {spec.resize}")
    table.add_row("shapes (CPU ms a picture, 1 thread)", _shape_costs(manifest))
    table.add_row("classes", escape(few(tuple(manifest.classes), most_classes)))
    nms = "none" if manifest.nms == "none" else f"per {manifest.nms}, IoU {thresholds.nms_iou:g}"
    if manifest.task == "detection":
        table.add_row("thresholds", f"score {thresholds.score:g}, low {thresholds.low:g}; suppression {nms}")
    else:
        table.add_row("threshold", f"{thresholds.score:g}")
    options = ", ".join(f"{key} {value}" for key, value in manifest.options.model_dump(exclude_none=True).items())
    if options:
        table.add_row("options", escape(options))
    table.add_row("sha256", manifest.sha256)
    return table


def _shape_costs(manifest: Manifest) -> str:
    return ", ".join(
        f"{shape.width}x{shape.height}" + (f" ({shape.cost_ms:.1f})" if shape.cost_ms else "")
        for shape in manifest.input.shapes
    )


def _usable_as(model: Model) -> str:
    """What to write after ``model:``: the name where it is found by it, else the folder."""
    found = {folder.resolve() for folder in list_models()}
    return model.name if model.folder.resolve() in found else str(model.folder)
