"""Events on disk: whole lines at any moment, order that repeats, earlier results untouched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.events import Event
from pipeline.core.ledger import LedgerLine
from pipeline.errors import OutputError
from pipeline.outputs import jsonl
from pipeline.outputs.jsonl import JsonLinesWriter, encode_line, read_lines, write_ledger
from tests.outputs.samples import crossing, status, window


def test_count_windows_and_events_go_to_their_files_as_cloudevents(tmp_path: Path) -> None:
    events = [status(0, "up"), crossing(1_500_000), window(0, 10_000_000), status(11_000_000, "ended")]
    with JsonLinesWriter(tmp_path / "new" / "out") as writer:
        for event in events:
            writer.write(event)
    counts = list(read_lines(tmp_path / "new" / "out" / "counts.jsonl"))
    others = list(read_lines(tmp_path / "new" / "out" / "events.jsonl"))
    assert counts == [events[2].structured()]
    assert others == [events[0].structured(), events[1].structured(), events[3].structured()]
    assert others[1]["specversion"] == "1.0"
    assert others[1]["subject"] == "gate"
    assert others[1]["time"] == "1970-01-01T00:00:01.500000Z"


def test_keys_come_in_the_declared_order_however_the_data_was_built() -> None:
    event = crossing(5)
    shuffled = dict(reversed(list(event.data.items())))
    shuffled["bbox"] = dict(reversed(list(event.data["bbox"].items())))
    line = encode_line(Event(event.id, event.type, event.camera_id, event.time_us, shuffled))
    assert line == encode_line(event)
    told = json.loads(line)
    assert list(told) == ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"]
    assert list(told["data"])[:2] == ["camera_id", "epoch"]
    assert list(told["data"]["bbox"]) == ["x_min", "y_min", "x_max", "y_max"]


def test_names_from_all_over_the_world_stay_legible() -> None:
    line = encode_line(crossing(5, line="Straße 中"))
    assert "Straße 中".encode() in line
    assert line.count(b"\n") == 1


def test_a_number_that_is_none_is_refused() -> None:
    event = crossing(5)
    bad = Event(event.id, event.type, event.camera_id, event.time_us, {**event.data, "score": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        encode_line(bad)


_CRASHING = """
import sys
from pathlib import Path
from pipeline.outputs.jsonl import JsonLinesWriter
from tests.outputs.samples import crossing, window
writer = JsonLinesWriter(Path(sys.argv[1]))
n = 0
while True:
    writer.write(crossing(n, n=n))
    writer.write(window(n, n + 10))
    n += 1
    print(n, flush=True)
