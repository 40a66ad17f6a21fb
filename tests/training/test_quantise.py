"""INT8: what is quantised, that training computes as ONNX Runtime does, that it helps, and the gate."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from numpy.typing import NDArray  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from typer.testing import CliRunner, Result  # noqa: E402

from pipeline.errors import ModelError, UsageError  # noqa: E402
from pipeline.inference.manifest import Thresholds  # noqa: E402
from pipeline.inference.onnx import RunSettings, Session  # noqa: E402
from pipeline.inference.store import load_model  # noqa: E402
from training.cli import app  # noqa: E402
from training.datasets import CLASSES  # noqa: E402
from training.evaluate import VIEWS, Contender, Score  # noqa: E402
from training.export import Difference, compare, export_onnx  # noqa: E402
from training.models.architectures import network_of  # noqa: E402
from training.models.backbone import Activation, ConvUnit, DepthwiseConv  # noqa: E402
from training.models.fake_quantised import Affine, FakeQuantisedConv, Ranges  # noqa: E402
from training.models.network import Network  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.quantise import QuantiseSettings, convolutions_in, left_float, quantise, ranges_in  # noqa: E402
from training.quantise_gate import _judged  # noqa: E402
from training.quantise_training import Trained, in_eight_bits  # noqa: E402
from training.release import Release, write_release  # noqa: E402
from training.trainer import RelativeAdamW, load_weights, read_checkpoint  # noqa: E402

Picture = NDArray[np.uint8]
MINMAX = QuantiseSettings(calibration="minmax")


class Tiny(YoloxNano):
    """Eight convolutions with a shortcut and a concatenation, one level."""

    strides = (8,)

    def __init__(self, activation: Activation) -> None:
        nn.Module.__init__(self)
        self.classes, self.activation = len(CLASSES), activation
        self.first = ConvUnit(3, 8, 3, 2)
        self.second = DepthwiseConv(8, 16, 2)
        self.beside = DepthwiseConv(16, 16)
        self.third = DepthwiseConv(32, 32, 2)
        self.last = nn.Conv2d(32, 5 + self.classes, 1)
        self.bend(1.0)

    def stem(self, pictures: Tensor) -> Tensor:
        bent: Tensor = self.first(pictures)
        return bent

    def rgb_stem(self) -> nn.Module:
        turned = copy.deepcopy(self.first)
        with torch.no_grad():
            turned.conv.weight.copy_(self.first.conv.weight.flip(1))
        return turned

    def features(self, stem: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.second(stem)
        return (self.third(torch.cat([x + self.beside(x), x], 1)),)  # type: ignore[return-value]

    def levels(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        return [self.last(features[0])]


def _lively(network: Network, times: float = 6) -> Network:
    """Weights under which signals neither die nor grow, some channels of which are ``times`` the others."""
    torch.manual_seed(0)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    with torch.no_grad():
        for conv in convolutions:
            conv.weight.normal_(std=(2 / conv.weight[0].numel()) ** 0.5)
            assert conv.bias is not None
            conv.bias.normal_(std=0.1)
        convolutions[0].weight.div_(100)  # pixels are 0..255
        for conv in convolutions[2:-1:2]:
            conv.weight[0].mul_(times)
        convolutions[-1].weight.mul_(0.3)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> YoloxNano:
    torch.manual_seed(0)
    return YoloxNano(len(CLASSES), "hardswish").eval()


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Coarse coloured squares, 96 x 64."""
    randoms = (np.random.default_rng(k) for k in range(12))
    return [each.integers(0, 255, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1) for each in randoms]


def _invoke(*args: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in args])


def _feeds(pictures: list[Picture]) -> list[dict[str, NDArray[np.uint8]]]:
    return [{"image": each[None]} for each in pictures]


def _named(data: bytes) -> list[str]:
    return convolutions_in(onnx.load_from_string(data))


