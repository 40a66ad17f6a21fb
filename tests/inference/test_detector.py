"""The detector end to end on networks with known answers."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.detections import Detections
from pipeline.errors import ModelError
from pipeline.inference import onnx
from pipeline.inference.detector import Detector
from pipeline.inference.store import Model
from tests.inference.networks import answering, convolving_model, echoing, kept, manifest_for

ECHO = {"family": "passerby", "outputs": {"boxes": "boxes", "scores": "scores"}}


def echo(folder: Path, *, shapes: list[dict[str, int]] | None = None, **spec: object) -> Model:
    """The score of class i is the mean of channel i / 255 in its 8 x 8 cell; the box is always 8, 8, 24, 40."""
    nhwc = spec.get("layout") == "nhwc"
    sides = ("batch", "height", "width", 3) if nhwc else ("batch", 3, "height", "width")
    data = echoing(sides, dtype=str(spec.get("dtype", "float32")), layout="nhwc" if nhwc else "nchw")
    told = {"shapes": shapes or [{"width": 64, "height": 64}]} | spec
    return kept(folder, data, manifest_for(data, input=told, **ECHO))


def equal(a: Detections, b: Detections) -> bool:
    return (
        a.boxes.tobytes() == b.boxes.tobytes()
        and a.scores.tobytes() == b.scores.tobytes()
        and a.class_ids.tobytes() == b.class_ids.tobytes()
    )


@pytest.mark.parametrize(("layout", "dtype"), [("nhwc", "uint8"), ("nchw", "uint8"), ("nchw", "float32")])
@pytest.mark.parametrize(("color", "wanted"), [("rgb", "person"), ("bgr", "dog")])
def test_colour_reaches_the_network_and_boxes_reach_the_frame(
    layout: str, dtype: str, color: str, wanted: str, tmp_path: Path
) -> None:
    detector = Detector(echo(tmp_path, layout=layout, dtype=dtype, color=color, pad=0))
    fit = detector.fit(640, 320)
    assert (fit.width, fit.height) == (64, 32)
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[8:16, 16:24, 0] = 204  # one red cell
    (found,) = detector.detect([picture], [(640, 320)])
    assert [found.classes[i] for i in found.class_ids] == [wanted]
    np.testing.assert_allclose(found.scores, [0.8], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[80, 80, 240, 320]])  # ten times as large, clipped at the lower edge


def test_each_camera_runs_at_the_shape_of_its_picture(tmp_path: Path) -> None:
    detector = Detector(echo(tmp_path, shapes=[{"width": 128, "height": 64}, {"width": 64, "height": 64}]))
    wide, square = detector.fit(1920, 1080), detector.fit(640, 480)
    assert (wide.input_width, wide.input_height) == (128, 64)
    assert (square.input_width, square.input_height) == (64, 64)
    assert detector.fit(1920, 1080) is wide
    for fit, size in ((wide, (1920, 1080)), (square, (640, 480))):
        picture = np.full((fit.height, fit.width, 3), 255, np.uint8)
        (found,) = detector.detect([picture], [size])
        assert found.scores[0] == 1
    pictures = [np.zeros((fit.height, fit.width, 3), np.uint8) for fit in (wide, square)]
    with pytest.raises(ModelError, match=r"several input shapes"):
        detector.detect(pictures, [(1920, 1080), (640, 480)])


def test_the_lowest_score_can_be_chosen(tmp_path: Path) -> None:
    model = echo(tmp_path)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:8, :8, 1] = 13  # a score of 0.05
    assert len(Detector(model).detect([picture], [(64, 64)])[0]) == 0
    (found,) = Detector(model, min_score=0.01).detect([picture], [(64, 64)])
    assert [found.classes[i] for i in found.class_ids] == ["car"]


def test_a_box_in_the_padding_is_not_seen(tmp_path: Path) -> None:
    data = answering(
        {"boxes": np.array([[4, 40, 20, 60], [4, 4, 20, 20]], np.float32), "scores": np.eye(2, 3, dtype=np.float32)}
    )
    detector = Detector(kept(tmp_path, data, manifest_for(data, **ECHO)))
    (found,) = detector.detect([np.zeros((32, 64, 3), np.uint8)], [(64, 32)])
    assert found.boxes.tolist() == [[4, 4, 20, 20]]


def test_the_answer_does_not_depend_on_batch_company_or_threads(tmp_path: Path) -> None:
    """CPU: byte-identical, alone, together, and from 1, 2 or 4 threads at once."""
    detector = Detector(convolving_model(tmp_path))
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(24)]
    sizes = [(640, 640)] * len(pictures)
    alone = [detector.detect([picture], [(640, 640)])[0] for picture in pictures]
    assert sum(len(each) for each in alone) > 100
    assert all(map(equal, alone, detector.detect(pictures, sizes)))
    for threads in (1, 2, 4):
        with ThreadPoolExecutor(threads) as pool:
            again = list(pool.map(lambda picture: detector.detect([picture], [(640, 640)])[0], pictures))
        assert all(map(equal, alone, again))


def test_fixed_buckets_are_filled_up_and_give_the_same_boxes(tmp_path: Path) -> None:
    model = convolving_model(tmp_path)
    one, many = Detector(model), Detector(model, buckets=(4, 2))
    assert one.buckets == (1,)
    assert many.buckets == (2, 4)
    rng = np.random.default_rng(6)
    pictures = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(7)]
    sizes = [(64, 64)] * 7
    ran: list[int] = []
    session = many._loaded[64, 64].session
    run = session.run
    session.run = lambda feeds, names: ran.append(len(feeds["images"])) or run(feeds, names)  # type: ignore[method-assign,func-returns-value]
    for a, b in zip(one.detect(pictures, sizes), many.detect(pictures, sizes), strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-2)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert ran == [4, 4]
    many.detect(pictures[:1], sizes[:1])
    assert ran[-1] == 2


def test_a_batch_the_network_fixes_is_the_only_bucket(tmp_path: Path) -> None:
    data = answering({"output": np.zeros((84, 8), np.float32)}, (3, 3, 64, 64))
    detector = Detector(kept(tmp_path, data, manifest_for(data)), buckets=(1, 8))
    assert detector.buckets == (3,)
    assert len(detector.detect([np.zeros((64, 64, 3), np.uint8)] * 5, [(64, 64)] * 5)) == 5


def test_a_shape_is_loaded_once_by_whoever_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(echo(tmp_path, shapes=[{"width": 128, "height": 64}, {"width": 64, "height": 64}]))
    made = []
    real = onnx.Session
    monkeypatch.setattr("pipeline.inference.detector.Session", lambda *a, **k: made.append(1) or real(*a, **k))
    barrier = threading.Barrier(4)

    def ask(_: int) -> None:
        barrier.wait()
        detector.fit(640, 480)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert len(made) == 1


def test_provenance_names_the_very_weights(tmp_path: Path) -> None:
    model = convolving_model(tmp_path)
    told = Detector(model).provenance
    assert (told.model, told.model_version, told.model_sha256) == ("tiny", "1", model.manifest.sha256)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"input": {"name": "pictures"}},
            "the manifest's input is pictures, the network's: images float32 batchx3x64x64",
        ),
        ({"input": {"dtype": "uint8"}}, "input is images float32 batchx3x64x64, the manifest's uint8 nchw"),
        ({"input": {"shapes": [{"width": 96, "height": 64}]}}, "does not take 96x64: images float32 batchx3x64x64"),
        ({"outputs": {"output": "boxes"}}, "the network has no output boxes, but output"),
        ({"classes": ["person", "car"]}, "output is 84x8, .* make it 84x7"),
        ({"options": {"strides": [8, 16]}}, "output is 84x8, .* make it 80x8"),
    ],
)
def test_a_manifest_of_another_network_is_refused_at_start(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    data = answering({"output": np.zeros((84, 8), np.float32)})
    model = kept(tmp_path, data, manifest_for(data, **changes))
    with pytest.raises(ModelError, match=said) as error:
        Detector(model)
    assert str(error.value).startswith("model tiny: ")


def test_an_output_that_is_no_table_a_picture_is_refused_at_start(tmp_path: Path) -> None:
    data = answering({"output": np.zeros(84, np.float32)})
    with pytest.raises(ModelError, match="model tiny: output output is 1x84, not a table for each of 1 pictures"):
        Detector(kept(tmp_path, data, manifest_for(data)))


def test_buckets_are_batch_sizes(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="buckets are batch sizes from 1 up"):
        Detector(convolving_model(tmp_path), buckets=(0, 4))


def test_a_network_that_onnxruntime_refuses_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = answering({"output": np.zeros((84, 8), np.float32)}).replace(b"ReduceMean", b"ReduceMoan")
    with pytest.raises(ModelError, match=r"model tiny: ONNX Runtime refuses the network: .*ReduceMoan") as error:
        Detector(kept(tmp_path, data, manifest_for(data)))
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == "", "ONNX Runtime's own log stays quiet"


def test_another_provider_than_the_asked_one_fails_at_start(tmp_path: Path) -> None:
    model = convolving_model(tmp_path)
    with pytest.raises(ModelError, match=r"provider cuda does not run here: .* has cpu .*passerby\[gpu\].*allow_cpu"):
        Detector(model, provider="cuda")
    assert Detector(model, provider="cuda", allow_cpu=True).provider == "cpu"
    with pytest.raises(ModelError, match=r"provider 'gpu' is not known"):
        Detector(model, provider="gpu")


def test_a_provider_that_is_there_but_falls_back_fails_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists CUDA as available and then runs on the CPU when a library is missing."""
    runtime = onnx._runtime()

    class Runtime:
        def __getattr__(self, name: str) -> object:
            return getattr(runtime, name)

        def get_available_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def InferenceSession(self, data: bytes, options: object, providers: object) -> object:
            return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnx, "_checked", Runtime())
    model = convolving_model(tmp_path)
    with pytest.raises(ModelError, match=r"provider cuda does not run here: it fell back to CPUExecutionProvider"):
        Detector(model, provider="cuda")
    assert Detector(model, provider="cuda", allow_cpu=True).provider == "cpu"


def test_cuda_is_asked_for_bounded_memory() -> None:
    settings = onnx.RunSettings(provider="cuda", gpu_mem_limit_bytes=2 * 2**30)
    told = onnx._provider_options("CUDAExecutionProvider", settings)
    assert told["arena_extend_strategy"] == "kSameAsRequested"
    assert told["gpu_mem_limit"] == str(2 * 2**30)
    assert "gpu_mem_limit" not in onnx._provider_options("CUDAExecutionProvider", onnx.RunSettings(provider="cuda"))


def test_two_runtimes_over_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx, "_checked", None)
    monkeypatch.setattr(onnx, "installed_runtimes", lambda: ["onnxruntime", "onnxruntime-gpu"])
    with pytest.raises(ModelError, match=r"both installed .*pip uninstall -y onnxruntime onnxruntime-gpu"):
        Detector(convolving_model(tmp_path))


def test_without_a_runtime_the_mend_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx, "_checked", None)
    monkeypatch.setattr(onnx, "installed_runtimes", list)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"ONNX Runtime is not installed \(pip install 'passerby\[cpu\]'"):
        Detector(convolving_model(tmp_path))


def test_exactly_one_runtime_is_installed_here() -> None:
    assert len(onnx.installed_runtimes()) == 1
