"""The cameras of a configuration as documents in the topic ``cameras``: what is there, what is wanted, what differs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pipeline.bus.base import Malformed, Message, Record
from pipeline.bus.documents import encode_camera
from pipeline.bus.topics import CameraDocument
from pipeline.config import Config, camera_document
from pipeline.errors import BusUnavailable

_SILENT_S = 30.0
"""Nothing of a partition for as long: no broker answers."""
Kind = Literal["new", "changed", "removed", "unchanged"]


class CamerasReader(Protocol):
    """What is needed of ``KafkaReader``."""

    def partitions(self) -> tuple[int, ...]: ...
    def ends(self, partitions: Sequence[int]) -> dict[int, int]: ...
    def read(
        self, partition: int, from_offset: int, to_offset: int, *, timeout_s: float = 30
    ) -> Iterator[Record[CameraDocument | Malformed]]: ...


class CamerasProducer(Protocol):
    """What is needed of ``KafkaProducer``."""

    def send_message(self, message: Message, partition: int | None = None) -> None: ...
    def flush(self, timeout_s: float = 60) -> None: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A camera as the topic has it. revision: the offset of its document."""

    camera_id: str
    partition: int
    revision: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """What is to happen to one camera. before, after: its documents, None where there is none."""

    camera_id: str
    kind: Kind
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def lines(self) -> list[str]:
        """What differs, a line a value: ``- key: value`` was, ``+ key: value`` will be."""
        was, will = dict(_values(self.before or {}, "")), dict(_values(self.after or {}, ""))
        told: list[str] = []
        for key in [*was, *(key for key in will if key not in was)]:
            if was.get(key) != will.get(key):
                told += [f"- {key}: {was[key]}"] if key in was else []
                told += [f"+ {key}: {will[key]}"] if key in will else []
        return told


def wanted(config: Config) -> dict[str, dict[str, Any]]:
    """The documents of a configuration's cameras. Raises ConfigProblems where a secret would lie in the log."""
    return {camera_id: camera_document(config, camera_id) for camera_id in config.cameras}


class CamerasView:
    """The topic ``cameras`` as of the last ``refresh``: the newest document of each camera, removed ones left out."""

    def __init__(self, reader: CamerasReader, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.cameras: dict[str, Held] = {}
        self._reader = reader
        self._now_s = now_s
        self._next: dict[int, int] = {}

    def refresh(self, partitions: Sequence[int] | None = None, *, within_s: float = math.inf) -> dict[str, Held]:
        """Read what is new, of these partitions (None: all). Raises BusError; BusUnavailable after ``within_s``."""
        until_s = self._now_s() + within_s
        chosen = self._reader.partitions() if partitions is None else partitions
        ends = self._reader.ends(chosen)
        for partition in chosen:
            silent_s = min(_SILENT_S, max(0.1, until_s - self._now_s()))
            begin = self._next.get(partition, 0)
            for record in self._reader.read(partition, begin, ends[partition], timeout_s=silent_s):
                self._take(record)
                if self._now_s() > until_s:
                    place = f"partition {partition}, offset {record.offset} of {ends[partition]}"
                    raise BusUnavailable(f"the cameras in the log were not read within {within_s:g} s: {place}")
            self._next[partition] = max(ends[partition], self._next.get(partition, 0))
        return self.cameras

    def of(self, partition: int) -> list[Held]:
        """The cameras of a partition."""
        return [held for held in self.cameras.values() if held.partition == partition]

    def _take(self, record: Record[CameraDocument | Malformed]) -> None:
        value = record.value
        if isinstance(value, Malformed):
            return  # what was there before counts
        if value.document is None:
            self.cameras.pop(value.camera_id, None)
        else:
            self.cameras[value.camera_id] = Held(value.camera_id, record.partition, record.offset, value.document)


def compare(want: Mapping[str, Mapping[str, Any]], there: Mapping[str, Held]) -> list[DocumentChange]:
    """What has to happen so that the topic holds ``want``, in the order of names; unchanged cameras are among it."""
    changes = []
    for camera_id in sorted({*want, *there}):
        held = there.get(camera_id)
        before, after = held.document if held else None, want.get(camera_id)
        kind: Kind = "unchanged"
        if before is None:
            kind = "new"
        elif after is None:
            kind = "removed"
        elif _canonical(before) != _canonical(after):
            kind = "changed"
        changes.append(DocumentChange(camera_id, kind, before, after))
    return changes


def send(producer: CamerasProducer, changes: Iterable[DocumentChange]) -> int:
    """Put what is new or changed into the topic, take out what is removed; how many records that were.

    Returns when the log has them. Raises BusError.
    """
    sent = 0
    for change in changes:
        if change.kind != "unchanged":
            producer.send_message(encode_camera(CameraDocument(change.camera_id, change.after)))
            sent += 1
    producer.flush(30)
    return sent


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False)


def _values(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Key and value of each leaf; lists are leaves."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _values(value, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, json.dumps(node, ensure_ascii=False)
