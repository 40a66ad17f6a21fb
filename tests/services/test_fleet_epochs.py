"""Epochs claimed in the log: who may speak for a camera, and where a recording goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.documents import decode_state, encode_state
from pipeline.bus.topics import IngestState
from pipeline.bus.windows import encode_window_message
from pipeline.core.frame import Frame, FrameWindow, StreamStatus
from pipeline.errors import BusUnavailable
from pipeline.services.epochs import NEWEST, Ask, EpochClaims, LogPosition, newest

_PICTURE = np.zeros((2, 2, 3), np.uint8)
ENDED = StreamStatus("ended", "read to its end", 0)


@dataclass
class Log:
    """The two topics, as lists; ``before_mark`` puts windows of others in just before a marker."""

    states_: list[IngestState] = field(default_factory=list)
    windows_: list[WindowFacts] = field(default_factory=list)
    before_mark: list[WindowFacts] = field(default_factory=list)
    away: bool = False
    forgotten: int = 0
    stale: bool = False  # what was written to ``state`` lately cannot be read yet

    def states(self, partition: int) -> Mapping[str, IngestState]:
        if self.away:
            raise BusUnavailable("no broker")
        return {} if self.stale else newest(self.states_)

    def windows(self, partition: int, from_offset: int) -> tuple[Iterable[tuple[int, WindowFacts]], int]:
        begin = 0 if from_offset == NEWEST else from_offset
        return list(enumerate(self.windows_))[begin:], len(self.windows_)

    def write(self, partition: int, state: IngestState) -> None:
        again = decode_state(encode_state(state))
        assert again == state
        self.states_.append(state)

    def mark(self, partition: int, marker: FrameWindow) -> None:
        self.windows_ += self.before_mark
        self.before_mark = []
        self.windows_.append(window_facts(encode_window_message(marker).value or b""))

    def forget(self) -> None:
        self.forgotten += 1

    def send(self, epoch: int, writer: str, *frames: int, status: StreamStatus | None = None) -> None:
        self.windows_.append(facts(epoch, writer, *frames, status=status))


def facts(epoch: int, writer: str, *frames: int, status: StreamStatus | None = None) -> WindowFacts:
    return WindowFacts("gate", epoch, 0, writer, len(frames), frames[-1] if frames else None, status)


def ask(writer: str, recording: str = "film") -> Ask:
    return Ask("gate", 3, writer, recording, revision=5)


def test_a_camera_nobody_has_seen_gets_epoch_1_without_a_marker() -> None:
    log = Log()
    claim = EpochClaims(log).claim(ask("a"))
    assert (claim.base, claim.marked, claim.resume_after_us, claim.finished) == (0, False, None, False)
    assert log.windows_ == []
    assert [(s.epoch, s.writer) for s in log.states_] == [(1, "a")]


def test_who_takes_over_marks_the_next_epoch_and_goes_on_behind_the_last_frame() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a"))
    log.send(1, "a", 100, 200)
    log.send(1, "a", 300)
    claim = claims.claim(ask("b"))
    assert (claim.base, claim.marked, claim.resume_after_us) == (1, True, 300)
    assert (log.windows_[-1].epoch, log.windows_[-1].writer, log.windows_[-1].frames) == (2, "b", 0)


def test_what_comes_in_before_the_marker_counts_and_what_comes_behind_it_does_not() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a"))
    log.send(1, "a", 100)
    log.before_mark = [facts(1, "a", 200)]
    assert claims.claim(ask("b")).resume_after_us == 200
    log.send(1, "a", 300)  # a zombie's
    log.send(2, "b", 250)
    log.send(1, "a", 400)
    assert claims.claim(ask("c")).resume_after_us == 250


def test_a_note_shortens_the_way_and_says_the_same() -> None:
    log = Log()
    claims = EpochClaims(log)
    position = claims.claim(ask("a")).position
    for offset, at_us in enumerate((100, 200, 300)):
        log.send(1, "a", at_us)
        position = position.behind(offset, log.windows_[-1])
    log.states_.append(position.state("gate", 1, "a"))
    log.windows_ = [*[facts(0, "gone")] * 3]  # retention took them
    claim = claims.claim(ask("b"))
    assert (claim.base, claim.resume_after_us) == (1, 300)


def test_a_recording_that_is_told_to_its_end_is_left_alone() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a"))
    log.send(1, "a", 100)
    log.send(1, "a", status=ENDED)
    before = (len(log.states_), len(log.windows_))
    assert claims.claim(ask("b")).finished
    assert (len(log.states_), len(log.windows_)) == before


def test_another_recording_of_the_camera_is_read_from_its_beginning() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a", "old"))
    log.send(1, "a", 100)
    log.send(1, "a", status=ENDED)
    log.before_mark = [facts(1, "a", 900)]
    claim = claims.claim(ask("b", "new"))
    assert (claim.base, claim.resume_after_us, claim.finished) == (1, None, False)
    log.send(2, "b", 50)
    assert claims.claim(ask("c", "new")).resume_after_us == 50
    assert claims.claim(ask("d", "new")).resume_after_us == 50


def test_a_camera_that_cannot_end_takes_the_next_epoch() -> None:
    log = Log()
    claims = EpochClaims(log)
    assert [claims.claim(ask(writer, "")).base for writer in "abc"] == [0, 1, 2]


def test_epochs_of_a_stream_that_reconnected_are_passed_over() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a", ""))
    for epoch in (1, 2, 3, 4):
        log.send(epoch, "a", epoch * 100)
    assert claims.claim(ask("b", "")).base == 4


@pytest.mark.parametrize("first", [True, False])
def test_of_two_that_take_the_same_epoch_the_second_takes_another(first: bool) -> None:
    """A transaction that is open in ``state`` hides what the other wrote there."""
    log = Log()
    claims = EpochClaims(log)
    claims.claim(ask("a"))
    log.send(1, "a", 100)
    if first:
        log.stale = True
    else:
        log.before_mark = [facts(2, "other")]
    claim = claims.claim(ask("b"))
    assert log.windows_[-1].writer == "b"
    assert claim.base + 1 == log.windows_[-1].epoch == (2 if first else 3)
    assert claim.resume_after_us == 100


def test_a_log_that_is_away_leaves_everything_as_it_is() -> None:
    log = Log(away=True)
    claims = EpochClaims(log)
    with pytest.raises(BusUnavailable):
        claims.claim(ask("a"))
    log.away = False
    assert claims.claim(ask("a")).base == 0


def test_a_worker_that_was_replaced_cannot_undo_it_in_state() -> None:
    old = LogPosition(7, 1, "a", "film", 1, 900).state("gate", 1, "a")
    new = LogPosition(5, 2, "b", "film", 1, 300).state("gate", 2, "b")
    assert newest([new, old]) == {"gate": new}
    assert newest([old, new, replace(new, windows_offset=9)])["gate"].windows_offset == 9
    assert newest([new, replace(new, writer="c")]) == {"gate": new}


def test_a_record_of_state_that_is_odd_says_only_where_to_look() -> None:
    assert LogPosition.of(IngestState("gate", 4, 17, "a", {"at": "nonsense"})) == LogPosition(17)


@given(st.lists(st.sampled_from(["frame", "take", "zombie", "note"]), min_size=1, max_size=40))
def test_whatever_happens_no_frame_is_told_twice_and_none_is_left_out(happenings: list[str]) -> None:
    """A recording of frames 1, 2, 3, ...: a reader sends them one by one, others take over, zombies go on sending."""
    log = Log()
    claims = EpochClaims(log)
    readers = [claims.claim(ask("w0"))]
    following = [1]  # of each reader: the next frame
    position = readers[0].position
    for happening in happenings:
        owner = len(readers) - 1
        if happening == "take":
            claim = claims.claim(ask(f"w{len(readers)}"))
            readers.append(claim)
            following.append((claim.resume_after_us or 0) + 1)
            position = claim.position
        elif happening == "note":
            log.states_.append(position.state("gate", readers[owner].base + 1, f"w{owner}"))
        else:
            who = owner if happening == "frame" else max(0, owner - 1)
            log.send(readers[who].base + 1, f"w{who}", following[who])
            following[who] += 1
            if who == owner:
                position = position.behind(len(log.windows_) - 1, log.windows_[-1])
    fence, heard = (0, ""), []
    for window in log.windows_:
        if window.epoch > fence[0]:
            fence = (window.epoch, window.writer)
        if (window.epoch, window.writer) == fence and window.last_us is not None:
            heard.append(window.last_us)
    assert heard == list(range(1, len(heard) + 1))


def test_what_claims_keep_is_freed_when_none_is_made() -> None:
    log = Log()
    claims = EpochClaims(log)
    claims.rest()
    assert log.forgotten == 1
    with claims._lock:
        claims.rest()
    assert log.forgotten == 1


def test_markers_are_no_frames() -> None:
    marker = FrameWindow("gate", 2, 0, (), 0, 0, 0.0, "wall", writer="b")
    window = FrameWindow("gate", 2, 1, (Frame(0, 0, 77, _PICTURE),), 2, 2, 8.0, "pts", writer="b")
    position = LogPosition(0)
    for offset, one in enumerate((marker, window)):
        position = position.behind(offset, window_facts(encode_window_message(one).value or b""))
    assert (position.offset, position.epoch, position.last_us) == (2, 2, 77)
