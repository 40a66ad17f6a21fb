"""A camera's configuration on its own: what ``passerby apply`` puts into the log, and workers take out of it.

The document is the camera with the defaults of the file merged in, as JSON. Where its source is (``url``, user,
password, their files) stands as it was written, ``${NAME}`` and all, to be filled in by the worker that opens it; every
other placeholder is filled in already, so that all workers judge by the same rules. Relative paths stay relative, and
begin at the folder of the worker's own configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.document import MAX_DEPTH, Entry, Node, tree_of
from pipeline.config.environment import FROM_FILE, fill_in, placeholders, read_secret_files, without_placeholders
from pipeline.config.loading import config_of
from pipeline.config.models import CameraConfig, Config
from pipeline.config.problems import ConfigProblems, Problem
from pipeline.config.secrets import names_secret, secrets_in

_AS_WRITTEN = ("url", "username", "password", "url_file", "username_file", "password_file")


def camera_document(config: Config, camera_id: str) -> dict[str, Any]:
    """The document of a camera of a configuration that was read from a file. Raises KeyError for no such camera.

    Raises ConfigProblems, with file, line and mend, where a secret is written out: it would lie in the log.
    """
    node = config.cameras[camera_id]._node
    assert node is not None
    problems = [
        config.problem(
            ("cameras", camera_id, *path), "a secret in plain text: everyone who may read the topic could read it",
            _mend(camera_id), code="plain-secret", severity="error",
        )
        for path, scalar in node.scalars()
        if _tells_a_secret(path, scalar)
    ]  # fmt: skip
    if problems:
        raise ConfigProblems(problems)
    document: dict[str, Any] = _document(node, ())
    return document


def camera_from_document(
    camera_id: str, document: Mapping[str, Any], env: Mapping[str, str], folder: Path, *, secrets: bool = True
) -> CameraConfig:
    """The camera that a document describes. env, folder: the worker's own environment, and folder for relative paths.

    secrets: False for who does not open the source: its secrets need not be set here, and ``config_sha256`` is the
    same. Raises ConfigProblems for a document that is wrong, or a variable that is not set.
    """
    file = f"camera {camera_id} (from the log)"
    _require_flat(document, file)
    camera = tree_of(document, written=True)
    root = Node({"cameras": Entry(Node({camera_id: Entry(camera, 0, 0)}, 0, 0), 0, 0)}, 0, 0)
    problems = fill_in(root, file, env, secrets=secrets) + read_secret_files(root, file, folder, secrets=secrets)
    return config_of(root, file, folder, problems).camera(camera_id)


def camera_environment(config: Config, env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without the variables that the worker's own ``kafka`` section uses.

    A camera's document comes out of the log: who may write it could else have the password of the log sent anywhere,
    as part of a camera's URL.
    """
    kafka = config._node.get("kafka") if config._node is not None else None
    own = {name for _, node in (kafka.scalars() if kafka else ()) for name, _ in placeholders(node.written)}
    return {name: value for name, value in env.items() if name not in own}


def _document(node: Node, path: tuple[str | int, ...]) -> Any:
    if isinstance(node.value, dict):
        told = {
            key: _document(entry.node, (*path, key))
            for key, entry in node.value.items()
            if not entry.node.is_null and not _is_from_file(entry.node)
        }
        return {key: value for key, value in told.items() if value != {} or key != "source"}
    if isinstance(node.value, list):
        return [_document(item, (*path, i)) for i, item in enumerate(node.value)]
    if not isinstance(node.value, str):
        return node.value
    return node.written if _is_place(path) or node.secret else node.value.replace("${", "$${")


def _is_place(path: tuple[str | int, ...]) -> bool:
    """Whether a value says where the source is, or who we are to it."""
    return path == ("source_file",) or (len(path) == 2 and path[0] == "source" and path[1] in _AS_WRITTEN)


def _is_from_file(node: Node) -> bool:
    """Whether ``read_secret_files`` put it there: the document has the name of the file."""
    return node.secret and node.written == FROM_FILE


def _tells_a_secret(path: tuple[str | int, ...], node: Node) -> bool:
    if not isinstance(node.value, str) or _is_from_file(node):
        return False
    if any(default and names_secret(name) for name, default in placeholders(node.written)):
        return True
    secrets = [node.written] if path[-1] == "password" else secrets_in(node.written) if _is_place(path) else []
    return any(
        without_placeholders(secret) or any(default for _, default in placeholders(secret)) for secret in secrets
    )


def _mend(camera_id: str) -> str:
    name = re.sub(r"[^A-Z0-9]+", "_", camera_id.upper()).strip("_") + "_PASSWORD"
    return (
        f"write ${{{name}}} in its place, without a default, and set that where the workers run; or use password_file"
    )


def _require_flat(document: Mapping[str, Any], file: str) -> None:
    """Refuse what nests deeper than a file could: the tree is walked by recursion."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, Mapping | list)
            for item in (value.values() if isinstance(value, Mapping) else value)
        ]
        if not level:
            return
    raise ConfigProblems([Problem(file, 0, 0, "", "it nests too deep", "", "too-deep")])
