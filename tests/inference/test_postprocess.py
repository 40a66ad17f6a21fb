"""Non-maximum suppression against the textbook loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.inference.postprocess import MAX_DETECTIONS, Candidates, rivals, suppress

CLASSES = ("person", "car", "truck", "dog")


def textbook_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def textbook_nms(found: Candidates, sets: list[int] | None, limit: float) -> list[int]:
    """Indices kept, in order of score (ties: the earlier one)."""
    order = sorted(range(len(found.scores)), key=lambda i: (-found.scores[i], i))
    kept: list[int] = []
    for i in order:
        rival = [j for j in kept if sets is not None and sets[found.class_ids[i]] == sets[found.class_ids[j]]]
        if all(textbook_iou(found.boxes[i], found.boxes[j]) <= limit for j in rival):
            kept.append(i)
    return kept


def some(seed: int, count: int) -> Candidates:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 40, (count, 2)).astype(np.float32)
    sizes = rng.integers(0, 30, (count, 2)).astype(np.float32)
    scores = (rng.integers(1, 12, count) / 12).astype(np.float32)  # many ties
    return Candidates(np.concatenate([low, low + sizes], axis=1), scores, rng.integers(0, 4, count))


@given(st.integers(0, 10_000), st.integers(0, 60), st.sampled_from(["group", "class", "none"]))
def test_it_keeps_what_the_textbook_keeps(seed: int, count: int, nms: str) -> None:
    found = some(seed, count)
    sets = {"group": [0, 1, 1, 2], "class": [0, 1, 2, 3], "none": None}[nms]
    kept = suppress(found, rivals(CLASSES, nms), 0.4)  # type: ignore[arg-type]
    wanted = found.take(np.array(textbook_nms(found, sets, 0.4), np.int64))
    np.testing.assert_array_equal(kept.boxes, wanted.boxes)
    np.testing.assert_array_equal(kept.scores, wanted.scores)
    np.testing.assert_array_equal(kept.class_ids, wanted.class_ids)


def test_a_car_seen_as_a_truck_too_is_one_vehicle_but_not_a_person() -> None:
    boxes = np.array([[0, 0, 10, 10]] * 4, np.float32)
    found = Candidates(boxes, np.array([0.5, 0.9, 0.8, 0.7], np.float32), np.array([0, 2, 1, 3]))
    by_group = suppress(found, rivals(CLASSES, "group"), 0.5)
    assert [CLASSES[i] for i in by_group.class_ids] == ["truck", "dog", "person"]
    by_class = suppress(found, rivals(CLASSES, "class"), 0.5)
    assert [CLASSES[i] for i in by_class.class_ids] == ["truck", "car", "dog", "person"]


def test_a_crowd_is_bounded_and_the_best_stay() -> None:
    count = 3000
    left = np.arange(count, dtype=np.float32)[:, None] * 20
    boxes = np.concatenate([left, left * 0, left + 10, left * 0 + 10], axis=1)
    scores = np.linspace(0.1, 0.9, count, dtype=np.float32)
    kept = suppress(Candidates(boxes, scores, np.zeros(count, np.int64)), rivals(CLASSES, "group"), 0.5)
    assert len(kept.scores) == MAX_DETECTIONS
    np.testing.assert_array_equal(kept.scores, scores[::-1][:MAX_DETECTIONS])


def test_boxes_without_area_and_boxes_of_no_size_at_all_are_let_through() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 1e30, 1e30], [np.nan] * 4], np.float32)
    found = Candidates(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.zeros(4, np.int64))
    assert len(suppress(found, rivals(CLASSES, "group"), 0.5).scores) == 4


@pytest.mark.parametrize("nms", ["group", "class", "none"])
def test_nothing_found_stays_nothing(nms: str) -> None:
    kept = suppress(some(0, 0), rivals(CLASSES, nms), 0.5)  # type: ignore[arg-type]
    assert kept.boxes.shape == (0, 4)
    assert len(kept.scores) == len(kept.class_ids) == 0
