"""A YAML text as a tree that knows where everything stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Scalar = str | int | float | bool | None
Place = tuple[int, int]
"""Line and column, from 1."""


@dataclass(slots=True)
class Node:
    """A value: a scalar, a mapping or a list; ``line`` and ``column`` count from 1.

    secret: the value was read from a secret file or an environment variable whose name says so.
    """

    value: Scalar | dict[str, Entry] | list[Node]
    line: int
    column: int
    secret: bool = False
    from_env: tuple[str, ...] = ()

    def place(self, path: Sequence[str | int], *, at_key: bool = False) -> Place:
        """Where the value at ``path`` stands (its key with ``at_key``), or the last step of the path that exists."""
        node, place = self, (self.line, self.column)
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                entry = node.value[str(step)]
                place = (entry.line, entry.column) if at_key else (entry.node.line, entry.node.column)
                node = entry.node
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                place = (node.line, node.column)
            else:
                break
        return place


@dataclass(slots=True)
class Entry:
    """A key of a mapping, where it stands, and its value."""

    node: Node
    line: int
    column: int
