"""From pydantic's complaints to findings a person can act on: place, words, nearest key, mend."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.document import Node, Place, dotted
from pipeline.config.problems import Problem, did_you_mean, edit_distance, nearest
from pipeline.config.secrets import names_secret

Path = tuple[str | int, ...]

_MISSING_MENDS = {
    "source": "add source: a URL, a file, a folder or /dev/video0",
    "points": "add points: [[x0, y0], [x1, y1]], 0..1 of the picture",
    "cameras": "add cameras: with a name and a source each",
}
_COMPARISONS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def unknown_keys(
    node: Node, model: type[BaseModel], path: Path, file: str, elsewhere: Mapping[str, str]
) -> list[Problem]:
    """Every key in the tree that ``model`` does not have, with the nearest it has.

    elsewhere: key -> where it belongs, for keys that exist in another place.
    """
    return list(_unknown(node, model, path, file, elsewhere))


def _unknown(node: Node, annotation: Any, path: Path, file: str, elsewhere: Mapping[str, str]) -> Iterator[Problem]:
    model, item = _shape(annotation)
    if isinstance(node.value, dict):
        for key, entry in node.value.items():
            here: Any = item
            if model is not None:
                field = model.model_fields.get(key)
                if field is None:
                    yield _unknown_key(key, (entry.line, entry.column), model, (*path, key), file, elsewhere)
                    continue
                here = field.annotation
            if here is not None:
                yield from _unknown(entry.node, here, (*path, key), file, elsewhere)
    elif isinstance(node.value, list) and item is not None:
        for i, child in enumerate(node.value):
            yield from _unknown(child, item, (*path, i), file, elsewhere)


def _unknown_key(
    key: str, place: Place, model: type[BaseModel], path: Path, file: str, elsewhere: Mapping[str, str]
) -> Problem:
    known = [name for name in model.model_fields if not name.startswith("_")]
    here, there = nearest(key, known), nearest(key, elsewhere)
    mend = did_you_mean(key, known)
    if key in elsewhere:
        # A slip of one letter may make a key of another place: mode for model.
        close = here is not None and edit_distance(key, here) <= 1
        mend = f"{mend} {key!r} belongs {elsewhere[key]}" if close else f"it belongs {elsewhere[key]}"
    elif here is None and there is not None:
        mend = f"did you mean {there!r}? It belongs {elsewhere[there]}"
    return Problem(file, *place, dotted(path), f"unknown key {key!r}", mend, "unknown-key")


def _shape(annotation: Any) -> tuple[type[BaseModel] | None, Any]:
    """What stands behind a type: a model, or the type of the items of its map or list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return next((shape for shape in map(_shape, inner) if shape != (None, None)), (None, None))
    if origin is dict:
        return None, inner[1]
    if origin in (tuple, list):
        return None, inner[0]
    if hasattr(annotation, "__metadata__"):
        return _shape(inner[0])
    return None, None


def problems_of(error: ValidationError, node: Node, path: Path, file: str) -> list[Problem]:
    """The findings behind pydantic's error about the tree ``node``, whose place in the file is ``path``."""
    return [
        _problem(detail, node, path, file)
        for detail in error.errors(include_url=False)
        if detail["type"] != "extra_forbidden"  # ``unknown_keys`` says these, once and with the nearest key
    ]


def _problem(detail: ErrorDetails, node: Node, path: Path, file: str) -> Problem:
    at_key = detail["loc"][-1:] == ("[key]",)
    loc: Path = tuple(step for step in detail["loc"] if step != "[key]")
    if detail["type"] == "missing":
        missing = str(loc[-1])
        line, column = node.place(loc[:-1], at_key=len(loc) > 1)
        mend = _MISSING_MENDS.get(missing, f"add {missing}")
        return Problem(file, line, column, dotted((*path, *loc[:-1])), f"{missing} is missing", mend, "missing-key")
    walked = list(node.steps(loc))
    reached = walked[-1][1] if walked else node
    at: Path = (*path, *(step for step, _, _ in walked))
    line, column = node.place(loc, at_key=at_key)
    hidden = reached.secret or any(names_secret(str(step)) for step in at)
    message, mend, code = _words(detail, "" if hidden else _echo(reached), reached)
    if reached.written.startswith("${") and not hidden:
        mend = f"{mend}; the value comes from {reached.written}" if mend else f"the value comes from {reached.written}"
    return Problem(file, line, column, dotted(at), message, mend, code)


def _echo(node: Node) -> str:
    """``, not 'abc'`` for a short scalar."""
    value = node.value
    if isinstance(value, dict):
        return ", not a map of keys"
    if isinstance(value, list):
        return ", not a list"
    if value is None:
        return ", not nothing"
    text = node.shown if node.shown is not None else str(value)
    return f", not {text if not isinstance(value, str) else repr(text)}" if len(text) <= 40 else ""


def _words(detail: ErrorDetails, echo: str, node: Node) -> tuple[str, str, str]:
    """Message, mend and code of one complaint."""
    kind, context = detail["type"], detail.get("ctx", {})
    if "mend" in context or not detail["msg"][:1].isupper():
        return detail["msg"], str(context.get("mend", "")), kind  # one of our own validators
    if kind in _COMPARISONS:
        word, limit = _COMPARISONS[kind]
        return f"must be {word} {context[limit]:g}{echo}", "", "out-of-range"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        near = nearest(str(node.value), allowed) if echo else None
        return f"must be {_either(allowed)}{echo}", f"did you mean {near!r}?" if near else "", "unknown-value"
    if kind.startswith(("int_", "float_")) or kind == "finite_number":
        return f"must be a {'whole ' if kind.startswith('int_') else ''}number{echo}", "", "wrong-type"
    if kind.startswith("bool_"):
        return f"must be true or false{echo}", "", "wrong-type"
    if kind == "string_type":
        return f"must be text{echo}", "put it between quotes", "wrong-type"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a map of keys{echo}", "", "wrong-type"
    if kind in ("tuple_type", "list_type"):
        return f"must be a list{echo}", "", "wrong-type"
    if kind == "timezone_aware":
        return f"must have a time zone{echo}", "add Z for UTC, or +02:00", "no-time-zone"
    if kind.startswith("datetime") or kind == "date_from_datetime_inexact":
        return f"must be a time{echo}", "write it whole: 2026-01-01T08:00:00Z", "wrong-type"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty", "", "empty"
    if kind == "string_pattern_mismatch":
        return f"has characters that are not allowed here{echo}", "", "bad-name"
    return detail["msg"][:1].lower() + detail["msg"][1:], "", "invalid"


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
