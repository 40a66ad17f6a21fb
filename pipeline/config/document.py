"""A YAML text as a tree that knows where everything stands.

YAML 1.2's core types: only ``true`` and ``false`` are booleans (a camera may be called ``no``), ``1e3`` is a number,
and a date stays text. Anchors, aliases and merge keys (``<<``) work; tags do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from pipeline.config.problems import Problem

Scalar = str | int | float | bool | None
Place = tuple[int, int]
"""Line and column, from 1."""

_MAX_NODES = 500_000  # aliases of aliases grow without bound ("billion laughs")
MAX_DEPTH = 50


@dataclass(slots=True)
class Entry:
    """A key of a mapping, where it stands, and its value."""

    node: Node
    line: int
    column: int


@dataclass(slots=True)
class Node:
    """A value: a scalar, a mapping or a list; ``line`` and ``column`` count from 1.

    written: a scalar as it stands in the file, ``${ENV}`` not filled in. shown: its value with what came out of
    secret variables and files as ``***``. secret: whether anything did.
    """

    value: Scalar | dict[str, Entry] | list[Node]
    line: int
    column: int
    written: str = field(default="", repr=False)
    shown: str | None = None
    secret: bool = False

    def get(self, key: str) -> Node | None:
        """The value of a key, if this is a mapping that has it."""
        entry = self.value.get(key) if isinstance(self.value, dict) else None
        return entry.node if entry else None

    @property
    def is_null(self) -> bool:
        return self.value is None

    def steps(self, path: Sequence[str | int]) -> Iterator[tuple[str | int, Node, Place]]:
        """Walk ``path`` as far as it exists: each step, the node it leads to and where its key stands."""
        node = self
        for step in path:
            if isinstance(node.value, dict) and step in node.value:
                entry = node.value[str(step)]
                node, place = entry.node, (entry.line, entry.column)
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                place = (node.line, node.column)
            else:
                return
            yield step, node, place

    def find(self, path: Sequence[str | int]) -> Node | None:
        """The node at ``path``, if there is one."""
        found = [node for _, node, _ in self.steps(path)]
        return None if len(found) < len(path) else (found[-1] if found else self)

    def place(self, path: Sequence[str | int], *, at_key: bool = False) -> Place:
        """Where the value at ``path`` stands (its key with ``at_key``), or the last step of the path that exists."""
        last: Place = (self.line, self.column)
        for _, node, key_place in self.steps(path):
            last = key_place if at_key else (node.line, node.column)
        return last

    def scalars(self, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
        """Every scalar of the tree, in order, with its path; ``path``: where this node itself stands."""
        if isinstance(self.value, dict):
            for key, entry in self.value.items():
                yield from entry.node.scalars((*path, key))
        elif isinstance(self.value, list):
            for i, item in enumerate(self.value):
                yield from item.scalars((*path, i))
        else:
            yield path, self


def merged(default: Node | None, override: Node | None) -> Node | None:
    """``override`` laid over ``default``: maps key by key, all else as a whole. Nodes keep their places."""
    if default is None or override is None:
        return override if default is None else default
    if not isinstance(default.value, dict) or not isinstance(override.value, dict):
        return override
    entries = dict(default.value)
    for key, entry in override.value.items():
        below = entries.get(key)
        node = merged(below.node, entry.node) if below else entry.node
        assert node is not None
        entries[key] = Entry(node, entry.line, entry.column)
    return replace(override, value=entries)


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars; a key without a value (``lines:``) counts as not given."""
    if isinstance(node.value, dict):
        return {key: plain(entry.node) for key, entry in node.value.items() if not entry.node.is_null}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def tree_of(value: Any, *, written: bool = False) -> Node:
    """Plain data as a tree without places. written: texts count as written so, not as values that were filled in."""
    if isinstance(value, Mapping):
        return Node({str(key): Entry(tree_of(item, written=written), 0, 0) for key, item in value.items()}, 0, 0)
    if isinstance(value, list | tuple):
        return Node([tree_of(item, written=written) for item in value], 0, 0)
    return Node(value, 0, 0, written=value if written and isinstance(value, str) else "")


