"""Pictures of the scripted street: the same bytes, in step with the truth; and files that decode as they were meant."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import OutputError, UsageError
from pipeline.sources.synthetic import Scene, frame_times, parse_source, street, synthetic_frames, write_video
from pipeline.sources.synthetic.bodies import Person
from pipeline.sources.synthetic.canvas import Pose
from pipeline.sources.synthetic.palette import light_of
from pipeline.sources.synthetic.people_sprites import draw_person
from pipeline.sources.synthetic.vehicle_sprites import draw_vehicle

SIZE = {"width": 480, "height": 272}


@functools.cache
def small(situation: str = "street", night: bool = False, seed: int = 5) -> Scene:
    return street(seed, situation=situation, duration_s=16.0, night=night, **SIZE)


def digest(scene: Scene, t_s: float) -> str:
    return hashlib.sha256(scene.render(t_s).tobytes()).hexdigest()


@pytest.mark.parametrize("night", [False, True])
def test_same_seed_same_bytes(night: bool) -> None:
    """Also when the pictures are asked for in another order, and by another Scene."""
    first = [digest(small(night=night), t_s) for t_s in (1.0, 7.3, 12.0)]
    again = street(5, duration_s=16.0, night=night, **SIZE)
    assert [digest(again, t_s) for t_s in (12.0, 1.0, 7.3)] == [first[2], first[0], first[1]]
    assert len(set(first)) == 3


def test_pictures_have_the_promised_form() -> None:
    picture = small().render(3.0)
    assert picture.shape == (272, 480, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.flags.writeable
    assert picture.std() > 25, "a picture of something"


def test_what_moves_is_where_the_truth_says() -> None:
    """Pixels differ from the empty street in the boxes, and hardly anywhere else but in shadows."""
    scene = street(5, situation="walk", duration_s=16.0, **SIZE)
    empty = street(5, situation="walk", duration_s=16.0, **SIZE)
    empty.actors = ()
    inside_boxes, elsewhere = [], []
    for t_s in (3.0, 6.0, 9.0, 12.0):
        changed = np.abs(scene.render(t_s).astype(int) - empty.render(t_s)).max(axis=2) > 40
        covered = np.zeros(changed.shape, bool)
        for box in scene.truth(t_s).boxes:
            x0, y0, x1, y1 = np.rint(box).astype(int)
            if (x1 - x0) * (y1 - y0) > 150:
                inside_boxes.append(float(changed[y0:y1, x0:x1].mean()))
            covered[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
        elsewhere.append(float(changed[~covered].mean()))
    assert len(inside_boxes) >= 6
    assert min(inside_boxes) > 0.1
    assert np.median(inside_boxes) > 0.3
    assert max(elsewhere) < 0.02


@pytest.mark.parametrize("situation", ["street", "drive"])
def test_boxes_are_tight(situation: str) -> None:
    """What is drawn of an actor reaches each side of its box, and hardly beyond."""
    scene = street(3, situation=situation, duration_s=16.0)
    camera, light = scene.camera, light_of(1.0, scene.seed)
    over, checked = [], set()
    for actor in scene.actors:
        for t_s in np.arange(1.0, 15.0, 0.9):
            at = np.array([t_s])
            clipped, full = (boxes[0] for boxes in actor.boxes(camera, at))
            if np.isnan(clipped).any() or np.abs(clipped - full).max() > 0 or full[3] - full[1] < 30:
                continue
            motion, body = actor.motion, actor.body
            pose = Pose(motion.positions(at)[0], float(motion.headings(at)[0]), float(motion.walked(at)[0]))
            if isinstance(body, Person):
                joints = body.joints(motion.walked(at))[0]
                sprite = draw_person(camera, body, pose, joints, full, actor.paint, light)
            else:
                sprite = draw_vehicle(camera, body, pose, full, actor.paint, light)
            solid = np.asarray(sprite.image)[..., 3] > 100
            rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
            drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
            drawn += [sprite.left, sprite.top, sprite.left, sprite.top]
            over.append(np.abs(drawn - full) / (full[3] - full[1]))
            checked.add(actor.class_name)
    assert len(over) > 20
    assert {"person", "car"} <= checked
    assert float(np.median(over)) < 0.03
    assert float(np.quantile(over, 0.95)) < 0.09


def test_night_is_darker_and_flicker_unsteady() -> None:
    assert small(night=True).render(3.0).mean() < 0.7 * small().render(3.0).mean()
    levels = [small("flicker").render(float(t_s)).mean() for t_s in np.arange(2.0, 10.0, 0.37)]
    steady = [small("walk").render(float(t_s)).mean() for t_s in np.arange(2.0, 10.0, 0.37)]
    assert np.ptp(levels) > 4 * np.ptp(steady)


def test_written_video_decodes_to_its_size_and_times(tmp_path: Path) -> None:
    scene, told = small("walk"), []
    truth_path = write_video(scene, tmp_path / "clip.mp4", 10, progress=lambda done, total: told.append((done, total)))
    times = frame_times(scene, 10)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (480, 272)
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == pytest.approx(times, abs=1e-3)
    assert told == [(k + 1, len(times)) for k in range(len(times))]
    drawn = scene.render(times[70]).astype(float)
    shown = frames[70].to_ndarray(format="rgb24").astype(float)
    assert np.abs(drawn - shown).mean() < 8, "the picture of its own time"
    (video,) = json.loads(truth_path.read_text())["videos"]
    assert (video["file"], video["camera"]) == ("clip.mp4", "clip")
    (line,) = video["lines"].values()
    assert [one["t_s"] for one in line["crossings"]] == [one.t_s for one in scene.crossings()]
    assert {one["class"] for one in line["crossings"]} == {"person"}


def test_truth_file_is_what_eval_reads(tmp_path: Path) -> None:
    from pipeline.services.truth import read_truth

    scene = street(5, situation="dwell", duration_s=16.0, **SIZE)
    path = write_video(scene, tmp_path / "clip.mp4", 2, camera_id="gate", truth=tmp_path / "truth.json")
    assert path == tmp_path / "truth.json"
    (video,) = read_truth(path)
    assert video.camera_id == "gate"
    (line,), (zone,) = video.lines, video.zones
    assert (line.points, line.classes, line.anchor) == (
        scene.lines[0].points, scene.lines[0].classes, scene.lines[0].anchor,
    )  # fmt: skip
    assert [(c.t_s, c.direction, c.class_name) for c in line.crossings] == [
        (c.t_s, c.direction, c.class_name) for c in scene.crossings()
    ]
    assert [(d.entered_s, d.left_s) for d in zone.dwells] == [(d.entered_s, d.left_s) for d in scene.dwells()]


def test_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_video(small("walk"), tmp_path / "nowhere" / "clip.mp4", 2)


def test_frames_at_a_rate_or_at_given_times() -> None:
    scene = small("walk")
    frames = synthetic_frames(scene, 8)
    assert [next(frames)[0] for _ in range(3)] == [0, 125_000, 250_000]
    irregular = list(synthetic_frames(scene, times_s=[0.04, 0.2, 1.01]))
    assert [pts for pts, _ in irregular] == [40_000, 200_000, 1_010_000]
    assert (irregular[1][1] == scene.render(0.2)).all()


def test_source_strings() -> None:
    scene, fps = parse_source("synthetic://street?seed=7&duration=16&situation=walk&width=320&height=180&fps=10")
    assert (scene.seed, scene.duration_s, scene.situation, scene.width, scene.height, fps) == (
        7, 16.0, "walk", 320, 180, 10.0,
    )  # fmt: skip
    again = street(7, duration_s=16.0, situation="walk", width=320, height=180)
    assert again.crossings() == scene.crossings()


@pytest.mark.parametrize(
    "source",
    ["synthetic://beach", "file://street", "synthetic://street?sed=7", "synthetic://street?seed=x",
     "synthetic://street?fps=0", "synthetic://street?duration=1"],
)  # fmt: skip
def test_wrong_source_strings_are_refused(source: str) -> None:
    with pytest.raises(UsageError):
        parse_source(source)
