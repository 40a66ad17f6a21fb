"""``passerby models``: bring a network of one's own, see what there is, promote what is good."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.cli.model_adding import add_model
from pipeline.cli.model_facts import facts, shape_costs
from pipeline.cli.model_promoting import promote
from pipeline.cli.scene_models import is_scene_model, scene_row, show_scene_model
from pipeline.errors import ModelError
from pipeline.inference.manifest import MANIFEST_NAME, read_manifest
from pipeline.inference.models import run_once
from pipeline.inference.store import SHIPPED, default_search, find_model, list_models, load_model


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    models = typer.Typer(no_args_is_help=True, help="Models: bring your own ONNX, list, inspect, promote.")
    models.command("add")(add_model)
    models.command("list")(_list)
    models.command("inspect")(_inspect)
    models.command("promote")(promote)
    app.add_typer(models, name="models")


def _list(log_format: LogFormatOption = LogFormat.CONSOLE) -> None:
    """All models that `model: NAME` finds.

    \b
    passerby models list
    """
    configure(log_format)
    table = Table(Column("name", no_wrap=True), "version", "family", "classes", "shapes (ms)", "where")
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
        table.add_row(name, manifest.version, manifest.family, classes, shape_costs(manifest), where)
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
    run_once(model)  # what is shown is known to work
    console = Console()
    table = facts(model.manifest, most_classes=len(model.manifest.classes))
    table.title = f"{model.name} {model.manifest.version}"
    table.add_row("folder", escape(str(model.folder)))
    console.print(table)
    if model.manifest.card is not None:
        card = model.folder / model.manifest.card
        if card.is_file():
            console.print(Markdown(card.read_text(encoding="utf-8")))
        else:
            sys.stderr.write(f"passerby: warning: its card {card} is missing\n")
