"""Whether an ONNX file is whole and stands alone, before ONNX Runtime sees it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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
