"""What ``passerby models`` shows of scene models."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from pipeline.inference.manifest import MANIFEST_NAME, read_mapping
from pipeline.inference.scene_manifest import SceneManifest, read_scene_manifest
from pipeline.inference.store import SHIPPED


def is_scene_model(folder: Path) -> bool:
    """Whether a model's folder says that it is one. Raises ModelError where its manifest cannot be read."""
    return read_mapping(folder / MANIFEST_NAME).get("task") == "scene"


def scene_row(folder: Path) -> tuple[str, ...]:
    """name, version, family, kinds, size of the clip, where. Raises ModelError."""
    manifest = read_scene_manifest(folder / MANIFEST_NAME)
    where = "ships with Passerby" if folder.parent == SHIPPED else str(folder)
    name = folder.name if folder.name == manifest.name else f"{folder.name} ({manifest.name})"
    return name, manifest.version, "scene", ", ".join(manifest.kinds), _clip(manifest), where


def show_scene_model(name: str) -> None:
    """Check it, run it once, and show its manifest and card. Raises ModelError."""
    from pipeline.inference.scene import SceneModel, load_scene_files

    files = load_scene_files(name)
    SceneModel(files)  # runs once: what is shown is known to work
    manifest, console = files.manifest, Console()
    crop = manifest.crop
    place = crop.rule if crop.rule == "whole" else f"{crop.rule}, {crop.width:g} x {crop.height:g} of the picture"
    table = Table(show_header=False, title_justify="left", title=f"{files.name} {manifest.version}")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("clip", f"{_clip(manifest)}, the next {manifest.clip.stride} frames later")
    table.add_row("looks at", place)
    for kind, spec in manifest.kinds.items():
        end = spec.start if spec.end is None else spec.end
        people = "1 person" if spec.persons == 1 else f"{spec.persons} people"
        gate = f"; {people} in {spec.persons_share:.0%} of the frames" if spec.persons else ""
        told = f"begins at {spec.start:g} in {spec.clips} clips in a row, ends below {end:g}{gate}"
        table.add_row(f"kind {kind}", told)
    table.add_row("sha256 of the manifest", files.sha256)
    table.add_row("folder", escape(str(files.folder)))
    console.print(table)
    if manifest.card is not None:
        card = files.folder / manifest.card
        if card.is_file():
            console.print(Markdown(card.read_text(encoding="utf-8")))
        else:
            sys.stderr.write(f"passerby: warning: its card {card} is missing\n")


def _clip(manifest: SceneManifest) -> str:
    clip = manifest.clip
    return f"{clip.frames} frames, {clip.interval_s:g} s apart"
