from __future__ import annotations

import numpy as np
import pytest

from pipeline.core import geometry as g

ACROSS = np.array([[0.0, 50.0], [100.0, 50.0]])  # drawn left to right


def steps(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    path = np.array(points, np.float64)
    return path[:-1], path[1:]


def test_right_of_a_line_drawn_left_to_right_is_downwards() -> None:
    assert g.signed_crossings(*steps((50, 40), (50, 60)), ACROSS).tolist() == [1]
    assert g.signed_crossings(*steps((50, 60), (50, 40)), ACROSS).tolist() == [-1]
    assert g.signed_crossings(*steps((50, 40), (50, 60)), ACROSS[::-1]).tolist() == [-1]


def test_passing_beside_the_segment_is_no_crossing() -> None:
    assert g.signed_crossings(*steps((150, 40), (150, 60)), ACROSS).tolist() == [0]


def test_steps_that_meet_on_the_line_count_once() -> None:
    for path, want in (
        (((50, 40), (50, 50), (50, 60)), 1),
        (((50, 60), (50, 50), (50, 40)), -1),
        (((50, 40), (50, 50), (50, 40)), 0),
        (((50, 60), (50, 50), (50, 60)), 0),
        (((50, 40), (50, 50), (60, 50), (70, 60)), 1),
    ):
        assert g.signed_crossings(*steps(*path), ACROSS).sum() == want, path


def test_a_path_through_the_corner_of_a_polyline_counts_once() -> None:
    corner = np.array([[0.0, 50.0], [50.0, 50.0], [100.0, 70.0]])
    assert g.signed_crossings(*steps((50, 30), (50, 90)), corner).sum() == 1
    assert g.signed_crossings(*steps((50, 90), (50, 30)), corner).sum() == -1


def test_a_zigzag_crossed_three_times_in_one_step_is_one_net_crossing() -> None:
    zigzag = np.array([[0.0, 20.0], [60.0, 40.0], [40.0, 60.0], [100.0, 80.0]])
    assert g.signed_crossings(*steps((50, 0), (50, 100)), zigzag).tolist() == [1]
    assert len(g.passage_fractions(np.array([50.0, 0.0]), np.array([50.0, 100.0]), zigzag)) == 3


def test_distance_is_to_the_segment_not_to_its_extension() -> None:
    points = np.array([[50.0, 60.0], [103.0, 54.0], [-30.0, 50.0]])
    assert g.distance_to_polyline(points, ACROSS).tolist() == pytest.approx([10.0, 5.0, 30.0])


def test_inside_a_concave_polygon() -> None:
    shape = np.array([[0, 0], [10, 0], [10, 10], [5, 3], [0, 10]], np.float64)
    points = np.array([[5.0, 2.0], [5.0, 6.0], [1.0, 7.0], [11.0, 1.0]])
    assert g.inside_polygon(points, shape).tolist() == [True, False, True, False]


def test_iou_of_known_boxes() -> None:
    first = np.array([[0, 0, 10, 10]], np.float64)
    second = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float64)
    assert g.box_iou(first, second)[0].tolist() == pytest.approx([1.0, 1 / 3, 0.0, 0.0])


def test_anchors() -> None:
    boxes = np.array([[10.0, 20.0, 30.0, 60.0]])
    assert g.anchor_points(boxes, "bottom_center").tolist() == [[20.0, 60.0]]
    assert g.anchor_points(boxes, "center").tolist() == [[20.0, 40.0]]
    assert g.anchor_points(boxes, "top_center").tolist() == [[20.0, 20.0]]
