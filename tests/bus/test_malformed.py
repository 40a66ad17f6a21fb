"""Damaged records of every topic: malformed or a value, never a crash; the benchmark does the same with 10^5 each."""

from __future__ import annotations

import pytest

from benchmarks.malformed import RESEALED, decode_mutated, good_records


@pytest.mark.parametrize("name", list(good_records()))
def test_damaged_records_are_malformed_and_harm_no_other(name: str) -> None:
    topic, good = good_records()[name]
    told = decode_mutated(topic, good, 400, seed=7, reseal=name == RESEALED)
    assert told.crashed == []
    assert told.unharmed == 400
    assert told.malformed + told.unchanged + told.decoded == 400
    assert told.malformed > 150  # the mutations do damage
