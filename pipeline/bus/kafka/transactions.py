"""Records and consumed offsets in one transaction (KIP-447)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from pipeline.bus.base import Message


class Transaction:
    """An open transaction; made by ``KafkaTransactions.transaction``."""

    def send(self, topic_name: str, message: Message, partition: int | None = None) -> None:
        """Send within the transaction, to ``partition`` or by key. Raises RecordTooLarge before anything is sent."""
        raise NotImplementedError

    def offsets(self, next_offsets: Mapping[int, int]) -> None:
        """Commit these next offsets of the consumer's partitions with the transaction (several calls add up)."""
        raise NotImplementedError


class KafkaTransactions:
    """One transactional producer beside one consumer; made by ``KafkaBus.transactions``. Belongs to one thread."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Begin; commit at the end of the block; abort when the block raises.

        Raises Fenced (we are a zombie: drop all, close, rejoin) or TransactionAborted (nothing counted: restore from
        the committed offsets and go on). After TransactionAborted a new transaction may begin; after Fenced none.
        Nothing is known of a commit whose answer did not come: ``TransactionAborted`` is raised only for what surely
        was not committed; the unknown case is Fenced, since only a fresh look at the committed offsets decides it.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Abort what is open and leave."""
        raise NotImplementedError
