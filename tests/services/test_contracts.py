"""The published contract: made from the code, kept in docs/contracts, and only ever added to."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipeline.core.events import DATA_TYPES, EVENT_TYPES
from pipeline.errors import UsageError
from pipeline.services.contracts import BASELINE, breakages, differences, freeze, incompatibilities, read, render, write
from pipeline.services.contracts.asyncapi import message_name
from pipeline.services.contracts.schemas import data_schema
from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "contracts"
RENDERED = render()
PROMISED = read(FOLDER / BASELINE)
LINE = "io.passerby.line.crossed.v1.schema.json"
ENVELOPE = "cloudevent.schema.json"
ASYNCAPI = "asyncapi.yaml"


def test_what_is_written_is_what_the_code_says() -> None:
    assert differences(FOLDER) == [], "run: passerby contracts --out docs/contracts"


def test_v1_is_only_added_to() -> None:
    promised = PROMISED
    assert len(promised) == len(DATA_TYPES) + 2
    assert incompatibilities(promised, RENDERED) == []


def test_there_is_a_schema_of_every_type_and_each_is_one() -> None:
    assert set(DATA_TYPES) == set(EVENT_TYPES)
    for type_ in EVENT_TYPES:
        schema = json.loads(RENDERED[f"{type_}.schema.json"])
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["description"]
    jsonschema.Draft202012Validator.check_schema(json.loads(RENDERED[ENVELOPE]))


def test_every_property_is_explained_or_named_by_a_type_that_is() -> None:
    """A description, a reference, or a name that says it all (a list kept short on purpose)."""
    plain = {
        "x_min", "y_min", "x_max", "y_max", "width", "height", "topic", "partition", "offset", "left", "right", "line",
        "zone", "phase", "state", "entered_at", "stopped_at", "starts_at", "ends_at", "totals_since", "started_at",
        "occupancy_max",
    }  # fmt: skip
    silent = set()
    for type_ in EVENT_TYPES:
        schema = data_schema(type_)
        for owner in (schema, *schema.get("$defs", {}).values()):
            silent |= {name for name, told in owner["properties"].items() if not {"description", "$ref"} & told.keys()}
    assert silent <= plain


def test_the_asyncapi_document_is_valid_by_asyncapis_own_schema() -> None:
    packed = Path(__file__).with_name("asyncapi-3.0.0.schema.json.gz")  # of @asyncapi/specs 6.11.1 (Apache-2.0)
    schema = json.loads(gzip.decompress(packed.read_bytes()))
    validator = jsonschema.Draft7Validator(schema)
    document = yaml.safe_load(RENDERED[ASYNCAPI])
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)] == []
    del document["info"]["title"]
    document["channels"]["counts"]["bindings"]["kafka"]["partitions"] = "many"
    assert len(list(validator.iter_errors(document))) >= 2, "the schema finds what is wrong"


def test_the_asyncapi_document_names_every_topic_and_message_once() -> None:
    document = yaml.safe_load(RENDERED[ASYNCAPI])
    assert {channel["address"] for channel in document["channels"].values()} == {
        f"passerby.{kind}" for kind in ("cameras", "windows", "counts", "events", "state", "dead-letters")
    }
    messages = document["components"]["messages"]
    for channel in document["channels"].values():
        assert set(channel["messages"]) <= set(messages)
    assert {message_name(type_) for type_ in EVENT_TYPES} <= set(messages)
    for type_ in EVENT_TYPES:
        message = messages[message_name(type_)]
        assert message["headers"]["properties"]["ce_type"] == {"const": type_}
        assert (FOLDER / message["payload"]["schema"]["$ref"]).is_file()


def _changed(change: Callable[[dict[str, Any]], None], name: str = LINE) -> list[str]:
    """What the check says when the code would give another schema of crossings."""
    current = RENDERED
    schema = json.loads(current[name])
    change(schema)
    return incompatibilities(PROMISED, current | {name: json.dumps(schema)})


def _required(schema: dict[str, Any], name: str, *, there: bool) -> None:
    schema["required"] = [each for each in schema["required"] if each != name] + [name] * there


BREAKS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a property removed": (lambda s: s["properties"].pop("direction"), "$.direction: is gone"),
    "a nested property removed": (
        lambda s: s["$defs"]["Origin"]["properties"].pop("offset"), "$.origin.offset: is gone",
    ),
    "a property renamed": (
        lambda s: s["properties"].update(way=s["properties"].pop("direction")), "$.direction: is gone",
    ),
    "an enumeration narrowed": (
        lambda s: s["properties"]["direction"].update(enum=["left"]), "$.direction: the enumeration lost 'right'",
    ),
    "an enumeration put on": (
        lambda s: s["properties"]["class_id"].update(enum=["car"]), "$.class_id: was no enumeration",
    ),
    "a type changed": (
        lambda s: s["properties"]["epoch"].update(type="string"), "$.epoch: type was 'integer', is 'string'",
    ),
    "a type widened": (
        lambda s: s["properties"]["epoch"].update(type="number"), "$.epoch: type was 'integer', is 'number'",
    ),
    "null no longer allowed": (
        lambda s: s["properties"]["group"].update(anyOf=s["properties"]["group"]["anyOf"][:1]), "$.group: had 2",
    ),
    "a limit put on": (lambda s: s["properties"]["line"].update(maxLength=8), "$.line: maxLength was 64, is 8"),
    "a limit taken off": (
        lambda s: s["$defs"]["BBox"]["properties"]["x_min"].pop("maximum"), "$.bbox.x_min: maximum was 1, is not said",
    ),
    "a pattern changed": (lambda s: s["properties"]["camera_id"].update(pattern="^a$"), "$.camera_id: pattern was"),
    "a new property that is required": (
        lambda s: (s["properties"].update(speed={"type": "number"}), s["required"].append("speed")),
        "$.speed: is new and required",
    ),
    "a required property made optional": (
        lambda s: s["required"].remove("track_id"), "$.track_id: was required, is optional",
    ),
    "items of a list changed": (
        lambda s: s["$defs"]["Provenance"]["properties"]["frames"]["items"].update(type="string"),
        "$.provenance.frames[]: type was 'integer', is 'string'",
    ),
    "room for unknown properties taken away": (
        lambda s: s.update(additionalProperties=False), "$: additionalProperties was not there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_v1_is_found_and_named(name: str) -> None:
    change, told = BREAKS[name]
    found = _changed(change)
    assert len(found) == 1, found
    assert found[0].startswith(f"{LINE}: {told}"), found


GROWS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing": lambda _: None,
    "an optional property": lambda s: s["properties"].update(speed={"type": "number", "minimum": 0}),
    "a value of an enumeration": lambda s: s["properties"]["direction"]["enum"].append("along"),
    "other words": lambda s: s["properties"]["direction"].update(description="Where to."),
    "examples": lambda s: s["properties"]["line"].update(examples=["kerb"]),
    "another order of the required": lambda s: s["required"].reverse(),
    "a definition by another name": lambda s: (
        s["$defs"].update(Place=s["$defs"].pop("Origin")), s["properties"]["origin"].update({"$ref": "#/$defs/Place"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWS)
def test_what_only_adds_to_v1_is_fine(name: str) -> None:
    assert _changed(GROWS[name]) == []


def test_a_property_made_required_later_breaks_v1() -> None:
    was = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert breakages(was, was | {"required": ["a"]}) == ["$.a: was optional, is required"]


def test_types_of_events_come_and_never_go() -> None:
    promised, current = PROMISED, RENDERED
    assert incompatibilities(promised, current | {"io.passerby.new.v1.schema.json": "{}"}) == []
    without = {name: text for name, text in current.items() if name != LINE}
    assert incompatibilities(promised, without) == [f"{LINE}: is gone"]
    envelope = json.loads(current[ENVELOPE])
    grown = copy.deepcopy(envelope)
    grown["allOf"].append({"if": {"properties": {"type": {"const": "new"}}}, "then": {}})
    assert incompatibilities(promised, current | {ENVELOPE: json.dumps(grown)}) == []
    del envelope["allOf"][0]
    assert len(incompatibilities(promised, current | {ENVELOPE: json.dumps(envelope)})) == 1


DOCUMENT_BREAKS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a topic gone": (lambda d: d["channels"].pop("counts"), "channels.counts: is gone"),
    "a topic renamed": (
        lambda d: d["channels"]["counts"].update(address="passerby.count"), "channels.counts: the address was",
    ),
    "a message moved away": (
        lambda d: d["channels"]["events"]["messages"].pop("lineCrossed"), "channels.events.messages.lineCrossed",
    ),
    "a header gone": (
        lambda d: d["components"]["messages"]["lineCrossed"]["headers"]["properties"].pop("ce_id"),
        "messages.lineCrossed.headers.ce_id: is gone",
    ),
    "a window's header gone": (
        lambda d: d["components"]["messages"]["frameWindow"]["headers"]["properties"].pop("captured_to"),
        "messages.frameWindow.headers.captured_to: is gone",
    ),
    "another content type": (
        lambda d: d["components"]["messages"]["lineCrossed"].update(contentType="text/plain"), "messages.lineCrossed",
    ),
    "another key": (
        lambda d: d["components"]["messages"]["lineCrossed"]["bindings"]["kafka"]["key"].update(type="integer"),
        "messages.lineCrossed.key: type was",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENT_BREAKS)
def test_what_breaks_the_topics_is_found_and_named(name: str) -> None:
    change, told = DOCUMENT_BREAKS[name]
    document = yaml.safe_load(RENDERED[ASYNCAPI])
    change(document)
    found = incompatibilities(PROMISED, RENDERED | {ASYNCAPI: yaml.safe_dump(document)})
    assert len(found) == 1, found
    assert found[0].startswith(f"{ASYNCAPI}: {told}")


def test_freezing_promises_what_is_there_and_refuses_to_take_back(tmp_path: Path) -> None:
    write(tmp_path, RENDERED)
    assert len(freeze(tmp_path)) == len(RENDERED)
    assert freeze(tmp_path) == []
    promised = tmp_path / BASELINE / LINE
    schema = json.loads(promised.read_text(encoding="utf-8"))
    schema["properties"]["speed"] = {"type": "number"}
    promised.write_text(json.dumps(schema), encoding="utf-8")
    with pytest.raises(UsageError, match=r"\$\.speed: is gone"):
        freeze(tmp_path)


def test_the_command_writes_and_checks(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pipeline.cli import build

    app, runner = build(), CliRunner()
    assert runner.invoke(app, ["contracts", "--out", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["contracts", "--out", str(tmp_path), "--check"]).exit_code == 0
    (tmp_path / LINE).write_text("{}", encoding="utf-8")
    (tmp_path / "io.passerby.old.v1.schema.json").write_text("{}", encoding="utf-8")
    found = runner.invoke(app, ["contracts", "--out", str(tmp_path), "--check"])
    assert found.exit_code == 1
    assert "differs from the code" in found.output
    assert "the code says nothing of it" in found.output
    assert runner.invoke(app, ["contracts", "--out", str(tmp_path)]).exit_code == 0
    assert not (tmp_path / "io.passerby.old.v1.schema.json").exists()
