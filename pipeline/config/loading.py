"""The way of a file to a ``Config``:

1. YAML with places (document), then secrets and settings from outside put in (environment)
2. keys nobody knows, each with the nearest known
3. each camera laid over the defaults, and checked as a whole; what belongs to the process, checked
4. if anything is wrong, all of it is raised at once; else relative paths are resolved
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from pipeline.config.checking import problems_of, unknown_keys
from pipeline.config.document import Entry, Node, merged, parse, plain
from pipeline.config.environment import fill_in, read_secret_files
from pipeline.config.kafka import KafkaConfig
from pipeline.config.models import CAMERA_ID_PATTERN, CameraConfig, Config
from pipeline.config.problems import ConfigProblems, Problem, did_you_mean
from pipeline.config.secrets import SecretUrl
from pipeline.config.sections import SourceConfig
from pipeline.core.classes import GROUPS
from pipeline.errors import ConfigError

ClassesOf = Callable[[str], Sequence[str] | None]
"""The classes of a model by its name or folder; None when it cannot be loaded."""

SCHEMES = ("rtsp", "rtsps", "rtspt", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp", "synthetic")

_DEFAULTS = tuple(name for name in CameraConfig.model_fields if name in Config.model_fields)
_PROCESS = tuple(name for name in Config.model_fields if name not in (*_DEFAULTS, "cameras"))
_KAFKA_FILES = ("topics", "ca_file", "cert_file", "key_file")
_ELSEWHERE_AT_TOP = {
    name: "inside a camera" for name in CameraConfig.model_fields if name not in Config.model_fields
} | dict.fromkeys(SourceConfig.model_fields, "inside a camera, under source")
_ELSEWHERE_IN_CAMERA = dict.fromkeys((*_PROCESS, "cameras"), "at the top of the file") | dict.fromkeys(
    SourceConfig.model_fields, "under source"
)


def load_config(
    path: str | Path,
    env: Mapping[str, str] = os.environ,
    *,
    classes_of: ClassesOf | None = None,
    cameras: bool = True,
    secrets: bool = True,
) -> Config:
    """Read and check a configuration file.

    Raises ConfigProblems (a ConfigError) with every problem there is, sorted by line. classes_of: also check the
    classes of lines and zones against the model's own. cameras: False leaves the cameras out, unread: a worker has
    them from the log. secrets: False puts up with secrets of cameras that are not set here: who applies a
    configuration need not know them.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", mend="passerby init SOURCE writes one") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    folder = Path(path).resolve().parent
    return read_config(text, str(path), folder, env, classes_of=classes_of, cameras=cameras, secrets=secrets)


def read_config(
    text: str,
    file: str,
    folder: Path,
    env: Mapping[str, str],
    *,
    classes_of: ClassesOf | None = None,
    cameras: bool = True,
    secrets: bool = True,
) -> Config:
    """Check a configuration's text. file: how to call it in messages. folder: where relative paths start."""
    root, problems = parse(text, file)
    if root is not None and not isinstance(root.value, dict):
        problems.append(
            Problem(
                file, root.line, root.column, "", "not a map of keys", "write key: value, with a space", "not-a-map"
            )
        )
    if root is None or not isinstance(root.value, dict):
        raise ConfigProblems(problems)
    if not cameras:
        root.value.pop("cameras", None)
    problems += fill_in(root, file, env, secrets=secrets) + read_secret_files(root, file, folder, secrets=secrets)
    config = config_of(root, file, folder, problems, cameras=cameras)
    if classes_of is not None:
        problems = class_problems(config, classes_of)
        if problems:
            raise ConfigProblems(problems)
    config._text = text
    return config


def config_of(root: Node, file: str, folder: Path, problems: Sequence[Problem] = (), *, cameras: bool = True) -> Config:
    """The configuration of a tree. problems: what is known to be wrong with it already. cameras: whether it needs any.

    Raises ConfigProblems with those and all that is found.
    """
    config, found = _Reader(root, file, folder, cameras=cameras).read()
    if config is None or found or problems:
        # A value that could not be filled in is wrong once, not also for what is left of it.
        unfilled = {(problem.line, problem.column) for problem in problems if problem.code == "env-unset"}
        found = [problem for problem in found if not problem.line or (problem.line, problem.column) not in unfilled]
        raise ConfigProblems([*problems, *found])
    return config


