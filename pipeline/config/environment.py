"""Secrets and settings from outside the file: ``${NAME}``, ``${NAME:-default}`` and the ``*_file`` keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pipeline.config.document import Entry, Node, dotted
from pipeline.config.problems import Problem, nearest
from pipeline.config.secrets import MASK, names_secret, remember_secret, secrets_in

_MAX_SECRET_BYTES = 65_536

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)\}|\$\{")
_BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?$", re.DOTALL)
# Where a value stands in the user:password part of a URL, what it holds must not be read as '@' or '/'.
_BEFORE_HOST = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#\s]*$", re.IGNORECASE)
_THEN_HOST = re.compile(r"^[^/?#\s]*@")
_UNENCODED_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

_FILE_KEYS = {
    "url_file": "url",
    "username_file": "username",
    "password_file": "password",
    "key_password_file": "key_password",
    "source_file": "source",
}


FROM_FILE = "${file}"
"""What stands as written where a value was read from a file."""

STAND_IN = "not-here"
"""What stands for a camera's secret where secrets are not needed: who judges pictures need not know who may see them.

It changes no ``config_sha256``: secrets are not part of it.
"""


def fill_in(root: Node, file: str, env: Mapping[str, str], *, secrets: bool = True) -> list[Problem]:
    """Replace the placeholders of every text in the tree; what is wrong with them.

    secrets: whether those of cameras must be there; if not, ``STAND_IN`` stands for what is missing.
    """
    problems: list[Problem] = []
    seen: set[int] = set()
    for path, node in root.scalars():
        if id(node) not in seen and isinstance(node.value, str) and "${" in node.value:
            seen.add(id(node))  # an alias leads to one node twice
            _fill_in_text(node, path, file, env, problems, secrets or path[:1] == ("kafka",))
    return problems


def read_secret_files(root: Node, file: str, folder: Path, *, secrets: bool = True) -> list[Problem]:
    """Put the content of ``*_file`` beside them, under the key without ``_file``; what is wrong with them.

    secrets: whether those of cameras must be there; if not, ``STAND_IN`` stands for what cannot be read.
    """
    problems: list[Problem] = []
    _read_files_of(root, (), file, folder, problems, secrets)
    return problems


def placeholders(text: str) -> Iterator[tuple[str, str | None]]:
    """Name and default (None: it has none) of each ``${NAME:-default}`` in ``text``."""
    for found in _PLACEHOLDER.finditer(text):
        body = _BODY.match(found["body"] or "")
        if body is not None:
            yield body["name"], body["default"]


def without_placeholders(text: str) -> str:
    """``text`` with each placeholder taken out."""
    return _PLACEHOLDER.sub("", text)


def _fill_in_text(
    node: Node, path: tuple[str | int, ...], file: str, env: Mapping[str, str], problems: list[Problem], secrets: bool
) -> None:
    text = str(node.value)
    value, shown, end = "", "", 0
    for found in _PLACEHOLDER.finditer(text):
        value, shown = value + text[end : found.start()], shown + text[end : found.start()]
        end = found.end()
        if found[0] == "$${":
            value, shown = value + "${", shown + "${"
            continue
        body = _BODY.match(found["body"] or "")
        if body is None:
            message = "a placeholder that cannot be read" if found["body"] is not None else "${ without its }"
            mend = "write ${NAME} or ${NAME:-default}; $${ for the characters themselves"
            problems.append(Problem(file, node.line, node.column, dotted(path), message, mend, "env-syntax"))
            continue
        name, default = body["name"], body["default"]
        got = env.get(name) or default if default is not None else env.get(name)
        masked = _PLACEHOLDER.sub("x", text[: found.start()]), _PLACEHOLDER.sub("x", text[found.end() :])
        before_host = bool(_BEFORE_HOST.match(masked[0]) and _THEN_HOST.match(masked[1]))
        if got is None:
            hidden = names_secret(name) or before_host or any(found[0] in secret for secret in secrets_in(text))
            if secrets or not hidden:
                problems.append(_unset(node, path, file, name, env))
                continue
            got = STAND_IN
        elif names_secret(name):
            remember_secret(got)
        node.secret = node.secret or names_secret(name)
        if before_host:
            got = quote(_UNENCODED_PERCENT.sub("%25", got), safe="%")
        value, shown = value + got, shown + (MASK if names_secret(name) else got)
    node.value, node.shown = value + text[end:], shown + text[end:]


def _unset(node: Node, path: tuple[str | int, ...], file: str, name: str, env: Mapping[str, str]) -> Problem:
    near = nearest(name, [known for known in env if known != name])
    mend = f"set it, or write ${{{name}:-default}}"
    if near is not None:
        mend = f"did you mean ${{{near}}}? Else {mend}"
    message = f"the environment variable {name} is not set"
    return Problem(file, node.line, node.column, dotted(path), message, mend, "env-unset")


def _read_files_of(
    node: Node, path: tuple[str | int, ...], file: str, folder: Path, problems: list[Problem], secrets: bool
) -> None:
    if isinstance(node.value, list):
        for i, item in enumerate(node.value):
            _read_files_of(item, (*path, i), file, folder, problems, secrets)
    if not isinstance(node.value, dict):
        return
    for key, entry in list(node.value.items()):
        stem = _FILE_KEYS.get(key)
        told = entry.node.value
        if stem is None or isinstance(told, dict | list) or told is None:
            _read_files_of(entry.node, (*path, key), file, folder, problems, secrets)
            continue
        if _is_given(node, key, stem):
            message, mend = f"{stem} and {key} are both given", "keep one of the two"
            problems.append(
                Problem(file, entry.line, entry.column, dotted((*path, key)), message, mend, "secret-twice")
            )
            continue
        try:
            secret = _secret_in(folder / str(told))
        except (OSError, ValueError) as error:
            if not secrets and path[:1] != ("kafka",):
                _put(node, stem, f"rtsp://{STAND_IN}/" if stem in ("url", "source") else STAND_IN, entry)
                continue
            reason = error.strerror if isinstance(error, OSError) else str(error)
            place = (entry.node.line, entry.node.column)
            message, mend = f"cannot read {told}: {reason}", "one line of text is expected"
            problems.append(Problem(file, *place, dotted((*path, key)), message, mend, "secret-file"))
            continue
        _put(node, stem, secret, entry)


def _is_given(node: Node, key: str, stem: str) -> bool:
    """Whether the value that the file holds is also written out."""
    other = node.get(stem)
    if key == "source_file" and other is not None and isinstance(other.value, dict):
        other = other.get("url")
    return other is not None and not other.is_null


def _put(node: Node, stem: str, secret: str, entry: Entry) -> None:
    assert isinstance(node.value, dict)
    if stem != "username" and STAND_IN not in secret:
        remember_secret(secret)
    at = (entry.node.line, entry.node.column)
    put = Node(secret, *at, written=FROM_FILE, shown=MASK, secret=True)
    options = node.get(stem)
    if stem == "source" and options is not None and isinstance(options.value, dict):
        options.value["url"] = Entry(put, entry.line, entry.column)
    else:
        node.value[stem] = Entry(put, entry.line, entry.column)


def _secret_in(path: Path) -> str:
    data = path.read_bytes()[: _MAX_SECRET_BYTES + 1]
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not text.strip():
        raise ValueError("it is empty")
    if "\n" in text or len(data) > _MAX_SECRET_BYTES:
        raise ValueError("it holds more than one line")
    return text
