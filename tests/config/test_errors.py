"""Every kind of mistake: found, all at once, with its line and column, the key, and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import ConfigProblems, load_config, read_config

ENV = {"GATE_PASSWORD": "pw-of-gate", "PATH": "/bin"}


def problems(text: str, folder: Path = Path("/nowhere"), **options: object) -> list[str]:
    """What is wrong with ``text``, one line each."""
    with pytest.raises(ConfigProblems) as caught:
        read_config(text, "f.yaml", folder, ENV, **options)  # type: ignore[arg-type]
    return [str(problem) for problem in caught.value.problems]


def camera(lines: str) -> str:
    """A file with one camera; ``lines`` begin in line 4, indented by four."""
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"cameras:\n  gate:\n    source: a.mp4\n{body}"


IN_CAMERA = {
    "unknown key": (
        "sample_pfs: 5",
        "4:5: cameras.gate.sample_pfs: unknown key 'sample_pfs'; did you mean 'sample_fps'?",
    ),
    "key of the top": ("kafka: {}", "4:5: cameras.gate.kafka: unknown key 'kafka'; it belongs at the top of the file"),
    "key of the source": (
        "transport: udp",
        "4:5: cameras.gate.transport: unknown key 'transport'; it belongs under source",
    ),
    "typo of a key from elsewhere": (
        "inferense: {}",
        "4:5: cameras.gate.inferense: unknown key 'inferense'; did you mean 'inference'? "
        "It belongs at the top of the file",
    ),
    "unknown in a line": (
        "lines:\n  street: {points: [[0, 0.5], [1, 0.5]], clases: [car]}",
        "5:46: cameras.gate.lines.street.clases: unknown key 'clases'; did you mean 'classes'?",
    ),
    "number": ("sample_fps: fast", "4:17: cameras.gate.sample_fps: must be a number, not 'fast'"),
    "true is no number": ("sample_fps: true", "4:17: cameras.gate.sample_fps: must be a number, not true or false"),
    "infinite": ("sample_fps: .inf", "4:17: cameras.gate.sample_fps: must be a number, not inf"),
    "range": ("sample_fps: 0", "4:17: cameras.gate.sample_fps: must be above 0, not 0"),
    "whole number": ("windows: {quality: 8.5}", "4:24: cameras.gate.windows.quality: must be a whole number, not 8.5"),
    "map": ("windows: 5", "4:14: cameras.gate.windows: must be a map of keys, not 5"),
    "yes or no": ("falls: sometimes", "4:12: cameras.gate.falls: must be true or false, not 'sometimes'"),
    "yes or no in a zone": (
        "zones:\n  floor: {points: [[0, 0], [1, 0], [1, 1]], falls: 3}",
        "5:56: cameras.gate.zones.floor.falls: must be true or false, not 3",
    ),
    "list": ("masks: 5", "4:12: cameras.gate.masks: must be a list, not 5"),
    "text": ("model: 5", "4:12: cameras.gate.model: must be text, not 5; put it between quotes"),
    "choice": (
        "windows: {encoding: jepg}",
        "4:25: cameras.gate.windows.encoding: must be raw or jpeg, not 'jepg'; did you mean 'jpeg'?",
    ),
    "time without zone": (
        "start: 2026-01-01 08:00:00",
        "4:12: cameras.gate.start: must have a time zone, not '2026-01-01 08:00:00'; add Z for UTC, or +02:00",
    ),
    "a number is no time": (
        "start: 2026",
        "4:12: cameras.gate.start: 2026 is not a time; write it whole: 2026-01-01T08:00:00Z",
    ),
    "no time": (
        "start: yesterday",
        "4:12: cameras.gate.start: must be a time, not 'yesterday'; write it whole: 2026-01-01T08:00:00Z",
    ),
    "pixels": (
        "lines:\n  street: {points: [[0, 0.5], [1280, 0.5]]}",
        "5:36: cameras.gate.lines.street.points[1][0]: 1280 looks like pixels, coordinates go from 0 to 1; "
        "divide x by the picture's width and y by its height",
    ),
    "outside": (
        "lines:\n  street: {points: [[0, 0.5], [1.2, 0.5]]}",
        "5:36: cameras.gate.lines.street.points[1][0]: 1.2 is outside the picture; coordinates go from 0 to 1",
    ),
    "negative": (
        "masks: [[[0, 0], [0.5, -0.1], [1, 1]]]",
        "4:28: cameras.gate.masks[0][1][1]: -0.1 is outside the picture; coordinates go from 0 to 1",
    ),
    "one point": (
        "lines:\n  street: {points: [[0, 0.5]]}",
        "5:24: cameras.gate.lines.street.points: a line needs two points, A and B; this has 1; add a point",
    ),
    "A is B": (
        "lines:\n  street: {points: [[0, 0.5], [0, 0.5]]}",
        "5:24: cameras.gate.lines.street.points: two points after each other are the same; "
        "give A and B their own places",
    ),
    "flat list": (
        "lines:\n  street: {points: [0, 0.5, 1, 0.5]}",
        "5:24: cameras.gate.lines.street.points: a flat list of numbers; write points in pairs: [[x0, y0], [x1, y1]]",
    ),
    "point as a map": (
        "lines:\n  street: {points: [{x: 0, y: 0.5}, [1, 0.5]]}",
        "5:25: cameras.gate.lines.street.points[0]: a point is a pair; write [0, 0.5]",
    ),
    "three numbers": (
        "lines:\n  street: {points: [[0, 0.5, 1], [1, 0.5]]}",
        "5:25: cameras.gate.lines.street.points[0]: a point has two numbers, x and y; this has 3",
    ),
    "no points": (
        "lines:\n  street: {classes: [car]}",
        "5:7: cameras.gate.lines.street: points is missing; add points: [[x0, y0], [x1, y1]], 0..1 of the picture",
    ),
    "two corners": (
        "zones:\n  plaza: {points: [[0, 0], [1, 1]]}",
        "5:23: cameras.gate.zones.plaza.points: an area needs three corners or more; this has 2; add corners",
    ),
    "bow tie": (
        "zones:\n  plaza: {points: [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]}",
        "5:23: cameras.gate.zones.plaza.points: the outline crosses itself: the edge after corner 1 meets the edge "
        "after corner 3; list the corners in order round the area",
    ),
    "flat area": (
        "zones:\n  plaza: {points: [[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]}",
        "5:23: cameras.gate.zones.plaza.points: the area is empty: its corners lie on one line; move a corner",
    ),
    "corner twice": (
        "zones:\n  plaza: {points: [[0.1, 0.1], [0.5, 0.1], [0.1, 0.1], [0.5, 0.9]]}",
        "5:23: cameras.gate.zones.plaza.points: a corner is listed twice; remove one of the two",
    ),
    "no classes": (
        "zones:\n  plaza: {points: [[0, 0], [1, 0], [1, 1]], classes: []}",
        "5:58: cameras.gate.zones.plaza.classes: must not be empty",
    ),
    "direction": (
        "zones:\n  plaza: {points: [[0, 0], [1, 0], [1, 1]], direction: north}",
        "5:60: cameras.gate.zones.plaza.direction: must be up, down, left, right or a vector [dx, dy]",
    ),
    "direction nowhere": (
        "zones:\n  plaza: {points: [[0, 0], [1, 0], [1, 1]], direction: [0, 0]}",
        "5:60: cameras.gate.zones.plaza.direction: [0, 0] points nowhere; [1, 0] is rightwards, [0, -1] upwards",
    ),
    "bad name of a line": (
        'lines:\n  "a/b": {points: [[0, 0.5], [1, 0.5]]}',
        "5:7: cameras.gate.lines.a/b: has characters that are not allowed here",
    ),
    "thresholds": (
        "thresholds: {score: 0.2, low: 0.5}",
        "4:17: cameras.gate.thresholds: low is above score; low is for weak boxes of tracks that score started",
    ),
    "duplicate key": (
        "sample_fps: 5\nsample_fps: 6",
        "5:5: cameras.gate.sample_fps: the key 'sample_fps' is there twice, first in line 4; keep one of the two",
    ),
    "tag": (
        "model: !secret name",
        "4:12: cameras.gate.model: the tag !secret is not known here; "
        "for a secret write ${NAME} (environment) or the key with _file",
    ),
    "unset variable": (
        "model: ${NO_SUCH_MODEL_VARIABLE}",
        "4:12: cameras.gate.model: the environment variable NO_SUCH_MODEL_VARIABLE is not set; "
        "set it, or write ${NO_SUCH_MODEL_VARIABLE:-default}",
    ),
    "variable with a slip": (
        "model: ${GATE_PASWORD}",
        "4:12: cameras.gate.model: the environment variable GATE_PASWORD is not set; did you mean ${GATE_PASSWORD}? "
        "Else set it, or write ${GATE_PASWORD:-default}",
    ),
    "variable without a brace": (
        "model: ${NAME",
        "4:12: cameras.gate.model: ${ without its }; write ${NAME} or ${NAME:-default}; "
        "$${ for the characters themselves",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_CAMERA)
def test_a_mistake_inside_a_camera(kind: str) -> None:
    text, expected = IN_CAMERA[kind]
    found = problems(camera(text))
    assert len(found) == 1, found
    assert found[0].startswith(f"f.yaml:{expected}")


WHOLE = {
    "nothing": ("", "1:1: cameras: there are no cameras; add cameras: with a name and a source each"),
    "no cameras": ("cameras: {}", "1:1: cameras: there are no cameras; add cameras: with a name and a source each"),
    "list of cameras": (
        "cameras: [a.mp4]", "1:10: cameras: must be a map, name: camera; write 'gate:' and indent its source below",
    ),
    "no map": ("- a", "1:1: not a map of keys; write key: value, with a space"),
    "no space": ("cameras:x", "1:1: not a map of keys; write key: value, with a space"),
    "camera without source": (
        "cameras:\n  gate: {}",
        "2:3: cameras.gate: source is missing; add source: a URL, a file, a folder or /dev/video0",
    ),
    "camera with nothing": (
        "cameras:\n  gate:",
        "2:3: cameras.gate: source is missing; add source: a URL, a file, a folder or /dev/video0",
    ),
    "source without url": (
        "cameras:\n  gate: {source: {transport: udp}}",
        "2:9: cameras.gate: source has no url; add url: a URL, a file, a folder or /dev/video0",
    ),
    "empty source": (
        "cameras:\n  gate: {source: ''}",
        "2:18: cameras.gate.source.url: must not be empty: give a URL, a file, a folder or /dev/video0",
    ),
    "camera is text": (
        "cameras:\n  gate: a.mp4", "2:9: cameras.gate: must be a map of keys; write source: below it",
    ),
    "camera name": (
        "cameras:\n  Gate One: {source: a.mp4}",
        "2:3: cameras.Gate One: a camera's name has a-z, 0-9, '_', '-', '.' (64 at most) and begins with a letter or "
        "digit; write gate-one",
    ),
    "lines at the top": (
        "lines: {}\ncameras: {gate: {source: a.mp4}}", "1:1: lines: unknown key 'lines'; it belongs inside a camera",
    ),
    "url at the top": (
        "source: {url: a.mp4}\ncameras: {gate: {source: b.mp4}}",
        "1:15: source: a source at the top is the default of all cameras: it has no url; move it into a camera",
    ),
    "default that every camera has": (
        "sample_fps: -1\ncameras: {a: {source: a.mp4}, b: {source: b.mp4}}",
        "1:13: sample_fps: must be above 0, not -1",
    ),
    "tab": ("cameras:\n\tgate: 1", "2:1: a tab in the indentation; YAML indents with spaces"),
    "unclosed list": (
        "cameras:\n  gate: {source: [a\nx: 1\n",
        "3:2: not YAML: expected ',' or ']', but got ':' (of what begins in line 2); "
        "close the list with ] and put commas between its parts",
    ),
    "colon in text": (
        "cameras:\n  gate: {source: a}\n  b: c: d\n",
        "3:7: not YAML: mapping values are not allowed here; "
        "put text that holds ': ' between quotes, and keys of one map under each other",
    ),
    "unclosed quote": (
        "cameras:\n  gate: {source: \"a}\n",
        "3:1: not YAML: unexpected end of stream (of what begins in line 2); close the quote",
    ),
    "two documents": (
        "cameras: {a: {source: a}}\n---\nb: 1\n",
        "2:1: not YAML: but found another document (of what begins in line 1); "
        "one file holds one configuration: remove the line ---",
    ),
    "at-sign": ("cameras: {a: {source: @x}}", "1:23: not YAML: character '@' that cannot start any token; "
        "put the text between quotes"),
    "control character": ("a: \x07", "1:4: a character that YAML does not allow (U+0007); remove it"),
    "scheme": (
        "cameras: {a: {source: rtps://h/x}}",
        "1:23: cameras.a.source: unknown scheme rtps://; did you mean 'rtsp'?",
    ),
    "file scheme": (
        "cameras: {a: {source: file:///x.mp4}}",
        "1:23: cameras.a.source: unknown scheme file://; write the path itself",
    ),
    "port": (
        "cameras: {a: {source: 'rtsp://host:port/x'}}",
        "1:23: cameras.a.source: the URL's host or port cannot be read; "
        "give username and password keys beside url, or percent-encode / ? # @ in the password",
    ),
    "password alone": (
        "cameras: {a: {source: {url: 'rtsp://h/x', password: '${GATE_PASSWORD}'}}}",
        "1:23: cameras.a.source: a password without a username; add username",
    ),
    "retry order": (
        "cameras: {a: {source: {url: 'rtsp://h/x', retry_initial_s: 50}}}",
        "1:23: cameras.a.source: retry_initial_s is above retry_max_s; the wait grows from the one to the other",
    ),
    "sasl": (
        "kafka: {security_protocol: SASL_SSL}\ncameras: {a: {source: a.mp4}}",
        "1:8: kafka: SASL_SSL needs sasl_mechanism, username and password",
    ),
    "value from the environment": (
        "model: a\nsample_fps: ${PATH}\ncameras: {a: {source: a.mp4}}",
        "2:13: sample_fps: must be a number, not '/bin'; the value comes from ${PATH}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_mistake_in_the_file(kind: str) -> None:
    text, expected = WHOLE[kind]
    assert problems(text) == [f"f.yaml:{expected}"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        "sampel_fps: 8\n"
        "windows: {quality: 850}\n"
        "cameras:\n"
        "  gate:\n"
        "    source: rtsp://u:${NO_SUCH_THING}@h/x\n"
        "    lines:\n"
        "      a: {points: [[0, 640], [1, 0.5]], anchor: centre}\n"
        "      a: {points: [[0, 0.5]]}\n"
        "  b:\n"
        "    zones: {}\n"
    )
    places = [line.split(": ")[0] for line in problems(text)]
    assert places == [f"f.yaml:{place}" for place in ("1:1", "2:20", "5:13", "7:24", "7:49", "8:7", "9:3")]


def test_classes_are_checked_against_the_model_of_the_camera() -> None:
    text = camera("lines:\n  street: {points: [[0, 0.5], [1, 0.5]], classes: [perosn, car, vehicle]}")
    found = problems(text, classes_of=lambda name: ["person", "car", "cart"] if name == "passerby-nano" else None)
    assert found == [
        "f.yaml:5:56: cameras.gate.lines.street.classes[0]: the model passerby-nano has no class or group 'perosn'; "
        "did you mean 'person'?"
    ]


def test_classes_of_ones_own_model_are_accepted() -> None:
    text = camera("lines:\n  street: {points: [[0, 0.5], [1, 0.5]], classes: [cart, person]}")
    config = read_config(text, "f", Path("/x"), {}, classes_of=lambda _: ["cart"])
    assert config.camera("gate").lines["street"].classes == ("cart", "person")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"\n", "it is empty"), (b"a\nb\n", "it holds more than one line"),
     (b"\xff\xfe\x00", "it is not text")],
)  # fmt: skip
def test_a_secret_file_that_cannot_be_used(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    text = "cameras: {a: {source: {url: 'rtsp://h/x', username: u, password_file: secret}}}"
    assert problems(text, tmp_path)[0].startswith(
        f"f.yaml:1:71: cameras.a.source.password_file: cannot read secret: {reason}"
    )


def test_a_secret_given_twice(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    text = "cameras: {a: {source: {url: 'rtsp://h/x', username: u, password: a, password_file: secret}}}"
    assert problems(text, tmp_path) == [
        "f.yaml:1:69: cameras.a.source.password_file: password and password_file are both given; keep one of the two"
    ]


def test_no_such_file(tmp_path: Path) -> None:
    from pipeline.errors import ConfigError

    with pytest.raises(ConfigError, match=r"there is no such file \(passerby init SOURCE writes one\)") as caught:
        load_config(tmp_path / "passerby.yaml", {})
    assert caught.value.exit_code == 2


def test_not_text(tmp_path: Path) -> None:
    from pipeline.errors import ConfigError

    (tmp_path / "f.yaml").write_bytes(b"cameras: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 9"):
        load_config(tmp_path / "f.yaml", {})