@pytest.mark.slow
def test_int8_keeps_what_follows_the_last_convolutions_float(network: YoloxNano) -> None:
    data = export_onnx(network)
    feeds = [{"image": np.random.default_rng(k).integers(0, 255, (1, 64, 96, 3), np.uint8)} for k in range(1)]
    small = quantise(data, feeds, QuantiseSettings(calibration="minmax"))
    assert len(small) < 0.6 * len(data)
    model = onnx.load_from_string(small)
    by_output = {name: node for node in model.graph.node for name in node.output}
    kinds = [by_output[name].op_type if name in by_output else "" for name in ("boxes", "scores")]
    assert kinds == ["Concat", "Concat"]
    told, wanted = (
        Session(each, name="it", settings=RunSettings()).run(feeds[0], ["boxes", "scores"]) for each in (small, data)
    )
    assert np.abs(told[1] - wanted[1]).max() < 0.05
    plain = onnx.load_from_string(data)
    kept, with_head = left_float(plain, head=False), left_float(plain, head=True)
    convolutions = {node.name for node in plain.graph.node if node.op_type == "Conv"}
    assert not convolutions & set(kept)
    assert len(convolutions & set(with_head)) == 9  # three a level
    with pytest.raises(UsageError, match="--calibration"):
        quantise(data, feeds, replace(QuantiseSettings(), calibration="guess"))  # type: ignore[arg-type]


def test_the_gate_wants_both_accuracy_and_speed() -> None:
    def score(ap: float, ms: float) -> Score:
        return Score("it", (64, 64), "16:9", {"person": ap, "vehicle": 0.7}, {}, {}, ms)

    settings = QuantiseSettings(max_loss=0.01, min_speedup=1.5)
    assert _judged(settings, [score(0.60, 15), score(0.595, 9)], (4, 1), None).kept
    assert not _judged(settings, [score(0.60, 15), score(0.58, 9)], (4, 1), None).kept
    assert not _judged(settings, [score(0.60, 15), score(0.60, 11)], (4, 1), None).kept
    good = [score(0.60, 15), score(0.60, 9)]
    assert _judged(settings, good, (4, 1), Difference(0.19, 40.0, 9)).kept
    far = _judged(settings, good, (4, 1), Difference(0.21, 0.1, 9))
    assert not far.kept
    assert "from torch at most 0.21 in a score, 0.1 px in a box (9 pictures) (allowed 0.2 in a score)" in far.verdict()
    # The worst view counts.
    slow = _judged(settings, [score(0.6, 15), score(0.6, 9), score(0.6, 15), score(0.6, 14)], (4, 1), None)
    assert slow.speedup == pytest.approx(15 / 14)
    assert "not kept" in slow.verdict()


