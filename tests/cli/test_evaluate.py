"""``passerby eval count``: the truth files it reads, what it prints, when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from pipeline.cli import evaluate
from pipeline.core.events import Event, rfc3339
from pipeline.encoding import VideoWriter
from pipeline.errors import PasserbyError, UsageError
from pipeline.outputs.jsonl import JsonLinesWriter
from pipeline.services.recount import RecountOptions, config_of, find_clip, frame_rate
from pipeline.services.run import RunResult
from pipeline.services.truth import counted_of, positive_direction, read_truth
from tests.outputs.samples import crossing, exit_of, status

START = "2026-01-01T08:00:00Z"
START_US = 1_767_254_400_000_000


def truth_of(start: str | None = None) -> dict[str, Any]:
    video: dict[str, Any] = {
        "file": "street.mp4",
        "camera": "gate",
        "lines": {
            "kerb": {
                "points": [[0, 0.6], [1, 0.6]],
                "classes": ["person"],
                "crossings": [
                    {"t_s": 2.0, "direction": "left", "class": "person"},
                    {"t_s": 2.1, "direction": "left", "class": "person"},
                    {"t_s": 8.0, "direction": "right", "class": "person"},
                ],
            }
        },
        "zones": {
            "plaza": {
                "points": [[0, 0], [1, 0], [1, 1]],
                "dwells": [{"entered_s": 1, "left_s": 9, "class": "person"}],
            }
        },
    }
    return {"videos": [{**video, "start": start} if start else video]}


def invoke(*arguments: str | Path) -> Result:
    app = typer.Typer()
    evaluate.register(app)
    return CliRunner().invoke(app, ["eval", "count", *(str(argument) for argument in arguments)])


def results(folder: Path, events: Iterable[Event]) -> Path:
    with JsonLinesWriter(folder) as writer:
        for event in events:
            writer.write(event)
    return folder


def counted(base_us: int) -> list[Event]:
    return [
        status(base_us, "up"),
        crossing(base_us + 2_200_000, n=1),
        crossing(base_us + 2_500_000, n=2),
        crossing(base_us + 2_900_000, n=3),
        crossing(base_us + 8_100_000, direction="left", n=4),
        exit_of(base_us + 9_400_000, 8.0),
        status(base_us + 10_000_000, "ended"),
    ]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth_of()))
    return path


@pytest.mark.parametrize("whole_folder", [True, False])
def test_the_figures_as_json(tmp_path: Path, truth: Path, whole_folder: bool) -> None:
    folder = results(tmp_path / "out", counted(START_US))
    result = invoke("--truth", truth, "--events", folder if whole_folder else folder / "events.jsonl", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    rows = {row["direction"]: row for row in told["counts"]}
    expected = {"truth": 2, "counted": 4, "error": 2, "missed": 0, "double": 1, "opposite": 1, "false": 0}
    assert {key: rows["left"][key] for key in expected} == expected
    assert (rows["right"]["truth"], rows["right"]["counted"], rows["right"]["missed"]) == (1, 0, 1)
    assert told["total_absolute_error"] == 3
    assert told["mae"] == 1.5
    assert told["bias"] == 0.5
    (stay,) = told["dwells"]
    assert stay["error_s"] == pytest.approx(0.0)
    assert stay["entered_s"] == 1


def test_the_table_names_every_column_and_sum(tmp_path: Path, truth: Path) -> None:
    result = invoke("--truth", truth, "--events", results(tmp_path / "out", counted(START_US)))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "camera", "line", "counts", "to", "the", "truth", "counted", "error", "missed", "double", "opposite", "false",
    ]  # fmt: skip
    assert lines[1].split() == ["gate", "kerb", "person", "left", "2", "4", "+2", "0", "1", "1", "0"]
    assert lines[2].split() == ["gate", "kerb", "person", "right", "1", "0", "-1", "1", "0", "0", "0"]
    assert "total absolute error 3 over 2 rows" in lines[3]
    assert "MAE 1.50" in lines[3]
    assert "bias +0.50" in lines[3]
    assert "MAE 0.00 s" in result.stdout


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--max-error", "3"), 0),
        (("--max-error", "2"), 1),
        (("--max-dwell-error-s", "0.1"), 0),
        (("--tolerance-s", "0.05", "--max-error", "3"), 0),
        (("--camera", "gate"), 0),
    ],
)
def test_gates(tmp_path: Path, truth: Path, options: tuple[str, ...], code: int) -> None:
    folder = results(tmp_path / "out", counted(START_US))
    assert invoke("--truth", truth, "--events", folder, *options).exit_code == code


def test_a_missed_stay_fails_its_gate(tmp_path: Path, truth: Path) -> None:
    events = [event for event in counted(START_US) if not event.type.endswith("zone.exited.v1")]
    folder = results(tmp_path / "out", events)
    assert invoke("--truth", truth, "--events", folder, "--max-dwell-error-s", "99").exit_code == 1


def test_the_tolerance_makes_the_difference(tmp_path: Path, truth: Path) -> None:
    folder = results(tmp_path / "out", counted(START_US))
    told = json.loads(invoke("--truth", truth, "--events", folder, "--json", "--tolerance-s", "0.05").stdout)
    assert told["wrong"] == 3 + 4  # nothing matches: three missed, four false


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "either --events DIR, or --run"),
        (("--events", "none"), "does not exist"),
        (("--events", "none", "--run"), "either --events DIR, or --run"),
        (("--events", "none", "--camera", "other"), "tells nothing of camera other"),
        (("--run", "--videos", "none"), "street.mp4"),
    ],
)
def test_wrong_calls_say_the_mend(truth: Path, options: tuple[str, ...], complaint: str) -> None:
    result = invoke("--truth", truth, *options)
    assert isinstance(result.exception, UsageError)
    assert complaint in str(result.exception)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("{}", "'videos' is missing"),
        ("3", "not a truth file"),
        ('{"videos": [{"file": "a", "lines": {"k": {"points": [[0, 0], [1, 1]]}}}]}', "'crossings' is missing"),
        (
            '{"videos": [{"file": "a", "lines": {"k": {"points": [[0, 0]], '
            '"crossings": [{"t_s": 1, "direction": "up", "class": "person"}]}}}]}',
            "neither left nor right",
        ),
        ('[{"file": "a", "classes": "person", "presence_frames": [[1, 2]]}]', "frames a second are not known"),
        (
            '[{"file": "a", "classes": "person", "fps": 10, "line_x0y0x1y1": [0, 0, 1, 0], "count_positive": 2, '
            '"count_negative": 0, "crossing_frames": [1]}]',
            "2 + 0 crossings, but 1 frames",
        ),
    ],
)
def test_a_broken_truth_is_a_clear_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_truth(path)
    assert complaint in str(caught.value)
    assert "truth.json" in str(caught.value)
    with pytest.raises(UsageError, match="cannot read"):
        read_truth(tmp_path / "none.json")


def test_seconds_count_from_up_from_the_truths_start_or_from_1970(tmp_path: Path) -> None:
    events = [event.structured() for event in counted(START_US)]
    assert counted_of(events)["gate"].crossings["kerb"][0].t_s == pytest.approx(2.2)
    silent = [event for event in events if event["data"].get("state") != "up"]
    with pytest.raises(UsageError, match="do not tell when its first frame was"):
        counted_of(silent)
    told = counted_of(silent, {"gate": START_US})
    assert told["gate"].crossings["kerb"][0].t_s == pytest.approx(2.2)
    file = [event.structured() for event in counted(0)[1:]]
    assert counted_of(file)["gate"].ended
    assert not counted_of(file[:-1])["gate"].ended
    assert counted_of(file)["gate"].crossings["kerb"][0].t_s == pytest.approx(2.2)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth_of(START)))
    assert read_truth(path)[0].start_us == START_US
    path.write_text(json.dumps(truth_of("2026-01-01T08:00:00")))
    with pytest.raises(UsageError, match="no time zone"):
        read_truth(path)


def test_who_is_still_inside_left_when_the_camera_ended() -> None:
    entered = exit_of(3_000_000, 1.0).structured()
    entered |= {"type": "io.passerby.zone.entered.v1", "time": rfc3339(2_000_000)}
    ended = status(9_000_000, "ended").structured()
    (stay,) = counted_of([entered, ended])["gate"].dwells["plaza"]
    assert (stay.entered_s, stay.left_s) == (2.0, 9.0)
    left = exit_of(5_000_000, 3.0).structured()
    (stay,) = counted_of([entered, left, ended])["gate"].dwells["plaza"]
    assert (stay.entered_s, stay.left_s) == (2.0, 5.0)


@pytest.mark.parametrize(
    ("a", "b", "side"),
    [
        ((0, 0.5), (1, 0.5), "right"),  # drawn left to right: down is right
        ((1, 0.5), (0, 0.5), "left"),
        ((0.5, 0), (0.5, 1), "right"),  # drawn downwards: the left of the picture is on the right hand
        ((0.5, 1), (0.5, 0), "left"),
        ((0.2, 0.9), (0.8, 0.1), "right"),
    ],
)
def test_positive_in_our_words(a: tuple[float, float], b: tuple[float, float], side: str) -> None:
    assert positive_direction(a, b) == side


def test_frame_numbers_become_seconds_and_directions(shared: Path) -> None:
    path = shared / "truth" / "counts.json"
    asked: list[str] = []

    def rate(file: str) -> float:
        asked.append(file)
        return frame_rate(find_clip(file, path))

    truth = {video.camera_id: video for video in read_truth(path, rate)}
    assert len(asked) == 5
    road = truth["uk_dual_carriageway_mpeg4"].lines[0]
    assert road.undirected is not None
    assert (road.undirected.left, road.undirected.right, road.anchor) == (22, 0, "center")
    assert road.undirected.times_s[0] == pytest.approx(29 / 25, abs=0.002)
    walkers = truth["pedestrians_square"].lines[0]
    assert walkers.undirected is not None
    assert (walkers.undirected.left, walkers.undirected.right) == (0, 4)
    assert walkers.undirected.times_s[0] == pytest.approx(83 / 30, abs=0.02)  # 29.9 frames a second, by its packets
    room = truth["indoor_one_by_one_person"].zones[0]
    assert [round(dwell.dwell_s, 1) for dwell in room.dwells] == [13.2, 21.3, 18.4, 11.5, 26.8, 11.3]


def test_the_truths_configuration_is_one_passerby_reads(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth_of()))
    truth = read_truth(path)
    clip = tmp_path / "street.mp4"
    clip.write_bytes(b"")
    assert find_clip("street.mp4", path) == clip
    assert find_clip("videos/street.mp4", path, tmp_path) == clip
    config = config_of(truth, {"gate": clip}, RecountOptions(sample_fps=4, threads=1, report=False))
    rules = config.cameras["gate"].rules()
    assert [(line.name, line.points, line.classes) for line in rules.lines] == [
        ("kerb", ((0.0, 0.6), (1.0, 0.6)), ("person",))
    ]
    assert [zone.name for zone in rules.zones] == ["plaza"]
    assert rules.sample_fps == 4
    assert config.inference.threads == 1
    assert config.output.report is False


def test_counting_first_reports_the_clip_that_could_not_be_read(
    tmp_path: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.services import recount as module
    from pipeline.services.run import RunResult

    (tmp_path / "street.mp4").write_bytes(b"")
    kept = tmp_path / "kept"

    def run(config: object, options: Any) -> RunResult:
        results(options.out, counted(0))
        return RunResult(options.out, {}, {"gate": "broke off at 3.2 s"})

    monkeypatch.setattr(module, "run", run)
    result = invoke("--truth", truth, "--run", "--out", kept, "--json")
    assert result.exit_code == 3
    assert "gate: broke off at 3.2 s" in result.stderr
    assert json.loads(result.stdout)["total_absolute_error"] == 3
    assert (kept / "events.jsonl").is_file()


def test_every_complaint_is_one_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "events.jsonl").write_text("not json\n")
    (tmp_path / "truth.json").write_text(json.dumps(truth_of()))
    result = invoke("--truth", tmp_path / "truth.json", "--events", folder)
    assert isinstance(result.exception, PasserbyError)
    assert "events.jsonl:1" in str(result.exception)


def test_a_count_that_was_stopped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 96, 64, 8.0) as writer:
        for n in range(16):
            writer.write(np.zeros((64, 96, 3), np.uint8), n / 8)
    line = {"points": [[0, 0.5], [1, 0.5]], "classes": ["person"], "crossings": []}
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"videos": [{"file": "clip.mp4", "camera": "clip", "lines": {"street": line}}]}))
    stopped = RunResult(tmp_path, {}, stopped=True)

    def stand_in(*_args: object) -> RunResult:
        (tmp_path / "events.jsonl").write_text("")
        (tmp_path / "counts.jsonl").write_text("")
        return stopped

    monkeypatch.setattr("pipeline.services.recount.recount", stand_in)
    told = invoke("--truth", truth, "--run", "--out", tmp_path)
    assert told.exit_code == 3
    assert "stopped before the clips ended" in told.stderr
