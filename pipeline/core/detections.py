"""What a detector saw in one frame, as parallel arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
"""N x 4: x_min, y_min, x_max, y_max in pixels of the original frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N detections of one frame, highest score first.

    boxes: N x 4 float32 xyxy, pixels of the original frame. scores: N float32, 0..1.
    class_ids: N int64, indices into ``classes`` (the model's own names, in the model's order).
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def none(classes: tuple[str, ...]) -> Detections:
        """No detection."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), classes)
