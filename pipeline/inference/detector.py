"""The detector: pictures in, detections in pixels of the original frames out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.inference.preprocess import InputFit
from pipeline.inference.store import Model


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """Named in every event."""

    model: str
    model_version: str
    model_sha256: str


class Detector:
    """One model on one execution provider. Thread-safe: many threads may call ``detect`` at once.

    provider: cpu, cuda, tensorrt, openvino, coreml, directml. allow_cpu: go on with the CPU when that provider does
    not run, instead of failing at start-up. threads: of one run (CPU: 1; more throughput comes from more callers).
    buckets: the batch sizes the network is run at; (1,) on CPU, where a batch is dearer than its pictures.
    min_score: candidates below it are not returned (default: the manifest's ``thresholds.low``).
    """

    def __init__(
        self,
        model: Model,
        *,
        provider: str = "cpu",
        allow_cpu: bool = False,
        threads: int = 1,
        buckets: tuple[int, ...] | None = None,
        min_score: float | None = None,
    ) -> None:
        raise NotImplementedError

    classes: tuple[str, ...]
    provenance: ModelProvenance
    buckets: tuple[int, ...]
    score_threshold: float

    def fit(self, source_width: int, source_height: int) -> InputFit:
        """How frames of this size go in: the picture size to send is ``fit.width`` x ``fit.height``. Cached;
        the first call for a shape loads the network for it and warms it up."""
        raise NotImplementedError

    def detect(self, pictures: Sequence[Picture], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections of each picture, highest score first, in pixels of its original frame.

        pictures: all of one ``fit`` (fit.height x fit.width x 3 uint8 RGB). sizes: (width, height) of the original frames.
        Raises ModelError when the network fails or a picture does not fit.
        """
        raise NotImplementedError
