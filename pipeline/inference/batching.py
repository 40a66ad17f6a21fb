"""Dynamic batching over cameras: requests in, futures out."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.inference.detector import Detector


@dataclass(frozen=True, slots=True)
class BatchStats:
    """batches: batch size (pictures really in it) -> how many. network_s: seconds in the network, over all workers.

    pictures: done so far. waited_s: seconds that pictures waited for their batch, summed.
    """

    batches: dict[int, int]
    pictures: int
    network_s: float
    waited_s: float


class Batcher:
    """Worker threads that form batches per input shape over all cameras.

    A batch leaves when it fills the largest bucket or its oldest picture has waited ``wait_s``, never later:
    no camera waits for another. With buckets (1,) every picture leaves at once. The oldest picture goes first.
    """

    def __init__(self, detector: Detector, *, workers: int, buckets: tuple[int, ...] | None = None, wait_s: float = 0.005) -> None:
        raise NotImplementedError

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        """Ask for the detections of ``picture``, whose original frame is ``width`` x ``height``.

        The future holds them, or the ModelError of its batch. Raises RuntimeError after ``close``.
        """
        raise NotImplementedError

    @property
    def stats(self) -> BatchStats:
        raise NotImplementedError

    def close(self) -> None:
        """Finish what was submitted, then end the workers. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