class _Reader:
    """Turns a tree into a Config, and remembers what is wrong."""

    def __init__(self, root: Node, file: str, folder: Path, *, cameras: bool = True) -> None:
        assert isinstance(root.value, dict)
        self._root = root
        self._top = {key: entry for key, entry in root.value.items() if not key.startswith("x-")}
        self._file = file
        self._folder = folder
        self._needs_cameras = cameras
        self._problems: list[Problem] = []

    def read(self) -> tuple[Config | None, list[Problem]]:
        top = Node(
            {key: entry for key, entry in self._top.items() if key != "cameras"}, self._root.line, self._root.column
        )
        self._problems += unknown_keys(top, Config, (), self._file, _ELSEWHERE_AT_TOP)
        self._check_default_source(top)
        # The defaults first: what is wrong with them is told of them, not of each camera that has them from there.
        settings = self._validated(Config, self._known(top, Config), (), {"cameras": {}})
        cameras = {name: self._camera(name, entry) for name, entry in self._camera_entries().items()}
        kafka = self._kafka(settings.kafka) if settings is not None else None
        if settings is None or None in cameras.values() or self._problems:
            return None, self._problems
        config = settings.model_copy(update={"cameras": cameras, "kafka": kafka})
        config._file, config._node = self._file, self._root
        return config, self._problems

    def _camera_entries(self) -> dict[str, Entry]:
        entry = self._top.get("cameras")
        if entry is None and not self._needs_cameras:
            return {}
        if entry is None or entry.node.is_null or entry.node.value == {}:
            at = entry or Entry(self._root, self._root.line, self._root.column)
            mend = "add cameras: with a name and a source each"
            self._wrong(at.line, at.column, "cameras", "there are no cameras", mend, "no-cameras")
            return {}
        if not isinstance(entry.node.value, dict):
            message, mend = "must be a map, name: camera", "write 'gate:' and indent its source below"
            self._wrong(entry.node.line, entry.node.column, "cameras", message, mend, "wrong-type")
            return {}
        return entry.node.value

    def _camera(self, name: str, entry: Entry) -> CameraConfig | None:
        path = ("cameras", name)
        if not re.match(CAMERA_ID_PATTERN, name):
            slug = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-._")[:64]
            message = "a camera's name has a-z, 0-9, '_', '-', '.' (64 at most) and begins with a letter or digit"
            mend = f"write {slug}" if slug else ""
            self._wrong(entry.line, entry.column, f"cameras.{name}", message, mend, "camera-name")
        node = Node({}, entry.line, entry.column) if entry.node.is_null else entry.node
        node = _source_as_map(node)
        self._problems += unknown_keys(node, CameraConfig, path, self._file, _ELSEWHERE_IN_CAMERA)
        if not isinstance(node.value, dict):
            message = "must be a map of keys"
            self._wrong(node.line, node.column, f"cameras.{name}", message, "write source: below it", "wrong-type")
            return None
        if "source" not in node.value:
            self._wrong(
                entry.line, entry.column, f"cameras.{name}", "source is missing",
                "add source: a URL, a file, a folder or /dev/video0", "missing-key",
            )  # fmt: skip
            return None
        whole = merged(Node({key: e for key, e in self._top.items() if key in _DEFAULTS}, 0, 0), node)
        assert whole is not None
        camera = self._validated(CameraConfig, self._known(whole, CameraConfig), path, {})
        if camera is None:
            return None
        camera = self._with_paths(name, camera, whole)
        camera._id, camera._node = name, whole
        return camera

    def _kafka(self, kafka: KafkaConfig) -> KafkaConfig:
        """Its files looked for, beside the configuration where they are relative."""
        update: dict[str, object] = {}
        for name in _KAFKA_FILES:
            told = getattr(kafka, name)
            if told is None:
                continue
            path = self._folder / Path(told).expanduser()
            update[name] = str(path)
            if not path.is_file():
                line, column = self._root.place(("kafka", name))
                mend = "relative paths start at the folder of the configuration"
                self._wrong(line, column, f"kafka.{name}", f"there is no file {path}", mend, "no-file")
        spool = kafka.spool.model_copy(update={"dir": str(self._folder / Path(kafka.spool.dir).expanduser())})
        return kafka.model_copy(update={**update, "spool": spool})

    def _check_default_source(self, top: Node) -> None:
        source = top.get("source")
        if source is None or source.is_null:
            return
        url = source if not isinstance(source.value, dict) else source.get("url") or source.get("url_file")
        if url is not None:
            message, mend = "a source at the top is the default of all cameras: it has no url", "move it into a camera"
            self._wrong(url.line, url.column, "source", message, mend, "default-url")

    def _known(self, node: Node, model: type[Config] | type[CameraConfig]) -> Node:
        """Without the keys that ``unknown_keys`` has already told of."""
        assert isinstance(node.value, dict)
        return Node({k: e for k, e in node.value.items() if k in model.model_fields}, node.line, node.column)

    def _validated(self, model: type, node: Node, path: tuple[str, ...], more: dict[str, object]):  # type: ignore[no-untyped-def]
        try:
            return model.model_validate({**_with_shown(plain(node), node), **more})  # type: ignore[attr-defined]
        except ValidationError as error:
            self._problems += problems_of(error, node, path, self._file)
        return None

    def _with_paths(self, name: str, camera: CameraConfig, node: Node) -> CameraConfig:
        """Relative paths start at the folder of the file."""
        update: dict[str, object] = {}
        url = camera.source.url
        assert url is not None
        if camera.source.is_local_file:
            placed = SecretUrl(str(self._folder / Path(url.reveal()).expanduser()))
            update["source"] = camera.source.model_copy(update={"url": placed})
        elif url.is_url:
            self._check_url(url, node, name)
        update["model"] = self._model_path(camera.model)
        for key, section in (("scene", camera.scene), ("labels", camera.labels)):
            if section.model is not None:
                update[key] = section.model_copy(update={"model": self._model_path(section.model)})
        return camera.model_copy(update=update)

    def _model_path(self, model: str) -> str:
        """A model's name as it is; a folder, relative to the file, with its whole path."""
        if "/" in model or model[:1] in ".~" or (self._folder / model / "manifest.yaml").is_file():
            return str((self._folder / Path(model).expanduser()).resolve())
        return model

    def _check_url(self, url: SecretUrl, node: Node, name: str) -> None:
        (line, column), key = node.place(("source", "url")), f"cameras.{name}.source"
        scheme = url.reveal().partition("://")[0].lower()
        if scheme not in SCHEMES:
            mend = "write the path itself" if scheme == "file" else did_you_mean(scheme, SCHEMES)
            self._wrong(line, column, key, f"unknown scheme {scheme}://", mend, "unknown-scheme")
            return
        try:
            parts = urlsplit(url.reveal())
            _ = parts.port
            host = parts.hostname
        except ValueError:
            host = None
        if not host:
            mend = "give username and password keys beside url, or percent-encode / ? # @ in the password"
            self._wrong(line, column, key, "the URL's host or port cannot be read", mend, "bad-url")

    def _wrong(self, line: int, column: int, key: str, message: str, mend: str, code: str) -> None:
        self._problems.append(Problem(self._file, line, column, key, message, mend, code))


