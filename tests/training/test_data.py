"""Sets, labels, and a split that shares no scene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("pycocotools")
pytest.importorskip("torch")

from pipeline.core.detections import Detections
from pipeline.errors import ConfigError
from tests.training.conftest import draw_scene
from training import augment
from training.augment import AugmentedPictures, collate, on_its_side
from training.datasets import ANY_VEHICLE, CLASSES, read_data_spec, read_samples
from training.evaluate import ap50, is_shown, picture_of, truth_of
from training.scenes import read_gray, signature, split_by_scene


def test_partial_labels_are_known_a_set(data_file: Path) -> None:
    samples = read_samples(read_data_spec(data_file))
    whole = next(one for one in samples if one.dataset == "all")
    people = next(one for one in samples if one.dataset == "people")
    assert whole.known.all()
    assert people.known.tolist() == [name == "person" for name in CLASSES]
    assert whole.labels.tolist() == [0, 2]


def test_any_vehicle_means_that_every_vehicle_is_labelled(tmp_path: Path) -> None:
    draw_scene(1, tmp_path / "road", "x", classes=(6, 6))
    path = tmp_path / "data.yaml"
    path.write_text("sets: {road: {labelled: [vehicle]}}", encoding="utf-8")
    (sample,) = read_samples(read_data_spec(path))
    assert sample.labels.tolist() == [ANY_VEHICLE, ANY_VEHICLE]
    assert [name for name, known in zip(CLASSES, sample.known, strict=True) if known] == [
        "car", "motorcycle", "bus", "truck",
    ]  # fmt: skip


def test_coco_json(tmp_path: Path) -> None:
    draw_scene(1, tmp_path / "road", "x")
    told = {
        "images": [{"id": 7, "file_name": "x.png", "width": 160, "height": 120}],
        "categories": [{"id": 3, "name": "car"}, {"id": 9, "name": "kite"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [16, 12, 80, 60]},
            {"image_id": 7, "category_id": 9, "bbox": [0, 0, 8, 8]},
        ],
    }
    (tmp_path / "road.json").write_text(json.dumps(told), encoding="utf-8")
    path = tmp_path / "data.yaml"
    path.write_text("sets: {road: {coco: road.json, folder: road/images, labelled: [car]}}", encoding="utf-8")
    (sample,) = read_samples(read_data_spec(path))
    assert sample.labels.tolist() == [2]
    np.testing.assert_allclose(sample.boxes, [[0.1, 0.1, 0.6, 0.6]], atol=1e-6)


def crowded(folder: Path) -> Path:
    """A data file of one picture: a car, and a region (``iscrowd``) in which nobody says what cars there are."""
    draw_scene(1, folder / "road", "x")
    told = {
        "images": [{"id": 7, "file_name": "x.png", "width": 160, "height": 120}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 7, "category_id": 3, "bbox": [96, 12, 48, 36]},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 80, 120], "iscrowd": 1},
        ],
    }
    (folder / "road.json").write_text(json.dumps(told), encoding="utf-8")
    path = folder / "data.yaml"
    path.write_text("sets: {road: {coco: road.json, folder: road/images, labelled: [person, car]}}", encoding="utf-8")
    return path


def test_a_crowd_is_neither_an_object_nor_background_when_judged(tmp_path: Path) -> None:
    spec = read_data_spec(crowded(tmp_path))
    (sample,) = read_samples(spec)
    assert sample.ignored.tolist() == [False, True]
    picture = picture_of(sample, spec, "as it is")
    assert truth_of(picture, "vehicle").shape == (1, 4)
    boxes = np.array([[10, 10, 60, 60], [96, 12, 144, 48]], np.float32)  # one in the crowd, scored above the car
    scores, ids = np.array([0.9, 0.6], np.float32), np.array([0, 0], np.int64)
    assert ap50([picture], [Detections(boxes, scores, ids, ("car",))], "vehicle") == pytest.approx(1.0)
    elsewhere = Detections(boxes + np.float32([[80, 50, 80, 50], [0, 0, 0, 0]]), scores, ids, ("car",))
    assert ap50([picture], [elsewhere], "vehicle") < 0.6


def test_a_crowd_is_neither_an_object_nor_background_in_training(tmp_path: Path) -> None:
    spec = read_data_spec(crowded(tmp_path))
    pictures = AugmentedPictures(
        read_samples(spec), spec, {(128, 96): 1.0}, count=30, batch=2, seed=0, strides=(8, 16, 32)
    )
    people, cars, buses = (CLASSES.index(each) for each in ("person", "car", "bus"))
    for i in range(30):
        example = pictures[i]
        assert len(example.boxes) <= 4, "a crowd was taken for an object"
        known = example.known.float().mean(0)
        assert known[people] == 1.0, "a crowd of cars says nothing about people"
        assert known[buses] <= known[cars]  # the set does not label buses: they are known in the padding alone
    shares = [float(pictures[i].known[:, cars].float().mean()) for i in range(30)]
    assert 0 < min(shares) < 0.9, "the crowd was taken for background"
    assert max(shares) > min(shares)


def test_the_cells_of_a_crowd_are_those_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_layout", lambda width, height, _: iter([((0, 0, width, height), 1.0)]))
    spec = read_data_spec(crowded(tmp_path))
    pictures = AugmentedPictures(read_samples(spec), spec, {(160, 120): 1.0}, count=12, batch=1, seed=0, strides=(8,))
    car, x = CLASSES.index("car"), np.tile(np.arange(20) * 8 + 4, 15)
    mirrored = set()
    for i in range(12):
        x0, _, x1, _ = pictures[i].boxes[0].tolist()
        scale = (x1 - x0) / 48
        mirrored.add(x0 < 60)  # the car was drawn at 96 to 144 of 160, the crowd at 0 to 80
        left, right = (x0 + 64 * scale, x0 + 144 * scale) if x0 < 60 else (x0 - 96 * scale, x0 - 16 * scale)
        known = pictures[i].known[:, car].numpy()
        assert not known[(x > max(0.0, left) + 2) & (x < right - 2)].any()
        assert known[(x < left - 2) | (x > right + 2)].all()
    assert mirrored == {True, False}


def test_what_must_not_be_held_out_never_is_nor_is_it_learned_beside_its_twin(tmp_path: Path) -> None:
    for k in range(12):
        draw_scene(k, tmp_path / "own", f"a{k:02}")
        draw_scene(k, tmp_path / "taught", f"t{k:02}")
    path = tmp_path / "data.yaml"
    path.write_text("sets: {own: {labelled: [person]}, taught: {labelled: [person], validation: false}}")
    spec = read_data_spec(path)
    samples = read_samples(spec)
    split = split_by_scene(samples, spec, share=0.4)
    held = {samples[i].path.stem[1:] for i in split.validation}
    assert held
    assert all(samples[i].dataset == "own" for i in split.validation)
    assert not held & {samples[i].path.stem[1:] for i in split.train}
    assert sorted([*split.train, *split.validation, *split.dropped]) == list(range(24))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sets: {all: {labeled: [person]}}", "sets.all.labeled: unknown key"),
        ("sets: {all: {labelled: [cat]}}", "sets.all.labelled"),
        ("sets: {none: {labelled: [person]}}", "is not a folder"),
        ("pictures: here", "sets: is missing"),
    ],
)
def test_a_wrong_data_file_names_the_key(data_file: Path, text: str, said: str) -> None:
    data_file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_data_spec(data_file)


def test_a_wrong_label_names_file_and_line(data_file: Path) -> None:
    bad = data_file.parent / "all" / "labels" / "a00.txt"
    bad.write_text("0 0.5 0.5 0.1 0.1\nperson 0.5", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a00\.txt:2"):
        read_samples(read_data_spec(data_file))


@pytest.mark.parametrize("line", ["7 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1", "nan 0.5 0.5 0.1 0.1"])
def test_a_class_that_is_not_numbered_is_refused(data_file: Path, line: str) -> None:
    (data_file.parent / "all" / "labels" / "a01.txt").write_text(line, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a01\.txt:1.*passerby-train data"):
        read_samples(read_data_spec(data_file))


def test_what_lies_outside_is_cut_and_what_is_not_labelled_is_empty(data_file: Path) -> None:
    labels = data_file.parent / "all" / "labels"
    (labels / "a00.txt").write_text("2 0.9 0.5 0.4 0.5", encoding="utf-8")
    (labels / "a01.txt").unlink()
    found = {one.path.stem: one for one in read_samples(read_data_spec(data_file))}
    np.testing.assert_allclose(found["a00"].boxes, [[0.7, 0.25, 1.0, 0.75]], atol=1e-6)
    assert (found["a01"].boxes.shape, found["a01"].boxes.dtype, found["a01"].labels.dtype) == (
        (0, 4), np.float32, np.int64,
    )  # fmt: skip


def test_a_set_that_lacks_its_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "road").mkdir()
    path = tmp_path / "data.yaml"
    path.write_text("sets: {road: {labelled: [car]}}", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no folder images"):
        read_samples(read_data_spec(path))
    told = {
        "images": [{"id": 1, "file_name": "gone.png", "width": 9, "height": 9}],
        "categories": [],
        "annotations": [],
    }
    (tmp_path / "road.json").write_text(json.dumps(told), encoding="utf-8")
    path.write_text("sets: {road: {coco: road.json, labelled: [car]}}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"missing file: .*gone\.png"):
        read_samples(read_data_spec(path))


def test_one_scene_stays_on_one_side(data_file: Path) -> None:
    spec = read_data_spec(data_file)
    samples = read_samples(spec)
    split = split_by_scene(samples, spec, share=0.4)
    sides = dict.fromkeys(split.train, "train") | dict.fromkeys([*split.validation, *split.dropped], "validation")
    same = [i for i, one in enumerate(samples) if one.path.stem in {"p00", "q0", "q1", "q2"}]
    assert len({sides[i] for i in same}) == 1
    assert split.validation
    assert not set(split.train) & set(split.validation)
    assert split_by_scene(samples, spec, share=0.4) == split


def test_a_mirrored_twin_leaves_validation(tmp_path: Path) -> None:
    import cv2

    for k in range(12):
        draw_scene(k, tmp_path / "s", f"a{k:02}")
        twin = cv2.imread(str(tmp_path / "s" / "images" / f"a{k:02}.png"))[:, ::-1]
        cv2.imwrite(str(tmp_path / "s" / "images" / f"b{k:02}.png"), twin)
    path = tmp_path / "data.yaml"
    path.write_text("sets: {s: {labelled: [person]}}", encoding="utf-8")
    spec = read_data_spec(path)
    samples = read_samples(spec)
    split = split_by_scene(samples, spec, share=0.3)
    train = {samples[i].path.stem[1:] for i in split.train}
    assert split.dropped
    assert not train & {samples[i].path.stem[1:] for i in split.validation}


@pytest.mark.shared
@pytest.mark.slow
def test_no_near_duplicate_crosses_the_split_of_the_real_sets(shared: Path) -> None:
    spec = read_data_spec(Path("training/first_light.yaml"), shared / "detection")
    samples = read_samples(spec)
    split = split_by_scene(samples, spec)
    signatures = np.stack([signature(read_gray(one.path)) for one in samples])
    alike = signatures[split.validation] @ signatures[split.train].T
    limits = np.array([spec.by_name[one.dataset].likeness for one in samples])
    assert np.all(alike <= np.maximum(limits[split.validation][:, None], limits[split.train][None]) + 1e-5)
    assert 300 < len(split.validation) < 600


def test_augmented_pictures_depend_on_seed_epoch_and_index_alone(data_file: Path) -> None:
    spec = read_data_spec(data_file)
    samples = read_samples(spec)
    shapes = {(96, 64): 0.5, (64, 64): 0.5}
    one, other = (
        AugmentedPictures(samples, spec, shapes, count=8, batch=4, seed=3, strides=(8, 16, 32)) for _ in range(2)
    )
    images, wanted = collate([one[i] for i in range(4)])
    again, _ = collate([other[i] for i in range(4)])
    assert bool((images == again).all())
    assert images.shape[1] == 3
    assert wanted.known.shape[2] == len(CLASSES)
    for boxes in wanted.boxes:
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    other.epoch = 1
    assert not bool((one[0].image.float().mean() == other[0].image.float().mean()).all())


def test_the_darkened_view_is_the_same_picture_by_night_and_always_the_same_night(data_file: Path) -> None:
    spec = read_data_spec(data_file)
    sample = read_samples(spec)[0]
    day, night, again = (picture_of(sample, spec, view) for view in ("16:9", "16:9, darkened", "16:9, darkened"))
    assert night.image.shape == day.image.shape
    assert night.image.mean() < 0.5 * day.image.mean()
    assert np.array_equal(night.image, again.image)
    assert np.array_equal(night.boxes, day.boxes)
    assert not np.array_equal(picture_of(read_samples(spec)[1], spec, "16:9, darkened").image, night.image)


PERSON_RGB = np.array([220, 30, 30])
"""As ``draw_scene`` paints one."""


@pytest.mark.parametrize("left", [True, False])
def test_a_picture_on_its_side_keeps_each_box_on_what_it_shows(data_file: Path, left: bool) -> None:
    sample = next(one for one in read_samples(read_data_spec(data_file)) if one.dataset == "people")
    image = sample.read()
    turned, lying = on_its_side(image, sample, left=left)
    assert turned.shape == (160, 120, 3)
    assert lying.labels is sample.labels
    x_min, y_min, x_max, y_max = (lying.boxes[0] * (120, 160, 120, 160)).round().astype(int)
    assert x_max - x_min > 2 * (y_max - y_min), "who stood does not lie"
    inside = turned[y_min + 2 : y_max - 2, x_min + 2 : x_max - 2, ::-1]
    assert np.abs(inside - PERSON_RGB).max() <= 30
    assert (y_min > 80) == left, "turned the other way: he stood on the left"


def test_the_view_on_its_side_is_of_people_alone_and_always_the_same(data_file: Path) -> None:
    spec = read_data_spec(data_file)
    for sample in read_samples(spec):
        assert is_shown(sample, "16:9")
        assert is_shown(sample, "on its side") == (sample.labels.tolist() == [0])
    sample = next(one for one in read_samples(spec) if one.dataset == "people")
    one, again = (picture_of(sample, spec, "on its side") for _ in range(2))
    assert np.array_equal(one.image, again.image)
    x_min, y_min, x_max, y_max = truth_of(one, "person")[0].round().astype(int)
    assert np.abs(one.image[y_min + 2 : y_max - 2, x_min + 2 : x_max - 2] - PERSON_RGB).max() <= 30


def test_people_alone_are_laid_on_their_side_as_often_as_asked(data_file: Path) -> None:
    spec = read_data_spec(data_file)

    def lying(turned: float) -> float:
        pictures = AugmentedPictures(
            read_samples(spec), spec, {(128, 128): 1.0}, count=60, batch=4, seed=0, strides=(8, 16, 32), turned=turned
        )
        wide = [
            bool(side[0] > side[1])
            for i in range(60)
            if len(pictures[i].labels) and bool((pictures[i].labels == 0).all())
            for side in (pictures[i].boxes[:, 2:] - pictures[i].boxes[:, :2]).tolist()
        ]
        return float(np.mean(wide))

    assert lying(0.0) == 0.0
    assert lying(1.0) > 0.9
    assert 0.2 < lying(0.5) < 0.8


def test_a_mosaic_knows_what_each_of_its_pictures_labels(data_file: Path) -> None:
    spec = read_data_spec(data_file)
    pictures = AugmentedPictures(
        read_samples(spec), spec, {(128, 128): 1.0}, count=40, batch=4, seed=0, strides=(8, 16, 32)
    )
    mixed = [i for i in range(40) if 0 < float(pictures[i].known[:, 2].float().mean()) < 1]
    assert mixed, "no picture mixes a set that labels cars with one that does not"
    assert all(bool(pictures[i].known[:, 0].all()) for i in mixed)  # both label persons
