"""Taking a partition over: the marker is waited for, and what does not fit is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.topics import CameraState, Forgotten, IngestState, PartitionState, StateRecord
from pipeline.errors import BusUnavailable
from pipeline.services.restoring import Restorer

Value = StateRecord | Malformed


class _State:
    """A partition of ``state`` whose end moves on with each sleep."""

    def __init__(self, values: Sequence[Value], readable: int) -> None:
        self.records = [Record("t.state", 3, n, _key(value), value) for n, value in enumerate(values)]
        self.readable = readable
        self.written = len(values)
        self.slept = 0
        self.now_s = 0.0

    def beginning(self, partition: int) -> int:
        return 0

    def end(self, partition: int) -> int:
        return self.readable

    def read(self, partition: int, from_offset: int, to_offset: int) -> Iterator[Record[Value]]:
        yield from self.records[from_offset:to_offset]

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now_s += seconds
        self.readable = min(self.readable + 1, len(self.records))

    def close(self) -> None:
        pass


def _key(value: Value) -> str:
    return value.message.key if isinstance(value, Malformed) else value.key


def _camera(camera_id: str, next_offset: int) -> CameraState:
    return CameraState(camera_id, next_offset, 1, 0, None, b"{}", {"writer": "i1"})


def _restorer(state: _State, committed: dict[int, int], windows_end: int = 100) -> Restorer:
    return Restorer(
        lambda: committed, state, lambda _: state.written, lambda _: windows_end, 5.0, lambda: state.now_s, state.sleep
    )


def test_the_state_of_the_last_commit_is_waited_for_though_its_marker_comes_later() -> None:
    state = _State([_camera("a", 4), PartitionState(3, 4), _camera("a", 9), PartitionState(3, 9)], readable=2)
    (found,) = _restorer(state, {3: 9}).restore([3])
    assert found.next_offset == 9
    assert found.cameras["a"].next_offset == 9
    assert state.slept == 2


def test_nothing_committed_is_an_empty_beginning_and_waits_for_nothing() -> None:
    state = _State([], readable=0)
    (found,) = _restorer(state, {}).restore([3])
    assert (found.next_offset, found.cameras, state.slept) == (None, {}, 0)


def test_deleted_states_stay_deleted_and_those_of_ingest_are_not_ours() -> None:
    state = _State([_camera("a", 4), IngestState("a", 2, 0), Forgotten("a"), _camera("b", 5), PartitionState(3, 5)], 5)
    (found,) = _restorer(state, {3: 5}).restore([3])
    assert set(found.cameras) == {"b"}


def test_a_state_ahead_of_the_group_goes_on_from_the_state(caplog: pytest.LogCaptureFixture) -> None:
    state = _State([_camera("a", 9), PartitionState(3, 9)], readable=2)
    (found,) = _restorer(state, {3: 4}).restore([3])  # somebody set the group's offsets back
    assert found.next_offset == 9
    assert "nothing counts twice" in caplog.text


def test_of_a_state_ahead_of_the_group_the_last_is_waited_for() -> None:
    """The offsets were set back, and the last commit's marker is on its way: what it holds would count twice."""
    state = _State([_camera("a", 9), PartitionState(3, 9), _camera("a", 14), PartitionState(3, 14)], readable=2)
    (found,) = _restorer(state, {3: 4}).restore([3])
    assert found.next_offset == 14
    assert found.cameras["a"].next_offset == 14


def test_a_state_ahead_of_the_group_with_a_transaction_that_stays_open_is_not_known() -> None:
    state = _State([_camera("a", 9), PartitionState(3, 9)], readable=2)
    state.written = 3
    with pytest.raises(BusUnavailable, match="open transaction"):
        _restorer(state, {3: 4}).restore([3])
    assert state.now_s >= 5


def test_a_state_of_a_longer_log_is_void_with_that_log(caplog: pytest.LogCaptureFixture) -> None:
    state = _State([_camera("a", 900), PartitionState(3, 900)], readable=2)
    (found,) = _restorer(state, {3: 900}, windows_end=7).restore([3])
    assert (found.next_offset, found.cameras) == (None, {})
    assert "made anew" in caplog.text


def test_a_lost_state_is_told_after_a_while_and_counting_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    state = _State([_camera("a", 4), PartitionState(3, 4)], readable=2)
    (found,) = _restorer(state, {3: 9}).restore([3])
    assert found.next_offset == 9
    assert set(found.cameras) == {"a"}
    assert state.now_s >= 5
    assert "the state is lost" in caplog.text


def test_a_state_that_cannot_be_read_takes_its_older_one_with_it() -> None:
    broken = Malformed(Message("a", b"junk"), "not JSON")
    state = _State([_camera("a", 4), broken, PartitionState(3, 5)], readable=3)
    (found,) = _restorer(state, {3: 5}).restore([3])
    assert found.cameras == {}
    assert set(found.malformed) == {"a"}


def test_a_state_that_cannot_be_read_is_no_matter_once_it_is_superseded() -> None:
    broken = Malformed(Message("a", b"junk"), "not JSON")
    state = _State([broken, _camera("a", 4), PartitionState(3, 4)], readable=3)
    (found,) = _restorer(state, {3: 4}).restore([3])
    assert set(found.cameras) == {"a"}
    assert found.malformed == {}
