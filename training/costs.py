"""What a network costs on this machine: CPU milliseconds a picture with one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved_ms(runs: Mapping[str, Callable[[], object]], rounds: int = 30) -> dict[str, float]:
    """Median CPU milliseconds of each run. In every round each runs once, so that a busy machine is unfair to none.

    CPU time of the process, not wall time: what others on the machine take is not counted.
    """
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.process_time()
            run()
            taken[name].append(1e3 * (time.process_time() - started))
    return {name: statistics.median(each) for name, each in taken.items()}
