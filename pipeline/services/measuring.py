"""How long the network takes here."""

from __future__ import annotations

import time

import numpy as np

from pipeline.inference.detector import Detector
from pipeline.inference.store import Model

_RUNS = 7


def network_ms(model: Model, size: tuple[int, int]) -> float:
    """Milliseconds of one core for one picture of a source of ``size`` (width, height): the median of a few runs.

    Raises ModelError when the network does not run.
    """
    detector = Detector(model)
    wanted = detector.fit(*size)
    noise = np.random.default_rng(0).integers(0, 256, (wanted.height, wanted.width, 3), np.uint8)
    took = []
    for _ in range(_RUNS):
        began = time.process_time()
        detector.detect([noise], [size])
        took.append((time.process_time() - began) * 1000)
    return float(np.median(took))
