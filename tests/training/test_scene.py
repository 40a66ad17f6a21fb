"""The scene model on generated clips: cut, train, resume, evaluate, export, run by the pipeline's own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pipeline.core.clip_crop import cut  # noqa: E402
from pipeline.core.rules import SceneKind  # noqa: E402
from pipeline.errors import ConfigError, ModelError, UsageError  # noqa: E402
from pipeline.inference.scene import SceneModel, load_scene_files  # noqa: E402
from training.scene.baselines import metadata_scores  # noqa: E402
from training.scene.data import SceneClip, read_scene_data  # noqa: E402
from training.scene.evaluate import (  # noqa: E402
    Gate,
    alarm_threshold,
    best_threshold,
    cross_validate,
    events_of,
    score_assignments,
    taught_of,
)
from training.scene.export import SceneDifference  # noqa: E402
from training.scene.features import VIEWS, ClipPlan, VideoClips, clip_indices  # noqa: E402
from training.scene.folds import assign_folds, auc  # noqa: E402
from training.scene.frames import pictures_of  # noqa: E402
from training.scene.head import HeadShape, SceneHead, rank_columns, ranks_of  # noqa: E402
from training.scene.session import Place, evaluate_scene, prepare, release_scene, train_scene  # noqa: E402
from training.scene.trainer import SceneRecipe, SceneTraining, ridge  # noqa: E402
from training.scene.trunk import load_trunk, pooling  # noqa: E402

FEW = 12
TINY = HeadShape(channels=4, cells=2, reduced=6, hidden=5)


def _video(number: int, *, fights: bool, ordinary: bool = False, clips: int = 1, scene: str = "") -> VideoClips:
    """A video whose features jump about when it fights, and drift slowly when not."""
    random = np.random.default_rng(number)
    steps = random.normal(0, 1.0 if fights else 0.1, (clips, 16, 8)).astype(np.float32)
    features = steps if fights else steps.cumsum(1)
    kinds = frozenset({"fight"}) if fights else frozenset[str]()
    clip = SceneClip(Path(f"{number}.mp4"), "set", scene or str(number), kinds, frozenset({"fight"}), ordinary)
    starts = np.arange(clips, dtype=np.int64) * 1_000_000
    persons = np.full((clips, 16), 2, np.int64)
    follows = np.arange(clips) > 0
    again = None if ordinary else np.repeat(features[:, None], VIEWS, 1).astype(np.float16)
    return VideoClips(clip, starts, starts + 1_875_000, features, np.zeros((clips, 4)), persons, follows, again)


def _videos() -> list[VideoClips]:
    made = [_video(i, fights=i % 2 == 0) for i in range(2 * FEW)]
    return [*made, *(_video(100 + i, fights=False, ordinary=True, clips=5) for i in range(5))]


def test_a_scene_lies_in_one_fold_and_folds_are_alike() -> None:
    random = np.random.default_rng(0)
    scenes = [str(each) for each in random.integers(0, 40, 200)]
    labels = [bool(each) for each in random.integers(0, 2, 200)]
    fold = assign_folds(scenes, labels, 5, 1)
    for scene in set(scenes):
        assert len({int(fold[i]) for i in range(200) if scenes[i] == scene}) == 1
    sizes = np.bincount(fold, minlength=5)
    assert sizes.min() >= 30
    positives = [np.mean([labels[i] for i in np.flatnonzero(fold == k)]) for k in range(5)]
    assert max(positives) - min(positives) < 0.2
    assert (fold != assign_folds(scenes, labels, 5, 2)).any()
    np.testing.assert_array_equal(fold, assign_folds(scenes, labels, 5, 1))


def test_area_under_the_curve() -> None:
    assert auc(np.array([0.9, 0.8, 0.2]), np.array([True, False, False])) == 1.0
    assert auc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    assert np.isnan(auc(np.array([0.5]), np.array([True])))


def test_clips_are_cut_by_time() -> None:
    plan = ClipPlan()
    even = np.arange(40, dtype=np.int64) * 125_000
    assert [int(each[0]) for each in clip_indices(even, plan)] == [0, 8, 16, 24]
    broken = even + np.where(np.arange(40) >= 20, 1_000_000, 0)
    assert [int(each[0]) for each in clip_indices(broken, plan)] == [0, 20]
    (short,) = clip_indices(even[:10], plan)
    assert short.tolist() == [*range(10), *[9] * 6]
    assert list(clip_indices(even[:7], plan)) == []


def test_differences_do_not_see_the_place() -> None:
    """What stands still, whatever it is, changes nothing."""
    head = SceneHead(TINY).eval()
    moving = torch.randn(1, 16, 8)
    torch.testing.assert_close(head.rows(moving), head.rows(moving + 5.0), rtol=1e-3, atol=1e-3)
    logits, attention = head(moving)
    assert logits.shape == (1, 1)
    assert attention.shape == (1, 15)
    assert float(attention.sum().detach()) == pytest.approx(1)


def test_ranks_are_the_slow_the_middle_and_the_fast_moments() -> None:
    rows = torch.arange(15.0)[torch.randperm(15)].reshape(1, 15, 1)
    assert ranks_of(rows)[0].tolist() == [3.0, 7.0, 11.0]


def test_ridge_finds_the_line_and_minds_the_weights() -> None:
    rows = torch.randn(60, 3, dtype=torch.float64)
    wanted = rows @ torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64) + 3
    spoilt = torch.cat([wanted[:50], torch.zeros(10, dtype=torch.float64)])
    weights = torch.cat([torch.ones(50), torch.full((10,), 1e-9)]).double()
    told = ridge(rows, spoilt, weights, 1e-6)
    torch.testing.assert_close(told.bias + (rows - told.mean) @ told.weight, wanted, rtol=1e-3, atol=1e-3)


def test_ridge_is_the_same_by_rows_and_by_columns() -> None:
    """Three times each row at a third of its weight: more rows than columns, and the very same line."""
    rows, wanted = torch.randn(8, 10, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    weights = torch.rand(8, dtype=torch.float64) + 0.1
    one = ridge(rows, wanted, weights, 0.3)
    three = ridge(rows.repeat(3, 1), wanted.repeat(3), weights.repeat(3) / 3, 0.3)
    for mine, other in zip(one, three, strict=True):
        torch.testing.assert_close(mine, other)


def test_views_share_the_weight_of_their_clip() -> None:
    """Views that show nothing new teach nothing new, however many; those of clips held out are held out."""
    videos = _videos()
    plain = [replace(each, again=None) for each in videos]
    few = replace(videos[0], again=np.asarray(videos[0].features[:, None], np.float16))
    recipe, shape = SceneRecipe(), replace(TINY, lstm=False)
    heads = []
    for chosen in (plain, videos, [few, *plain[1:]]):
        taught = taught_of(chosen, ["fight"], SceneHead(shape))
        heads.append(SceneTraining(shape, recipe, taught).run().rank_weight)
    torch.testing.assert_close(heads[1], heads[0], rtol=0.02, atol=1e-3)  # the views are kept in half precision
    torch.testing.assert_close(heads[2], heads[0], rtol=0.02, atol=1e-3)
    other = replace(videos[0], again=np.zeros_like(few.features[:, None], np.float16))
    taught = taught_of([other, *plain[1:]], ["fight"], SceneHead(shape))
    assert not torch.allclose(SceneTraining(shape, recipe, taught).run().rank_weight, heads[0], rtol=0.1)
    held = np.arange(len(taught.rows)) > 0
    alike = SceneTraining(shape, recipe, taught.part(held)).run().rank_weight
    without = taught_of(plain[1:], ["fight"], SceneHead(shape))
    torch.testing.assert_close(alike, SceneTraining(shape, recipe, without).run().rank_weight)


def test_views_stay_with_their_clips() -> None:
    videos = [_video(i, fights=True, clips=2) for i in range(3)]
    taught = taught_of(videos, ["fight"], SceneHead(TINY))
    assert taught.again.shape == (6 * VIEWS, rank_columns(TINY))
    part = taught.part(np.array([False, True, False, False, True, True]))
    assert part.again_of.tolist() == [0] * VIEWS + [1] * VIEWS + [2] * VIEWS
    wanted = ranks_of(part.rows)[torch.from_numpy(part.again_of)]
    torch.testing.assert_close(part.again, wanted, rtol=0.02, atol=0.02)


def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    taught = taught_of(_videos(), ["fight"], SceneHead(TINY))
    recipe = SceneRecipe(epochs=4, batch=8)
    whole = SceneTraining(TINY, recipe, taught).run()
    SceneTraining(TINY, recipe, taught, tmp_path).run(until=2)
    resumed = SceneTraining.resume(tmp_path, taught)
    assert resumed.epoch == 2
    for key, value in resumed.run().state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[key], rtol=0, atol=0)


def test_a_kind_that_a_clip_does_not_label_teaches_nothing() -> None:
    videos = _videos()
    other = [replace(each, clip=replace(each.clip, known=frozenset[str]())) for each in videos[:4]]
    taught = taught_of([*other, *videos[4:]], ["fight"], SceneHead(TINY))
    spoilt = replace(taught, labels=torch.where(taught.known > 0, taught.labels, 1 - taught.labels))
    recipe = SceneRecipe(epochs=2, batch=8)
    one, two = (SceneTraining(TINY, recipe, each).run().state_dict() for each in (taught, spoilt))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=0, atol=0)


def test_cross_validation_parts_the_kinds_and_counts_false_alarms() -> None:
    scored = [cross_validate(_videos(), "fight", TINY, SceneRecipe(epochs=3, batch=8), a) for a in range(2)]
    told = score_assignments(scored, "fight", Gate())
    assert told.accuracy > 0.9
    assert told.auc > 0.95
    assert told.ordinary_clips == 25
    assert told.false_share == told.false_hour == 0
    assert told.found > 0.9
    assert told.hours == pytest.approx(5 * (4 + 1.875) / 3600)


def test_thresholds() -> None:
    assert 0.3 < best_threshold(np.array([0.1, 0.3, 0.7, 0.9]), np.array([False, False, True, True])) < 0.7
    assert alarm_threshold(np.array([0.0] * 98 + [0.805, 0.9])) == pytest.approx(0.81)
    assert alarm_threshold(np.zeros(10)) == 0.5


def test_two_clips_in_a_row_are_an_event() -> None:
    video = _video(0, fights=True, clips=5)
    rule = SceneKind("fight", 0.6, 0.4, 2)
    assert events_of(video, np.array([0.9, 0.1, 0.9, 0.1, 0.9]), rule) == []
    assert events_of(video, np.array([0.1, 0.9, 0.9, 0.1, 0.1]), rule) == [(1_000_000, 3_875_000)]


def test_a_gate_wants_people() -> None:
    video = _video(0, fights=True)
    alone = replace(video, persons=np.array([[2] * 3 + [1] * 13]))
    assert video.gate(2, 0.25).tolist() == [True]
    assert alone.gate(2, 0.25).tolist() == [False]


def test_pooling_is_adaptive_pooling() -> None:
    x = torch.randn(1, 7, 5, 8)
    wanted = torch.nn.functional.adaptive_avg_pool2d(x, (3, 4)).flatten(2)
    torch.testing.assert_close(x.flatten(2) @ pooling(5, 8, (3, 4)), wanted)


def test_the_trunk_is_the_shipped_detectors() -> None:
    """The encoder's features follow the detector's own convolutions: another first layer gives others."""
    from pipeline.inference.store import SHIPPED

    trunk = load_trunk(SHIPPED / "passerby-nano" / "model.onnx")
    pictures = torch.randint(0, 255, (1, 40, 60, 3), dtype=torch.uint8)
    maps = []
    for stage in (trunk.stage4, trunk.stage5):
        stage.register_forward_hook(lambda _module, _inputs, x: maps.append(x))
    features = trunk(pictures)
    pooled = [torch.nn.functional.adaptive_avg_pool2d(x, (3, 4)).flatten(1) for x in maps]
    torch.testing.assert_close(features, torch.cat(pooled, 1), rtol=1e-4, atol=1e-4)
    assert features.shape == (1, trunk.features)
    assert not any(each.requires_grad for each in trunk.parameters())
    assert float(features.std()) > 0.05


@pytest.mark.parametrize(
    "told", [SceneDifference(1e-2, 0, 1), SceneDifference(0, 1e-2, 1), SceneDifference(0, np.inf, 1)]
)
def test_a_difference_is_refused(told: SceneDifference) -> None:
    with pytest.raises(ModelError, match="nothing was written"):
        told.check()


def test_metadata_that_tells_the_label_is_found_out(clips: Path) -> None:
    data = read_scene_data(clips)
    videos = [
        replace(_video(i, fights="fight" in each.kinds), clip=each) for i, each in enumerate(data.labelled("fight"))
    ]
    told = metadata_scores(videos, "fight", 0)
    assert np.isfinite(told.highest).all()
    assert ((told.highest >= 0) & (told.highest <= 1)).all()


def test_data_files_are_checked(clips: Path) -> None:
    data = read_scene_data(clips)
    assert len(data.labelled("fight")) == 6
    assert sum("fight" in each.kinds for each in data.clips) == 3
    assert len({each.scene for each in data.ordinary}) == 1
    clips.write_text("sets:\n  mine: {folder: mine, labeled: [fight]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"sets\.mine\.labeled: unknown key"):
        read_scene_data(clips)
    clips.write_text("sets:\n  mine: {folder: nowhere, labelled: [fight]}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a folder"):
        read_scene_data(clips)


def test_labelled_clips_are_seen_again_later_and_mirrored(clips: Path, tmp_path: Path) -> None:
    prepared = prepare(Place(data=clips, cache=tmp_path))
    made = prepared.data.labelled("fight")[2:4]
    assert prepared.extractor.video(prepared.data.ordinary[0], again=True).again is None
    assert prepared.extractor.video(made[0]).again is None
    for video in prepared.extractor.extract(made, again=True, show=False):
        assert video.again is not None
        assert video.again.shape == (1, VIEWS, *video.features.shape[1:])
        x0, y0, x1, y1 = video.crops[0]
        pictures = pictures_of(video.clip.path, prepared.extractor.detector)
        encode = prepared.extractor.encode
        mirrored = np.stack([encode(cut(each, (x0, y0, x1, y1))[:, ::-1]) for each in pictures])
        ahead = [*range(1, 16), 15]  # at 8 frames a second what comes later is the frame after; the last one stays
        later = 2  # half an interval later
        np.testing.assert_allclose(video.again[0, later - 1], video.features[0][ahead], rtol=0.01, atol=0.01)
        np.testing.assert_allclose(video.again[0, 3], mirrored, rtol=0.01, atol=0.01)
        np.testing.assert_allclose(video.again[0, 3 + later], mirrored[ahead], rtol=0.01, atol=0.01)


def test_the_whole_path_train_resume_evaluate_export_run(clips: Path, tmp_path: Path) -> None:
    prepared = prepare(Place(data=clips, cache=tmp_path / "cache"))
    recipe, run = SceneRecipe(epochs=2, batch=4), tmp_path / "run"
    train_scene(prepared, ["fight"], recipe, run)
    with pytest.raises(UsageError, match="--resume"):
        train_scene(prepared, ["fight"], recipe, run)
    train_scene(prepared, ["fight"], recipe, run, resume=True)
    with pytest.raises(UsageError, match="no set labels it"):
        train_scene(prepared, ["flood"], recipe, tmp_path / "other")
    (row,) = evaluate_scene(prepared, "fight", {"it": HeadShape()}, recipe, tmp_path / "fight.json")
    assert 0 <= row[1].accuracy <= 1
    folder = tmp_path / "scene"
    files = release_scene(prepared, run, [tmp_path / "fight.json"], folder, "1", "the command")
    assert list(files.manifest.kinds) == ["fight"]
    assert "the command" in (folder / "card.md").read_text("utf-8")
    model = SceneModel(load_scene_files(folder))
    features = model.encode([np.zeros((50, 70, 3), np.uint8)] * 16)
    scores, attention = model.score(features)
    assert 0 <= float(scores["fight"]) <= 1
    assert float(np.sum(attention)) == pytest.approx(1, abs=1e-4)
    # A second look finds everything in the cache and gives the very same numbers.
    again = prepare(Place(data=clips, cache=tmp_path / "cache")).videos(["fight"])
    for one, two in zip(again, prepared.videos(["fight"]), strict=True):
        np.testing.assert_array_equal(one.features, two.features)
