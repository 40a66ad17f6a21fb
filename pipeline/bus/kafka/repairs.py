"""What kafka-python 3.0.12 does wrongly for us, mended on the objects of one client; each with its reason.

docs/decisions/0071 tells how each was found. tests/bus/test_kafka_repairs.py fails with a new version of the library:
then each is read again, and goes when the library has mended it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from kafka import KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.producer.transaction_manager import TransactionState
from kafka.structs import MemberState

_log = logging.getLogger(__name__)
_REFUSALS = (
    kafka_errors.SaslAuthenticationFailedError, kafka_errors.AuthorizationError,
    kafka_errors.UnsupportedSaslMechanismError, kafka_errors.IllegalSaslStateError,
)  # fmt: skip

_sockets: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()
"""The sockets that each client of the library has opened and nobody has forgotten."""


def mend_sockets() -> None:
    """Of the whole library, once: a socket that came to no connection is left open until the garbage is collected, and
    so is one that was just being connected when its client was closed.

    While a broker is away each client makes several a second.
    """
    if getattr(KafkaNetSocket.sock_connect, "mended", False):
        return
    make = KafkaSSLTransport.__init__
    connect, handshake = KafkaNetSocket.sock_connect, KafkaSSLTransport.handshake
    open_connection, shut = KafkaConnectionManager._connect, NetworkSelector.close

    async def connect_or_close(self: Any, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        _sockets.setdefault(net, WeakSet()).add(sock)
        try:
            return await connect(self, net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise

    async def handshake_or_close(self: Any) -> Any:
        _sockets.setdefault(self._net, WeakSet()).add(self._sock)  # TLS wraps the one that was connected
        try:
            return await handshake(self)
        except BaseException:
            self._sock.close()
            raise

    def close_with_sockets(self: Any) -> None:
        shut(self)
        for sock in list(_sockets.get(self, ())):
            sock.close()

    def with_last_words(receive: Callable[[Any], tuple[bytes, Any]]) -> Callable[[Any], tuple[bytes, Any]]:
        # What a broker says just before it closes comes together with the end, and was thrown away: that a password is
        # wrong looked like a broker that hangs up. The end is met again by the next read.
        def receive_all(self: Any) -> tuple[bytes, Any]:
            data, error = receive(self)
            return data, None if data else error

        return receive_all

    def make_or_close(self: Any, net: Any, sock: Any, *args: Any, **kwargs: Any) -> None:
        # That certificate and key do not fit together is found only here, when the socket is connected.
        try:
            make(self, net, sock, *args, **kwargs)
        except BaseException:
            sock.close()
            raise

    async def connect_and_remember(self: Any, node: Any, conn: Any, *args: Any, **kwargs: Any) -> None:
        # It means to keep what a broker refused us for, but ``initialize`` does not raise: it tells only its future.
        await open_connection(self, node, conn, *args, **kwargs)
        refused = conn._init_future.exception if conn._init_future.is_done else None
        if isinstance(refused, _REFUSALS):
            self._auth_failures[node.node_id] = refused

    KafkaConnectionManager._connect = connect_and_remember
    KafkaSSLTransport.__init__ = make_or_close
    KafkaTCPTransport._sock_recv = with_last_words(KafkaTCPTransport._sock_recv)
    KafkaSSLTransport._sock_recv = with_last_words(KafkaSSLTransport._sock_recv)
    connect_or_close.mended = True  # type: ignore[attr-defined]
    KafkaNetSocket.sock_connect = connect_or_close
    KafkaSSLTransport.handshake = handshake_or_close
    NetworkSelector.close = close_with_sockets


def mend_producer(client: KafkaProducer) -> None:
    """Of an idempotent producer without transactions."""
    manager, sender = client._transaction_manager, client._sender
    reset, poll, classify = manager.reset_producer_id, sender._client.poll, manager.classify_batch_error

    def reset_and_ask_again() -> None:
        # A batch that expired after it was sent once makes the sender throw its producer id away. The state stays
        # READY, and only UNINITIALIZED asks for a new id: the producer would stand still for ever, nothing ever done.
        reset()
        with manager._lock:
            manager._current_state = TransactionState.UNINITIALIZED

    def expire_and_poll(timeout_ms: Any = None, future: Any = None) -> Any:
        # Without a producer id (no broker since the start, or since the reset above) the sender never comes to the
        # place where it looks for batches whose delivery timeout is over. It polls, though, on its own thread.
        if not manager.has_producer_id():
            for batch in sender._accumulator.expired_batches():
                sender._complete_batch_with_exception(batch, kafka_errors.KafkaTimeoutError("delivery timeout"))
        return poll(timeout_ms=timeout_ms, future=future)

    def never_fatal(error: Any, batch: Any, log_start_offset: int = -1) -> str:
        # One record that the broker refuses (too large for it, not authorised) would stop the producer for good. A new
        # epoch instead: the refused batch fails alone, and the sequence numbers behind it begin anew.
        meant: str = classify(error, batch, log_start_offset=log_start_offset)
        kind = error if isinstance(error, type) else type(error)
        if meant == manager.ERROR_CLASS_FATAL and kind not in manager._FATAL_ERRORS:
            return str(manager.ERROR_CLASS_NEEDS_EPOCH_BUMP)
        return meant

    manager.reset_producer_id = reset_and_ask_again
    manager.classify_batch_error = never_fatal
    sender._client.poll = expire_and_poll


def mend_transactions(client: KafkaProducer) -> None:
    """Of a transactional producer.

    An error that could be healed by a new epoch (KIP-360) aborts the open transaction at the broker, but a commit that
    waits returns as if it had happened. Without epoch bumps the same errors are fatal, and we make a new producer.
    """
    client._transaction_manager._supports_epoch_bump = lambda: False


def shut_producer(client: KafkaProducer) -> None:
    """End a producer now; what it holds fails. Its own ``close`` raises when something is left, and does not close."""
    sender = client._sender
    sender.force_close()
    sender.join(5)
    client._unregister_cleanup()
    client._closed = True


def mend_consumer(client: KafkaConsumer, on_fenced: Callable[[BaseException], None]) -> None:
    """Of a consumer in a group; ``on_fenced`` hears when another process came under our instance id."""
    coordinator = client._coordinator
    reset, heard, needed = coordinator.reset_generation, coordinator._handle_heartbeat_response, coordinator.need_rejoin

    def reset_and_prepare_again(*args: Any, **kwargs: Any) -> None:
        # Thrown out while a rejoin is under way, it would not say that the partitions were lost, and go on behind its
        # old positions in partitions that others had in between.
        reset(*args, **kwargs)
        coordinator.rejoining = False

    def rejoin_needed_or_under_way() -> bool:
        # A rejoin because of new partitions stops being "needed" while its answer is on the way: a poll that times out
        # in between never looks for the answer, and the member stands there with neither partitions nor heartbeats.
        return bool(coordinator.rejoining or needed())

    def hear_heartbeat(response: Any, send_time: float) -> Any:
        # A fenced instance id only stops the heartbeats: poll goes on giving records.
        try:
            return heard(response, send_time)
        except kafka_errors.FencedInstanceIdError as error:
            on_fenced(error)
            raise

    coordinator.reset_generation = reset_and_prepare_again
    coordinator.need_rejoin = rejoin_needed_or_under_way
    coordinator._handle_heartbeat_response = hear_heartbeat


def mend_turns(client: KafkaConsumer) -> None:
    """Of a consumer of several partitions.

    The library gives all of what one fetch brought of a partition before it looks at the next: thousands of tiny
    records, and meanwhile nobody else's. Here each call begins with another partition.
    """
    fetcher = client._fetcher
    fetched_records, new_first = fetcher.fetched_records, True

    def fetched_in_turn(*args: Any, **kwargs: Any) -> Any:
        nonlocal new_first
        if fetcher._next_in_line_exception_metadata is None:
            held, fetcher._next_partition_records = fetcher._next_partition_records, None
            if held:  # behind those that are parked: where the library keeps what it has read of paused partitions
                fetcher._paused_partition_records[held.topic_partition] = held
            completed = fetcher._completed_fetches
            # What is parked comes first where nothing is in line: so every other time it is what was fetched since.
            if new_first and completed and not fetcher._subscriptions.is_paused(completed[0].topic_partition):
                fetcher._next_partition_records = fetcher._parse_fetched_data(completed.popleft())
            new_first = not new_first
        return fetched_records(*args, **kwargs)

    fetcher.fetched_records = fetched_in_turn


def partitions_of(client: KafkaConsumer, topic_name: str, timeout_s: float) -> frozenset[int]:
    """The partitions of a topic; none where there is no such topic. KafkaTimeoutError when nobody answers in time.

    The library's own question waits without a limit where a broker was met once and is away now.
    """
    cluster, until_s = client._cluster, time.monotonic() + timeout_s

    def refresh() -> None:
        left_s = max(0.1, until_s - time.monotonic())
        client._net.run(client._manager.wait_for, cluster.request_update(), left_s * 1000)

    found = cluster.partitions_for_topic(topic_name)
    if found is None:
        if cluster.metadata_refresh_in_progress:
            refresh()  # this one may be about other topics
        before, cluster.need_all_topic_metadata = cluster.need_all_topic_metadata, True
        try:
            refresh()
        finally:
            cluster.need_all_topic_metadata = before
        found = cluster.partitions_for_topic(topic_name)
    return frozenset(found or ())


def heard_s(client: KafkaConsumer) -> float | None:
    """When (monotonic seconds) a broker was last heard of by who reads; None while there is no connection.

    A member of a group hears at least the answers to its heartbeats, a reader those to its fetches. While the group
    waits for others to join there are neither: then a connection is as good as an answer.
    """
    connections = client._manager.least_used_connections()
    if not connections:
        return None
    if client.config["group_id"] is not None and client.group_metadata().state != MemberState.STABLE:
        return time.monotonic()
    return max(float(connection.transport.last_read) for connection in connections)


def forget_offset_answers(client: KafkaConsumer) -> None:
    """An answer to an older question for committed offsets is not one to a new question."""
    client._coordinator._offset_fetch_futures.clear()


def skip_broken_fetch(client: KafkaConsumer) -> None:
    """After an error inside a fetched batch: its exhausted iterator would be asked for ever, without a pause."""
    client._fetcher._next_partition_records = None


def shut_consumer(client: KafkaConsumer, timeout_s: float = 3) -> None:
    """Leave the group and close; never raises, never hangs."""
    with contextlib.suppress(Exception):
        client.close(autocommit=False, timeout_ms=int(timeout_s * 1000))
    with contextlib.suppress(Exception):
        client._client.close()
