"""The spool: order, bounds, and what a crash at any byte leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.bus import spool as spool_module
from pipeline.bus.base import Message
from pipeline.bus.spool import Spool
from pipeline.bus.spool_files import HEAD_BYTES, pack
from pipeline.errors import BusError, BusMisconfigured

MIB = 1 << 20


def open_spool(folder: Path, **options: object) -> Spool:
    return Spool(folder, **{"max_bytes": 10 * MIB, "sync_s": 60.0, **options})  # type: ignore[arg-type]


def message(number: int, key: str = "gate", size: int = 100) -> Message:
    return Message(key, number.to_bytes(8, "big") * (size // 8), (("frames", b"8"), ("number", b"%06d" % number)))


def number_of(each: Message) -> int:
    return int(dict(each.headers)["number"])


def drained(spool: Spool, key: str = "gate") -> list[int]:
    """The numbers of all messages of ``key``, taken out."""
    numbers = []
    while found := spool.read(key, limit=3):
        numbers += [number_of(each.message) for each in found]
        spool.done(key, found[-1].sequence)
    return numbers


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("k-*/*"))


def test_messages_come_back_equal_and_in_order(tmp_path: Path) -> None:
    odd = [
        Message("gate", None), Message("gate", b""), Message("gate", b"\x00" * 70_000, (("", b""), ("ü", b"\xff"))),
        Message("gate", b"PBS1" * 50),
    ]  # fmt: skip
    with open_spool(tmp_path, segment_bytes=1000) as spool:
        for each in odd:
            assert spool.append(each, frames=3, keep=True).stored
        assert (spool.records, spool.frames_of("gate"), spool.keys(), spool.waiting("gate")) == (4, 12, ["gate"], 4)
    with open_spool(tmp_path) as spool:
        found = spool.read("gate", limit=10)
        assert [each.message for each in found] == odd
        assert [each.sequence for each in found] == [1, 2, 3, 4]
        assert spool.read("gate", after=2, limit=1)[0].message == odd[2]
        assert spool.read("gate", after=4) == spool.read("other") == []


def test_what_is_done_is_gone_also_after_a_restart(tmp_path: Path) -> None:
    with open_spool(tmp_path, segment_bytes=500) as spool:
        for number in range(10):
            spool.append(message(number), frames=8, keep=False)
        spool.done("gate", 4)
        assert spool.records == 6
        before = spool.size_bytes
    with open_spool(tmp_path) as spool:
        assert (spool.records, spool.frames_of("gate"), spool.size_bytes) == (6, 48, before)
        assert drained(spool) == [4, 5, 6, 7, 8, 9]
        assert spool.size_bytes == 0
        assert files(tmp_path) == []
        spool.append(message(10), frames=8, keep=False)
        assert drained(spool) == [10]


def test_keys_have_each_their_order_and_the_oldest_is_named_first(tmp_path: Path) -> None:
    names = ["yard", "gate", "..", "a/b", "", "ü"]
    with open_spool(tmp_path) as spool:
        for number, key in enumerate(names * 2):
            spool.append(message(number, key), frames=1, keep=False)
    with open_spool(tmp_path) as spool:
        assert spool.keys() == names
        assert [drained(spool, key) for key in names] == [[n, n + len(names)] for n in range(len(names))]
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def test_a_full_spool_drops_the_oldest_of_the_largest_and_says_how_many_frames(tmp_path: Path) -> None:
    size = len(pack(message(0), 1, 8, 0, keep=False))
    with open_spool(tmp_path, max_bytes=20 * size, segment_bytes=2 * size) as spool:
        for number in range(6):
            assert spool.append(message(number, "yard"), frames=8, keep=False).dropped == {}
        for number in range(14):
            assert spool.append(message(number), frames=8, keep=False).dropped == {}
        told = spool.append(message(14), frames=8, keep=False)
        assert (told.stored, told.dropped) == (True, {"gate": 16})  # a file of two
        assert spool.size_bytes <= 20 * size
        assert spool.dropped == {"gate": 16}
        assert drained(spool) == list(range(2, 15))
        assert drained(spool, "yard") == list(range(6))


def test_what_must_be_kept_is_refused_and_drops_nothing(tmp_path: Path) -> None:
    size = len(pack(message(0), 1, 8, 0, keep=True))
    with open_spool(tmp_path, max_bytes=10 * size, segment_bytes=size) as spool:
        stored = [spool.append(message(n, "clip"), frames=8, keep=True).stored for n in range(7)]
        assert stored == [True] * 5 + [False] * 2  # half of the room
        for number in range(5):
            assert spool.append(message(number), frames=8, keep=False) == spool_module.Appended(True)
        assert not spool.append(message(9, "clip"), frames=8, keep=True).stored
        assert spool.append(message(5), frames=8, keep=False).dropped == {"gate": 8}
        assert spool.waiting("clip") == 5
        spool.done("clip", 1)
        assert spool.append(message(6), frames=8, keep=False) == spool_module.Appended(True)
        assert not spool.append(message(5, "clip"), frames=8, keep=True).stored  # the live camera has the room
        spool.done("gate", 99)
        assert spool.append(message(5, "clip"), frames=8, keep=True).stored
        assert drained(spool, "clip") == [1, 2, 3, 4, 5]


def test_a_message_that_can_never_fit_costs_no_other(tmp_path: Path) -> None:
    with open_spool(tmp_path, max_bytes=2000) as spool:
        spool.append(message(1), frames=8, keep=False)
        told = spool.append(message(2, size=4000), frames=5, keep=False)
        assert (told.stored, told.dropped) == (False, {"gate": 5})
        assert not spool.append(message(3, size=4000), frames=5, keep=True).stored
        assert drained(spool) == [1]


def test_what_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    size = len(pack(message(0), 1, 8, 0, keep=False))
    with open_spool(tmp_path, max_bytes=4 * size, segment_bytes=size) as spool:
        for number in range(4):
            spool.append(message(number), frames=8, keep=False)
        sending = spool.read("gate", limit=2)
        assert spool.append(message(4), frames=8, keep=False).dropped == {"gate": 8}
        spool.done("gate", sending[-1].sequence)
        assert drained(spool) == [3, 4]
        for number in range(4):
            spool.append(message(number), frames=8, keep=False)
        spool.read("gate", limit=4)
        assert spool.append(message(4), frames=8, keep=False) == spool_module.Appended(False, {"gate": 8})


def test_a_disk_that_is_nearly_full_counts_as_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [100_000]
    usage = type("Usage", (), {"free": property(lambda _: free[0])})()
    monkeypatch.setattr(spool_module.shutil, "disk_usage", lambda _: usage)
    with open_spool(tmp_path, min_free_bytes=50_000, segment_bytes=1) as spool:
        assert spool.append(message(1), frames=8, keep=False).stored
        free[0] = 50_000
        assert spool.append(message(2), frames=8, keep=False) == spool_module.Appended(False, {"gate": 16})
        assert not spool.append(message(3), frames=8, keep=True).stored
        free[0] = 60_000
        assert spool.append(message(4), frames=8, keep=False).stored
        assert drained(spool) == [4]


def test_a_write_that_fails_half_way_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_spool(tmp_path) as spool:
        spool.append(message(1), frames=8, keep=False)
        whole = spool_module.write_all

        def half(file: int, data: bytes, offset: int) -> None:
            whole(file, data[:50], offset)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(spool_module, "write_all", half)
        assert not spool.append(message(2), frames=8, keep=True).stored
        assert not spool.append(message(2, "new"), frames=8, keep=True).stored
        monkeypatch.setattr(spool_module, "write_all", whole)
        spool.append(message(3), frames=8, keep=False)
    with open_spool(tmp_path) as spool:
        assert (drained(spool), spool.damaged, spool.keys()) == ([1, 3], 0, [])


def test_a_broken_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with open_spool(tmp_path) as spool:
        monkeypatch.setattr(spool_module, "write_all", fail)
        with pytest.raises(BusError, match="cannot be used: Input/output error"):
            spool.append(message(1), frames=8, keep=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(BusError, match="cannot be used"):
        open_spool(tmp_path / "file" / "below")


def test_two_processes_cannot_use_one_folder(tmp_path: Path) -> None:
    with open_spool(tmp_path):
        with pytest.raises(BusMisconfigured, match=f"in use by process {os.getpid()}.*worker_id"):
            open_spool(tmp_path)
        code = (
            "import sys, pathlib; from pipeline.bus.spool import Spool; Spool(pathlib.Path(sys.argv[1]), max_bytes=9)"
        )
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert "BusMisconfigured" in other.stderr
    open_spool(tmp_path).close()


def test_its_age_is_that_of_the_oldest(tmp_path: Path) -> None:
    now = [1000.0]
    with open_spool(tmp_path, clock=lambda: now[0]) as spool:
        assert spool.age_s == 0
        spool.append(message(1), frames=8, keep=False)
        now[0] = 1007.5
        spool.append(message(2), frames=8, keep=False)
        assert spool.age_s == pytest.approx(7.5)
        spool.done("gate", 1)
        assert spool.age_s == 0


def test_it_syncs_as_often_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(spool_module.os, "fsync", synced.append)
    now = [0.0]
    with open_spool(tmp_path, sync_s=1.0, ticks=lambda: now[0]) as spool:
        for number in range(10):
            spool.append(message(number), frames=8, keep=False)
        assert synced == []
        now[0] = 1.5
        spool.append(message(10), frames=8, keep=False)
        assert len(synced) == 2  # the file, and its name in the folder
    with open_spool(tmp_path, sync_s=0) as spool:
        before = len(synced)
        for number in range(3):
            spool.append(message(number), frames=8, keep=False)
        assert len(synced) == before + 6


def test_threads_may_write_and_read_at_once(tmp_path: Path) -> None:
    keys, count = [f"c{n}" for n in range(4)], 150
    got: dict[str, list[int]] = defaultdict(list)
    with open_spool(tmp_path, segment_bytes=2000, max_bytes=100 * MIB) as spool:

        def write(key: str) -> None:
            for number in range(count):
                spool.append(message(number, key), frames=1, keep=False)

        writers = [threading.Thread(target=write, args=(key,)) for key in keys]
        for thread in writers:
            thread.start()
        while any(len(got[key]) < count for key in keys):
            for key in spool.keys():  # noqa: SIM118
                got[key] += drained(spool, key)
        for thread in writers:
            thread.join()
    assert got == {key: list(range(count)) for key in keys}


# -- crashes ----------------------------------------------------------------------------------------------------------


def test_cut_at_every_byte_of_the_last_record_the_rest_is_read(tmp_path: Path) -> None:
    with open_spool(tmp_path) as spool:
        for number in range(3):
            spool.append(message(number), frames=8, keep=False)
    (file,) = files(tmp_path)
    data = file.read_bytes()
    last = len(data) // 3 * 2
    for cut in range(last, len(data)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data[:cut])
        with open_spool(tmp_path) as spool:
            assert spool.damaged == 0
            spool.append(message(7), frames=8, keep=False)
            assert drained(spool) == [0, 1, 7]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_costs_the_record_it_is_in_and_no_other(tmp_path: Path, at: int, bits: int) -> None:
    with open_spool(tmp_path) as spool:
        for number in range(5):
            spool.append(message(number), frames=8, keep=False)
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    record, offset = divmod(at % len(data), len(data) // 5)
    data[record * (len(data) // 5) + offset] ^= bits
    file.write_bytes(data)
    with open_spool(tmp_path) as spool:
        found = drained(spool)
    others = [number for number in range(5) if number != record]
    state = offset == 4  # the byte that says whether a record is done: 1 is done, all else waits
    assert found in ((others, list(range(5))) if state else (others,))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_in_a_file_are_passed_over(tmp_path: Path, before: bytes, between: bytes) -> None:
    folder = tmp_path / "k-gate"
    folder.mkdir(exist_ok=True)
    good = [pack(message(number), number + 1, 8, 5000, keep=False) for number in range(2)]
    (folder / f"{1:020d}.seg").write_bytes(before + good[0] + between + good[1])
    (folder / f"{9:020d}.seg").write_bytes(between)
    with open_spool(tmp_path) as spool:
        assert drained(spool) == [0, 1]


_WRITER = """
import sys
from pathlib import Path
from pipeline.bus.base import Message
from pipeline.bus.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30, segment_bytes=int(sys.argv[2]))
number = spool.waiting("gate")
while True:
    message = Message("gate", number.to_bytes(8, "big") * 400, (("number", b"%06d" % number),))
    assert spool.append(message, frames=8, keep=True).stored
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("segment_bytes", [10_000, 10 * MIB])
def test_kill_9_of_a_writer_loses_nothing_it_had_written(tmp_path: Path, segment_bytes: int) -> None:
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(segment_bytes)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) % 50 == 20 + round_:
                writer.send_signal(signal.SIGKILL)
                break
        said = [line, *writer.stdout]
        writer.wait()
        writer.stdout.close()
        last = max(int(line) for line in said if line.endswith("\n"))
        with open_spool(tmp_path) as spool:
            count = spool.waiting("gate")
            assert count in (last + 1, last + 2)  # the one it was about to tell of may be there, too
            found = spool.read("gate", limit=10**6)
            assert [number_of(each.message) for each in found] == list(range(count))
            assert spool.damaged == 0


