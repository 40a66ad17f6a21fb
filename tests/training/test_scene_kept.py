"""What a crop that stays may show: places it may have been left at, and the figures of what is seen through them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pipeline.core.clip_crop import cut  # noqa: E402
from pipeline.errors import UsageError  # noqa: E402
from training.cli import app  # noqa: E402
from training.scene.evaluate import Gate, score_heads  # noqa: E402
from training.scene.features import VideoClips  # noqa: E402
from training.scene.frames import pictures_of  # noqa: E402
from training.scene.head import HeadShape, SceneHead  # noqa: E402
from training.scene.kept import FIGURES, Stay, evaluate_kept, see_elsewhere, stays_of, table  # noqa: E402
from training.scene.session import Place, Prepared, prepare  # noqa: E402
from training.scene.trainer import SceneRecipe  # noqa: E402

SHUT, OPEN = Gate(1, 0.25), Gate(0, 0.0)  # nobody is found in the generated clips
RECIPE = SceneRecipe(epochs=2, batch=4)


@pytest.fixture
def prepared(clips: Path, tmp_path: Path) -> Prepared:
    return prepare(Place(data=clips, cache=tmp_path / "cache"))


def _videos(prepared: Prepared, step: int = 1) -> list[VideoClips]:
    return prepared.extractor.extract(prepared.data.clips[::step], show=False)  # without further views to learn from


def test_a_stay_leaves_the_crop_where_it_holds_enough() -> None:
    held, half = np.random.default_rng(0).uniform(1, 9, (2, 20, 30))
    for keep in (0.35, 0.65, 0.9):
        places = [Stay(keep, "at random", draw).place(held, half, (4, 0)) for draw in range(40)]
        assert len(set(places)) > 10
        assert all(held[each] >= keep * held.max() for each in places)
        least = held[Stay(keep, "holds least").place(held, half, (4, 0))]
        assert least == held[held >= keep * held.max()].min()
    best = divmod(int(held.argmax()), 30)
    assert {each.place(held, half, (4, 0)) for each in stays_of([1.0], 2)} == {best}


def test_the_first_half_has_its_place_while_that_holds_enough() -> None:
    held = np.array([[4.0, 7.0], [10.0, 1.0]])
    half = np.array([[1.0, 5.0], [2.0, 3.0]])
    assert Stay(0.7, "by the first half").place(held, half, ()) == (0, 1)
    assert Stay(0.71, "by the first half").place(held, half, ()) == (1, 0)
    assert Stay(0.1, "by the first half").place(held, np.zeros((2, 2)), ()) == (1, 0), "nothing moved in it"


def test_all_places_that_hold_enough_are_alike() -> None:
    held = np.array([[8.0, 7.0, 1.0], [6.0, 5.0, 9.0]])
    drawn = [Stay(0.55, "at random", draw).place(held, held, (1, 2)) for draw in range(600)]
    counts = [drawn.count(each) for each in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))]
    assert sum(counts) == 600
    assert min(counts) > 80


def test_a_draw_is_one_order_of_the_places_for_every_share() -> None:
    """What holds enough for a high share is, where it comes first of all, also what a lower share takes."""
    held = np.random.default_rng(1).uniform(1, 9, (20, 30))
    low, high, other = (
        [Stay(keep, "at random", draw).place(held, held, (clip,)) for draw in range(60)]
        for keep, clip in ((0.3, 7), (0.6, 7), (0.3, 8))
    )
    good = [held[each] >= 0.6 * held.max() for each in low]
    assert 10 < sum(good) < 50
    assert [a for a, so in zip(low, good, strict=True) if so] == [b for b, so in zip(high, good, strict=True) if so]
    assert low != other, "another clip has another order"


def test_clips_are_encoded_anew_where_a_stay_shows_them_elsewhere(prepared: Prepared, tmp_path: Path) -> None:
    videos = _videos(prepared, 3)
    stays, head = stays_of([1.0, 0.0], 2), SceneHead(HeadShape())
    assert len(stays) == 8
    seen = see_elsewhere(prepared.extractor, videos, head, stays, SHUT)
    owned = [len(each.starts_us) for each in videos]
    made = np.repeat([not each.clip.ordinary for each in videos], owned)
    own = np.arange(sum(owned))
    assert (seen.of[:4, made] == own[made]).all(), "the best place is where they are cut"
    assert (seen.of[:, ~made] == own[~made]).all(), "ordinary clips behind a shut gate score 0 wherever they are cut"
    assert (seen.of[4:7, made] >= len(own)).mean() > 0.8
    assert len(seen.rows) == len(own) + len(set(seen.of[seen.of >= len(own)].tolist()))
    (row,) = {int(seen.of[4, i]) for i in range(owned[0])}
    crop = (0.1, 0.2, 0.45, 0.62)
    found = prepared.extractor.recut(videos[0], [(0, crop), (0, (0.0, 0.0, 0.35, 0.42))])
    pictures = pictures_of(videos[0].clip.path, prepared.extractor.detector)
    wanted = np.stack([prepared.extractor.encode(cut(each, crop)) for each in pictures])
    np.testing.assert_allclose(found[0], wanted, rtol=0.01, atol=0.01)
    assert not np.allclose(found[1], wanted, rtol=0.01, atol=0.01)
    assert not torch.allclose(seen.rows[row], seen.rows[0])
    kept = sorted((tmp_path / "cache").rglob("*.npz"))
    again = see_elsewhere(prepared.extractor, videos, head, stays, SHUT)
    torch.testing.assert_close(again.rows, seen.rows, rtol=0, atol=0)
    assert sorted((tmp_path / "cache").rglob("*.npz")) == kept, "all of it was there"
    behind_open = see_elsewhere(prepared.extractor, videos[-1:], head, [Stay(0.0, "at random")], OPEN)
    assert all(each.clip.ordinary for each in videos[-1:])
    assert (behind_open.of[0] >= behind_open.of.shape[1]).all()


def test_the_best_places_give_the_figures_of_the_cross_validation(prepared: Prepared) -> None:
    videos = _videos(prepared)
    told = evaluate_kept(prepared.extractor, videos, "fight", SHUT, RECIPE, [1.0, 0.0], 2)
    assert [(each.keep, each.way, len(each.figures)) for each in told] == [
        (None, None, 1),
        *((1.0, way, count) for way, count in (("at random", 2), ("holds least", 1), ("by the first half", 1))),
        *((0.0, way, count) for way, count in (("at random", 2), ("holds least", 1), ("by the first half", 1))),
    ]
    score, _ = score_heads(videos, "fight", HeadShape(), RECIPE, SHUT)
    assert told[0].figures[0].tolist() == pytest.approx([score.accuracy, score.auc, score.found, score.false_share])
    for best in told[1:4]:
        assert best.moved == 0
        np.testing.assert_array_equal(best.figures, np.tile(told[0].figures, (len(best.figures), 1)))
    assert told[4].moved > 0.5
    assert (told[5].figures != told[0].figures).any()
    lines = table(told).splitlines()
    assert len(lines) == 9
    assert {each.count("|") for each in lines} == {4 + len(FIGURES)}
    assert lines[2].startswith("| as it is | the best | 0% |")
    assert "| 0 | at random, 2 draws |" in lines[6]
    assert "| 0 | holds least |" in lines[7]


def test_the_command(clips: Path, tmp_path: Path) -> None:
    where = ["scene", "evaluate", "--data", str(clips), "--cache", str(tmp_path / "cache"), "--epochs", "1"]
    told = CliRunner().invoke(app, [*where, "--kept", "0.5", "--draws", "1"])
    assert told.exit_code == 0, told.output
    assert "| 0.5 | at random |" in told.stdout
    refused = CliRunner().invoke(app, [*where, "--kept", "0.5", "--baselines"])
    assert isinstance(refused.exception, UsageError)
    assert "--kept" in str(refused.exception)
