"""What frames make a clip, and what of it is kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.analytics.camera import CameraAnalytics
from pipeline.analytics.clips import MOST_PERSONS, Clip, ClipFrame, gate_is_open, persons_in
from pipeline.analytics.snapshot import clip_in
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.rules import CameraRules, ClipRule, SceneKind, SceneRules
from pipeline.inference.scene import load_scene_files
from pipeline.sources.sampling import Sampler
from tests.analytics.walks import PROVENANCE, Seen, detections, instants, person

RULE = ClipRule(16, 8, 0.125, 1.0, "motion", 0.35, 0.42, 0.8)
RULES = SceneRules(RULE, (), {"model": "s", "model_version": "1", "model_sha256": "cc"}, low_score=0.1)
PEOPLE = [person(300, 200, 0.9), person(500, 300, 0.05), person(100, 300, 0.4), ("car", (0, 0, 90, 90), 0.9)]


def _take(clip: Clip, n: int, t_s: float, epoch: int = 1, size: tuple[int, int] = (640, 360), offset: int = 7) -> Clip:
    at_us = round(t_s * 1e6)
    picture = np.random.default_rng(n).integers(0, 256, (36, 64, 3), dtype=np.uint8)
    frame = Frame(n, at_us, at_us, picture)
    window = FrameWindow("gate", epoch, 0, (frame,), *size, 8.0, "pts")
    return clip.take(window, frame, detections(PEOPLE), offset, RULES)


def _clips(times: Iterable[float], epoch_of: dict[int, int] | None = None) -> list[tuple[int, bool]]:
    """The last frame of every clip, and whether it follows the one before."""
    clip, told = Clip().under(RULES), []
    for n, t_s in enumerate(times):
        clip = _take(clip, n, t_s, (epoch_of or {}).get(n, 1))
        if clip.is_whole(RULE):
            told.append((n, clip.followed))
            clip = clip.stridden(RULE)
    return told


def test_sixteen_frames_are_a_clip_and_every_eight_more_the_next() -> None:
    assert _clips(instants(5, 8)) == [(15, False), (23, True), (31, True), (39, True)]


def test_frames_that_come_denser_are_thinned_out_by_their_time() -> None:
    for fps in (8, 10, 12.5, 15, 25, 30, 50):
        assert len(_clips(instants(5.99, fps))) == 5, fps
    took = Clip().under(RULES)
    for n, t_s in enumerate(instants(1.7, 25)):
        took = _take(took, n, t_s)
    gaps = [later.at_us - earlier.at_us for earlier, later in itertools.pairwise(took.frames)]
    assert sum(gaps) / len(gaps) == pytest.approx(125_000, rel=0.04)
    assert max(gaps) <= 160_000


@pytest.mark.parametrize("fps", [10, 12.5, 15, 24, 25, 30])
def test_all_that_is_sampled_of_a_source_is_taken(fps: float) -> None:
    sampler = Sampler(8.0)
    times = [t_s for t_s in instants(8.9, fps) if sampler.take(round(t_s * 1e6))]
    clip = Clip().under(RULES)
    for n, t_s in enumerate(times[:15]):
        clip = _take(clip, n, t_s)
    assert len(clip.frames) == 15
    assert len(_clips(times)) == 8


def test_a_camera_of_few_frames_makes_clips_as_far_as_it_goes() -> None:
    assert _clips(instants(5, 4.1))
    assert not _clips(instants(9, 3.9))


def test_clips_that_share_no_frame_follow_each_other_too() -> None:
    rule = replace(RULE, stride=16)
    clip, told = Clip().under(RULES), []
    for n, t_s in enumerate(instants(5, 8)):
        clip = _take(clip, n, t_s)
        if clip.is_whole(rule):
            told.append((n, clip.followed))
            clip = clip.placed(rule).stridden(rule)
    assert told == [(15, False), (31, True)]
    assert clip.crop is not None


def test_a_gap_another_epoch_and_another_size_begin_a_clip_anew() -> None:
    times = instants(6, 8)
    late = [t if n < 20 else t + 0.2 for n, t in enumerate(times)]
    assert _clips(late) == [(15, False), (35, False), (43, True)]
    assert _clips(times, dict.fromkeys(range(20, 49), 2)) == [(15, False), (35, False), (43, True)]
    clip = Clip().under(RULES)
    for n, t in enumerate(times[:10]):
        clip = _take(clip, n, t)
    assert len(_take(clip, 10, times[10]).frames) == 11
    assert len(_take(clip, 10, times[10], size=(640, 480)).frames) == 1


def test_a_frame_that_is_not_later_is_refused() -> None:
    clip = _take(Clip().under(RULES), 0, 1.0)
    early = _take(clip, 1, 1.03)  # too early to be of the clip; time goes on all the same
    assert early.frames == clip.frames
    with pytest.raises(ValueError, match="not later"):
        _take(early, 2, 1.02)
    assert len(_take(early, 0, 0.5, epoch=2).frames) == 1
    assert len(_take(early.ended(), 0, 0.5).frames) == 1


def test_the_people_of_a_frame_are_those_the_camera_trusts_enough() -> None:
    found = persons_in(detections(PEOPLE), (640, 360), 0.1)
    assert found.shape == (2, 5)
    np.testing.assert_allclose(found[0], [285 / 640, 120 / 360, 315 / 640, 200 / 360, 0.9], rtol=1e-6)
    crowd: list[Seen] = [person(9.0 * n, 200, 0.2 + n / 1000) for n in range(100)]
    assert len(persons_in(detections(crowd), (640, 360), 0.1)) == MOST_PERSONS


@pytest.mark.parametrize(("shown", "open_"), [(3, False), (4, True), (16, True)])
def test_a_gate_asks_for_so_many_people_in_so_many_frames(shown: int, open_: bool) -> None:
    two = np.array([[0.1, 0.1, 0.2, 0.4, 0.5], [0.5, 0.1, 0.6, 0.4, 0.36]], np.float32)
    frames = tuple(ClipFrame(n, n, 0, two if n < shown else two[:1]) for n in range(16))
    kind = SceneKind("fight", 0.6, 0.4, persons=2, person_score=0.35, persons_share=0.25)
    assert gate_is_open(Clip(frames=frames), kind) is open_
    assert gate_is_open(Clip(frames=frames), replace(kind, persons=0))
    assert not gate_is_open(Clip(frames=frames), replace(kind, person_score=0.4))
    assert not gate_is_open(Clip(frames=frames), replace(kind, person_width=0.11))


def _made(frames: int) -> Clip:
    clip = Clip().under(RULES)
    for n in range(frames):
        clip = _take(clip, n, n / 8, offset=n // 8)
    return clip


def test_a_clip_in_a_snapshot_has_everything_but_its_pictures_which_the_log_gives_back() -> None:
    clip = _made(16).placed(RULE)
    assert clip.crop is not None
    clip = _take(clip.stridden(RULE), 16, 2.0, offset=2)
    camera = CameraAnalytics(CameraRules("gate", scene=RULES), provenance=PROVENANCE)
    camera.clip = clip
    blob = camera.snapshot()
    assert CameraAnalytics.restore(camera.rules, PROVENANCE, blob).snapshot() == blob
    again = clip_in(blob)
    assert again is not None
    assert not again.has_pictures
    pictures = {(frame.offset, frame.index): frame.picture for frame in clip.frames}
    whole = again.with_pictures(pictures)  # type: ignore[arg-type]
    assert whole is not None
    assert whole.has_pictures
    for name in ("model", "epoch", "size", "crop", "followed", "last_us"):
        assert getattr(whole, name) == getattr(clip, name)
    for one, other in zip(whole.frames, clip.frames, strict=True):
        assert (one.index, one.at_us, one.offset) == (other.index, other.at_us, other.offset)
        assert one.persons.tobytes() == other.persons.tobytes()
        assert one.gray is not None
        assert other.gray is not None
        assert one.gray.tobytes() == other.gray.tobytes()
    del pictures[1, 15]
    assert again.with_pictures(pictures) is None  # type: ignore[arg-type]


def test_the_state_stays_small() -> None:
    camera = CameraAnalytics(CameraRules("gate", scene=RULES), provenance=PROVENANCE)
    without = len(camera.snapshot())
    camera.clip = _made(16).placed(RULE).stridden(RULE)
    assert len(camera.snapshot()) - without < 1_200, "two people in a frame"
    crowd: list[Seen] = [person(9.0 * n, 200, 0.2) for n in range(100)]
    most = persons_in(detections(crowd), (640, 360), 0.1)
    camera.clip = replace(camera.clip, frames=tuple(replace(frame, persons=most) for frame in camera.clip.frames))
    assert len(camera.snapshot()) - without < 16_000, "a crowd"


def test_without_a_scene_model_nothing_of_it_is_kept() -> None:
    camera = CameraAnalytics(CameraRules("gate", scene=RULES), provenance=PROVENANCE)
    camera.clip = _made(4)
    plain = CameraAnalytics.restore(CameraRules("gate"), PROVENANCE, camera.snapshot())
    assert plain.clip is None
    assert not {"clip", "scenes"} & json.loads(plain.snapshot()).keys()


def test_another_model_begins_its_own_clip() -> None:
    other = replace(RULES, provenance={**RULES.provenance, "model_sha256": "dd"})
    assert _made(5).under(RULES).frames
    assert _made(5).under(other).frames == ()


def test_a_crop_that_moves_drops_the_features_of_the_old_one() -> None:
    clip = _made(16).placed(RULE)
    features = np.ones(3, np.float32)
    clip = clip.encoded(dict.fromkeys(range(16), features)).stridden(RULE)
    assert all(frame.features is features for frame in clip.frames)
    crop = clip.crop
    assert crop is not None
    assert all(f.features is features for f in replace(clip, crop=crop).placed(replace(RULE, keep=0.0)).frames)
    corner = (0.0, 0.0, 0.35, 0.42)
    moved = replace(clip, crop=corner).placed(replace(RULE, keep=1.0))
    assert moved.crop != corner
    assert all(frame.features is None for frame in moved.frames)


def _street(n: int, fight_from: int) -> tuple[Picture, list[Seen]]:
    """A passer-by who sways at the left, and two at the right who stand still until they come to blows."""
    picture = np.full((90, 160, 3), 90, np.uint8)
    sway, blow = n % 3, (n * 5) % 12 if n >= fight_from else 0
    picture[30:50, 16 + sway : 24 + sway] = 200
    picture[40:60, 120 + blow : 128 + blow] = 200
    picture[40:60, 136 - blow : 144 - blow] = 220
    at_px = [(80 + 4 * sway, 200), (496 + 4 * blow, 240), (560 - 4 * blow, 240)]
    return picture, [person(x, y) for x, y in at_px]


def test_a_fight_that_begins_elsewhere_moves_the_crop_in_the_next_clip_and_what_stays_where_it_is_does_not() -> None:
    place = load_scene_files("passerby-scene").manifest.crop
    rule = replace(RULE, place=place.rule, width=place.width, height=place.height, keep=place.keep)
    rules, clip, crops, anew = replace(RULES, clip=rule), Clip().under(RULES), [], []
    for n in range(64):
        picture, seen = _street(n, fight_from=32)
        frame = Frame(n, n * 125_000, n * 125_000, picture)
        window = FrameWindow("gate", 1, 0, (frame,), 640, 360, 8.0, "pts")
        clip = clip.take(window, frame, detections(seen), 7, rules)
        if clip.is_whole(rule):
            clip = clip.placed(rule)
            assert clip.crop is not None
            crops.append(clip.crop)
            anew.append([i for i, each in enumerate(clip.frames) if each.features is None])
            clip = clip.encoded(dict.fromkeys(range(16), np.ones(3, np.float32))).stridden(rule)
    assert len(set(crops[:3])) == 1, "up to frame 31 only the passer-by moves"
    assert crops[2][2] < 0.5
    assert crops[3][0] < 122 / 160 < 142 / 160 < crops[3][2], "the first clip with the fight, half of it, looks at it"
    assert len(set(crops[3:])) == 1
    assert [len(each) for each in anew] == [16, 8, 8, 16, 8, 8, 8]
