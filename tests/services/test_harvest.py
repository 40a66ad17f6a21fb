"""Harvest: which frames are kept, what their labels claim, and that nothing under a mask gets out."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.bus.topics import CameraDocument
from pipeline.config import camera_document, load_config
from pipeline.core.classes import group_of
from pipeline.core.detections import Detections
from pipeline.core.events import LINE_CROSSED, microseconds
from pipeline.core.frame import Frame, Picture
from pipeline.core.tracks import TrackView
from pipeline.errors import UsageError
from pipeline.inference.detector import Detector
from pipeline.outputs.jsonl import encode_line
from pipeline.outputs.labelled_set import LabelledSet
from pipeline.services.evidence import find_event
from pipeline.services.harvest import Harvest, Harvested, Rules, looks_at_log, read_corrections, read_events
from pipeline.services.harvest.corrections import Correction, Moment
from pipeline.services.harvest.labels import Labeller
from pipeline.services.harvest.looking import Look, ModelFacts
from pipeline.services.replay import Replay
from tests.services.logged import CONFIG, TOPICS, Logged
from tests.services.memory_log import MemoryLog

CLASSES = ("person", "car", "bicycle")
MODEL = ModelFacts("judge", "1", "a" * 64)
Seen = tuple[str, float, tuple[float, float, float, float]]
PERSON: Seen = ("person", 0.9, (100, 60, 120, 120))
CAR: Seen = ("car", 0.8, (200, 80, 300, 130))


def street_picture(person_x: int = 100) -> Picture:
    """A picture of 416 x 240 in which a person of 20 x 60 stands."""
    picture = np.full((240, 416, 3), 120, np.uint8)
    picture[60:120, person_x : person_x + 20] = 20
    return picture


def look(
    second: float, *seen: Seen, person_x: int = 100, tracks: Sequence[tuple[int, bool]] = (), camera: str = "gate"
) -> Look:
    """What was seen at a second of epoch 1; tracks: number, and whether it was seen."""
    index, at_us = round(second * 8), round(second * 1e6)
    found = Detections(
        np.array([box for _, _, box in seen], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in seen], np.float32),
        np.array([CLASSES.index(name) for name, _, _ in seen], np.int64),
        CLASSES,
    )
    views = tuple(
        TrackView(f"{camera}/1/{number}", "person", group_of("person"), (0, 0, 1, 1), 0.9, seen)
        for number, seen in tracks
    )
    picture = street_picture(person_x)
    return Look(
        camera, 1, Frame(index, at_us, at_us, picture), picture, 416, 240, found, views, MODEL, 0.1, 0.4, "here"
    )


def unsure(second: float, score: float = 0.3, **more: Any) -> Look:
    return look(second, PERSON, ("car", score, (200, 80, 300, 130)), **more)


def harvest(
    folder: Path, looks: Sequence[Look], *, per_hour: float = 360, corrections: Sequence[Correction] = (),
    teacher: Any = None,
) -> tuple[Harvested, list[dict[str, str]]]:  # fmt: skip
    """A span is 10 s by default."""
    with LabelledSet(folder) as into:
        told = Harvest(Rules(per_hour, corrections), Labeller(teacher), into).run(looks)
        into.finish("Harvest")
    return told, manifest(folder)


def manifest(folder: Path) -> list[dict[str, str]]:
    path = folder / "manifest.csv"
    return list(csv.DictReader(path.read_text("utf-8").splitlines())) if path.exists() else []


def labels_of(folder: Path, row: dict[str, str]) -> list[list[str]]:
    path = folder / row["file"].replace("/images/", "/labels/").replace(".jpg", ".txt")
    return [line.split() for line in path.read_text("utf-8").splitlines()]


def seconds(rows: Sequence[dict[str, str]]) -> list[float]:
    return [microseconds(row["time"]) / 1e6 for row in rows]


# -- which frames


def test_of_each_span_the_most_doubtful_frame_is_kept(tmp_path: Path) -> None:
    moving = [unsure(n, 0.35 if n in (3, 17) else 0.2, person_x=40 + 10 * n) for n in range(20)]
    told, rows = harvest(tmp_path / "out", moving)
    assert seconds(rows) == [3.0, 17.0]
    assert {row["reason"] for row in rows} == {"uncertain"}
    assert rows[0]["detail"] == "car up to 0.35, believed from 0.4 on"
    assert (told.looked, dict(told.kept)) == (20, {"uncertain": 2})


def test_a_model_that_was_sure_leaves_nothing(tmp_path: Path) -> None:
    _, rows = harvest(tmp_path / "out", [look(n, PERSON, CAR, person_x=40 + 10 * n) for n in range(20)])
    assert rows == []
    assert list(tmp_path.iterdir()) == [], "not even a folder"


def test_near_duplicates_are_kept_once(tmp_path: Path) -> None:
    still = [unsure(n) for n in range(60)]
    assert len(harvest(tmp_path / "still", still)[1]) == 1
    noise = np.random.default_rng(1)
    for each in still:
        each.picture[:] = np.clip(each.picture + noise.normal(0, 12, each.picture.shape), 0, 255)
    assert len(harvest(tmp_path / "noisy", still)[1]) == 1
    walking = [unsure(n, person_x=40 + 5 * n) for n in range(60)]
    assert len(harvest(tmp_path / "walking", walking)[1]) == 6


def test_no_two_frames_lie_within_half_a_span(tmp_path: Path) -> None:
    """The best of one span at its end and of the next at its beginning would be one moment."""
    told = [unsure(n, 0.39 if n in (9, 10) else 0.2, person_x=40 + 10 * n) for n in range(20)]
    rows = harvest(tmp_path / "out", told)[1]
    assert seconds(rows) == [9.0, 14.0]


def test_cameras_have_their_own_spans(tmp_path: Path) -> None:
    both = [unsure(1, camera=name) for name in ("gate", "yard/../x")]
    rows = harvest(tmp_path / "out", both)[1]
    assert [row["camera"] for row in rows] == ["gate", "yard/../x"]
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows)


def test_a_track_that_was_lost_and_came_back_shows_the_frame_it_was_missing_in(tmp_path: Path) -> None:
    seen = [(n, [(1, True), (2, n not in (4, 5)), (3, n < 2)]) for n in range(8)]
    told, rows = harvest(tmp_path / "out", [look(n, PERSON, tracks=tracks) for n, tracks in seen])
    assert seconds(rows) == [4.0]
    assert (rows[0]["reason"], rows[0]["detail"]) == ("flicker", "person 2 not seen for 2.0 s")
    assert rows[0]["labelled_classes"] == "car bicycle", "a person is missing"
    assert told.kept["flicker"] == 1, "track 3 never came back"


# -- what the labels claim


def test_labels_are_what_was_believed_and_claim_only_kinds_without_doubt(tmp_path: Path) -> None:
    _, rows = harvest(tmp_path / "out", [unsure(1)])
    (row,) = rows
    assert row["file"].startswith("person-other/images/gate-")
    assert row["labelled_classes"] == "person bicycle"
    assert (row["model"], row["labelled_by_sha256"], row["boxes"]) == ("judge", "a" * 64, "1")
    ((number, *box),) = labels_of(tmp_path / "out", row)
    assert number == "0"
    assert [float(part) for part in box] == pytest.approx([110 / 416, 90 / 240, 20 / 416, 60 / 240], abs=1e-5)


class Teacher:
    """As a Detector: a truck-blind one that is sure of the car."""

    classes = ("car", "person")
    min_score, score_threshold = 0.1, 0.5
    provenance = type("Facts", (), {"model": "teacher", "model_version": "7", "model_sha256": "b" * 64})

    def fit(self, width: int, height: int) -> Any:
        return type("Fit", (), {"width": width // 2, "height": height // 2})

    def detect(self, pictures: Sequence[Picture], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        assert [picture.shape for picture in pictures] == [(120, 208, 3)]
        boxes = np.array([[200, 80, 300, 130], [100, 60, 120, 120]], np.float32)
        return [Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1]), self.classes)]


def test_a_teacher_labels_in_its_place_and_says_nothing_of_what_it_does_not_know(tmp_path: Path) -> None:
    _, rows = harvest(tmp_path / "out", [unsure(1)], teacher=Teacher())
    (row,) = rows
    assert (row["model"], row["labelled_by"], row["labelled_by_version"]) == ("judge", "teacher", "7")
    assert row["labelled_classes"] == "person car", "it knows no bicycles"
    assert sorted(label[0] for label in labels_of(tmp_path / "out", row)) == ["0", "1"]


# -- corrections


def at(second: float, verdict: Any, name: str | None = None, box: Any = None) -> Correction:
    return Correction(Moment("gate", round(second * 1e6)), verdict, name, box, "said.jsonl:1")


CAR_BOX = (200 / 416, 80 / 240, 300 / 416, 130 / 240)


def test_what_is_not_there_goes_and_what_is_something_else_is_renamed(tmp_path: Path) -> None:
    looks = [look(n, PERSON, CAR, person_x=40 + 20 * n) for n in range(6)]
    said = [at(1, "false", None, CAR_BOX), at(3, "class", "truck", CAR_BOX), at(99, "missed")]
    told, rows = harvest(tmp_path / "out", looks, corrections=said)
    assert [(row["reason"], row["detail"]) for row in rows] == [("false", "false"), ("class", "class: truck")]
    assert [row["file"].split("/")[0] for row in rows] == ["all", "all"]
    assert [label[0] for label in labels_of(tmp_path / "out", rows[0])] == ["0"]
    assert [label[0] for label in labels_of(tmp_path / "out", rows[1])] == ["0", "3"]
    assert (tmp_path / "out" / "classes.txt").read_text("utf-8").split() == [*CLASSES, "truck"]
    assert told.not_found == [said[2]]


def test_what_was_missed_is_labelled_where_it_is_told_and_unknown_where_not(tmp_path: Path) -> None:
    looks = [look(n, PERSON, person_x=40 + 20 * n) for n in range(6)]
    said = [at(1, "missed", "car"), at(2, "missed", "car", CAR_BOX), at(3, "missed")]
    rows = harvest(tmp_path / "out", looks, corrections=said)[1]
    assert [row["labelled_classes"] for row in rows] == ["person bicycle", "person car bicycle", ""]
    assert [len(labels_of(tmp_path / "out", row)) for row in rows] == [1, 2, 1]
    assert "# none (1): nothing is complete" in (tmp_path / "out" / "data.yaml").read_text("utf-8")


def test_corrections_count_beside_the_hourly_frames_and_no_frame_is_written_twice(tmp_path: Path) -> None:
    rows = harvest(tmp_path / "out", [unsure(1)], corrections=[at(1, "false", None, CAR_BOX)])[1]
    assert [row["reason"] for row in rows] == ["false"]
    assert rows[0]["labelled_classes"] == "person car bicycle", "the operator has settled it"
    assert harvest(tmp_path / "none", [unsure(1)], per_hour=0)[1] == []


def test_corrections_are_read_from_json_lines_and_csv_alike(tmp_path: Path, street: Logged) -> None:
    event = street.of_type(LINE_CROSSED)[0]
    (tmp_path / "events.jsonl").write_bytes(encode_line(event))
    find = read_events(tmp_path / "events.jsonl")
    (tmp_path / "said.jsonl").write_text(
        json.dumps({"event": event.id, "verdict": "class: truck"}) + "\n\n"
        '{"camera": "gate", "time": "1970-01-01T00:00:03Z", "verdict": "missed: person", '
        '"bbox": [0.1, 0.2, 0.3, 0.4]}\n',
        "utf-8",
    )
    (tmp_path / "said.csv").write_text(
        f"event,camera,time,verdict,bbox\n{event.id},,,class: truck,\n"
        ",gate,1970-01-01T00:00:03Z,missed: person,0.1 0.2 0.3 0.4\n",
        "utf-8",
    )
    told = read_corrections(tmp_path / "said.jsonl", find)
    assert [replace(each, place="") for each in told] == [
        replace(each, place="") for each in read_corrections(tmp_path / "said.csv", find)
    ]
    box = event.data["bbox"]
    assert told[0].bbox == (box["x_min"], box["y_min"], box["x_max"], box["y_max"])
    assert told[0].moment == Moment("street", event.time_us, 1, max(event.data["provenance"]["frames"]))
    assert told[1] == Correction(
        Moment("gate", 3_000_000), "missed", "person", (0.1, 0.2, 0.3, 0.4), f"{tmp_path / 'said.jsonl'}:3"
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "is no JSON object"),
        ('{"event": "x", "verdict": "wrong"}', "the verdict 'wrong' is not known"),
        ('{"event": "x", "verdict": "class"}', "the verdict 'class' is not known"),
        ('{"event": "x", "verdict": "false: car"}', "the verdict 'false: car' is not known"),
        ('{"event": "x", "verdict": "false"}', "no event x in"),
        ('{"verdict": "missed"}', "which frame is meant"),
        ('{"camera": "a", "time": "1970-01-01T00:00:03Z", "verdict": "false"}', "which object is meant"),
        ('{"camera": "a", "time": "noon", "verdict": "missed"}', "'noon' is no time"),
        ('{"camera": "a", "time": "1970-01-01T00:00:03Z", "verdict": "missed", "bbox": [0, 0, 2, 1]}', "is no box"),
        ('{"camera": "a", "when": "now", "verdict": "missed"}', "'when' is not known"),
    ],
)
def test_a_correction_that_cannot_be_meant_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"")
    (tmp_path / "said.jsonl").write_text(f"\n{line}\n", "utf-8")
    with pytest.raises(UsageError, match=told) as error:
        read_corrections(tmp_path / "said.jsonl", read_events(tmp_path / "events.jsonl"))
    if "no event" not in told:
        assert f"{tmp_path / 'said.jsonl'}:2" in str(error.value)


# -- the folder


def test_nothing_is_overwritten_and_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    harvest(tmp_path / "out", [unsure(1)])
    with pytest.raises(UsageError, match="is there already"):
        LabelledSet(tmp_path / "out")

    def broken() -> Any:
        yield unsure(1)
        raise RuntimeError("the camera broke")

    with pytest.raises(RuntimeError), LabelledSet(tmp_path / "next") as into:
        Harvest(Rules(360), Labeller(), into).run(broken())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_contact_sheet_shows_every_picture_with_its_boxes_and_escapes_what_is_told(tmp_path: Path) -> None:
    looks = [unsure(1, camera="<script>"), look(50, PERSON, CAR)]
    rows = harvest(tmp_path / "out", looks, corrections=[at(50, "false", None, CAR_BOX)])[1]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count("<figure>") == 2
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert 'class="doubtful vehicle"' in page
    assert 'class="removed vehicle"' in page
    assert "not complete: car" in page
    for row in rows:
        assert f'src="{row["file"].replace("%", "%25")}"' in page
    assert "http" not in page.replace("http-equiv", "")


# -- out of the log


def test_the_log_is_harvested_by_time_and_by_event(tmp_path: Path, street: Logged, replay: Replay) -> None:
    event = street.of_type(LINE_CROSSED)[0]

    def find(event_id: str) -> dict[str, Any]:
        found = find_event(street.log, TOPICS, event_id).event
        return {**found.data, "camera_id": found.camera_id, "time_us": found.time_us}

    (tmp_path / "said.jsonl").write_text(json.dumps({"event": event.id, "verdict": "false"}), "utf-8")
    said = read_corrections(tmp_path / "said.jsonl", find)
    looks = list(looks_at_log(street.log, replay, "street"))
    assert len({each.key for each in looks}) == len(looks) == 192, "what a replaced reader sent is passed over"
    told, rows = harvest(tmp_path / "out", looks, per_hour=1800, corrections=said)
    (correct,) = [row for row in rows if row["reason"] == "false"]
    assert told.not_found == []
    assert (int(correct["epoch"]), int(correct["frame"])) == (1, max(event.data["provenance"]["frames"]))
    assert correct["model"] == "passerby-nano"
    assert correct["source"].startswith("passerby.windows/0/")
    assert told.kept["uncertain"] + told.kept["flicker"] >= 3
    from_us, until_us = looks[20].at_us, looks[40].at_us
    part = [each for each in looks_at_log(street.log, replay, "street", from_us, until_us) if each.at_us < until_us]
    assert {each.key for each in looks[20:40]} <= {each.key for each in part}
    assert len(part) < 40


def test_a_mask_that_was_drawn_later_covers_what_the_log_still_shows(tmp_path: Path, street: Logged) -> None:
    """Two logs that differ only under a mask that came after them give the same bytes; without it they do not."""
    mask = [[0.3, 0.3], [0.7, 0.3], [0.7, 0.8], [0.3, 0.8]]
    plain, masked = tmp_path / "plain.yaml", tmp_path / "masked.yaml"
    plain.write_text(CONFIG, "utf-8")
    masked.write_text(CONFIG.replace("    lines:\n", f"    masks: [{mask}]\n    lines:\n", 1), "utf-8")
    windows = [window for window in street.windows if window.epoch == 1 and window.frames][:3]

    def harvested(paint: int | None, path: Path, name: str) -> dict[str, bytes]:
        log = MemoryLog()
        for config in (plain, path):
            document = CameraDocument("street", camera_document(load_config(config), "street"))
            log.send(TOPICS.cameras, "street", document)
        for number, window in enumerate(windows):
            frames = []
            for frame in window.frames:
                picture = frame.picture.copy()
                height, width = picture.shape[:2]
                if paint is not None:
                    noise = np.random.default_rng(paint).integers(0, 255, picture.shape, np.uint8)
                    part = (
                        slice(round(0.3 * height), round(0.8 * height)),
                        slice(round(0.3 * width), round(0.7 * width)),
                    )
                    picture[part] = noise[part]
                frames.append(replace(frame, picture=picture))
            log.send(TOPICS.windows, "street", replace(window, frames=tuple(frames), revision=0, sequence=number + 1))
        with Replay(log, TOPICS, load_config(plain)) as replay:
            looks = list(looks_at_log(log, replay, "street"))
        said = [Correction(Moment("street", looks[n].at_us), "missed", None, None, "") for n in (0, 9)]
        assert len(harvest(tmp_path / name, looks, per_hour=0, corrections=said)[1]) == 2
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")
                if path.is_file()}  # fmt: skip

    one, other = harvested(1, masked, "one"), harvested(2, masked, "other")
    assert one == other
    assert harvested(1, plain, "first") != harvested(2, plain, "second"), "else this proves nothing"
    for name, data in one.items():
        if name.endswith(".jpg"):
            (tmp_path / "look.jpg").write_bytes(data)
            picture = np.asarray(Image.open(tmp_path / "look.jpg"))
            height, width = picture.shape[:2]
            inside = picture[round(0.3 * height) : round(0.8 * height), round(0.3 * width) : round(0.7 * width)]
            assert inside.max() == 0


def test_a_real_detector_teaches(tmp_path: Path, street: Logged, replay: Replay) -> None:
    """The labels of a teacher that is the judge's own network are the judge's, but for the scaling of the picture."""
    from pipeline.inference.store import load_model

    looks = list(looks_at_log(street.log, replay, "street", None, street.windows[4].opened_at_us))
    said = [Correction(Moment("street", looks[9].at_us), "missed", None, None, "")]
    own = harvest(tmp_path / "own", looks, per_hour=0, corrections=said)[1]
    taught = harvest(
        tmp_path / "taught", looks, per_hour=0, corrections=said, teacher=Detector(load_model("passerby-nano"))
    )[1]
    assert labels_of(tmp_path / "own", own[0]) == labels_of(tmp_path / "taught", taught[0]) != []
