"""Whether the bytes of an ONNX file are whole, stand alone and ask for nothing but arithmetic, told from its protobuf.

ONNX Runtime resolves tensors kept in other files (``external_data``) against the current directory when it loads a
model from memory, so a model could read any file of the user's; operators of other domains than ONNX's and the
runtime's own need a library of somebody's; ``EPContext`` names a compiled engine to load, ``PythonOp`` code to call.
This walk finds all of them before a session is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ModelError

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""A detector for video is a few megabytes; anything near this is a mistake."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"})
"""Whose operators ONNX Runtime has built in: ONNX's own, and its additions (quantised and fused ones).

Others may be imported (ONNX Runtime itself writes half a dozen into what it optimises) but not used."""
REFUSED = frozenset({"EPContext", "PythonOp", "PythonOpGrad"})
"""Operators of those domains that load or call what is not in the file."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# message -> field -> the message in it; the numbers are onnx.proto's
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_OPERATOR, _DOMAIN = 4, 7  # fields of a node
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_GRAPH, _FUNCTION = 7, 25
_ITS_DOMAIN = 10
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_MAX_DEPTH = 32


class _CutShort(Exception):
    """A field goes past the end."""


class _Malformed(Exception):
    """Not protobuf, or not ONNX's."""


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file that is there, not empty and not too big. Raises ModelError."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ModelError(f"{path}: is a folder, not an ONNX file")
        if size > MAX_MODEL_BYTES:
            limit = MAX_MODEL_BYTES // 2**20
            raise ModelError(f"{path}: {size / 2**20:.0f} MiB is too big for a detector (at most {limit} MiB)")
        if size == 0:
            raise ModelError(f"{path}: is empty")
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None


def check_stands_alone(data: bytes, path: Path) -> None:
    """Raise ModelError unless ``data`` is a whole ONNX model that refers to no other file and no other library."""
    try:
        graphs = sum(field == _GRAPH for field, _ in _walk_model(memoryview(data)))
    except _CutShort:
        raise ModelError(
            f"{path}: is cut short: {len(data)} bytes end in the middle of the network", mend="copy or export it again"
        ) from None
    except _Malformed:
        raise ModelError(f"{path}: is not an ONNX file") from None
    except _External as error:
        raise ModelError(
            f"{path}: keeps weights in another file ({error})", mend="save it with all weights in the one file"
        ) from None
    except _Foreign as error:
        raise ModelError(
            f"{path}: asks for {error}, which ONNX Runtime does not have built in: no library is loaded for a model",
            mend="export it with standard operators",
        ) from None
    if graphs != 1:
        raise ModelError(f"{path}: is not an ONNX file: there is no network in it")


class _External(Exception):
    """A tensor lies in another file."""


class _Foreign(Exception):
    """An operator of somebody's library."""


def _walk_model(data: memoryview) -> Iterator[tuple[int, int]]:
    known = False
    own = _functions(data)
    for field, wire, value in _fields(data):
        if field not in _MODEL_FIELDS and not known:
            raise _Malformed  # a text or a picture: its first bytes are no field of a model
        known = True
        inner = _INNER["model"].get(field)
        if inner is not None:
            if wire != _BYTES:
                raise _Malformed
            _walk(value, inner, 1, own)
        yield field, wire


def _walk(data: memoryview, message: str, depth: int, own: frozenset[str]) -> None:
    if depth > _MAX_DEPTH:
        raise _Malformed
    inner = _INNER[message]
    operator = domain = ""
    for field, wire, value in _fields(data):
        if message == "node" and field == _OPERATOR and wire == _BYTES:
            operator = bytes(value).decode("utf-8", "replace")
        if message == "node" and field == _DOMAIN and wire == _BYTES:
            domain = bytes(value).decode("utf-8", "replace")
        if message == "tensor" and field == _EXTERNAL_DATA and wire == _BYTES:
            raise _External(_text(value))
        if message == "tensor" and field == _DATA_LOCATION and wire == _VARINT and value[0] == 1:
            raise _External("external data")
        if field in inner:
            if wire != _BYTES:
                raise _Malformed
            _walk(value, inner[field], depth + 1, own)
    if operator in REFUSED and domain in DOMAINS:
        raise _Foreign(f"the operator {operator}")
    if domain not in DOMAINS and domain not in own:
        raise _Foreign(f"{operator or 'an operator'} of {domain!r}")


def _functions(data: memoryview) -> frozenset[str]:
    """Domains of the functions that the model brings itself: they are made of operators that are looked at, too."""
    own = set()
    for field, wire, value in _fields(data):
        if field == _FUNCTION and wire == _BYTES:
            told = [bytes(each) for number, kind, each in _fields(value) if number == _ITS_DOMAIN and kind == _BYTES]
            own |= {each.decode("utf-8", "replace") for each in told}
    return frozenset(own)


def _text(entry: memoryview) -> str:
    """The location that an external_data entry (key = 1, value = 2) names."""
    told = {field: bytes(value).decode("utf-8", "replace") for field, wire, value in _fields(entry) if wire == _BYTES}
    return told.get(2, "external data") if told.get(1) == "location" else "external data"


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(field number, wire type, payload) of one message; a varint's payload is its bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise _Malformed
        start = at
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            size, start = _varint(data, at)
            at = start + size
        elif wire == _FIXED64:
            at += 8
        elif wire == _FIXED32:
            at += 4
        else:
            raise _Malformed
        if at > end:
            raise _CutShort
        yield field, wire, data[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise _CutShort
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _Malformed
