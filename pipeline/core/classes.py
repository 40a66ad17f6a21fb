"""Classes and their groups.

A class is what a model calls an object (``car``); a group is what people count (``vehicle``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Group = Literal["person", "vehicle"]

GROUPS: dict[Group, frozenset[str]] = {
    "person": frozenset({"person"}),
    # "vehicle" is also a class of its own: some models know only "a vehicle of any kind".
    "vehicle": frozenset({"vehicle", "car", "motorcycle", "bus", "truck"}),
}

_GROUP_OF: dict[str, Group] = {name: group for group, names in GROUPS.items() for name in names}


def group_of(class_name: str) -> Group | None:
    """The group a class belongs to, or None for a class outside both (a bicycle, a dog)."""
    return _GROUP_OF.get(class_name)


def expand(selectors: Iterable[str]) -> frozenset[str]:
    """The classes that a mix of classes and groups selects: ``["person", "vehicle"]`` gives six names."""
    chosen: set[str] = set()
    for selector in selectors:
        chosen |= GROUPS.get(selector, frozenset({selector}))  # type: ignore[call-overload]
    return frozenset(chosen)
