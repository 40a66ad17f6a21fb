"""What an inference worker needs of a bus, in words. ``KafkaBus`` keeps it; tests use a model of the log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from pipeline.bus.base import Consumer, Malformed, Message, PartitionListener, Topic

Raw = bytes | Malformed


class OpenTransaction(Protocol):
    """A transaction that is open; see ``pipeline.bus.kafka``."""

    def send(self, topic_name: str, message: Message, partition: int | None = None) -> None: ...

    def offsets(self, next_offsets: Mapping[int, int]) -> None: ...


class Transactions(Protocol):
    """Sends records and commits offsets together. Raises TransactionAborted or Fenced."""

    def transaction(self) -> AbstractContextManager[OpenTransaction]: ...

    def close(self) -> None: ...


class WindowsConsumer(Consumer[Raw], Protocol):
    """A member of the group; see ``pipeline.bus.kafka``."""

    def hear(self) -> None: ...

    def seek(self, offsets: Mapping[int, int]) -> None: ...

    @property
    def assignment(self) -> tuple[int, ...]: ...

    @property
    def connected(self) -> bool: ...

    @property
    def heard_s(self) -> float: ...

    def lag(self) -> dict[int, int]: ...

    def close(self) -> None: ...


class WorkerBus(Protocol):
    """Makes what a session needs."""

    def consumer(
        self,
        topic: Topic[Any],
        group: str,
        *,
        instance_id: str | None = None,
        listener: PartitionListener | None = None,
        session_timeout_s: float = 10,
    ) -> Any: ...

    def transactions(self, transactional_id: str, consumer: Any, *, timeout_s: float = 15) -> Any: ...

    def reader(self, topic: Topic[Any], *, undecided: bool = False) -> Any: ...

    def committed(self, group: str, topic_name: str) -> dict[int, int]: ...
