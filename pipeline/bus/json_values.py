"""JSON of records, read with suspicion: whatever is odd is RecordMalformed with a reason, never another error."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pipeline.errors import RecordMalformed

MAX_OFFSET = 2**63 - 1


def parse_object(value: bytes | None, what: str) -> dict[str, Any]:
    """The JSON object that ``value`` holds; ``what`` it should be, for the reason. Raises RecordMalformed."""
    if value is None:
        raise RecordMalformed(f"{what} has no value")
    try:
        told = json.loads(value.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once)
        if b"\\u" in value:
            json.dumps(told, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except UnicodeDecodeError as error:
        raise RecordMalformed(f"{what} is not UTF-8 at byte {error.start}") from None
    except UnicodeEncodeError:
        raise RecordMalformed(f"{what} has half a surrogate pair in a text") from None
    except (ValueError, RecursionError) as error:
        raise RecordMalformed(f"{what} is not JSON: {str(error)[:200] or type(error).__name__}") from None
    if not isinstance(told, dict):
        raise RecordMalformed(f"{what} is not a JSON object but {type(told).__name__}")
    return told


def whole(told: dict[str, Any], key: str, what: str, low: int = 0, high: int = MAX_OFFSET) -> int:
    """The whole number ``told[key]`` in ``low..high``. Raises RecordMalformed."""
    value = told.get(key)
    if type(value) is not int or not low <= value <= high:
        raise RecordMalformed(f"{what}: {key} must be a whole number in {low}..{high}, not {shown(value)}")
    return value


def text(told: dict[str, Any], key: str, what: str) -> str:
    """The text ``told[key]``. Raises RecordMalformed."""
    value = told.get(key)
    if not isinstance(value, str):
        raise RecordMalformed(f"{what}: {key} must be text, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """``value`` for a reason: short whatever it is."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__}"
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:57]}..."


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no number a float can hold")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a key is there twice")
    return told