def _source_as_map(camera: Node) -> Node:
    """``source: URL`` is short for ``source: {url: URL}``."""
    source = camera.get("source")
    if source is None or source.is_null or isinstance(source.value, dict | list):
        return camera
    assert isinstance(camera.value, dict)
    entry = camera.value["source"]
    url = Node({"url": Entry(source, entry.line, entry.column)}, source.line, source.column)
    return Node({**camera.value, "source": Entry(url, entry.line, entry.column)}, camera.line, camera.column)


def _with_shown(data: dict[str, object], node: Node) -> dict[str, object]:
    """The source's URL as a SecretUrl that knows which parts of it came from secret places."""
    url = node.find(("source", "url"))
    source = data.get("source")
    if url is not None and url.shown is not None and isinstance(url.value, str) and isinstance(source, dict):
        return {**data, "source": {**source, "url": SecretUrl(url.value, url.shown)}} if url.value.strip() else data
    return data


def class_problems(config: Config, classes_of: ClassesOf) -> list[Problem]:
    """Classes of lines and zones that the camera's model does not know."""
    problems: list[Problem] = []
    for camera_id, camera in config.cameras.items():
        own = classes_of(camera.model)
        if own is None:
            continue
        known = [*GROUPS, *(name for name in own if name not in GROUPS)]
        for kind, rules in (("lines", camera.lines), ("zones", camera.zones)):
            for name, rule in rules.items():
                for i, word in enumerate(rule.classes):
                    if word not in known:
                        key = ("cameras", camera_id, kind, name, "classes", i)
                        message = f"the model {camera.model} has no class or group {word!r}"
                        problems.append(
                            config.problem(
                                key, message, did_you_mean(word, known), code="unknown-class", severity="error"
                            )
                        )
    return problems
