"""Labels by models: what is an object, what is a doubt, and what is left of videos that nobody labelled."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")
pytest.importorskip("torch")

from typer.testing import CliRunner

from pipeline.core.detections import Detections
from pipeline.core.geometry import box_iou
from pipeline.errors import UsageError
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from pipeline.sources.synthetic import street, write_video
from training.cli import app
from training.datasets import ANY_VEHICLE, read_data_spec, read_samples
from training.pseudo_labels import Rules, merged, taken_by_day, write_pseudo_labels
from training.scenes import split_by_scene

CLASSES = ("person", "car", "motorcycle", "bicycle")


def seen(*told: tuple[str, float, tuple[float, float, float, float]]) -> Detections:
    """What a teacher says: class, score, box."""
    boxes = np.array([box for _, _, box in told], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in told], np.float32)
    return Detections(boxes, scores, np.array([CLASSES.index(name) for name, _, _ in told], np.int64), CLASSES)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of the scripted street."""
    path = tmp_path_factory.mktemp("video") / "street.mp4"
    write_video(street(11, duration_s=12.0), path, 5)
    return path


@pytest.fixture(scope="module")
def teacher() -> Detector:
    """The detector that ships."""
    return Detector(load_model("passerby-nano"), min_score=0.2)


def test_the_surest_teacher_speaks_for_all_who_see_the_same() -> None:
    one = seen(("person", 0.55, (10, 10, 30, 60)), ("car", 0.3, (100, 40, 180, 80)))
    other = seen(("person", 0.8, (11, 11, 31, 61)), ("car", 0.7, (102, 42, 181, 80)))
    told = merged([one, other], Rules())
    assert [(each.group, round(each.score, 2), each.ignored) for each in told] == [
        ("person", 0.8, False), ("vehicle", 0.7, False),
    ]  # fmt: skip


def test_a_doubt_is_a_region_unless_it_is_part_of_what_is_sure() -> None:
    teacher = seen(
        ("person", 0.9, (10, 10, 50, 110)), ("person", 0.3, (15, 15, 45, 50)),  # the upper half of the same person
        ("person", 0.3, (200, 10, 230, 80)), ("person", 0.1, (300, 10, 330, 80)),
    )  # fmt: skip
    told = merged([teacher], Rules(sure=0.5, unsure=0.2))
    assert [(each.ignored, round(each.box[0])) for each in told] == [(False, 10), (True, 200)]


def test_a_person_in_a_car_is_no_part_of_it() -> None:
    told = merged([seen(("car", 0.9, (0, 0, 100, 60)), ("person", 0.3, (20, 10, 40, 40)))], Rules())
    assert [(each.group, each.ignored) for each in told] == [("person", True), ("vehicle", False)]


@pytest.mark.parametrize("name", ["motorcycle", "bicycle"])
def test_two_wheelers_are_never_sure(name: str) -> None:
    told = merged([seen((name, 0.95, (10, 10, 60, 60)))], Rules())
    assert [(each.group, each.ignored) for each in told] == [("vehicle", True)]


def test_what_is_written_trains_and_is_right(video: Path, teacher: Detector, tmp_path: Path) -> None:
    out = tmp_path / "pseudo"
    told = write_pseudo_labels([video], [teacher], out, Rules(every_s=1.0, most=5))
    spec = read_data_spec(out / "data.yaml")
    samples = read_samples(spec)
    assert told.pictures == len(samples) == 5
    assert split_by_scene(samples, spec).validation == []
    scene, right, there = street(11, duration_s=12.0), 0, 0
    for sample in samples:
        at_s = int(sample.path.stem.rsplit("-", 1)[1]) / 1000
        truth = scene.truth(at_s).boxes
        scale = np.array([scene.width, scene.height] * 2)
        for box, label, ignored in zip(sample.boxes, sample.labels, sample.ignored, strict=True):
            assert label in (0, ANY_VEHICLE)
            if not ignored:
                there += 1
                right += box_iou((box * scale)[None].astype(np.float64), truth).max(initial=0) >= 0.5
    assert there == told.labels.total() >= 5
    assert right >= 0.8 * there
    coco = json.loads((out / "labels.json").read_text("utf-8"))
    assert sum(each["iscrowd"] for each in coco["annotations"]) == told.ignored.total()


def test_a_still_picture_is_kept_once_and_a_broken_video_is_told(
    video: Path, teacher: Detector, tmp_path: Path
) -> None:
    still, broken = tmp_path / "still.mp4", tmp_path / "broken.mp4"
    with av.open(str(still), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(20):
            picture = np.full((180, 320, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    broken.write_bytes(b"no video")
    told = write_pseudo_labels([broken, still, video], [teacher], tmp_path / "out", Rules(every_s=1.0, most=3))
    assert list(told.broken) == [broken]
    assert told.skipped["like the one before"] >= 3
    assert told.pictures == 1 + 3


def test_nothing_is_left_behind_when_it_fails_or_is_there_already(
    video: Path, teacher: Detector, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--night"):
        write_pseudo_labels([video], [teacher], tmp_path / "out", Rules(), by_day=lambda _: False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists"):
        write_pseudo_labels([video], [teacher], tmp_path / "out", Rules())
    none = CliRunner().invoke(app, f"pseudo-label {tmp_path / 'out'} --teacher passerby-nano --out {tmp_path / 'new'}")
    assert isinstance(none.exception, UsageError)
    assert "holds no video" in str(none.exception)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_the_classifier_that_ships_tells_day_from_dark() -> None:
    scene = street(11, duration_s=12.0)
    picture = scene.render(2.0)
    by_day = taken_by_day()
    assert by_day(picture) != by_day((picture * 0.05).astype(np.uint8))


def test_the_command_says_what_came_of_it(video: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app,
        f"pseudo-label {video} --teacher passerby-nano@544x320 --out {tmp_path / 'out'} --night --most 2 "
        f"--sheet {tmp_path / 'sheet.png'}",
    )
    assert told.exit_code == 0, told.output
    assert "2 pictures" in told.output
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    wrong = CliRunner().invoke(app, f"pseudo-label {video} --teacher passerby-nano --out {tmp_path / 'b'} --sure 0.1")
    assert isinstance(wrong.exception, UsageError)
