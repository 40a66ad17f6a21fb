"""Whether an ONNX file is whole and stands alone, before ONNX Runtime sees it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from PIL import Image

from pipeline.errors import ModelError
from pipeline.inference.onnx_file import check_stands_alone, read_model_file
from tests.inference.networks import convolving, with_external_weights

WHOLE = convolving()
PATH = Path("model.onnx")


def test_a_whole_model_passes() -> None:
    check_stands_alone(WHOLE, PATH)


def test_the_third_party_models_pass(shared: Path) -> None:
    models = sorted((shared / "models").glob("*.onnx"))
    assert len(models) >= 4
    for path in models:
        check_stands_alone(read_model_file(path), path)


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize(
    "data", [b"hello world, this is not a network\n" * 20, _png(), b"\x00" * 100, b"PK\x03\x04" * 50]
)
def test_something_else_is_not_an_onnx_file(data: bytes) -> None:
    with pytest.raises(ModelError) as error:
        check_stands_alone(data, PATH)
    assert str(error.value).startswith("model.onnx: is not an ONNX file")


def test_a_file_cut_anywhere_within_its_network_is_cut_short() -> None:
    for end in range(8, len(WHOLE) - 8, 37):
        with pytest.raises(ModelError, match=r"cut short|not an ONNX file"):
            check_stands_alone(WHOLE[:end], PATH)
    with pytest.raises(ModelError, match=r"is cut short: .* \(copy or export it again\)"):
        check_stands_alone(WHOLE[: len(WHOLE) // 2], PATH)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_a_model_error(data: bytes) -> None:
    with pytest.raises(ModelError):
        check_stands_alone(data, PATH)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_either_harmless_or_a_model_error(at: int, value: int) -> None:
    changed = bytearray(WHOLE)
    changed[at] = value
    try:
        check_stands_alone(bytes(changed), PATH)
    except ModelError as error:
        assert "\n" not in str(error)


def test_weights_in_another_file_are_named() -> None:
    with pytest.raises(ModelError, match=r"keeps weights in another file \(\.\./secret\.bin\)"):
        check_stands_alone(with_external_weights("../secret.bin"), PATH)


def _with_node(operator: str, domain: str, *, imported: bool = True, inside: bool = False) -> bytes:
    """The network with one more node; inside: in the branch of an If."""
    model = onnx.load_from_string(WHOLE)
    node = helper.make_node(operator, ["images"], ["nobody_reads_it"], domain=domain)
    if inside:
        branch = helper.make_graph([node], "branch", [], [])
        node = helper.make_node("If", ["images"], ["of_branch"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    if imported and domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("operator", "domain", "inside", "said"),
    [
        ("StringConcat", "ai.onnx.contrib", False, "StringConcat of 'ai.onnx.contrib'"),
        ("EfficientNMS_TRT", "trt.plugins", True, "EfficientNMS_TRT of 'trt.plugins'"),
        ("EPContext", "com.microsoft", False, "the operator EPContext"),
        ("PythonOp", "com.microsoft", True, "the operator PythonOp"),
    ],
)
def test_what_needs_somebodys_library_is_refused(operator: str, domain: str, inside: bool, said: str) -> None:
    for imported in (True, False):
        with pytest.raises(ModelError, match=rf"model.onnx: asks for ({said}), which ONNX Runtime does not have"):
            check_stands_alone(_with_node(operator, domain, imported=imported, inside=inside), PATH)


def test_a_domain_that_is_imported_and_not_used_passes() -> None:
    model = onnx.load_from_string(WHOLE)
    model.opset_import.append(helper.make_opsetid("ai.onnx.training", 1))
    check_stands_alone(model.SerializeToString(), PATH)


def test_the_runtimes_own_operators_pass() -> None:
    check_stands_alone(_with_node("QLinearAdd", "com.microsoft"), PATH)


def test_functions_that_the_model_brings_itself_pass_if_what_they_do_passes() -> None:
    for operator, domain in (("Relu", ""), ("EPContext", "com.microsoft")):
        model = onnx.load_from_string(_with_node("Mine", "pkg.mine"))
        inside = helper.make_node(operator, ["x"], ["y"], domain=domain)
        own = helper.make_function("pkg.mine", "Mine", ["x"], ["y"], [inside], [helper.make_opsetid("", 17)])
        model.functions.append(own)
        if operator == "Relu":
            check_stands_alone(model.SerializeToString(), PATH)
        else:
            with pytest.raises(ModelError, match="asks for the operator EPContext"):
                check_stands_alone(model.SerializeToString(), PATH)


def test_files_that_cannot_be_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        read_model_file(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_model_file(tmp_path)
    empty = tmp_path / "empty.onnx"
    empty.touch()
    with pytest.raises(ModelError, match="is empty"):
        read_model_file(empty)
    monkeypatch.setattr("pipeline.inference.onnx_file.MAX_MODEL_BYTES", 2**20)
    big = tmp_path / "big.onnx"
    big.write_bytes(np.zeros(2**20 + 1, np.uint8).tobytes())
    with pytest.raises(ModelError, match=r"1 MiB is too big for a detector \(at most 1 MiB\)"):
        read_model_file(big)
