"""What ``passerby models`` shows of a detector or classifier."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from pipeline.inference.families import few
from pipeline.inference.manifest import Manifest
from pipeline.inference.models import AnyModel
from pipeline.inference.store import list_models


def facts(manifest: Manifest, *, most_classes: int) -> Table:
    """The manifest as a table for a person, with so many class names at most."""
    spec, thresholds = manifest.input, manifest.thresholds
    table = Table(show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("family", manifest.family)
    table.add_row("input", f"{spec.name}: {spec.dtype} {spec.layout}, {spec.color}, {spec.scale}, {spec.resize}")
    table.add_row("shapes (CPU ms a picture, 1 thread)", shape_costs(manifest))
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


def shape_costs(manifest: Manifest) -> str:
    """The shapes it runs at, with CPU milliseconds where they were measured."""
    return ", ".join(
        f"{shape.width}x{shape.height}" + (f" ({shape.cost_ms:.1f})" if shape.cost_ms else "")
        for shape in manifest.input.shapes
    )


def usable_as(model: AnyModel) -> str:
    """What to write after ``model:``: the name where it is found by it, else the folder."""
    found = {folder.resolve() for folder in list_models()}
    return model.name if model.folder.resolve() in found else str(model.folder)