@pytest.fixture(scope="module")
def released(network: YoloxNano, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _released(network, CLASSES, tmp_path_factory.mktemp("models") / "tiny")


def _released(network: Network, classes: tuple[str, ...], to: Path) -> Path:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    write_release(network, Release(to.name, "1", classes, Thresholds(), ""), to, [picture], [(64, 64)])
    return to


def test_int8_that_fails_is_not_written_but_its_figures_are(
    data_file: Path, tmp_path: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.quantise_gate.quantise", lambda data, _feeds, _settings: data)  # as quick as before
    to = tmp_path / "models" / "tiny-int8"
    told = _invoke(
        "quantise", f"{released}@64x64", "--to", to, "--data", data_file, "--calibration", "minmax",
        "--pictures", 2, "--min-speedup", 1000,
    )  # fmt: skip
    assert isinstance(told.exception, ModelError)
    assert "not kept" in str(told.exception)
    assert not to.exists()
    measured = json.loads((to.parent / "tiny-int8.json").read_text("utf-8"))
    assert measured["speedup"] < 1000
    assert measured["difference"]["pictures"] == 2
    assert measured["difference"]["score"] < 1e-3  # it is the network as it was
    assert measured["kept"] is False


@pytest.mark.parametrize("activation", ["hardswish", "relu"])
def test_in_torch_it_says_what_onnx_runtime_says(activation: Activation, pictures: list[Picture]) -> None:
    """Integers here, floats there: they agree but for a rounding at a tie, far better than either with fp32."""
    network = _lively(Tiny(activation))
    data = export_onnx(network)
    for settings in (MINMAX, replace(MINMAX, per_channel=False)):
        small = quantise(data, _feeds(pictures[:4]), settings)
        ranges = ranges_in(small, _named(data))
        assert [each is None for each in ranges] == [False] * 7 + [True]  # the last is float
        rounded = copy.deepcopy(network)
        in_eight_bits(rounded, network, ranges, settings)
        apart = compare(small, rounded, pictures[4:])
        assert apart.score < 0.01
        assert compare(small, network, pictures[4:]).score > 0.03 > apart.score
        # The ranges go back into a file as they came out of one, from whatever picture it is calibrated.
        assert ranges_in(quantise(data, _feeds(pictures[9:10]), settings, ranges), _named(data)) == ranges


def test_the_shortcut_is_not_rounded_but_what_the_next_convolution_reads_is(pictures: list[Picture]) -> None:
    data = export_onnx(_lively(Tiny("hardswish")))
    graph = onnx.load_from_string(quantise(data, _feeds(pictures[:1]), MINMAX)).graph
    makers = {name: node for node in graph.node for name in node.output}
    (shortcut,) = [node for node in graph.node if node.op_type == "Add" and "second" in "".join(node.input)]
    assert all(makers[name].op_type == "Mul" for name in shortcut.input)  # the end of a HardSwish
    inner = [node for node in graph.node if node.op_type == "Conv"][:-1]
    assert all(makers[name].op_type == "DequantizeLinear" for node in inner for name in node.input)


def test_training_in_8_bits_brings_int8_nearer_to_fp32(pictures: list[Picture]) -> None:
    """With one scale for all channels static quantisation loses the small ones; fp32 teaches what it says of four
    pictures, and on eight others INT8 is then nearer to it than it was."""
    settings = replace(MINMAX, per_channel=False)
    network = _lively(Tiny("relu"))
    data = export_onnx(network)
    static = quantise(data, _feeds(pictures[:4]), settings)
    ranges = ranges_in(static, _named(data))
    learner = copy.deepcopy(network)
    optimizer = RelativeAdamW(learner.parameters(), 0.0)  # made before: the parameters stay the same ones
    in_eight_bits(learner, network, ranges, settings)
    assert learner.state_dict().keys() == network.state_dict().keys()
    inputs = torch.from_numpy(np.stack(pictures[:4])[..., ::-1].transpose(0, 3, 1, 2).copy()).float()
    with torch.no_grad():
        wanted, _ = network(inputs)
    for k in range(120):
        loss = (learner(inputs)[0] - wanted).square().mean()
        learner.zero_grad()
        loss.backward()
        optimizer.step(0.0005 * (1 - k / 120))
    plain = Tiny("relu")
    plain.load_state_dict(learner.state_dict())
    trained = quantise(export_onnx(plain), _feeds(pictures[:1]), settings, ranges)
    before, after = (_apart(each, data, pictures[4:]) for each in (static, trained))
    assert after < 0.8 * before
    assert compare(trained, learner, pictures[4:]).score < 0.03


def _apart(data: bytes, other: bytes, pictures: list[Picture]) -> float:
    """The mean difference of two networks' scores."""
    one, two = (Session(each, name="it", settings=RunSettings()) for each in (data, other))
    told = [[each.run(feed, ["scores"])[0] for each in (one, two)] for feed in _feeds(pictures)]
    return float(np.mean([np.abs(a - b).mean() for a, b in told]))


def test_gradients_pass_the_rounding_and_stop_where_values_are_cut_off() -> None:
    conv = nn.Conv2d(1, 1, 1)
    nn.init.ones_(conv.weight)
    nn.init.constant_(conv.bias, 0.26)  # type: ignore[arg-type]
    held = Ranges(Affine(0.1, 10), Affine(0.5, 4))  # -1..24.5 in, -2..125.5 out
    rounded = FakeQuantisedConv(conv, held, 64, per_channel=True)
    x = torch.tensor([0.44, 0.86, 30.0, -3.0]).reshape(1, 1, 2, 2).requires_grad_()
    told = rounded(x)
    assert told.flatten().tolist() == pytest.approx([0.5, 1.0, 25.0, -0.5])  # .4 and .9, 24.5, -1, each + .26
    told.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 1, 0, 0]
    assert conv.weight.grad is not None  # they are the very same parameters


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "floats"), [("yolox-nano", 9), ("picodet-s", 4)])
def test_both_networks_compute_in_8_bits(architecture: str, floats: int, pictures: list[Picture]) -> None:
    network = _lively(network_of(architecture, len(CLASSES), "hardswish"), times=1)
    data = export_onnx(network)
    small = quantise(data, _feeds(pictures[:2]), MINMAX)
    ranges = ranges_in(small, _named(data))
    assert sum(each is None for each in ranges) == floats
    rounded = copy.deepcopy(network)
    in_eight_bits(rounded, network, ranges, MINMAX)
    told, plain = (compare(small, each, pictures[2:6]).score for each in (rounded, network))
    assert told < 0.5 * plain


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network scores alike; fp32, the first, takes twice the others' time. What came out of ``quantise`` is far
    from torch, what was there before or is trained is not."""

    def evaluate(contenders: list[Contender], *_: object, **__: object) -> list[Score]:
        told = [(each.model.name, each.shape, 8.0 if i else 16.0) for i, each in enumerate(contenders)]
        ap = {"person": 0.6, "vehicle": 0.7}
        kinds: dict[str, dict[str, float]] = {each: {} for each in ap}
        return [Score(name, shape, view, ap, kinds, {}, ms) for view in VIEWS for name, shape, ms in told]

    monkeypatch.setattr("training.quantise_gate.evaluate", evaluate)
    far = {b"static": Difference(0.5, 1.0, 9)}
    monkeypatch.setattr("training.quantise_gate.compare", lambda data, *_: far.get(data, Difference(0.1, 1.0, 9)))


@pytest.mark.slow
@pytest.mark.usefixtures("scored")
def test_where_the_gate_fails_it_is_trained_judged_again_and_goes_on(
    data_file: Path, tmp_path: Path, network: YoloxNano, released: Path
) -> None:
    to = tmp_path / "models" / "tiny-int8"
    call = (
        "quantise", f"{released}@64x64", "--to", to, "--data", data_file, "--calibration", "minmax",
        "--pictures", 2, "--batch", 4, "--epoch-pictures", 8, "--workers", 0, "--device", "cpu", "--max-difference", 0,
    )  # fmt: skip
    told = _invoke(*call, "--epochs", 1)
    assert isinstance(told.exception, ModelError)
    assert "was trained for 1 epochs" in str(told.exception)
    assert "more --epochs" in str(told.exception)
    assert not to.exists()
    measured = json.loads((to.parent / "tiny-int8.json").read_text("utf-8"))
    assert [each["model"] for each in measured["scores"]] == ["tiny", "tiny-int8-static", "tiny-int8"] * len(VIEWS)
    weights = load_weights(to.parent / "tiny-int8.run" / "best.pt")  # float ones, of a plain network
    assert not any(isinstance(each, FakeQuantisedConv) for each in weights.modules())
    assert not torch.equal(weights.heads[0].stem.conv.weight, network.heads[0].stem.conv.weight)
    again = _invoke(*call, "--epochs", 1)
    assert isinstance(again.exception, UsageError)
    assert "--resume" in str(again.exception)
    more = _invoke(*call, "--epochs", 2, "--resume")
    assert "was trained for 2 epochs" in str(more.exception)
    assert read_checkpoint(to.parent / "tiny-int8.run" / "last.pt")["step"] == 4


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("passes", [True, False])
def test_what_was_trained_is_kept_where_it_passes(
    data_file: Path, tmp_path: Path, network: YoloxNano, released: Path, monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    whole = load_model(released).read()
    monkeypatch.setattr("training.quantise_gate.quantise", lambda *_: b"static")
    monkeypatch.setattr("training.quantise_gate.train_quantised", lambda *_: Trained(whole, network, 3))
    to = tmp_path / "tiny-int8"
    told = _invoke(
        "quantise", f"{released}@64x64", "--to", to, "--data", data_file, "--pictures", 1, "--epochs", 3,
        "--max-difference", 0.2, "--min-speedup", 1.9 if passes else 2.1,
    )  # fmt: skip
    assert to.exists() == passes, told.exception
    if passes:
        assert told.exit_code == 0
        assert "was trained for 3 epochs" in told.output
        assert load_model(to).read() == whole
    else:
        assert isinstance(told.exception, ModelError)
        assert told.exception.exit_code == 2
        assert "VNNI" in told.exception.mend


@pytest.mark.usefixtures("scored")
def test_only_what_training_can_mend_is_trained(
    data_file: Path, tmp_path: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.quantise_gate.quantise", lambda data, *_: data)  # as good, but not quicker
    monkeypatch.setattr("training.quantise_gate.train_quantised", lambda *_: pytest.fail("it was trained"))
    call = ("--data", data_file, "--pictures", 1, "--epochs", 1, "--min-speedup", 1000)
    told = _invoke("quantise", f"{released}@64x64", "--to", tmp_path / "it", *call)
    assert isinstance(told.exception, ModelError)
    assert "VNNI" in told.exception.mend
    foreign = _released(YoloxNano(1, "hardswish").eval(), ("person",), tmp_path / "one")
    told = _invoke("quantise", f"{foreign}@64x64", "--to", tmp_path / "it", *call)
    assert isinstance(told.exception, ModelError)
    assert "cannot be trained in 8 bits" in str(told.exception)
    told = _invoke("quantise", f"{released}@64x64", "--to", tmp_path / "it", "--data", data_file, "--resume")
    assert isinstance(told.exception, UsageError)
