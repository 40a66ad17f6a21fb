"""What is painted on a picture, and only that; and the video of it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.core.frame import Picture
from pipeline.core.rules import CameraRules, LineRule, ZoneRule
from pipeline.errors import OutputError
from pipeline.outputs import annotated
from pipeline.outputs.annotated import AnnotatedVideo, Annotator
from pipeline.outputs.drawing import ALARM, LINE, PERSON, VEHICLE, middle_of
from tests.outputs.samples import track

WIDTH, HEIGHT = 960, 540
WHEN_US = 1_767_254_400_000_000
NOTHING = CameraRules("gate")
LINE_RULE = LineRule("kerb", ((0.1, 0.6), (0.9, 0.6)), ("person",))


def plain() -> Picture:
    return np.full((HEIGHT, WIDTH, 3), 100, np.uint8)


def draw(
    annotator: Annotator,
    picture: Picture,
    rules: CameraRules = NOTHING,
    tracks: list[object] | None = None,
    **more: object,
) -> Picture:
    settings: dict[str, object] = {
        "size": (WIDTH, HEIGHT),
        "tracks": tracks or [],
        "rules": rules,
        "totals": {},
        "when_us": WHEN_US,
        "camera_id": "gate",
    }
    return annotator.draw(picture, **{**settings, **more})  # type: ignore[arg-type]


def changed(before: Picture, after: Picture) -> tuple[int, int, int, int]:
    """left, top, right, bottom of what differs."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def has(picture: Picture, colour: tuple[int, int, int], within: float = 12) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= within).sum())


def test_the_picture_given_stays_as_it_is_and_shape_and_type_too() -> None:
    picture = plain()
    picture.setflags(write=False)
    drawn = draw(Annotator(), picture, CameraRules("gate", (LINE_RULE,)), [track(1, (200, 100, 260, 300))])
    assert (picture == 100).all()
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8


def test_without_tracks_and_rules_only_the_title_is_painted() -> None:
    left, top, right, bottom = changed(plain(), draw(Annotator(), plain()))
    assert left < 20
    assert top < 20
    assert right < WIDTH / 2
    assert bottom < HEIGHT / 10


def test_the_time_is_in_the_title() -> None:
    first, second = draw(Annotator(), plain()), draw(Annotator(), plain(), when_us=WHEN_US + 61_000_000)
    assert (first != second).any()
    assert changed(first, second)[3] < HEIGHT / 10


