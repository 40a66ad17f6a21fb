"""The JSON Schema says what the models say; the pages in docs/ are current."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.config import CameraConfig, Config, ConfigProblems, read_config
from pipeline.config.checking import _shape
from pipeline.config.reference import reference_markdown
from pipeline.config.schema import json_schema, schema_text
from tests.config.test_errors import IN_CAMERA, WHOLE, camera
from tests.config.test_loading import CONTRACT

DOCS = Path(__file__).resolve().parents[2] / "docs"
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# Wrong in ways that a schema cannot tell, or YAML that no parser of plain data takes.
BEYOND_A_SCHEMA = {
    "A is B", "bow tie", "flat area", "corner twice", "direction nowhere", "thresholds", "duplicate key", "tag",
    "unset variable", "variable with a slip", "variable without a brace", "infinite", "time without zone", "no time",
    "source without url", "tab", "unclosed list", "colon in text", "unclosed quote", "two documents", "at-sign",
    "control character", "scheme", "file scheme", "port", "password alone", "retry order", "sasl",
    "value from the environment", "nothing",
}  # fmt: skip


class _TextOfTimes(yaml.SafeLoader):
    """As editors see a file: times are text."""


_TextOfTimes.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def as_editors_see(text: str) -> Any:
    return yaml.load(text, Loader=_TextOfTimes)


def test_the_pages_are_current() -> None:
    """Renew: passerby schema > docs/passerby.schema.json; passerby schema --markdown > docs/configuration.md."""
    assert (DOCS / "passerby.schema.json").read_text(encoding="utf-8") == schema_text()
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference_markdown()


def test_the_example_on_the_page_is_a_right_file() -> None:
    found = re.search(r"```yaml\n(.*?)```", reference_markdown(), re.DOTALL)
    assert found is not None
    config = read_config(found[1], "doc", Path("/x"), {"GATE_PASSWORD": "x"})
    assert config.camera("gate").sample_fps == 5
    VALIDATOR.validate(as_editors_see(found[1]))


def test_it_is_a_schema_and_its_own_examples_fit() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for example in SCHEMA["examples"]:
        VALIDATOR.validate(example)
        read_config(json.dumps(example), "example", Path("/x"), {"GATE_PASSWORD": "x"})


def test_every_key_is_described_and_its_examples_fit() -> None:
    models: list[type[BaseModel]] = [Config, CameraConfig]
    for model in models:
        for name, field in model.model_fields.items():
            inner = _shape(field.annotation)
            section = inner[0] or _shape(inner[1])[0]
            if section is not None and section not in models:
                models.append(section)
            assert field.description or (section and section.__doc__), f"{model.__name__}.{name}"
            schema = SCHEMA if model is Config else SCHEMA["$defs"][model.__name__]
            told = {**schema["properties"][name], "$defs": SCHEMA["$defs"]}
            for example in field.examples or ():
                jsonschema.Draft202012Validator(told).validate(example)
    assert len(models) >= 11


@pytest.mark.parametrize(
    "text",
    [
        CONTRACT,
        "cameras:\n  a:\n    source: a.mp4\n    lines:\n    zones:\n    masks: []\n",
        "x-own: {any: thing}\nsource: {transport: udp}\ncameras: {a: {source: {url: b}, start: 2026-01-01T08:00:00Z}}",
        "sample_fps: ${FPS:-5}\noutput: {report: '${R:-true}'}\nwindows: {encoding: '${E:-raw}'}\n"
        "cameras: {a: {source: b}}",
        "cameras: {a: {source: b, zones: {z: {points: [[0,0],[1,0],[1,1]], classes: car, direction: up}}}}",
        "cameras: {a: {source: b, zones: {z: {points: [[0,0],[1,0],[1,1]], direction: [1, -0.5]}}}}",
        "inference: {provider: cuda, batch_sizes: [1, 4], threads: 2}\ncameras: {a: {source: b}}",
        "thresholds: {score: 0.5}\ntracker: {confirm_hits: 3}\ncameras: {a: {source: b, thresholds: {low: 0.2}}}",
    ],
)
def test_what_the_loader_takes_the_schema_takes(text: str) -> None:
    read_config(text, "f", Path("/x"), {"GATE_PASSWORD": "x"})
    VALIDATOR.validate(as_editors_see(text))


MISTAKES = {name: camera(text) for name, (text, _) in IN_CAMERA.items()} | {n: text for n, (text, _) in WHOLE.items()}


@pytest.mark.parametrize("kind", sorted(set(MISTAKES) - BEYOND_A_SCHEMA))
def test_what_the_loader_refuses_the_schema_refuses(kind: str) -> None:
    assert not VALIDATOR.is_valid(as_editors_see(MISTAKES[kind]))


def _known_keys() -> list[tuple[str, ...]]:
    """The path of every key there is; a name stands for any name."""
    found: list[tuple[str, ...]] = []

    def walk(model: type[BaseModel], path: tuple[str, ...]) -> None:
        for name, field in model.model_fields.items():
            found.append((*path, name))
            inner, items = _shape(field.annotation)
            below = _shape(items)[0]
            if inner is not None:
                walk(inner, (*path, name))
            elif below is not None:
                walk(below, (*path, name, "gate"))

    walk(Config, ())
    return found


KEYS = _known_keys()
LETTERS = st.sampled_from("abcdefghijklmnopqrstuvwxyz_")


@st.composite
def slips(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    """A known key, and the same with one letter more, less, other, or two neighbours swapped."""
    path = draw(st.sampled_from(KEYS))
    key, at = path[-1], draw(st.integers(0, len(path[-1]) - 1))
    match draw(st.sampled_from(["insert", "delete", "replace", "swap"])):
        case "insert":
            typo = key[:at] + draw(LETTERS) + key[at:]
        case "delete":
            typo = key[:at] + key[at + 1 :]
        case "replace":
            typo = key[:at] + draw(LETTERS) + key[at + 1 :]
        case _:
            typo = key[:at] + key[at + 1 : at + 2] + key[at] + key[at + 2 :]
    return path, typo


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(slips())
def test_any_slip_of_one_letter_is_answered_with_the_key(slip: tuple[tuple[str, ...], str]) -> None:
    path, typo = slip
    beside = {key[-1] for key in KEYS if key[:-1] == path[:-1]}
    if typo in beside or not typo:
        return
    data: dict[str, Any] = {"cameras": {"gate": {"source": {"url": "a.mp4"}}}}
    at = data
    for step in path[:-1]:
        at = at.setdefault(step, {})
    at[typo] = None
    with pytest.raises(ConfigProblems) as caught:
        read_config(json.dumps(data), "f", Path("/x"), {})
    told = next(problem for problem in caught.value.problems if problem.code == "unknown-key")
    assert f"unknown key {typo!r}" in told.message
    assert f"did you mean {path[-1]!r}" in told.mend, (typo, told.mend)
