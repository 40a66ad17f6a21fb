"""How the programs that Passerby is compared with are run: a thread a file, and what that cost."""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Session = TypeVar("Session")


def measure(
    program: str,
    open_session: Callable[[str, int, int], Session],
    one_file: Callable[[str, Session, tuple[int, int], float], int],
) -> None:
    """``python -m benchmarks.PROGRAM MODEL WIDTHxHEIGHT FPS FILE...``: what its arguments ask for.

    one_file: frames it analysed of (file, session, (width, height), frames a second).
    """
    model, shape, fps, *files = sys.argv[1:]
    width, height = map(int, shape.split("x"))
    session = open_session(model, width, height)
    _run(program, lambda path: one_file(path, session, (width, height), float(fps)), files)


def _run(program: str, work: Callable[[str], int], files: Sequence[str]) -> None:
    """Call ``work(file)``, which gives the frames it analysed, in a thread for each file; print one JSON object."""
    done: list[int] = []
    threads = [threading.Thread(target=lambda path=path: done.append(work(path))) for path in files]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "program": program,
                "frames": sum(done),
                "wall_s": time.perf_counter() - began,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "rss_mb": usage.ru_maxrss / 1024,
            }
        )
    )
