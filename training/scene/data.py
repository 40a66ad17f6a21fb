"""Clips that show something, and ordinary videos that do not, with the scene each was taken in.

A data file (YAML) names sets of three forms:

    csv: FILE        columns file, label and a column that names the scene (``scene``: scene_group)
    folder: FOLDER   a folder a kind (``fight/``, ``none/``…): a user's own events
    folder: FOLDER   with videos anywhere in it and no folder that is called like a kind: ordinary videos, negatives

A set labels the kinds it lists under ``labelled``; a label that is none of them means "nothing of these". Clips of one
scene stay on one side of every split: a clip without a told scene is a scene of its own, ``one_scene`` joins files
whose path in the set matches one pattern.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.sources.address import VIDEO_SUFFIXES

DATA = Path(__file__).parent / "scene.yaml"
_KEYS = {"csv", "folder", "labelled", "scene", "one_scene", "licence"}


@dataclass(frozen=True, slots=True)
class SceneClip:
    """One video. kinds: what happens in it. known: about which kinds that is the whole truth. ordinary: a negative
    that was not made for any kind (a street, a shop), on which false alarms are counted."""

    path: Path
    dataset: str
    scene: str
    kinds: frozenset[str]
    known: frozenset[str]
    ordinary: bool


@dataclass(frozen=True, slots=True)
class SceneSet:
    """One set of the data file: see the module's text."""

    name: str
    folder: Path
    labelled: tuple[str, ...]
    csv: Path | None
    scene: str
    one_scene: tuple[str, ...]
    licence: str


@dataclass(frozen=True, slots=True)
class SceneData:
    """The data file, read."""

    path: Path
    sets: tuple[SceneSet, ...]
    clips: tuple[SceneClip, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that some set labels, in the order of the file."""
        return tuple(dict.fromkeys(kind for each in self.sets for kind in each.labelled))

    def labelled(self, kind: str) -> list[SceneClip]:
        """The clips that were made for a kind: of sets that label it and hold it."""
        held = {each.dataset for each in self.clips if kind in each.kinds}
        return [each for each in self.clips if each.dataset in held and kind in each.known]

    @property
    def ordinary(self) -> list[SceneClip]:
        """The ordinary videos."""
        return [each for each in self.clips if each.ordinary]


def read_scene_data(path: Path, root: Path | None = None) -> SceneData:
    """Read a data file and list its clips. root: in place of the file's own. Raises ConfigError naming file and key."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", mend="name a data file with --data") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("sets"), dict) or not told["sets"]:
        raise ConfigError(f"{path}: sets: is missing", mend="see `passerby-train scene --help`")
    base = root or (path.parent / str(told.get("root", "."))).resolve()
    sets = tuple(_set(path, base, name, dict(each or {})) for name, each in told["sets"].items())
    clips = tuple(clip for each in sets for clip in _clips(each))
    if not clips:
        raise ConfigError(f"{path}: its sets hold no video", mend="look at the folders that it names")
    return SceneData(path, sets, clips)


def _set(path: Path, base: Path, name: str, told: dict[str, Any]) -> SceneSet:
    where = f"{path}: sets.{name}"
    for key in told.keys() - _KEYS:
        raise ConfigError(f"{where}.{key}: unknown key", mend=f"known: {', '.join(sorted(_KEYS))}")
    labelled = told.get("labelled")
    if not isinstance(labelled, list) or not labelled or not all(isinstance(each, str) for each in labelled):
        raise ConfigError(f"{where}.labelled: is missing", mend="list the kinds it labels: [fight]")
    folder = base / str(told.get("folder", name))
    if not folder.is_dir():
        raise ConfigError(f"{where}.folder: {folder} is not a folder", mend="give its folder, or --root for all")
    return SceneSet(
        name,
        folder,
        tuple(labelled),
        base / str(told["csv"]) if "csv" in told else None,
        str(told.get("scene", "scene_group")),
        tuple(str(each) for each in told.get("one_scene", ())),
        str(told.get("licence", "not stated")),
    )


def _clips(spec: SceneSet) -> Iterator[SceneClip]:
    known = frozenset(spec.labelled)
    if spec.csv is not None:
        for path, label, scene in _rows(spec, spec.csv):
            yield SceneClip(path, spec.name, f"{spec.name}/{scene}", frozenset({label}) & known, known, False)
        return
    videos = sorted(each for each in spec.folder.rglob("*") if each.suffix.lower() in VIDEO_SUFFIXES)
    per_class = any((spec.folder / kind).is_dir() for kind in spec.labelled)
    for path in videos:
        inner = path.relative_to(spec.folder)
        joined = next((each for each in spec.one_scene if fnmatch(inner.as_posix(), each)), inner.as_posix())
        kinds = frozenset({inner.parts[0]}) & known if per_class else frozenset[str]()
        yield SceneClip(path, spec.name, f"{spec.name}/{joined}", kinds, known, not per_class)


def _rows(spec: SceneSet, path: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                missing = [key for key in ("file", "label", spec.scene) if not row.get(key)]
                if missing:
                    raise ConfigError(f"{path}:{number}: {missing[0]}: is missing", mend="columns: file, label, scene")
                video = spec.folder / row["file"]
                if not video.is_file():
                    raise ConfigError(f"{path}:{number}: {video} is not there", mend="mend `folder` or the row")
                yield video, row["label"], row[spec.scene]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
