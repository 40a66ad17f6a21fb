"""Where models lie, and finding one by name.

A model is a folder holding ``model.onnx`` and ``manifest.yaml``. ``model: NAME`` is looked for, first found wins, in

1. ``NAME`` itself, if it is such a folder (or a folder holding exactly one),
2. ``./models/NAME`` (where ``passerby models add`` writes),
3. ``$PASSERBY_MODELS/NAME``, by default ``~/.local/share/passerby/models/NAME`` (where ``models promote`` copies to),
4. the models that ship with Passerby.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.inference.manifest import MANIFEST_NAME, MODEL_NAME, Manifest, manifest_yaml, read_manifest
from pipeline.inference.onnx_file import check_stands_alone, read_model_file

SHIPPED = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, slots=True)
class Model:
    """A checked model: its manifest, its folder and its file."""

    manifest: Manifest
    folder: Path
    path: Path

    @property
    def name(self) -> str:
        return self.manifest.name

    def read(self) -> bytes:
        """The bytes of the network, verified against the manifest. Raises ModelError."""
        return read_network(self.path, self.manifest.sha256)


def read_network(path: Path, sha256: str) -> bytes:
    """The bytes of an ONNX file that is whole, needs no other file and is the one its manifest names, or ModelError."""
    data = read_model_file(path)
    told = hashlib.sha256(data).hexdigest()
    if told != sha256:
        check_stands_alone(data, path)  # says so if the file is merely cut short
        raise ModelError(
            f"{path}: its sha256 is {told[:12]}…, the manifest says {sha256[:12]}…",
            mend="the file was changed after it was added: add it again with `passerby models add`",
        )
    check_stands_alone(data, path)
    return data


def promoted_folder() -> Path:
    """Where promoted models lie: ``$PASSERBY_MODELS``, or ``passerby/models`` in the user's data folder."""
    told = os.environ.get("PASSERBY_MODELS")
    if told:
        return Path(told).expanduser()
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "passerby" / "models"


def default_search() -> tuple[Path, ...]:
    """The folders a name is looked for in, first to last."""
    return (Path("models"), promoted_folder(), SHIPPED)


def find_model(name_or_folder: str | Path, search: Sequence[Path] | None = None) -> Path:
    """The folder of a model, unchecked. Raises ModelError, for an unknown name with what there is."""
    told = Path(name_or_folder).expanduser()
    if told.is_dir():
        here = _as_model_folder(told)
        if here is not None:
            return here
    places = tuple(search) if search is not None else default_search()
    for place in places:
        if len(told.parts) == 1 and (place / told / MANIFEST_NAME).is_file():
            return place / told
    raise _unknown(told, places)


def load_model(name_or_folder: str | Path, search: Sequence[Path] | None = None) -> Model:
    """Find a model and check it: manifest, size, sha256, that the ONNX is whole and needs no other file.

    search: folders to look a name up in (default: ``default_search()``).
    Raises ModelError saying what is wrong and, for an unknown name, what there is.
    """
    folder = find_model(name_or_folder, search)
    manifest = read_manifest(folder / MANIFEST_NAME)
    model = Model(manifest, folder, folder / manifest.file)
    model.read()
    return model


def list_models(search: Sequence[Path] | None = None) -> list[Path]:
    """The folders of all models that can be found by name; one that another hides is left out."""
    found: dict[str, Path] = {}
    for place in search if search is not None else default_search():
        for folder in _model_folders(place):
            found.setdefault(folder.name, folder)
    return [found[name] for name in sorted(found)]


def keep_model(data: bytes, manifest: Manifest, card: str | None, folder: Path) -> Model:
    """Write a model's folder, whole or not at all, in place of one that is there. Raises ModelError."""
    files = {manifest.file: data, MANIFEST_NAME: manifest_yaml(manifest).encode()}
    if card is not None and manifest.card is not None:
        files[manifest.card] = card.encode()
    keep_files(files, folder)
    return Model(manifest, folder, folder / manifest.file)


def keep_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write a model's files (name -> content) as ``folder``, whole or not at all; a model that is there is replaced.

    Raises ModelError when it cannot be written, or when ``folder`` holds something that is not a model.
    """
    if folder.exists() and not (folder / MANIFEST_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder}: is there and is not a model's folder", mend="choose another --name or --to")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        partial.chmod(0o755)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        _swap(partial, folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, folder: Path) -> None:
    """Put ``partial`` in the place of ``folder``. A reader finds the old model or the new one, never a mixture."""
    old = None
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        folder.rename(old / "model")
    try:
        partial.rename(folder)
    except OSError:
        if old is not None:
            (old / "model").rename(folder)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _as_model_folder(told: Path) -> Path | None:
    """``told`` if it is a model's folder, or the only model's folder in it, or None."""
    if (told / MANIFEST_NAME).is_file():
        return told
    inside = _model_folders(told)
    if len(inside) > 1:
        names = ", ".join(str(folder) for folder in inside)
        raise ModelError(f"{told}: holds {len(inside)} models", mend=f"name one of {names}")
    if inside:
        return inside[0]
    if (told / MODEL_NAME).is_file():
        raise ModelError(
            f"{told}: holds {MODEL_NAME} without {MANIFEST_NAME}",
            mend=f"passerby models add {told / MODEL_NAME} --family … --name {told.name}",
        )
    return None


def _model_folders(place: Path) -> list[Path]:
    try:
        inside = [each for each in place.iterdir() if not each.name.startswith(".")]
        return sorted(each for each in inside if (each / MANIFEST_NAME).is_file())
    except OSError:
        return []


def _unknown(told: Path, places: Sequence[Path]) -> ModelError:
    if told.suffix == ".onnx":
        return ModelError(
            f"{told}: is a bare ONNX file: what it wants and means is not known",
            mend=f"passerby models add {told} --family … --name {told.stem}",
        )
    names = [folder.name for folder in list_models(places)]
    near = difflib.get_close_matches(told.name, names, n=1)
    there = f"there are {', '.join(names)}" if names else "there is none yet: passerby models add"
    return ModelError(f"there is no model {str(told)!r}", mend=f"did you mean {near[0]}?" if near else there)
