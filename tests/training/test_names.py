"""Learning names only: which vehicle it is may change, and nothing else that a camera's counts hang on."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from torch import Tensor  # noqa: E402

from pipeline.errors import UsageError  # noqa: E402
from training.datasets import ANY_VEHICLE, CLASSES, VEHICLES  # noqa: E402
from training.losses import Targets  # noqa: E402
from training.models.network import Predictions  # noqa: E402
from training.models.picodet import PicoDet  # noqa: E402
from training.models.yolox import Head, YoloxNano  # noqa: E402
from training.names import free_names_only, names_losses, now_and_before  # noqa: E402
from training.session import Start, train_detector  # noqa: E402
from training.trainer import Recipe, RelativeAdamW, Training, load_weights, read_checkpoint  # noqa: E402

TINY = Recipe(epochs=1, pictures=8, batch=4, workers=0, warmup=1, shapes={(64, 64): 1.0})
CAR, BUS = CLASSES.index("car"), CLASSES.index("bus")
CELL = 27
"""One of the 8 x 8 cells of stride 8, at row 3 and column 3."""


@pytest.fixture
def start() -> YoloxNano:
    """A network that sees something everywhere, and calls every vehicle a car."""
    torch.manual_seed(2)
    network = YoloxNano(len(CLASSES)).eval()
    with torch.no_grad():
        for head in network.heads:
            assert isinstance(head, Head)
            assert head.object_logit.bias is not None
            assert head.class_logits.bias is not None
            head.object_logit.bias.fill_(2.0)
            head.class_logits.bias.copy_(torch.tensor([-3.0, -4.0, 1.5, -4.0, -4.0, -4.0]))
    return network


def _groups(told: Predictions) -> Tensor:
    scores = told.log_scores.exp()
    groups: Tensor = torch.cat([scores[..., :2], scores[..., list(VEHICLES)].amax(-1, keepdim=True)], -1)
    return groups


def _bus_at(cell: int, told: Predictions) -> Targets:
    """A picture with one bus, which is where that cell says."""
    known = torch.ones_like(told.log_scores, dtype=torch.bool)
    return Targets([told.boxes[0, cell : cell + 1]], [torch.tensor([BUS])], known)


def test_a_car_becomes_a_bus_with_the_boxes_and_group_scores_that_it_had(start: YoloxNano) -> None:
    pictures = torch.rand(1, 3, 64, 64) * 255
    network = copy.deepcopy(start)
    free_names_only(network)
    optimizer = RelativeAdamW(network.parameters(), 0.0)
    _, before = now_and_before(network, start, pictures)
    wanted = _bus_at(CELL, before)
    assert before.log_scores[0, CELL].argmax() == CAR
    for _ in range(150):
        now, before = now_and_before(network, start, pictures)
        network.zero_grad()
        names_losses(now, before, wanted).scores.backward()  # type: ignore[no-untyped-call]
        optimizer.step(0.01)
    rows, _ = network(pictures)
    old_rows, _ = start(pictures)
    now = network.predicted(pictures)
    assert now.log_scores[0, CELL].argmax() == BUS
    assert torch.equal(rows[..., :5], old_rows[..., :5])
    assert (_groups(now) - _groups(before)).abs().max() < 0.05
    assert not torch.equal(rows[..., 5:], old_rows[..., 5:])


def test_a_network_as_it_was_has_no_loss_where_no_name_is_known(start: YoloxNano) -> None:
    now, before = now_and_before(start, start, torch.rand(1, 3, 64, 64) * 255)
    bus = _bus_at(CELL, before)
    for labels in (ANY_VEHICLE, CLASSES.index("person"), CLASSES.index("bicycle")):
        told = names_losses(now, before, bus._replace(labels=[torch.tensor([labels])]))
        assert told.scores.item() == pytest.approx(0, abs=1e-6)
    assert names_losses(now, before, bus).scores.item() > 1
    louder = now.log_scores.detach().clone()
    louder[..., 0] /= 2  # people everywhere, whatever the labels say
    nobody = bus._replace(boxes=[torch.zeros(0, 4)], labels=[torch.zeros(0, dtype=torch.long)])
    assert names_losses(now._replace(log_scores=louder), before, nobody).scores.item() > 0.1


def test_a_network_without_a_branch_for_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="picodet-s has no branch"):
        free_names_only(PicoDet(len(CLASSES)))


def test_a_run_changes_the_class_branches_alone_and_goes_on(data_file: Path, tmp_path: Path, start: YoloxNano) -> None:
    Training(start, TINY, tmp_path / "first").save("best.pt")
    first = Start(checkpoint=tmp_path / "first" / "best.pt")
    recipe, run = replace(TINY, learns="names"), tmp_path / "run"
    for wrong in (replace(recipe, taught=0.5), replace(recipe, activation="hardswish")):  # the start bends by SiLU
        with pytest.raises(UsageError, match="--learns names"):
            train_detector(data_file, None, first, tmp_path / "none", wrong)
    with pytest.raises(UsageError, match="--start"):
        train_detector(data_file, None, Start(), tmp_path / "none", recipe)
    train_detector(data_file, None, first, run, recipe)
    share = train_detector(data_file, None, first, run, Recipe(epochs=2), resume=True)
    assert 0 <= share <= 1
    assert read_checkpoint(run / "last.pt")["step"] == 4
    old, new = start.state_dict(), load_weights(run / "best.pt").state_dict()
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed
    assert all(".class_branch." in key or ".class_logits." in key for key in changed)
