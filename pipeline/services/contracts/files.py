"""The folder of the contract: today's files, and in ``v1`` those that were promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.events import DATA_TYPES
from pipeline.errors import OutputError, UsageError
from pipeline.services.contracts.asyncapi import document
from pipeline.services.contracts.compatibility import breakages, document_breakages
from pipeline.services.contracts.schemas import ENVELOPE, data_schema, envelope_schema

ASYNCAPI = "asyncapi.yaml"
BASELINE = "v1"
_SUFFIX = ".schema.json"


def render() -> dict[str, str]:
    """File name -> text, of everything that the code says today."""
    told = {f"{type_}{_SUFFIX}": _json(data_schema(type_)) for type_ in sorted(DATA_TYPES)}
    told[f"{ENVELOPE}{_SUFFIX}"] = _json(envelope_schema())
    head = "# Made from the code by `passerby contracts`; not edited by hand.\n"
    told[ASYNCAPI] = head + yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return told


def read(folder: Path) -> dict[str, str]:
    """File name -> text, of the contract that lies in ``folder``; empty when there is none. Raises OutputError."""
    try:
        found = [path for path in [*sorted(folder.glob(f"*{_SUFFIX}")), folder / ASYNCAPI] if path.is_file()]
        return {path.name: path.read_text(encoding="utf-8") for path in found}
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error


def write(folder: Path, files: dict[str, str]) -> list[str]:
    """Put ``files`` into ``folder`` and remove schemas that are no more; the names that changed. Raises OutputError."""
    before = read(folder) if folder.is_dir() else {}
    changed = sorted(name for name in files.keys() | before.keys() if files.get(name) != before.get(name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in changed:
            if name in files:
                (folder / name).write_text(files[name], encoding="utf-8")
            else:
                (folder / name).unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return changed


def differences(folder: Path) -> list[str]:
    """How the files in ``folder`` differ from what the code says."""
    made, found = render(), read(folder)
    told = [f"{name}: is not there" for name in made if name not in found]
    told += [f"{name}: the code says nothing of it" for name in found if name not in made]
    return told + [f"{name}: differs from the code" for name in made if name in found and made[name] != found[name]]


def incompatibilities(baseline: dict[str, str], current: dict[str, str]) -> list[str]:
    """How ``current`` breaks what ``baseline`` promised; both as of ``render``."""
    told: list[str] = []
    for name, text in baseline.items():
        if name not in current:
            told.append(f"{name}: is gone")
            continue
        was, now = _parsed(name, text), _parsed(name, current[name])
        found = document_breakages(was, now) if name == ASYNCAPI else breakages(was, now)
        told += [f"{name}: {line}" for line in found]
    return told


def freeze(folder: Path) -> list[str]:
    """Promise what the code says today: renew the baseline in ``folder``; the names that changed.

    Raises UsageError when it breaks what was promised before: then it would be a v2.
    """
    promised = folder / BASELINE
    broken = incompatibilities(read(promised) if promised.is_dir() else {}, render())
    if broken:
        raise UsageError(f"v1 is promised, and this would break it: {'; '.join(broken)}", mend="only add to it")
    return write(promised, render())


class _Plain(yaml.SafeDumper):
    """Values that are the same object twice are written twice: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _parsed(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text) if name == ASYNCAPI else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise OutputError(f"{name}: cannot be read: {error}") from error