def parse(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of ``text`` and what is wrong with it as YAML. No tree for broken syntax, an empty map for no text."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        return None, list(_syntax_problems(error, text, file))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        message = f"a character that YAML does not allow (U+{ord(text[error.position]):04X})"
        return None, [Problem(file, line, column, "", message, "remove it", "yaml-syntax")]
    if root is None:
        return Node({}, 1, 1), []
    builder = _Builder(file)
    return builder.build(root, ()), builder.problems


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as YAML 1.2's core schema does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


def _resolves(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolves("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolves("int", r"^[-+]?[0-9]+$", "-+0123456789")
_resolves(
    "float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$", "-+.0123456789"
)
_resolves("float", r"^\.(?:nan|NaN|NAN)$", ".")
_resolves("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile(r"^$")))


class _Builder:
    """Turns PyYAML's nodes into ours."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._open: set[int] = set()
        self._nodes = 0

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Node:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._nodes += 1
        if id(node) in self._open or len(path) > MAX_DEPTH or self._nodes > _MAX_NODES:
            if self._nodes <= _MAX_NODES + 1:
                self._wrong(node, path, "aliases nest too deep", "write the values out", "yaml-aliases")
            return Node(None, line, column)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.ScalarNode):
                return Node(self._scalar(node, path), line, column, written=node.value)
            if not node.tag.startswith("tag:yaml.org,2002:"):
                self._unknown_tag(node, path)
            if isinstance(node, yaml.SequenceNode):
                return Node([self.build(item, (*path, i)) for i, item in enumerate(node.value)], line, column)
            return Node(self._mapping(node, path), line, column)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        inherited: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(key_node, path, "a key must be a word", "write key: value", "yaml-key")
                continue
            key, mark = key_node.value, key_node.start_mark
            if key == "<<" and key_node.style is None:
                inherited |= self._inherited(value_node, path)
                continue
            if key in entries:
                first = entries[key].line
                message = f"the key {key!r} is there twice, first in line {first}"
                self._wrong(key_node, (*path, key), message, "keep one of the two", "duplicate-key")
                continue
            entries[key] = Entry(self.build(value_node, (*path, key)), mark.line + 1, mark.column + 1)
        return {**inherited, **entries}

    def _inherited(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, Entry]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        entries: dict[str, Entry] = {}
        for part in reversed(parts):  # the first of several wins
            built = self.build(part, path)
            if isinstance(built.value, dict):
                entries |= built.value
            else:
                self._wrong(part, (*path, "<<"), "only a map can be merged in", "", "yaml-merge")
        return entries

    def _scalar(self, node: yaml.ScalarNode, path: tuple[str | int, ...]) -> Scalar:
        text: str = node.value
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
            case "null":
                return None
            case _:
                self._unknown_tag(node, path)
                return text

    def _unknown_tag(self, node: yaml.Node, path: tuple[str | int, ...]) -> None:
        mend = "for a secret write ${NAME} (environment) or the key with _file"
        self._wrong(node, path, f"the tag {node.tag} is not known here", mend, "yaml-tag")

    def _wrong(self, node: yaml.Node, path: tuple[str | int, ...], message: str, mend: str, code: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(self._file, mark.line + 1, mark.column + 1, dotted(path), message, mend, code))


def dotted(path: Sequence[str | int]) -> str:
    """``("cameras", "gate", "masks", 0)`` as people write it: ``cameras.gate.masks[0]``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


# What PyYAML's scanner and parser say (parts of it), and what the writer most likely did.
_MENDS = {
    "could not find expected ':'": "write 'key: value', with a colon and a space",
    "mapping values are not allowed": "put text that holds ': ' between quotes, and keys of one map under each other",
    "expected <block end>": "indent keys of one map alike",
    "did not find expected key": "indent keys of one map alike",
    "expected ',' or ']'": "close the list with ] and put commas between its parts",
    "expected ',' or '}'": "close the map with } and put commas between its parts",
    "unexpected end of stream": "close the quote",
    "cannot start any token": "put the text between quotes",
    "expected alphabetic or numeric character": "put the text between quotes: * and & have a meaning in YAML",
    "undefined alias": "put the text between quotes: * has a meaning in YAML",
    "but found another document": "one file holds one configuration: remove the line ---",
}


def _syntax_problems(error: yaml.MarkedYAMLError, text: str, file: str) -> Iterator[Problem]:
    tabs = [
        (number, re.match(r" *", line).end() + 1)  # type: ignore[union-attr]
        for number, line in enumerate(text.splitlines(), 1)
        if re.match(r" *\t\s*[^\s#]", line)
    ]
    if tabs:
        for line, column in tabs:
            yield Problem(file, line, column, "", "a tab in the indentation", "YAML indents with spaces", "yaml-tab")
        return
    mark = error.problem_mark or error.context_mark
    # Never str(error): it quotes the line, which may hold a password.
    told = (error.problem or error.context or "broken").removeprefix("found ")
    if "undefined alias" in told:
        told = "undefined alias"
    mend = next((mend for part, mend in _MENDS.items() if part in (error.problem or "") + (error.context or "")), "")
    since = error.context_mark.line + 1 if error.context_mark else 0
    opened = f" (of what begins in line {since})" if mark and since and since != mark.line + 1 else ""
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    yield Problem(file, *place, "", f"not YAML: {told}{opened}", mend, "yaml-syntax")
