"""Dynamic batching over cameras: requests in, futures out.

On a CPU every picture is a batch of its own and the workers run side by side: several single-threaded runs beat one
wide one, and a picture's result cannot depend on its company. On a GPU pictures of one input shape, of whatever
cameras, are gathered up to the largest bucket, for at most ``wait_s``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.inference.detector import Detector


@dataclass(frozen=True, slots=True)
class BatchStats:
    """batches: batch size (pictures really in it) -> how many. network_s: seconds in the detector, over all workers.

    pictures: done so far (failed ones too). waited_s: seconds that pictures waited for their batch, summed.
    """

    batches: dict[int, int]
    pictures: int
    network_s: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class _Request:
    picture: Picture
    size: tuple[int, int]
    future: Future[Detections]
    came_at: float


class Batcher:
    """Worker threads that form batches per input shape over all cameras.

    A batch leaves when it fills the largest bucket or its oldest picture has waited ``wait_s``, as soon as a worker
    is free: no camera waits for another. With buckets (1,) every picture leaves at once. Among batches that are due
    the one with the oldest picture goes first. buckets: default the detector's. clock: seconds, monotonic.
    on_batch: hears of each batch, on a worker's thread: its pictures, the seconds its oldest waited, and those in the
    network.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        workers: int,
        buckets: tuple[int, ...] | None = None,
        wait_s: float = 0.005,
        clock: Callable[[], float] = time.monotonic,
        on_batch: Callable[[int, float, float], None] | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"at least one worker, not {workers}")
        self._detector = detector
        self._largest = max(buckets or detector.buckets)
        self._wait_s = wait_s if self._largest > 1 else 0.0
        self._clock = clock
        self._on_batch = on_batch
        self._changed = threading.Condition()
        self._queues: dict[tuple[int, int], deque[_Request]] = {}
        self._closed = False
        self._batches: Counter[int] = Counter()
        self._network_s = self._waited_s = 0.0
        self._workers = [threading.Thread(target=self._work, name=f"infer-{i}", daemon=True) for i in range(workers)]
        for worker in self._workers:
            worker.start()

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        """Ask for the detections of ``picture``, whose original frame is ``width`` x ``height``.

        The future holds them, or the ModelError of its batch. Raises RuntimeError after ``close``, ModelError when the
        picture does not fit or a new input shape cannot be loaded.
        """
        fit = self._detector.fit(width, height)
        fit.check(picture)  # here, so that a wrong picture fails alone and not with its batch
        request = _Request(picture, (width, height), Future(), self._clock())
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._queues.setdefault((fit.input_width, fit.input_height), deque()).append(request)
            self._changed.notify()
        return request.future

    @property
    def stats(self) -> BatchStats:
        with self._changed:
            done = sum(size * times for size, times in self._batches.items())
            return BatchStats(dict(self._batches), done, self._network_s, self._waited_s)

    def close(self) -> None:
        """Finish what was submitted, then end the workers. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch:
                return
            wanted = [request for request in batch if request.future.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _next_batch(self) -> list[_Request]:
        """The next batch that is due, waiting for it; empty when closed and everything is done."""
        with self._changed:
            while True:
                now = self._clock()
                waiting = [queue for queue in self._queues.values() if queue]
                if not waiting and self._closed:
                    return []
                due = [queue for queue in waiting if self._due_in(queue, now) <= 0]
                if due:
                    queue = min(due, key=lambda queue: queue[0].came_at)
                    batch = [queue.popleft() for _ in range(min(len(queue), self._largest))]
                    if any(self._queues.values()):
                        self._changed.notify()  # another worker may have slept through what is left
                    return batch
                soonest = min((self._due_in(queue, now) for queue in waiting), default=None)
                self._changed.wait(soonest)

    def _due_in(self, queue: deque[_Request], now: float) -> float:
        """Seconds until this queue's batch has to leave."""
        if self._closed or len(queue) >= self._largest:
            return 0.0
        return queue[0].came_at + self._wait_s - now

    def _answer(self, batch: list[_Request]) -> None:
        """Run a batch, book it, settle its futures; a failure is theirs, the worker goes on."""
        started = self._clock()
        failure: Exception | None = None
        found: list[Detections] = []
        try:
            found = self._detector.detect([each.picture for each in batch], [each.size for each in batch])
        except Exception as error:
            failure = error
        network_s = self._clock() - started
        if self._on_batch is not None:
            self._on_batch(len(batch), started - batch[0].came_at, network_s)
        with self._changed:
            self._network_s += network_s
            self._waited_s += sum(started - request.came_at for request in batch)
            self._batches[len(batch)] += 1
        for i, request in enumerate(batch):
            if failure is not None:
                request.future.set_exception(failure)
            else:
                request.future.set_result(found[i])
