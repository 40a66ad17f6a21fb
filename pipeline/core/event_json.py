"""Events as JSON, always in the same bytes: the keys as the types declare them, others by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from pipeline.core import events as _events


def _declared_order() -> dict[str, int]:
    """The keys of the event types in the order they are declared, so that an event reads as the contract does."""
    ranks: dict[str, int] = {}
    for kind in vars(_events).values():
        if isinstance(kind, type) and hasattr(kind, "__total__"):
            for key in get_type_hints(kind):
                ranks.setdefault(key, len(ranks))
    return ranks


_RANK = _declared_order()


def ordered(value: Any) -> Any:
    """``value`` with the keys of every mapping in a fixed order: as declared, others by name."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value, key=lambda key: (_RANK.get(key, len(_RANK)), key))}
    if isinstance(value, list | tuple):
        return [ordered(item) for item in value]
    return value


def encode_json(value: Any) -> bytes:
    """``value`` as compact UTF-8 JSON in its own order of keys; ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
