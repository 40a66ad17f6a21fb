"""Which detection continues which track: assignments of least cost under a gate."""

from __future__ import annotations

import lap  # SciPy's does the same, at 1.5 s of imports and 47 MB a process
import numpy as np
from numpy.typing import NDArray

from pipeline.core.geometry import Floats

Rows = NDArray[np.int64]


def assign(cost: Floats, gate: float) -> tuple[Rows, Rows]:
    """Pairs (row, column) whose summed cost is least, where leaving a pair out costs ``gate``.

    cost: N x M, not negative; what costs ``gate`` or more (infinity too) is never paired. Gives the rows, rising,
    and their columns. Pairs that nobody contests are taken at once; only the others go through the optimal
    assignment, which gives the same pairs and is much quicker in a
    picture where most objects stand alone.
    """
    rows, columns = np.nonzero(cost < gate)
    choices, contenders = np.bincount(rows, minlength=len(cost)), np.bincount(columns, minlength=cost.shape[1])
    alone = (choices[rows] == 1) & (contenders[columns] == 1)
    sure_rows, sure_columns = rows[alone], columns[alone]
    if len(sure_rows) < len(rows):
        choices[sure_rows], contenders[sure_columns] = 0, 0
        rest_rows, rest_columns = np.flatnonzero(choices), np.flatnonzero(contenders)
        rest = np.minimum(cost[rest_rows[:, None], rest_columns], gate)
        picked_rows, picked_columns = least_cost_pairs(rest)
        worth = rest[picked_rows, picked_columns] < gate
        sure_rows = np.concatenate([sure_rows, rest_rows[picked_rows[worth]]])
        sure_columns = np.concatenate([sure_columns, rest_columns[picked_columns[worth]]])
        order = np.argsort(sure_rows, kind="stable")
        sure_rows, sure_columns = sure_rows[order], sure_columns[order]
    return sure_rows, sure_columns


def least_cost_pairs(cost: Floats) -> tuple[Rows, Rows]:
    """Pairs (row, column), as many as the shorter side of N x M ``cost`` has, whose summed cost is least.

    Rows rise. Jonker, Volgenant: "A shortest augmenting path algorithm for dense and sparse linear assignment
    problems", Computing 38, 1987.
    """
    if not cost.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    columns = np.asarray(lap.lapjv(np.ascontiguousarray(cost, np.float64), extend_cost=True, return_cost=False)[0])
    rows = np.flatnonzero(columns >= 0)
    return rows, columns[rows].astype(np.int64)
