"""How much an object holds: what is reachable from it, counted and weighed."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

_NOT_ITS_OWN = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


@dataclass(frozen=True)
class Footprint:
    """objects: reachable, each once. size_bytes: of them all, arrays with their data."""

    objects: int
    size_bytes: int


def footprint(root: object) -> Footprint:
    """Of everything reachable from ``root`` but modules, classes and functions."""
    gc.collect()
    seen: set[int] = set()
    waiting: list[object] = [root]
    size_bytes = 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _NOT_ITS_OWN):
            continue
        seen.add(id(each))
        size_bytes += sys.getsizeof(each)
        waiting.extend(gc.get_referents(each))
    return Footprint(len(seen), size_bytes)
