"""Assignments against SciPy's solver, the outside reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.analytics.association import assign, least_cost_pairs

optimize = pytest.importorskip("scipy.optimize")

COSTS = st.tuples(st.integers(0, 9), st.integers(0, 9)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-3, 3, width=32))
)


@given(COSTS)
def test_the_sum_is_as_small_as_scipys_and_nobody_is_paired_twice(cost: np.ndarray) -> None:
    rows, columns = least_cost_pairs(cost)
    theirs = optimize.linear_sum_assignment(cost)
    assert len(rows) == len(theirs[0])
    assert len(set(columns.tolist())) == len(columns)
    assert np.all(np.diff(rows) > 0)
    assert cost[rows, columns].sum() == pytest.approx(cost[theirs].sum(), abs=1e-9)


@given(COSTS, st.floats(0.1, 2.5))
def test_nothing_beyond_the_gate_is_paired_and_the_uncontested_shortcut_is_optimal(
    cost: np.ndarray, gate: float
) -> None:
    cost = np.abs(cost)
    rows, columns = assign(cost, gate)
    assert np.all(cost[rows, columns] < gate)
    capped = np.minimum(cost, gate)
    best = capped[optimize.linear_sum_assignment(capped)].sum()
    left_out = min(cost.shape) - len(rows)
    assert cost[rows, columns].sum() + gate * left_out == pytest.approx(best, abs=1e-9)
