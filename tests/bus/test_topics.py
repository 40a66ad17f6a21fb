"""The topics: their names, what is declared of them, and the records of cameras, state and windows."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.base import Message
from pipeline.bus.declared import KINDS, declared
from pipeline.bus.documents import _CAMERA_ID
from pipeline.bus.topics import (
    CameraDocument,
    CameraState,
    Forgotten,
    StateRecord,
    Topics,
    WindowHeaders,
    ingest_key,
    partition_key,
    window_headers,
)
from pipeline.config import ConfigProblems, KafkaConfig
from pipeline.config.models import CAMERA_ID_PATTERN
from pipeline.core.frame import FrameWindow
from pipeline.errors import ConfigError, RecordMalformed
from tests.bus.samples import AT_US, CAMERA_STATE, DOCUMENT, INGEST_STATE, PARTITION_STATE, window

TOPICS = Topics("passerby")


def test_names_share_the_prefix() -> None:
    topics = Topics("site-1")
    names = [getattr(topics, kind.replace("-", "_")).name for kind in KINDS]
    assert names == [f"site-1.{kind}" for kind in KINDS]
    assert topics.windows_raw.name == topics.windows.name == topics.windows_as("raw").name
    with pytest.raises(ValueError, match="there is no topic"):
        topics.name("window")


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_says_in_its_headers_what_one_asks_without_decoding_it() -> None:
    sent = window(2)
    message = TOPICS.windows_as("raw").encode("gate", sent)
    assert message.key == "gate"
    assert message.headers == (
        ("epoch", b"3"), ("sequence", b"7"), ("revision", b"12"), ("frames", b"2"), ("writer", b"w-1"),
        ("captured_from", str(AT_US).encode()), ("captured_to", str(AT_US + 125_000).encode()),
    )  # fmt: skip
    assert window_headers(message) == WindowHeaders(3, 7, 12, 2, "w-1", AT_US, AT_US + 125_000)
    back = TOPICS.windows.decode(message)
    assert np.array_equal(back.frames[1].picture, sent.frames[1].picture)
    assert replace(back, frames=()) == replace(sent, frames=())


def test_a_change_of_status_and_the_marker_of_an_epoch() -> None:
    status = TOPICS.windows.encode("gate", window(0))
    assert window_headers(status) == WindowHeaders(3, 7, 12, 0, "w-1", AT_US, AT_US)
    marker = FrameWindow("gate", 4, 0, (), 0, 0, 8.0, "wall", None, -1, "w-2")
    message = TOPICS.windows.encode("gate", marker)
    assert window_headers(message) == WindowHeaders(4, 0, -1, 0, "w-2", None, None)
    assert TOPICS.windows.decode(message) == marker


def test_a_window_under_another_key_is_malformed() -> None:
    message = TOPICS.windows.encode("gate", window(0))
    with pytest.raises(RecordMalformed, match="differ"):
        TOPICS.windows.decode(replace(message, key="yard"))
    with pytest.raises(RecordMalformed, match="no value"):
        TOPICS.windows.decode(replace(message, value=None))
    with pytest.raises(RecordMalformed, match="without a value"):
        TOPICS.windows_raw.decode(Message("gate", None))


@pytest.mark.parametrize("headers", [(), (("epoch", b"x"),), (("epoch", b"1" * 30),), (("writer", b"\xff"),)])
def test_headers_that_are_odd_are_malformed(headers: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(RecordMalformed, match="header"):
        window_headers(Message("gate", b"", headers))


# -- cameras and state ------------------------------------------------------------------------------------------------


def test_a_cameras_document_comes_back_equal_and_its_removal_too() -> None:
    message = TOPICS.cameras.encode("gate", DOCUMENT)
    assert TOPICS.cameras.decode(message) == DOCUMENT
    assert message.value is not None
    assert json.loads(message.value)["version"] == 1
    removed = TOPICS.cameras.encode("gate", CameraDocument("gate", None))
    assert removed == Message("gate", None)
    assert TOPICS.cameras.decode(removed) == CameraDocument("gate", None)


@pytest.mark.parametrize(
    "state",
    [
        CAMERA_STATE, PARTITION_STATE, INGEST_STATE, replace(CAMERA_STATE, revision=-1, document=None, analytics=b""),
        Forgotten("gate"), Forgotten("ingest/gate"), Forgotten("partition/3"),
    ],
    ids=lambda state: f"{type(state).__name__}-{state.key}",
)  # fmt: skip
def test_a_state_comes_back_equal(state: StateRecord) -> None:
    message = TOPICS.state.encode(state.key, state)
    assert message.key == state.key
    assert TOPICS.state.decode(message) == state


def test_the_three_kinds_of_key() -> None:
    keys = (CAMERA_STATE.key, PARTITION_STATE.key, INGEST_STATE.key)
    assert keys == ("gate", partition_key(17), ingest_key("gate")) == ("gate", "partition/17", "ingest/gate")


@given(
    st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.integers(-1, 2**40), st.binary(max_size=300),
    st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False) | st.text(), max_size=3),
)  # fmt: skip
def test_any_state_is_exact(offset: int, epoch: int, revision: int, analytics: bytes, more: dict[str, Any]) -> None:
    state = CameraState("gate", offset, epoch, revision, more or None, analytics, more)
    message = TOPICS.state.encode("gate", state)
    assert TOPICS.state.decode(message) == state
    assert TOPICS.state.encode("gate", state) == message


def _changed(state: StateRecord, **changed: Any) -> Message:
    message = TOPICS.state.encode(state.key, state)
    told = json.loads(message.value or b"") | changed
    told = {key: value for key, value in told.items() if value != "left out"}
    return replace(message, value=json.dumps(told).encode(), headers=())


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (_changed(CAMERA_STATE, version=2), "version 2; this reads version 1"),
        (_changed(CAMERA_STATE, version="1"), "version must be"),
        (_changed(CAMERA_STATE, version="left out"), "version must be"),
        (_changed(CAMERA_STATE, next_offset=-1), "next_offset must be"),
        (_changed(CAMERA_STATE, next_offset=1.0), "next_offset must be"),
        (_changed(CAMERA_STATE, epoch=True), "epoch must be"),
        (_changed(CAMERA_STATE, epoch="left out"), "missing or unknown: epoch"),
        (_changed(CAMERA_STATE, odd=1), "missing or unknown: odd"),
        (_changed(CAMERA_STATE, analytics="%%"), "not base64"),
        (_changed(CAMERA_STATE, analytics="é"), "not base64"),
        (_changed(CAMERA_STATE, analytics=5), "analytics must be text"),
        (_changed(CAMERA_STATE, document=[]), "document must be"),
        (_changed(CAMERA_STATE, more=[]), "more must be"),
        (_changed(PARTITION_STATE, next_offset=None), "next_offset must be"),
        (_changed(INGEST_STATE, epoch=0), "epoch must be"),
        (_changed(INGEST_STATE, writer=None), "writer must be text"),
        (Message("partition/07", b"{}"), "is not partition/<n>"),
        (Message("partition/", None), "is not partition/<n>"),
        (Message("partition/٣", None), "is not partition/<n>"),
        (Message("ingest/", b"{}"), "is not a camera_id"),
        (Message("Gate", None), "is not a camera_id"),
        (Message("gate\n", None), "is not a camera_id"),
        (Message("", b"{}"), "is not a camera_id"),
        (Message("gate", b""), "is not JSON"),
        (Message("gate", b"null"), "not a JSON object"),
    ],
)
def test_a_state_that_is_odd_is_malformed(message: Message, reason: str) -> None:
    with pytest.raises(RecordMalformed, match=re.escape(reason)):
        TOPICS.state.decode(message)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message("gate", b'{"version":1,"camera_id":"yard","document":{}}'), "camera_id is 'yard'"),
        (Message("gate", b'{"version":1,"camera_id":"gate","document":[]}'), "document must be"),
        (Message("gate", b'{"version":9,"camera_id":"gate","document":{}}'), "version 9"),
        (Message("../gate", None), "is not a camera_id"),
    ],
)
def test_a_document_that_is_odd_is_malformed(message: Message, reason: str) -> None:
    with pytest.raises(RecordMalformed, match=re.escape(reason)):
        TOPICS.cameras.decode(message)


@given(st.sampled_from(["gate", "partition/3", "ingest/gate", "", "x" * 99]), st.none() | st.binary(max_size=60))
def test_any_bytes_are_something_or_malformed(key: str, value: bytes | None) -> None:
    for topic in (TOPICS.state, TOPICS.cameras, TOPICS.windows):
        try:
            topic.decode(Message(key, value))
        except RecordMalformed as error:
            assert str(error)


def test_a_state_or_document_that_was_changed_on_its_way_is_malformed() -> None:
    for topic, value in ((TOPICS.state, CAMERA_STATE), (TOPICS.cameras, DOCUMENT)):
        message = topic.encode("gate", value)  # type: ignore[attr-defined]
        changed = replace(message, value=(message.value or b"").replace(b"3", b"4", 1))
        with pytest.raises(RecordMalformed, match="not as it was sent"):
            topic.decode(changed)
        topic.decode(replace(changed, headers=()))


def test_camera_ids_are_those_of_the_configuration() -> None:
    assert f"^{_CAMERA_ID.pattern}$" == CAMERA_ID_PATTERN
    assert base64.b64decode(json.loads(TOPICS.state.encode("gate", CAMERA_STATE).value or b"")["analytics"])


# -- declared ---------------------------------------------------------------------------------------------------------


def test_what_ships() -> None:
    specs = {spec.kind: spec for spec in declared(KafkaConfig(prefix="p"))}
    assert tuple(specs) == KINDS
    assert [specs[kind].partitions for kind in KINDS] == [24, 24, 12, 12, 24, 6]
    assert [specs[kind].compacted for kind in KINDS] == [True, False, False, False, True, False]
    assert specs["windows"].name == "p.windows"
    assert specs["windows"].retention_ms == 24 * 3_600_000
    assert specs["events"].retention_ms == 30 * 24 * 3_600_000
    assert specs["windows"].settings(3)["min.insync.replicas"] == "2"
    assert specs["windows"].settings(1)["min.insync.replicas"] == "1"
    assert (specs["windows"].replication_on(1), specs["windows"].replication_on(5)) == (1, 3)
    assert "retention.ms" not in specs["state"].settings(1)
    assert specs["dead-letters"].max_message_bytes > specs["windows"].max_message_bytes


def test_what_differs_is_laid_over_what_ships(tmp_path: Path) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(
        "windows: {partitions: 4, retention: 1.5 h, retention_bytes: 10 GiB, replication: 2, min_insync: 1,"
        " config: {compression.type: zstd, preallocate: true}}\ncameras: {partitions: 4}\nstate: {partitions: 4}\n"
    )
    specs = {spec.kind: spec for spec in declared(KafkaConfig(topics=str(file)))}
    windows = specs["windows"]
    assert (windows.partitions, windows.replication, windows.max_message_bytes) == (4, 2, 8 * 2**20)
    assert windows.settings(2) == {
        "cleanup.policy": "delete", "compression.type": "zstd", "max.message.bytes": "8388608",
        "min.insync.replicas": "1", "preallocate": "true", "retention.bytes": "10737418240", "retention.ms": "5400000",
    }  # fmt: skip
    assert specs["counts"].partitions == 12


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("windoes: {}", "1:1: windoes: there is no topic 'windoes'; did you mean 'windows'?"),
        ("windows: {partition: 3}", "1:11: windows.partition: unknown key 'partition'; did you mean 'partitions'?"),
        ("windows: {partitions: 12}", "windows has 12; cameras, windows, state must have the same number"),
        ("events: {partitions: 0}", "1:22: events.partitions: must be a whole number from 1 to 10000"),
        ("events: {partitions: true}", "1:22: events.partitions: must be a whole number"),
        ("events: {replication: many}", "events.replication: must be a whole number from 1 to 100, or auto"),
        ("events: {retention: 30}", "must be a number with a unit (s, min, h, d); for example 24 h"),
        ("events: {retention: 0 s}", "must be a number with a unit"),
        ("events: {max_message: 1 MB}", "must be a number with a unit (B, KiB, MiB, GiB, TiB); for example 8 MiB"),
        ("state: {retention: 3 d}", "1:9: state.retention: compacted keeps for ever; give one of the two"),
        ("events: {compacted: maybe}", "events.compacted: must be true or false"),
        ("events: {replication: 1, min_insync: 2}", "events.min_insync: 2 copies must be written, of 1"),
        ("events: {config: {retention.ms: 5}}", "has a key of its own; write retention beside config"),
        ("events: {config: [1]}", "must be a map of Kafka's settings"),
        ("events: 5", "1:9: events: must be a map of keys"),
        ("events: {", "not YAML"),
        ("5", "not a map of topics"),
    ],
)
def test_a_wrong_file_is_told_with_its_place_and_mend(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "topics.yaml"
    file.write_text(text)
    with pytest.raises(ConfigProblems) as caught:
        declared(KafkaConfig(topics=str(file)))
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        declared(KafkaConfig(topics=str(tmp_path / "no.yaml")))
