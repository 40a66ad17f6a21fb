"""Real RTSP servers for tests, and a wire between camera and client that breaks on command."""

from __future__ import annotations

import os
import random
import select
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
SERVE = Path(__file__).resolve().parents[2] / "deploy/demo-camera/serve.py"
_HAS_BINDINGS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; "
    "Gst.init(None); assert all(Gst.ElementFactory.find(e) for e in ('x264enc', 'h264parse', 'rtph264pay'))"
)


def require_rtsp() -> None:
    """Skip where GStreamer's RTSP server is missing; fail where CI promises that it is there."""
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", _HAS_BINDINGS], capture_output=True, timeout=60, check=False)
        missing = found.returncode != 0
    except OSError:
        missing = True
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail("GStreamer's RTSP server is missing, and CI=true says it must be here")
    pytest.skip("GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly) is not here")


class RtspServer:
    """A server process; ``options`` are those of serve.py, e.g. ``"--fps", "10"``."""

    def __init__(self, *options: str, port: int = 0) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.port = port

    def start(self) -> Self:
        """Listen; on the port of last time, if there was one."""
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVE), "--port", str(self.port), *self._options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("PORT "), f"the RTSP server did not start: {line!r}"
        self.port = int(line.split()[1])
        return self

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def url(self, login: str = "", port: int | None = None) -> str:
        """Its address; ``login`` as ``user:password``."""
        return f"rtsp://{login + '@' if login else ''}127.0.0.1:{port or self.port}/cam"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


Fault = Literal["pass", "hang", "garbage", "drip", "refuse"]


class Wire:
    """A TCP proxy to a camera, with faults.

    pass: hands on. hang: accepts and keeps connections, but what the camera says goes nowhere. garbage: the camera's
    bytes are replaced by noise. drip: one byte of noise a tenth of a second. refuse: closes connections at once.
    """

    def __init__(self, port: int, fault: Fault = "pass", seed: int = 1) -> None:
        self.fault: Fault = fault
        self.connections = 0
        self._target = port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._cuts = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def cut(self) -> None:
        """Close every connection that is up."""
        self._cuts += 1

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            if self.fault == "refuse":
                client.close()
                continue
            thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        with client:
            try:
                camera = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                return
            with camera:
                try:
                    began = self._cuts
                    while not self._closing.is_set() and self._cuts == began and self._step(client, camera):
                        pass
                except OSError:
                    return

    def _step(self, client: socket.socket, camera: socket.socket) -> bool:
        """Carry what is there; False when a side has closed."""
        fault = self.fault
        if fault == "drip":
            self._closing.wait(0.1)
            client.sendall(self._random.randbytes(1))
            return True
        readable, _, _ = select.select([client, camera], [], [], 0.05)
        for side in readable:
            data = side.recv(65536)
            if not data:
                return False
            if side is client:
                camera.sendall(data)
            elif fault == "garbage":
                client.sendall(self._random.randbytes(len(data)))
            elif fault != "hang":
                client.sendall(data)
        return True
