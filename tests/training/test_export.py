"""Weights in, ONNX out: both compared with what they came from."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pipeline.errors import ModelError, UsageError  # noqa: E402
from pipeline.inference.decoders import Gfl  # noqa: E402
from pipeline.inference.manifest import Options, Thresholds  # noqa: E402
from pipeline.inference.onnx import RunSettings, Session  # noqa: E402
from pipeline.inference.store import load_model  # noqa: E402
from training.datasets import CLASSES  # noqa: E402
from training.export import Difference, compare, export_onnx, precision_of  # noqa: E402
from training.models.backbone import Activation, ConvUnit  # noqa: E402
from training.models.network import Network  # noqa: E402
from training.models.picodet import PicoDet  # noqa: E402
from training.models.pretrained import load_coco, load_exported, load_pretrained  # noqa: E402
from training.models.yolox import YoloxNano  # noqa: E402
from training.release import Release, write_release  # noqa: E402
from training.session import Start  # noqa: E402
from training.trainer import mean_of  # noqa: E402


@pytest.fixture(scope="module")
def network() -> YoloxNano:
    torch.manual_seed(0)
    network = YoloxNano(len(CLASSES)).eval()
    with torch.no_grad():
        for head in network.heads:
            head.object_logit.bias.fill_(1.0)  # so that there are scores to compare
    return network


@pytest.fixture(scope="module")
def picodet() -> PicoDet:
    torch.manual_seed(0)
    network = PicoDet(len(CLASSES)).eval()
    with torch.no_grad():
        for head in network.heads:
            head.numbers.bias[: len(CLASSES)] = 0.5
    return network


def _picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_one_file_serves_every_multiple_of_32(network: YoloxNano) -> None:
    data = export_onnx(network)
    told = compare(data, network, [_picture(96, 64), _picture(64, 128)])
    told.check()
    session = Session(data, name="it", settings=RunSettings())
    (image,) = session.inputs
    assert (image.name, image.dtype, image.shape) == ("image", "uint8", ("batch", "height", "width", 3))
    batch = np.stack([_picture(96, 64)] * 2)
    boxes, scores = session.run({"image": batch}, ["boxes", "scores"])
    assert boxes.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4)
    assert scores.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, len(CLASSES))
    assert boxes.dtype == scores.dtype == np.float32
    assert 0 <= scores.min() <= scores.max() <= 1


def test_picodet_too_is_one_file_for_every_multiple_of_32(picodet: PicoDet) -> None:
    data = export_onnx(picodet)
    compare(data, picodet, [_picture(96, 64), _picture(64, 160)]).check()
    boxes, scores = Session(data, name="it", settings=RunSettings()).run(
        {"image": np.stack([_picture(96, 64)] * 2)}, ["boxes", "scores"]
    )
    cells = 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2  # the last level's sides are rounded up
    assert boxes.shape == (2, cells, 4)
    assert scores.shape == (2, cells, len(CLASSES))
    assert len(picodet(torch.zeros(1, 3, 64, 96))[1].corners) == cells
    # HardSwish is one operator here; the published file writes it as four, which costs a quarter of the time.
    operators = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert operators.count("HardSwish") == sum(isinstance(module, ConvUnit) for module in picodet.modules())
    with pytest.raises(UsageError, match="no relu"):
        picodet.become("relu")


@pytest.mark.parametrize("made", ["network", "picodet"])
def test_in_half_precision_the_convolutions_alone_are_half(made: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(made)
    data, whole = export_onnx(network, "fp16"), export_onnx(network)
    assert (precision_of(data), precision_of(whole)) == ("fp16", "fp32")
    assert len(data) < 0.6 * len(whole)
    told = compare(data, network, [_picture(96, 64)])
    told.check("fp16")
    assert told.score > 0
    assert next(network.parameters()).dtype == torch.float32  # what was exported is a copy
    session = Session(data, name="it", settings=RunSettings())
    assert (session.inputs[0].dtype, session.inputs[0].shape) == ("uint8", ("batch", "height", "width", 3))
    assert all(each.dtype == np.float32 for each in session.run({"image": _picture(96, 64)[None]}, ["boxes", "scores"]))


def test_an_export_that_differs_is_refused_and_nothing_is_written(
    network: YoloxNano, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = YoloxNano(len(CLASSES)).eval()
    data = export_onnx(other)
    monkeypatch.setattr("training.release.export_onnx", lambda *_: data)
    release = Release("tiny", "1", CLASSES, Thresholds(), "# card")
    with pytest.raises(ModelError, match="differ"):
        write_release(network, release, tmp_path / "tiny", [_picture(64, 64)], [(64, 64)])
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("told", [Difference(2e-3, 0, 1), Difference(0, 0.2, 1), Difference(float("inf"), 0, 1)])
def test_a_difference_is_refused(told: Difference) -> None:
    with pytest.raises(ModelError, match=r"allowed are 0\.001 and 0\.1 in fp32: nothing was written"):
        told.check()


def test_half_precision_may_differ_by_more_but_not_by_much() -> None:
    Difference(0.049, 3.9, 1).check("fp16")
    for told in (Difference(0.051, 3.9, 1), Difference(0.0, 4.1, 1)):
        with pytest.raises(ModelError, match=r"allowed are 0\.05 and 4 in fp16"):
            told.check("fp16")


def test_not_a_number_is_a_difference(network: YoloxNano) -> None:
    broken = YoloxNano(len(CLASSES)).eval()
    with torch.no_grad():
        broken.heads[0].object_logit.bias.fill_(float("nan"))
    with pytest.raises(ModelError):
        compare(export_onnx(broken), broken, [_picture(64, 64)]).check()


@pytest.mark.shared
def test_pretrained_weights_say_what_the_file_says(shared: Path) -> None:
    path = shared / "models" / "yolox_nano_416_coco.onnx"
    ours = load_coco(path).eval()
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    (theirs,) = Session(path.read_bytes(), name="it", settings=RunSettings()).run({"images": pixels}, ["output"])
    with torch.no_grad():
        rows, _ = ours(torch.from_numpy(pixels))
    rows[..., 4:] = rows[..., 4:].sigmoid()
    np.testing.assert_allclose(rows.numpy(), theirs, rtol=2e-5, atol=2e-5)
    six = load_pretrained(path, CLASSES).eval()
    with torch.no_grad():
        rows6, _ = six(torch.from_numpy(pixels))
    np.testing.assert_allclose(rows6[..., 5:].sigmoid().numpy(), theirs[..., [5, 6, 7, 8, 10, 12]], atol=2e-5)


@pytest.mark.shared
def test_the_published_picodet_says_the_same_in_our_network(shared: Path) -> None:
    path = shared / "models" / "picodet_s_416_coco.onnx"
    rgb = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    outputs = [f"save_infer_model/scale_{i}.tmp_1" for i in range(8)]
    told = Session(path.read_bytes(), name="it", settings=RunSettings()).run(
        {"image": (rgb - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)}, outputs
    )
    scores, sides = np.concatenate(told[:4], 1), np.concatenate(told[4:], 1)
    ours = load_coco(path).eval()
    bgr = torch.from_numpy(rgb[:, ::-1].copy())
    with torch.no_grad():
        rows, cells = ours(bgr)
    np.testing.assert_allclose(ours.scores_of(rows).numpy(), scores, atol=1e-5)
    np.testing.assert_allclose(rows[..., 80:].numpy(), sides, atol=1e-4)
    # Boxes as the pipeline's own decoder of such files makes them.
    options = Options(strides=[8, 16, 32, 64], bins=8, center="pixel_half")
    decoder = Gfl(SimpleNamespace(options=options, classes=["of", "coco"] * 40), 416, 416)  # type: ignore[arg-type]
    found = decoder([*(each[0] for each in told)], 0.0)
    np.testing.assert_allclose(ours.boxes_of(rows, cells)[0].numpy(), found.boxes, atol=1e-2)
    six = load_pretrained(path, CLASSES).eval()
    with torch.no_grad():
        few, _ = six(bgr)
    np.testing.assert_allclose(six.scores_of(few).numpy(), scores[..., [0, 1, 2, 3, 5, 7]], atol=1e-5)
    np.testing.assert_allclose(few[..., 6:].numpy(), sides, atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "hardswish", "relu"])
def test_an_exported_network_can_be_trained_on(network: YoloxNano, tmp_path: Path, activation: Activation) -> None:
    bent = copy.deepcopy(network)
    bent.become(activation)
    _says_the_same_when_read_back(bent, tmp_path / "it.onnx")


def test_an_exported_picodet_too(picodet: PicoDet, tmp_path: Path) -> None:
    _says_the_same_when_read_back(picodet, tmp_path / "it.onnx")


def _says_the_same_when_read_back(network: Network, path: Path) -> None:
    path.write_bytes(export_onnx(network))
    again = load_exported(path, len(CLASSES)).eval()
    assert (again.architecture, again.activation) == (network.architecture, network.activation)
    pictures = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        assert torch.allclose(again(pictures)[0], network(pictures)[0], atol=1e-4)


def test_training_starts_from_a_model_by_name_or_says_why_not() -> None:
    nano = Start(checkpoint=Path("passerby-nano")).network()
    assert (nano.architecture, nano.activation) == ("yolox-nano", "hardswish")
    assert Start(checkpoint=Path("passerby-small")).network().architecture == "picodet-s"
    picture = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    compare(load_model("passerby-nano").read(), nano, [picture]).check()
    with pytest.raises(ModelError, match="passerby-daylight: its family is classifier"):
        Start(checkpoint=Path("passerby-daylight")).network()
    with pytest.raises(ModelError, match="nobody"):
        Start(checkpoint=Path("nobody")).network()


def test_the_mean_of_several_seeds_is_taken_weight_by_weight(
    network: YoloxNano, picodet: PicoDet, tmp_path: Path
) -> None:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    folders = []
    for name, each in (("one", network), ("other", other)):
        release = Release(name, "1", CLASSES, Thresholds(), "")
        write_release(each, release, tmp_path / name, [_picture(96, 64)], [(96, 64)])
        folders.append(tmp_path / name)
    mixed = Start(checkpoint=folders[0], also=(folders[1],)).network()
    for weight, first, second in zip(mixed.parameters(), network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight, (first + second) / 2)
    assert not torch.equal(next(iter(mixed.parameters())), next(iter(network.parameters())))
    with pytest.raises(ModelError, match=r"b: is picodet-s.*a yolox-nano"):
        mean_of({"a": network, "b": picodet})


def test_a_file_of_another_network_is_refused(tmp_path: Path, network: YoloxNano) -> None:
    path = tmp_path / "six.onnx"
    path.write_bytes(export_onnx(network))
    with pytest.raises(ModelError, match=r"convolution 0 is \(16, 3, 6, 6\), ours \(16, 12, 3, 3\)"):
        load_coco(path)
    model = onnx.load(str(path))
    model.graph.node.remove(next(node for node in reversed(model.graph.node) if node.op_type == "Conv"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="known are yolox-nano"):
        load_coco(path)
    with pytest.raises(ModelError, match="there is no such file"):
        load_coco(tmp_path / "none.onnx")
