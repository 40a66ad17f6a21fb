"""What a run measures, for TensorBoard where it is installed, and always as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Writes ``scalars.jsonl`` into the run's folder, and TensorBoard's event files beside it if it can."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "scalars.jsonl"
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is nobody's dependency: `pip install tensorboard` turns it on
            return
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def add(self, epoch: int, told: Mapping[str, float]) -> None:
        """One epoch's values."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"epoch": epoch} | {key: round(value, 6) for key, value in told.items()}) + "\n")
        if self._board is not None:
            for key, value in told.items():
                self._board.add_scalar(key, value, epoch)

    def close(self) -> None:
        """Write out what TensorBoard still holds."""
        if self._board is not None:
            self._board.close()