def test_a_box_lies_where_the_track_is_in_its_groups_colour() -> None:
    person, car = track(1, (200, 150, 260, 350)), track(2, (500, 300, 700, 420), "car")
    base = draw(Annotator(), plain())
    drawn = draw(Annotator(), plain(), tracks=[person, car])
    for (x0, y0, x1, y1), colour in ((person.bbox, PERSON), (car.bbox, VEHICLE)):
        x0, y0, x1, y1 = (int(side) for side in (x0, y0, x1, y1))
        for x, y in ((x0, (y0 + y1) // 2), (x1, (y0 + y1) // 2), ((x0 + x1) // 2, y1)):
            assert tuple(drawn[y, x]) == colour
        inside = drawn[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8]
        assert (inside == 100).all()
    left, top, right, bottom = changed(base, drawn)
    assert left > 190
    assert right < 712
    assert bottom < 430
    assert top > 100  # the label above the first box


def test_boxes_are_scaled_from_the_source_to_the_picture() -> None:
    same = draw(Annotator(), plain(), tracks=[track(1, (200, 150, 260, 350))])
    scaled = draw(Annotator(), plain(), tracks=[track(1, (400, 300, 520, 700))], size=(2 * WIDTH, 2 * HEIGHT))
    assert (same == scaled).all()


def test_boxes_outside_the_picture_and_broken_ones_do_no_harm() -> None:
    tracks = [
        track(1, (-500, -500, 5000, 5000)),
        track(2, (-90, 10, -20, 50)),
        track(3, (float("nan"), 1, 2, 3)),
        track(4, (float("inf"), 1, 2, 3)),
        track(5, (50, 50, 40, 40)),
    ]
    assert draw(Annotator(), plain(), tracks=tracks).shape == (HEIGHT, WIDTH, 3)


def test_predicted_boxes_are_paler() -> None:
    seen = draw(Annotator(), plain(), tracks=[track(1, (200, 150, 260, 350))])
    guessed = draw(Annotator(), plain(), tracks=[track(1, (200, 150, 260, 350), seen=False)])
    assert has(seen, PERSON) > 3 * has(guessed, PERSON)


def test_a_line_its_arrow_to_the_right_side_and_totals() -> None:
    rules = CameraRules("gate", (LINE_RULE,))
    drawn = draw(Annotator(), plain(), rules)
    assert tuple(drawn[int(0.6 * HEIGHT), int(0.3 * WIDTH)]) == LINE
    column = (np.abs(drawn[:, WIDTH // 2].astype(int) - LINE).max(axis=1) <= 12).nonzero()[0]
    assert column.min() >= 0.6 * HEIGHT - 3  # nothing of the arrow above: right is downwards for A left of B
    assert column.max() >= 0.6 * HEIGHT + 8
    more = draw(Annotator(), plain(), rules, totals={"kerb": {"person": {"left": 3, "right": 41}}})
    left, top, right, bottom = changed(drawn, more)
    assert top < 0.6 * HEIGHT < bottom
    assert left > 0.2 * WIDTH
    assert right < 0.8 * WIDTH
    only_right = draw(Annotator(), plain(), rules, totals={"kerb": {"person": {"left": 0, "right": 41}}})
    assert changed(drawn, only_right)[1] > 0.6 * HEIGHT


@pytest.mark.parametrize(
    ("points", "right"),
    [
        (((0, 0), (10, 0)), (0, 1)),
        (((10, 0), (0, 0)), (0, -1)),
        (((0, 0), (0, 10)), (-1, 0)),
        (((0, 10), (0, 0)), (1, 0)),
    ],
)
def test_the_right_side_walking_from_a_to_b(
    points: tuple[tuple[float, float], ...], right: tuple[float, float]
) -> None:
    middle, way = middle_of(points)
    assert middle == ((points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2)
    assert way == pytest.approx(right)


def test_the_middle_of_a_bent_line_is_halfway_along_it() -> None:
    middle, way = middle_of(((0, 0), (10, 0), (10, 30)))
    assert middle == (10, 10)
    assert way == pytest.approx((-1, 0))


def test_a_crowded_zone_alarms() -> None:
    zone = ZoneRule("plaza", ((0.1, 0.2), (0.9, 0.2), (0.9, 0.95), (0.1, 0.95)), ("person",), crowded_at=2)
    rules = CameraRules("gate", zones=(zone,))
    two = [track(1, (200, 150, 260, 350)), track(2, (400, 150, 460, 350))]
    outside = [track(1, (200, 150, 260, 350)), track(2, (400, 20, 460, 60))]
    car = [track(1, (200, 150, 260, 350)), track(2, (400, 150, 460, 350), "car")]
    assert has(draw(Annotator(), plain(), rules, two), ALARM) > 100
    assert has(draw(Annotator(), plain(), rules, outside), ALARM) == 0
    assert has(draw(Annotator(), plain(), rules, car), ALARM) == 0


def test_trails_fade_and_are_forgotten() -> None:
    annotator = Annotator(trail_s=1.0)
    for n in range(8):
        moving = [track(1, (100 + 30 * n, 100, 140 + 30 * n, 200))]
        drawn = draw(annotator, plain(), tracks=moving, when_us=WHEN_US + n * 125_000)
    assert (drawn[200, 130:300] != 100).any()
    gone = draw(annotator, plain(), when_us=WHEN_US + 2_500_000)
    assert (gone == draw(Annotator(), plain(), when_us=WHEN_US + 2_500_000)).all()
    assert not annotator._cameras["gate"].trails


def test_tracks_that_end_leave_nothing_behind() -> None:
    annotator = Annotator(trail_s=1.0)
    small = np.zeros((36, 64, 3), np.uint8)
    for n in range(200):
        draw(annotator, small, tracks=[track(n, (1, 1, 9, 9))], when_us=WHEN_US + n * 100_000)
    assert len(annotator._cameras["gate"].trails) <= 11


def test_trails_of_two_cameras_and_two_runs_of_a_stream_are_apart() -> None:
    annotator = Annotator()
    draw(annotator, plain(), tracks=[track(1, (100, 100, 140, 200))], when_us=WHEN_US)
    other = draw(
        annotator, plain(), tracks=[track(1, (600, 100, 640, 200))], camera_id="yard", when_us=WHEN_US + 100_000
    )
    assert (
        other
        == draw(
            Annotator(), plain(), tracks=[track(1, (600, 100, 640, 200))], camera_id="yard", when_us=WHEN_US + 100_000
        )
    ).all()
    again = draw(annotator, plain(), tracks=[track(1, (600, 100, 640, 200))], when_us=WHEN_US - 10)
    assert (again == draw(Annotator(), plain(), tracks=[track(1, (600, 100, 640, 200))], when_us=WHEN_US - 10)).all()


def test_the_same_calls_give_the_same_pixels() -> None:
    rules = CameraRules("gate", (LINE_RULE,), (ZoneRule("plaza", ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5))),))

    def play() -> Picture:
        annotator = Annotator()
        for n in range(5):
            tracks = [track(2, (100 + 9 * n, 100, 140 + 9 * n, 200)), track(1, (300, 90, 360, 210), "car")]
            drawn = draw(
                annotator, plain(), rules, tracks, when_us=WHEN_US + n * 125_000, masks=[[(0, 0), (0.2, 0), (0.2, 0.2)]]
            )
        return drawn

    assert (play() == play()).all()


@pytest.mark.parametrize("size", [(640, 360), (352, 288), (1920, 1080), (64, 48)])
def test_any_size_and_name_can_be_painted(size: tuple[int, int]) -> None:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    rules = CameraRules(
        "Tür 中 🚪", (LineRule("línea", ((0, 0), (1, 1))),), (ZoneRule("区域", ((0, 0), (1, 0), (1, 1))),)
    )
    tracks = [track(1, (0.2, 0.2, 0.4, 0.8), "bicycle")]
    drawn = Annotator().draw(
        picture, size=(1, 1), tracks=tracks, rules=rules, totals={}, when_us=0, camera_id=rules.camera_id
    )
    assert drawn.shape == picture.shape
    assert drawn.any()


def frames(path: Path) -> list[tuple[float, Picture]]:
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def picture_of(value: int, shape: tuple[int, int] = (90, 160)) -> Picture:
    return np.full((*shape, 3), value, np.uint8)


def test_a_video_a_camera_at_the_frames_own_times(tmp_path: Path) -> None:
    times_us = [0, 125_000, 250_000, 1_250_000, 1_375_000]
    with AnnotatedVideo(tmp_path) as video:
        for n, at_us in enumerate(times_us):
            video.write("gate", picture_of(40 * n), WHEN_US + at_us)
            video.write("yard", picture_of(200), WHEN_US + 5 * at_us)
        paths = video.paths
    assert paths == {"gate": tmp_path / "annotated" / "gate.mp4", "yard": tmp_path / "annotated" / "yard.mp4"}
    shown = frames(paths["gate"])
    assert [round(at_s * 1e6) for at_s, _ in shown] == times_us
    assert [round(float(picture.mean()) / 40) for _, picture in shown] == [0, 1, 2, 3, 4]
    assert round(frames(paths["yard"])[-1][0], 3) == 6.875


def test_a_change_of_size_is_fitted_into_the_same_file(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path) as video:
        video.write("gate", picture_of(200), WHEN_US)
        video.write("gate", picture_of(200, (300, 300)), WHEN_US + 125_000)
    (_, first), (_, second) = frames(tmp_path / "annotated" / "gate.mp4")
    assert first.shape == second.shape == (90, 160, 3)
    assert second[45, 80].mean() == pytest.approx(200, abs=8)
    assert second[45, 5].mean() == pytest.approx(0, abs=24)


def test_a_cameras_name_never_becomes_a_path(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path) as video:
        video.write("../../etc/pass<wd>", picture_of(1), WHEN_US)
    (only,) = (tmp_path / "annotated").iterdir()
    assert only.parent == tmp_path / "annotated"
    assert only.suffix == ".mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["annotated"]


def test_closing_finishes_the_others_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(annotated.VideoWriter):
        def close(self) -> None:
            super().close()
            if "bad" in str(self._path):
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(annotated, "VideoWriter", Failing)
    video = AnnotatedVideo(tmp_path)
    for camera_id in ("a", "bad", "z"):
        video.write(camera_id, picture_of(9), WHEN_US)
        video.write(camera_id, picture_of(9), WHEN_US + 1_000_000)
    with pytest.raises(OutputError, match=r"annotated video of bad.*No space left"):
        video.close()
    assert len(frames(tmp_path / "annotated" / "a.mp4")) == 2
    assert len(frames(tmp_path / "annotated" / "z.mp4")) == 2
    video.close()
    with pytest.raises(OutputError, match="closed"):
        video.write("a", picture_of(9), WHEN_US)


def test_nothing_written_makes_no_folder(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
