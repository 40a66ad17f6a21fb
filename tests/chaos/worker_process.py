"""``passerby infer`` as a process that sees pixels instead of people, and kills itself where it is told to.

    python -m tests.chaos.worker_process CONFIG WORKER_ID [STEP COUNT]

STEP is one of ``STEPS``; at its COUNT-th time (from 0) the process gets SIGKILL. The steps are put around the code from
outside: what runs is what ships.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kafka.producer.transaction_manager as kafka_transactions

from pipeline.bus.kafka import transactions
from pipeline.config import load_config
from pipeline.services import infer_session, infer_worker
from pipeline.services.infer_worker import InferOptions
from tests.chaos.world import PixelEngine

STEPS = (
    "restoring",  # partitions assigned, nothing of them read
    "restored",
    "begin",
    "begun",
    "sending",  # a record is handed to the client
    "sent",  # all records are, offsets are not
    "offsets asked",  # the broker may have the offsets
    "offsets answered",
    "commit not asked",  # all records are acknowledged
    "commit asked",  # the broker may have the commit
    "committed",  # and we know
)


class _Trap:
    def __init__(self, step: str, count: int) -> None:
        self.step, self.left = step, count

    def __call__(self, step: str, wait_s: float = 0.0) -> None:
        if step == self.step:
            self.left -= 1
            if self.left < 0:
                time.sleep(wait_s)  # let the request out
                os.kill(os.getpid(), signal.SIGKILL)


def lay_traps(at: Callable[..., None]) -> None:
    """Put the steps around the session and the transactions."""
    restore, transaction = infer_session.InferSession._restore, transactions.KafkaTransactions.transaction
    send, offsets, wait = transactions.Transaction.send, transactions.Transaction.offsets, transactions._await
    begin_commit = kafka_transactions.TransactionManager.begin_commit
    asked = {"commit": False}

    def trapped_restore(self: Any, partitions: Any) -> None:
        at("restoring")
        restore(self, partitions)
        at("restored")

    @contextmanager
    def trapped_transaction(self: Any) -> Any:
        asked["commit"] = False
        at("begin")
        with transaction(self) as opened:
            at("begun")
            yield opened
        at("committed")

    def trapped_send(self: Any, *args: Any, **kwargs: Any) -> None:
        send(self, *args, **kwargs)
        at("sending")

    def trapped_offsets(self: Any, *args: Any) -> None:
        at("sent")
        offsets(self, *args)

    def trapped_begin_commit(self: Any, *args: Any, **kwargs: Any) -> Any:
        at("commit not asked")
        asked["commit"] = True
        return begin_commit(self, *args, **kwargs)

    def trapped_await(result: Any, until: float) -> None:
        at("commit asked" if asked["commit"] else "offsets asked", 0.005)
        wait(result, until)
        at("offsets answered" if not asked["commit"] else "", 0.0)

    infer_session.InferSession._restore = trapped_restore  # type: ignore[method-assign]
    transactions.KafkaTransactions.transaction = trapped_transaction  # type: ignore[method-assign]
    transactions.Transaction.send = trapped_send  # type: ignore[method-assign]
    transactions.Transaction.offsets = trapped_offsets  # type: ignore[method-assign]
    transactions._await = trapped_await
    kafka_transactions.TransactionManager.begin_commit = trapped_begin_commit


class PixelModels:
    """In the place of plans.Models."""

    def __init__(self) -> None:
        self._engine = PixelEngine()

    def engine(self, _camera: Any) -> PixelEngine:
        return self._engine

    def __enter__(self) -> PixelModels:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    config = load_config(Path(sys.argv[1]), cameras=False)
    if len(sys.argv) > 3:
        assert sys.argv[3] in STEPS
        lay_traps(_Trap(sys.argv[3], int(sys.argv[4])))
    infer_worker._models = lambda _config, _metrics: PixelModels()  # type: ignore[assignment,return-value]
    infer_worker.infer(config, InferOptions(sys.argv[2]))


if __name__ == "__main__":
    main()
