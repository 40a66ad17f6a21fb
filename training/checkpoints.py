"""Checkpoints on disk: written whole or not at all, read without running anything that is in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelError


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write it beside ``path`` and then in its place; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(dict(state), partial)
    partial.replace(path)


def is_checkpoint(told: Path) -> bool:
    """Whether a path means a checkpoint, there or not, and no model's name or folder."""
    return told.suffix == ".pt" or told.is_file()


def read_state(path: Path, made_by: str, *, keys: Collection[str] = (), task: str | None = None) -> dict[str, Any]:
    """What a checkpoint of ``made_by`` holds: at least ``keys``, for ``task`` if one is named.

    Raises ModelError naming the file.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found = state.get("task")
        if any(key not in state for key in keys) or task not in (None, found):
            raise KeyError("task")
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no checkpoint", mend="train first, or name the run's folder") from None
    except Exception as error:
        raise ModelError(f"{path}: is no checkpoint of {made_by}: {type(error).__name__}") from None
    return state
