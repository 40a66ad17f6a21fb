"""Where models lie, and finding one by name.

A model is a folder holding ``model.onnx`` and ``manifest.yaml``. ``model: NAME`` is looked for, first found wins, in

1. ``NAME`` itself, if it is such a folder (or a folder holding exactly one),
2. ``./models/NAME`` (where ``passerby models add`` writes),
3. ``$PASSERBY_MODELS/NAME``, by default ``~/.local/share/passerby/models/NAME`` (where ``models promote`` copies to),
4. the models that ship with Passerby.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.inference.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model: its manifest, its folder and its file."""

    manifest: Manifest
    folder: Path
    path: Path

    @property
    def name(self) -> str:
        return self.manifest.name


def default_search() -> tuple[Path, ...]:
    """The folders a name is looked for in, first to last."""
    raise NotImplementedError


def load_model(name_or_folder: str | Path, search: Sequence[Path] | None = None) -> Model:
    """Find a model and check it: manifest, size, sha256, that the ONNX is whole and needs no other file.

    search: folders to look a name up in (default: ``default_search()``).
    Raises ModelError saying what is wrong and, for an unknown name, what there is.
    """
    raise NotImplementedError
