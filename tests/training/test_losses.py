"""What a set does not label is unknown: no gradient says that it is background."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


from training.assignment import assign  # noqa: E402
from training.datasets import ANY_VEHICLE, CLASSES, VEHICLES  # noqa: E402
from training.losses import Targets, detection_losses, distillation_losses  # noqa: E402
from training.models.network import Predictions, cells_of  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.overlap import giou, iou  # noqa: E402

CELLS = cells_of([torch.zeros(side, side) for side in (8, 4, 2)], YoloxNano.strides)
PERSON = 0


def _rows(requires_grad: bool = True) -> torch.Tensor:
    torch.manual_seed(1)
    rows = torch.randn(1, 84, 5 + len(CLASSES)) * 0.3
    rows[..., 4:] -= 1
    return rows.requires_grad_(requires_grad)


def _said(rows: torch.Tensor) -> Predictions:
    return YoloxNano(len(CLASSES)).read(rows, CELLS)


def _known(*names: str) -> torch.Tensor:
    return torch.tensor([name in names for name in CLASSES]).expand(1, 84, -1).clone()


def test_a_class_that_the_set_does_not_label_gets_no_gradient() -> None:
    rows = _rows()
    wanted = Targets([torch.tensor([[10.0, 8.0, 30.0, 50.0]])], [torch.tensor([PERSON])], _known("person"))
    sum(detection_losses(_said(rows), wanted)).backward()
    told = rows.grad[0, :, 5:].abs().amax(0)
    assert told[PERSON] > 0
    assert torch.all(told[1:] == 0)


def test_a_labelled_class_without_objects_is_background() -> None:
    rows = _rows()
    wanted = Targets([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)], _known("person", "car"))
    sum(detection_losses(_said(rows), wanted)).backward()
    told = rows.grad[0, :, 5:]
    assert torch.all(told[:, [PERSON, 2]] > 0)  # a step against the gradient lowers both scores
    assert torch.all(told[:, [1, 3, 4, 5]] == 0)


def test_unlabelled_classes_stay_alive_where_labelled_ones_do_not() -> None:
    """Many steps on pictures that label nobody's vehicles leave the vehicle logits where they were."""
    rows = _rows()
    start = rows.detach().clone()
    wanted = Targets([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)], _known("person"))
    steps = torch.optim.SGD([rows], 0.5)
    for _ in range(50):
        steps.zero_grad()
        sum(detection_losses(_said(rows), wanted)).backward()
        steps.step()
    assert torch.equal(rows[..., 6:], start[..., 6:])
    assert rows[..., 5].mean() < start[..., 5].mean()


def test_any_vehicle_asks_only_for_the_class_that_the_network_itself_finds() -> None:
    rows = _rows(requires_grad=False)
    rows[..., 5 + 4] += 1.5  # it looks like a bus
    rows.requires_grad_()
    box = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
    known = _known("car", "motorcycle", "bus", "truck")
    with torch.no_grad():
        boxes, log_scores, cells = _said(rows)
        found = assign(log_scores[0].exp(), boxes[0], cells, box, torch.tensor([ANY_VEHICLE]))
    assert set(found.columns.tolist()) == {4}
    sum(detection_losses(_said(rows), Targets([box], [torch.tensor([ANY_VEHICLE])], known))).backward()
    at_positives = rows.grad[0, found.cells, 5:]
    others = [each for each in VEHICLES if each != 4]
    assert torch.all(at_positives[:, others] == 0)
    assert torch.all(at_positives[:, 4] != 0)


def test_an_object_smaller_than_a_cell_is_assigned_all_the_same() -> None:
    boxes, log_scores, cells = _said(_rows(requires_grad=False))
    found = assign(
        log_scores[0].exp(),
        boxes[0],
        cells,
        torch.tensor([[14.5, 14.5, 17.5, 17.5]]),
        torch.tensor([PERSON]),
    )
    assert len(found.cells) > 0
    assert torch.all((found.targets > 0) & (found.targets <= 1))


def test_overlaps() -> None:
    a = torch.tensor([0.0, 0.0, 10.0, 10.0])
    assert float(iou(a, a)) == pytest.approx(1)
    assert float(iou(a, a + 5)) == pytest.approx(25 / 175)
    assert float(giou(a, a + 5)) == pytest.approx(25 / 175 - (225 - 175) / 225)
    assert float(giou(a, a + 30)) < 0


def test_a_network_like_its_teacher_has_the_least_loss_and_the_teacher_speaks_of_every_class() -> None:
    taught = _rows(requires_grad=False)
    same = _rows()
    least = distillation_losses(_said(same), _said(taught))
    assert least.boxes.item() == pytest.approx(0, abs=1e-4)
    sum(least).backward()
    assert same.grad[..., 4:].abs().max() < 1e-5  # cross-entropy is least where both say the same
    other = (taught + 0.5).requires_grad_()
    more = distillation_losses(_said(other), _said(taught))
    assert more.scores > least.scores
    assert more.boxes > 0.01
    sum(more).backward()
    assert torch.all(other.grad[0, :, 5:].abs().amax(0) > 0)