def test_a_restart_reads_heads_not_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_spool(tmp_path, max_bytes=100 * MIB) as spool:
        for number in range(200):
            spool.append(message(number, size=100_000), frames=8, keep=False)
    read = [0]
    pread = os.pread

    def counted(file: int, count: int, offset: int) -> bytes:
        data = pread(file, count, offset)
        read[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    with open_spool(tmp_path) as spool:
        assert spool.records == 200
    assert read[0] < 200 * HEAD_BYTES + 2 * 100_400


class SpoolMachine(RuleBasedStateMachine):
    """The spool against a plain list a key: appends, reads, done, restarts, with room for about 40 records."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.model: dict[str, list[tuple[int, int]]] = defaultdict(list)  # (number, sequence)
        self.number = self.sequence = self.lost = 0
        self.open()

    def open(self) -> None:
        self.spool = open_spool(self.folder, max_bytes=40 * 220, segment_bytes=700)
        self.sequence = max((s for each in self.model.values() for _, s in each), default=0)

    @rule(key=st.sampled_from(["gate", "yard"]), size=st.integers(8, 600))
    def append_live(self, key: str, size: int) -> None:
        self.number += 1
        told = self.spool.append(message(self.number, key, size), frames=1, keep=False)
        if told.stored:
            self.sequence += 1
            self.model[key].append((self.number, self.sequence))
        for name, frames in told.dropped.items():
            gone = frames - (name == key and not told.stored)
            del self.model[name][:gone]

    @rule(size=st.integers(8, 600))
    def append_file(self, size: int) -> None:
        self.number += 1
        told = self.spool.append(message(self.number, "clip", size), frames=1, keep=True)
        assert told.dropped == {}
        if told.stored:
            self.sequence += 1
            self.model["clip"].append((self.number, self.sequence))

    @rule(key=st.sampled_from(["gate", "yard", "clip"]), count=st.integers(1, 5))
    def send(self, key: str, count: int) -> None:
        found = self.spool.read(key, limit=count)
        assert [(number_of(each.message), each.sequence) for each in found] == self.model[key][:count]
        if found:
            self.spool.done(key, found[-1].sequence)
            del self.model[key][:count]

    @precondition(lambda self: self.spool.records > 2)
    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.open()

    @invariant()
    def holds_what_it_should(self) -> None:
        assert self.spool.size_bytes == sum(path.stat().st_size for path in files(self.folder))
        assert self.spool.size_bytes <= 40 * 220
        assert self.spool.records == sum(map(len, self.model.values()))
        for key, expected in self.model.items():
            assert self.spool.waiting(key) == len(expected)

    def teardown(self) -> None:
        for key, expected in self.model.items():
            assert drained(self.spool, key) == [number for number, _ in expected]
        assert self.spool.size_bytes == 0
        self.spool.close()


SpoolMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=50, deadline=None)
TestSpoolMachine = SpoolMachine.TestCase