"""


def test_kill_9_keeps_every_line_that_was_written(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _CRASHING, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    acknowledged = 0
    while acknowledged < 500:
        acknowledged = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    acknowledged = max([acknowledged, *(int(n) for n in rest[:-1])])
    events, counts = list(read_lines(tmp_path / "events.jsonl")), list(read_lines(tmp_path / "counts.jsonl"))
    assert len(events) >= acknowledged
    assert len(counts) >= acknowledged
    assert [event["data"]["track_id"] for event in events] == [f"gate/1/{n}" for n in range(len(events))]


def test_a_torn_line_is_left_out_and_never_appended_to(tmp_path: Path) -> None:
    torn = encode_line(crossing(1)) + encode_line(crossing(2))[:40]
    (tmp_path / "events.jsonl").write_bytes(torn)
    assert [event["time"] for event in read_lines(tmp_path / "events.jsonl")] == ["1970-01-01T00:00:00.000001Z"]
    with JsonLinesWriter(tmp_path) as writer:
        writer.write(crossing(3))
    assert (tmp_path / "events.jsonl").read_bytes() == encode_line(crossing(3))
    assert (tmp_path / "previous-1" / "events.jsonl").read_bytes() == torn


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_line(crossing(1)) + b'{"half": \n' + encode_line(crossing(2)))
    with pytest.raises(OutputError, match=r"events\.jsonl:2"):
        list(read_lines(path))
    path.write_bytes(b"[1, 2]\n")
    with pytest.raises(OutputError, match="not a JSON object"):
        list(read_lines(path))
    with pytest.raises(OutputError, match="cannot read"):
        list(read_lines(tmp_path / "none.jsonl"))


def test_earlier_results_are_moved_aside_each_time_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for number in (1, 2, 3):
        with JsonLinesWriter(tmp_path) as writer:
            assert writer.previous == (None if number == 1 else tmp_path / f"previous-{number - 1}")
            writer.write(crossing(number))
        (tmp_path / "report.html").write_text(f"report {number}")
        (tmp_path / "annotated").mkdir()
        (tmp_path / "annotated" / "gate.mp4").write_text(f"video {number}")
    for number in (1, 2):
        aside = tmp_path / f"previous-{number}"
        assert (aside / "events.jsonl").read_bytes() == encode_line(crossing(number))
        assert (aside / "report.html").read_text() == f"report {number}"
        assert (aside / "annotated" / "gate.mp4").read_text() == f"video {number}"
    assert (tmp_path / "events.jsonl").read_bytes() == encode_line(crossing(3))
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "previous-3").exists()


@settings(max_examples=30, deadline=None)
@given(
    times=st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["a", "b", "c"])), max_size=60),
    limit=st.sampled_from([1, 900, 64 * 2**20]),
)
def test_order_is_by_time_then_camera_then_arrival(
    tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, str]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    events = [crossing(at, camera, n=n) for n, (at, camera) in enumerate(times)]
    writer = JsonLinesWriter(folder, sort_bytes=limit)
    for event in events:
        writer.write(event)
    writer.finish(order=True)
    expected = sorted(events, key=lambda event: (event.time_us, event.camera_id))
    assert (folder / "events.jsonl").read_bytes() == b"".join(map(encode_line, expected))
    assert sorted(path.name for path in folder.iterdir()) == ["counts.jsonl", "events.jsonl"]


def test_without_order_lines_stay_as_they_came(tmp_path: Path) -> None:
    events = [crossing(5), crossing(1), crossing(3)]
    writer = JsonLinesWriter(tmp_path)
    for event in events:
        writer.write(event)
    writer.finish(order=False)
    writer.finish(order=False)
    assert (tmp_path / "events.jsonl").read_bytes() == b"".join(map(encode_line, events))


def test_two_runs_are_byte_equal_however_their_threads_take_turns(tmp_path: Path) -> None:
    def run(folder: Path, pause_of: dict[str, float]) -> bytes:
        writer = JsonLinesWriter(folder)

        def camera(name: str) -> None:
            for n in range(40):
                writer.write(crossing(n * 1000, name, n=n))
                writer.write(window(n * 1000, n * 1000 + 10, name))
                time.sleep(pause_of[name])

        threads = [threading.Thread(target=camera, args=(name,)) for name in pause_of]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.finish(order=True)
        return (folder / "events.jsonl").read_bytes() + (folder / "counts.jsonl").read_bytes()

    first = run(tmp_path / "1", {"a": 0.0, "b": 0.001, "c": 0.0005})
    second = run(tmp_path / "2", {"a": 0.001, "b": 0.0, "c": 0.0})
    assert first == second
    assert first.count(b"\n") == 240


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JsonLinesWriter(tmp_path)
    writer.write(crossing(1))

    class Full:
        """Takes half of what it is given, then nothing."""

        def __init__(self, file: object) -> None:
            self.file, self.taken = file, False

        def write(self, line: bytes) -> int:
            if self.taken:
                raise OSError(28, "No space left on device")
            self.taken = True
            return int(self.file.write(line[: len(line) // 2]))  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    real = writer._events._file
    monkeypatch.setattr(writer._events, "_file", Full(real))
    with pytest.raises(OutputError, match="No space left"):
        writer.write(crossing(2))
    monkeypatch.setattr(writer._events, "_file", real)
    writer.write(crossing(3))
    writer.finish(order=True)
    assert (tmp_path / "events.jsonl").read_bytes() == encode_line(crossing(1)) + encode_line(crossing(3))


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to") as caught:
        JsonLinesWriter(tmp_path / "file")
    assert caught.value.exit_code == 4


def test_the_ledger_file_tells_each_camera_and_the_sum(tmp_path: Path) -> None:
    lines = {
        "a": LedgerLine(100, 30, 60, {"stale": 7, "backpressure": 1}, 2),
        "b": LedgerLine(50, 10, 40, {"stale": 3}, 0),
    }
    write_ledger(tmp_path, lines, {"stopped": True})
    told = json.loads((tmp_path / "ledger.json").read_text())
    assert told["cameras"]["a"] == {
        "captured": 100,
        "analysed": 30,
        "sampled_out": 60,
        "dropped": {"backpressure": 1, "stale": 7},
        "in_flight": 2,
        "balanced": True,
    }
    assert told["cameras"]["b"]["balanced"] is False
    assert told["totals"] == {
        "captured": 150,
        "analysed": 40,
        "sampled_out": 100,
        "dropped": {"backpressure": 1, "stale": 10},
        "in_flight": 2,
        "balanced": False,
    }
    assert told["stopped"] is True


def test_sorting_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = JsonLinesWriter(tmp_path)
    events = [crossing(5), crossing(1)]
    for event in events:
        writer.write(event)

    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    writer._events.close()
    writer._counts.close()
    monkeypatch.setattr(jsonl.os, "fsync", fail)
    with pytest.raises(OutputError, match="cannot finish"):
        writer.finish(order=True)
    assert (tmp_path / "events.jsonl").read_bytes() == b"".join(map(encode_line, events))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.jsonl", "events.jsonl"]


def test_what_a_crash_while_sorting_left_goes_aside_too(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_bytes(encode_line(crossing(1)))
    (tmp_path / "events.jsonl.sorting").write_bytes(encode_line(crossing(1))[:9])
    with JsonLinesWriter(tmp_path) as writer:
        assert writer.previous == tmp_path / "previous-1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.jsonl", "events.jsonl", "previous-1"]
    assert sorted(path.name for path in writer.previous.iterdir()) == ["events.jsonl", "events.jsonl.sorting"]
