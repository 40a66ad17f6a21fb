"""What a worker answers on ``--metrics-port``: /metrics for Prometheus, /livez and /readyz for whoever runs it.

    /livez    200 while the worker's loop turns; 503 when it has not for ``stall_s``: restart it
    /readyz   200 when everything the worker waits for is there; 503 with what is missing, a line each
    /metrics  Prometheus' text, or OpenMetrics where it asks for that

Nothing else is answered, nothing is logged a request, and a client that dawdles is cut off.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from pipeline.errors import UsageError
from pipeline.metrics import WorkerMetrics

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

STALL_S = 60.0
_CLIENT_S = 10.0


class Health:
    """Whether a worker lives, and whether it is ready; thread-safe.

    waits_for: names of what must be there before the worker is ready ("models", "assignment", "broker").
    stall_s: seconds after which a loop that has not turned counts as dead. now_s: monotonic seconds.
    """

    def __init__(self, *waits_for: str, stall_s: float = STALL_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._missing = dict.fromkeys(waits_for, "not yet")
        self._turned_s = now_s()

    def turned(self) -> None:
        """The worker's loop made a turn."""
        self._turned_s = self._now_s()

    def ready(self, name: str) -> None:
        """``name`` is there."""
        with self._lock:
            self._missing.pop(name, None)

    def missing(self, name: str, reason: str) -> None:
        """``name`` is not there (any more). ``reason``: one line without secrets."""
        with self._lock:
            self._missing[name] = reason.splitlines()[0] if reason else "no reason given"

    def livez(self) -> tuple[bool, str]:
        """Whether the loop turns, and a line about it."""
        silent_s = self._now_s() - self._turned_s
        if silent_s <= self._stall_s:
            return True, "alive"
        return False, f"the worker's loop has not turned for {silent_s:.0f} s (limit {self._stall_s:g} s)"

    def readyz(self) -> tuple[bool, str]:
        """Whether everything is there, and what is missing, a line each."""
        with self._lock:
            missing = [f"{name}: {reason}" for name, reason in self._missing.items()]
        return (False, "\n".join(missing)) if missing else (True, "ready")

    @property
    def last_turn_s(self) -> float:
        """When the loop last turned, in seconds since 1970."""
        return time.time() - (self._now_s() - self._turned_s)


class HealthServer:
    """Answers until it is closed; ``port`` is the real one where 0 was asked for."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self.port: int = server.server_port
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> HealthServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(port: int, metrics: WorkerMetrics, health: Health, *, address: str = "") -> HealthServer:
    """Answer on ``port`` (0: any free one) of ``address`` ("": every one of this machine, IPv6 and IPv4).

    Raises UsageError when the port is taken or not allowed.
    """
    metrics.watch_worker(lambda: health.readyz()[0], lambda: health.last_turn_s)
    kind = _DualStackServer if not address and socket.has_dualstack_ipv6() else _Server
    try:
        server = make_server(address, port, _router(metrics.wsgi_app(), health), kind, _Handler)
    except (OSError, OverflowError) as error:
        told = error.strerror if isinstance(error, OSError) else "ports end at 65535"
        raise UsageError(
            f"--metrics-port {port}: cannot listen there: {told}", mend="choose another port, or 0 for a free one"
        ) from None
    _log.info("metrics and health on port %d: /metrics /livez /readyz", server.server_port)
    return HealthServer(server)


@contextmanager
def serving(port: int | None, metrics: WorkerMetrics, health: Health) -> Iterator[HealthServer | None]:
    """``serve`` while the block runs; nothing when ``port`` is None."""
    if port is None:
        yield None
        return
    with serve(port, metrics, health) as server:
        yield server


def _router(page: WSGIApplication, health: Health) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return page(environ, start_response)
        if path in ("/livez", "/readyz"):
            good, words = health.livez() if path == "/livez" else health.readyz()
            status = "200 OK" if good else "503 Service Unavailable"
        else:
            status, words = "404 Not Found", "here are /metrics, /livez and /readyz"
        body = f"{words}\n".encode()
        start_response(
            status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))),
                     ("Cache-Control", "no-store")],
        )  # fmt: skip
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    return app


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread a request, which a client cannot hold for longer than ``_CLIENT_S`` of silence."""

    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks the resolver for our own name, which takes many seconds where there is none.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "passerby", self.server_address[1]
        self.setup_environ()

    def handle_error(self, *_: object) -> None:
        """A client went away in the middle: no news."""
        _log.debug("metrics: a request failed", exc_info=True)


class _DualStackServer(_Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_S

    def log_message(self, *_: object) -> None:
        """Nothing a request: a scrape every few seconds would bury the log."""
