"""Whatever happens to workers, at whatever step: every result once, equal to an undisturbed run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bus.base import Message
from pipeline.core.events import CAMERA_STATUS, COUNT_WINDOW, LINE_CROSSED, ZONE_ENTERED
from pipeline.core.frame import FrameWindow
from tests.chaos.log_model import Killed
from tests.chaos.world import (
    BREAKS_THE_ANALYTICS,
    BREAKS_THE_NETWORK,
    Output,
    World,
    document,
    marker,
    status,
    window,
)

STEPS = (
    "init", "assigning", "assigned", "revoking", "revoked", "begin", "send", "offsets", "before commit",
    "after commit", "confirmed",
)  # fmt: skip


def _prepared() -> tuple[World, list[FrameWindow | Message]]:
    """A world with four cameras, and the windows to feed it: every kind there is."""
    world = World()
    for camera_id in ("a", "b", "c", "d"):
        world.apply(camera_id, document())
    second = world.apply("a", document(0.4, zone=True))
    told: list[FrameWindow | Message] = []
    for n in range(18):
        told.append(window("a", n, revision=0 if n < 7 else second))
        told.append(window("b", n, revision=1 if n < 5 else 0))  # 1: never was a document of b
        if n < 9:
            told.append(window("c", n))
        if n == 2:  # a camera whose epochs follow so closely that none of its windows is finished in between
            told += [window("d", 0), marker("d", 2), window("d", 1), window("d", 0, epoch=2, writer="i2")]
        if n > 2:
            told.append(window("d", n - 2, epoch=2, writer="i2"))
        if n == 3:
            told.append(Message("a", b"no window at all"))
            told.append(Message("b", None))
            told.append(window("ghost", 0))  # has no document
            told.append(window("b", 2))  # sent a second time
            told.append(window("b", 2, sequence=32))  # goes back in time
        if n == 6:
            told.append(window("b", 99, writer="zombie"))  # claims the epoch of another
        if n == 8:
            told.append(status("c", 9, "down"))
            told.append(marker("c", 2))
            told.append(window("c", 10, writer="i1"))  # of the epoch before
        if n >= 9:
            told.append(window("c", n - 9, epoch=2, writer="i2"))
        if n == 12:
            told.append(window("c", 300, epoch=1))
            told.append(window("a", 400, sequence=122, pixel=BREAKS_THE_ANALYTICS, revision=second, frames=1))
            told.append(window("b", 400, sequence=122, pixel=BREAKS_THE_NETWORK, frames=1))
    told.append(status("b", 210, "ended"))
    return world, told


def _undisturbed() -> tuple[Output, dict[str, bytes]]:
    world, told = _prepared()
    for each in told:
        world.feed(each)
    world.settle()
    return world.output(), world.states()


EXPECTED, EXPECTED_STATES = _undisturbed()


def _same(world: World) -> None:
    found = world.output()
    assert found.keys() == EXPECTED.keys()
    for key, records in EXPECTED.items():
        assert found[key] == records, key
    assert world.states() == EXPECTED_STATES


def test_the_undisturbed_run_holds_what_the_script_is_about() -> None:
    types = {dict(headers)["ce_type"].decode() for key in EXPECTED if key[0] != "t.dead-letters"
             for headers, _ in EXPECTED[key]}  # fmt: skip
    assert {COUNT_WINDOW, LINE_CROSSED, ZONE_ENTERED, CAMERA_STATUS} <= types
    letters = [
        dict(headers) for key, records in EXPECTED.items() if key[0] == "t.dead-letters" for headers, _ in records
    ]
    reasons = " | ".join(letter["dead_reason"].decode() for letter in letters)
    assert len(letters) == 6, reasons
    for part in ("begins with", "without a value", "no document", "not later", "analytics failed", "network failed"):
        assert part in reasons
    crossings = [json.loads(value) for headers, value in EXPECTED["t.events", "d"] + EXPECTED["t.events", "c"]
                 if value and dict(headers)["ce_type"] == LINE_CROSSED.encode()]  # fmt: skip
    assert {crossing["epoch"] for crossing in crossings} == {1, 2}
    ids = [dict(headers)["ce_id"] for key in EXPECTED if key[0] != "t.dead-letters" for headers, _ in EXPECTED[key]]
    assert len(ids) == len(set(ids))


class _KillAt:
    """Kills whoever comes to the ``count``-th step called ``name`` (any: "")."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.left, self.fired = name, count, False

    def __call__(self, step: str) -> None:
        if self.name in ("", step) and not self.fired:
            self.left -= 1
            if self.left < 0:
                self.fired = True
                raise Killed(step)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_kill_at_each_step_of_the_protocol_changes_nothing(step: str, count: int) -> None:
    world, told = _prepared()
    kill = _KillAt(step, count)
    world.log.at = kill
    world.start(0)
    for i, each in enumerate(told):
        world.feed(each)
        world.turn(0)
        if i == 12:
            world.start(1)  # two workers: partitions are revoked
        if i > 12:
            world.turn(1)
        if i % 20 == 19:
            for number in (0, 1):  # started again by whoever minds it, or long enough dead
                world.expire(number)
                world.start(number)
    assert kill.fired or count == 5
    world.settle()
    _same(world)


_OPERATIONS = st.one_of(
    st.tuples(st.just("feed"), st.integers(1, 12)),
    st.tuples(st.just("turn"), st.integers(0, 2), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.6])),
    st.tuples(st.just("start"), st.integers(0, 2)),
    st.tuples(st.just("kill"), st.sampled_from(["", *STEPS]), st.integers(0, 12)),
    st.tuples(st.just("expire"), st.integers(0, 2)),
    st.tuples(st.just("stop"), st.integers(0, 2)),
    st.tuples(st.just("time out")),
    st.tuples(st.just("marker")),
    st.tuples(st.just("answer lost"), st.integers(0, 2)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(_OPERATIONS, max_size=60))
def test_no_script_of_troubles_changes_a_byte(script: list[tuple[Any, ...]]) -> None:
    world, told = _prepared()
    waiting = list(reversed(told))
    world.start(0)
    for operation in script:
        _do(world, waiting, operation)
    for each in reversed(waiting):
        world.feed(each)
    world.settle()
    _same(world)


def _do(world: World, waiting: list[FrameWindow | Message], operation: tuple[Any, ...]) -> None:
    match operation:
        case ("feed", count):
            for _ in range(min(count, len(waiting))):
                world.feed(waiting.pop())
        case ("turn", number, times, seconds):
            for _ in range(times):
                world.turn(number, seconds)
        case ("start", number):
            world.start(number)
        case ("kill", step, count):
            world.log.at = _KillAt(step, count)
        case ("expire", number):
            world.expire(number)  # of a live one: it was stalled for longer than its session
        case ("stop", number):
            world.stop(number)
        case ("time out",):
            world.log.time_out()
        case ("marker",):
            world.log.deliver_a_marker()
        case ("answer lost", number):
            worker = world.workers.get(number)
            if worker is not None and worker.session is not None:
                worker.session._transactions.answer_lost = True  # type: ignore[attr-defined]
