"""Is a broker there? One that takes connections and answers nothing is not."""

from __future__ import annotations

import logging
import time

from kafka import KafkaConsumer as Client

from pipeline.bus.kafka.repairs import heard_s

_log = logging.getLogger(__name__)
AWAY_S = 5.0
"""Not heard of for as long, the broker is away: who reads hears of it every second (answers to heartbeats, fetches)."""


class Hearing:
    """When a broker was last heard of by who reads ``topic_name``; says once that it is away, and once that it is back.

    heard_s: monotonic seconds; -inf before the first time.
    """

    def __init__(self, topic_name: str) -> None:
        self.heard_s = float("-inf")
        self.connected = False
        self._topic_name = topic_name

    def began(self) -> None:
        """A client was opened: a broker answered."""
        self.connected, self.heard_s = True, time.monotonic()

    def listen(self, client: Client) -> None:
        """Look now; the client just polls on, whatever is found."""
        self.heard_s = max(self.heard_s, heard_s(client) or self.heard_s)
        connected = time.monotonic() - self.heard_s <= AWAY_S
        if connected != self.connected:
            self.connected = connected
            told = "a broker answers again" if connected else "no broker answers; waiting for it"
            _log.warning("reading %s: %s", self._topic_name, told)
