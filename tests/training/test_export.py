"""Weights in, ONNX out: both compared with what they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pipeline.errors import ModelError  # noqa: E402
from pipeline.inference.manifest import Thresholds  # noqa: E402
from pipeline.inference.onnx import RunSettings, Session  # noqa: E402
from training.datasets import CLASSES  # noqa: E402
from training.export import Difference, compare, export_onnx  # noqa: E402
from training.models.detector import Detector  # noqa: E402
from training.models.pretrained import load_coco, load_pretrained  # noqa: E402
from training.release import Release, write_release  # noqa: E402


@pytest.fixture(scope="module")
def network() -> Detector:
    torch.manual_seed(0)
    network = Detector(len(CLASSES)).eval()
    with torch.no_grad():
        for head in network.heads:
            head.object_logit.bias.fill_(1.0)  # so that there are scores to compare
    return network


def _picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def test_one_file_serves_every_multiple_of_32(network: Detector) -> None:
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


def test_an_export_that_differs_is_refused_and_nothing_is_written(
    network: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Detector(len(CLASSES)).eval()
    data = export_onnx(other)
    monkeypatch.setattr("training.release.export_onnx", lambda _: data)
    release = Release("tiny", "1", CLASSES, Thresholds(), "# card")
    with pytest.raises(ModelError, match="differ"):
        write_release(network, release, tmp_path / "tiny", [_picture(64, 64)], [(64, 64)])
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("told", [Difference(2e-3, 0, 1), Difference(0, 0.2, 1), Difference(float("inf"), 0, 1)])
def test_a_difference_is_refused(told: Difference) -> None:
    with pytest.raises(ModelError, match="nothing was written"):
        told.check()


def test_not_a_number_is_a_difference(network: Detector) -> None:
    broken = Detector(len(CLASSES)).eval()
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


def test_a_file_that_is_not_yolox_nano_is_refused(tmp_path: Path, network: Detector) -> None:
    path = tmp_path / "six.onnx"
    path.write_bytes(export_onnx(network))
    with pytest.raises(ModelError, match="convolution"):
        load_coco(path)
    with pytest.raises(ModelError, match="there is no such file"):
        load_coco(tmp_path / "none.onnx")
