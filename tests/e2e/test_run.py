"""``passerby run`` as a user calls it: a process, its files, its words and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.sources.synthetic import street, write_video

PASSERBY = (sys.executable, "-W", "error", "-c", "from pipeline.cli import main; main()")


def passerby(*arguments: str | Path, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PASSERBY, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of the scripted street as an H.264 file."""
    path = tmp_path_factory.mktemp("clip") / "street.mp4"
    write_video(street(11, duration_s=12.0), path, 12.5)
    return path


@pytest.fixture(scope="module")
def done(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run over it, with everything a run can write."""
    out = tmp_path_factory.mktemp("run") / "out"
    return out, passerby("run", clip, "--line", "0,0.6,1,0.6", "--out", out, "--annotate")


def test_a_run_leaves_what_the_contract_names(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, process = done
    assert process.returncode == 0, process.stderr
    events, counts = lines_of(out / "events.jsonl"), lines_of(out / "counts.jsonl")
    assert {"specversion", "id", "source", "type", "subject", "time", "data"} <= set(events[0])
    assert [(e["data"]["state"], e["subject"]) for e in events if e["type"] == "io.passerby.camera.status.v1"][-1] == (
        "ended",
        "street",
    )
    assert [e["time"] for e in events] == sorted(e["time"] for e in events)
    assert [c["data"]["starts_at"][14:19] for c in counts] == ["00:00", "00:10"]
    assert counts[0]["data"]["coverage"] == pytest.approx(1.0, abs=0.02)
    assert counts[1]["data"]["coverage"] == pytest.approx(0.2, abs=0.02)
    assert set(counts[0]["data"]["lines"]["line1"]) == {"person", "vehicle"}
    assert len({e["id"] for e in events + counts}) == len(events) + len(counts)


def test_every_frame_of_a_file_is_accounted_for(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    ledger = json.loads((done[0] / "ledger.json").read_text(encoding="utf-8"))["cameras"]["street"]
    assert ledger == {
        "captured": 150, "analysed": 96, "sampled_out": 54, "dropped": {}, "in_flight": 0, "balanced": True,
    }  # fmt: skip


def test_a_run_leaves_a_report_and_a_video_one_can_open(
    done: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    import av

    out, process = done
    assert "<html" in (out / "report.html").read_text(encoding="utf-8").lower()
    with av.open(str(out / "annotated" / "street.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 96
    assert str(out / "report.html") in process.stderr.replace("\n", "")


def test_the_same_clip_gives_the_same_bytes_at_1_2_and_4_threads(clip: Path, tmp_path: Path) -> None:
    told = []
    for n, threads in enumerate((1, 1, 2, 4)):
        out = tmp_path / str(n)
        process = passerby("run", clip, clip, "--line", "0,0.6,1,0.6", "--out", out, "--threads", str(threads), "-q")
        assert process.returncode == 0, process.stderr
        told.append(((out / "events.jsonl").read_bytes(), (out / "counts.jsonl").read_bytes()))
    assert len(told[0][1]) > 1000
    assert told[0] == told[1] == told[2] == told[3]


def test_one_bad_source_fails_by_name_and_the_others_are_counted(clip: Path, tmp_path: Path) -> None:
    empty, words, folder = tmp_path / "empty.mp4", tmp_path / "words.mp4", tmp_path / "folder"
    empty.touch()
    words.write_text("not a video", encoding="utf-8")
    folder.mkdir()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:700])
    bad = (empty, words, folder, cut, tmp_path / "missing.mp4")
    process = passerby("run", clip, *bad, "--out", tmp_path / "out", "-q")
    assert process.returncode == 3, process.stderr
    failures = [line for line in process.stderr.splitlines() if line.startswith("passerby: ")]
    assert [line.split(": ")[1] for line in failures] == ["empty", "words", "folder", "cut", "missing"]
    assert "Traceback" not in process.stderr
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["cameras"]["street"]["analysed"] == 96
    assert ledger["totals"]["balanced"]
    assert any(c["subject"] == "street" for c in lines_of(tmp_path / "out" / "counts.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to run on"),
        (("x.mp4", "-c", "y.yaml"), "cannot go together"),
        (("-c", "no-such.yaml"), "no-such.yaml"),
        (("x.mp4", "--line", "0,0.5"), "0,0.5"),
        (("x.mp4", "--model", "no-such-model"), "no-such-model"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_exit_code_2(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    process = passerby("run", *arguments, "--out", tmp_path / "out")
    assert process.returncode == 2, process.stderr
    assert told in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out" / "events.jsonl").exists()


def test_a_broken_model_is_one_clear_line_and_exit_code_2(clip: Path, tmp_path: Path) -> None:
    from pipeline.inference.store import load_model

    shipped = load_model("passerby-nano")
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "manifest.yaml").write_bytes((shipped.folder / "manifest.yaml").read_bytes())
    (folder / "model.onnx").write_bytes(shipped.path.read_bytes()[:50_000])
    process = passerby("run", clip, "--model", folder, "--out", tmp_path / "out")
    assert process.returncode == 2, process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert "model.onnx" in process.stderr


def test_a_stopped_run_keeps_what_it_counted(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for n in range(30):
        os.link(clip, folder / f"{n:02}.mp4")
    process = subprocess.Popen(
        [*PASSERBY, "run", str(folder), "--line", "0,0.6,1,0.6", "--out", str(tmp_path / "out"), "-q"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    counts = tmp_path / "out" / "counts.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and not (counts.exists() and counts.stat().st_size):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 0, words
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text(encoding="utf-8"))["totals"]
    assert ledger["balanced"]
    assert ledger["in_flight"] == 0
    assert 0 < ledger["analysed"] < 30 * 96
    assert lines_of(counts)


def test_results_of_an_earlier_run_are_kept_aside(clip: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert passerby("run", clip, "--out", tmp_path / "out", "-q").returncode == 0
    assert (tmp_path / "out" / "previous-1" / "counts.jsonl").read_bytes() == (
        tmp_path / "out" / "counts.jsonl"
    ).read_bytes()


def test_help_teaches_with_an_example() -> None:
    process = passerby("run", "--help")
    assert process.returncode == 0
    assert "passerby run street.mp4 --line 0,0.6,1,0.6 --out out" in " ".join(process.stdout.split())
