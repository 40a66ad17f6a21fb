"""A network trains where it lies: no tensor of a step is made on whatever device is the default."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from pipeline.errors import UsageError  # noqa: E402
from training.datasets import ANY_VEHICLE, CLASSES  # noqa: E402
from training.devices import CPU, device_of, halves  # noqa: E402
from training.losses import Targets  # noqa: E402
from training.models.network import Network  # noqa: E402
from training.models.picodet import PicoDet  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.trainer import Recipe, Training  # noqa: E402

RECIPE = Recipe(epochs=1, warmup=1)


def _batch(network: Network) -> tuple[torch.Tensor, Targets]:
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, 64, 96) * 255
    cells = network(pictures)[0].shape[1]
    boxes = torch.tensor([[10.0, 8.0, 40.0, 50.0], [50.0, 10.0, 90.0, 60.0]])
    labels = [torch.tensor([0, 2]), torch.tensor([ANY_VEHICLE, 4])]
    return pictures, Targets([boxes, boxes], labels, torch.ones(2, cells, len(CLASSES), dtype=torch.bool))


@pytest.mark.parametrize(
    ("made", "recipe"),
    [
        (YoloxNano, RECIPE),
        (YoloxNano, replace(RECIPE, taught=0.5)),
        (YoloxNano, replace(RECIPE, learns="names")),
        (PicoDet, RECIPE),
    ],
)
def test_a_step_makes_every_tensor_where_the_network_lies(
    made: type[YoloxNano] | type[PicoDet], recipe: Recipe, tmp_path: Path
) -> None:
    """Without a GPU: under another default device whatever is made without naming one cannot be mixed with the rest."""
    training = Training(made(len(CLASSES)), recipe, tmp_path)
    if recipe.taught or recipe.learns == "names":
        training.teacher = copy.deepcopy(training.network)
    pictures, wanted = _batch(training.network)
    with torch.device("meta"):
        losses = training._losses(pictures, wanted)
        (losses.scores + losses.boxes).backward()  # type: ignore[no-untyped-call]
        training.optimizer.step(0.001)
        training._average()
    assert torch.isfinite(losses.scores)
    assert {each.device for each in training.network.parameters()} == {CPU}
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in training.network.parameters())


@pytest.mark.parametrize("made", [YoloxNano, PicoDet])
def test_in_half_precision_losses_are_nearly_the_same(made: type[YoloxNano] | type[PicoDet], tmp_path: Path) -> None:
    training = Training(made(len(CLASSES)), RECIPE, tmp_path)
    pictures, wanted = _batch(training.network)
    with torch.no_grad():
        whole = training._losses(pictures, wanted)
        with torch.autocast("cpu", torch.bfloat16):
            half = training._losses(pictures, wanted)
    assert half.scores.dtype == half.boxes.dtype == torch.float32
    for one, other in zip(half, whole, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=0.1)
        assert one.item() != other.item()


def test_the_device_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == CPU
    assert not halves(CPU)
    with pytest.raises(UsageError, match="torch finds no GPU here"):
        device_of("cuda")
    with pytest.raises(UsageError, match="knows no such device"):
        device_of("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)
    assert device_of("cuda:3") == torch.device("cuda", 3)
    assert device_of("cpu") == CPU
