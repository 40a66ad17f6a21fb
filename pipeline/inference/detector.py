"""The detector: pictures in, detections in pixels of the original frames out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.errors import ModelError
from pipeline.inference.decoders import Decoder, decoder_for
from pipeline.inference.manifest import InputShape
from pipeline.inference.onnx import RunSettings, Session, TensorFacts, as_float32
from pipeline.inference.postprocess import Candidates, rivals, suppress
from pipeline.inference.preprocess import InputFit, assemble, choose_shape, fit_shape
from pipeline.inference.store import Model

GPU_BUCKETS = (1, 2, 4, 8, 16)
_OF_TASK = "name a model of task detection: `passerby models list`"


@dataclass(frozen=True, slots=True)
class ModelProvenance:
    """Named in every event."""

    model: str
    model_version: str
    model_sha256: str


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The network ready for one shape."""

    session: Session
    decode: Decoder


class Detector:
    """One model on one execution provider. Thread-safe: many threads may call ``detect`` at once.

    provider: cpu, cuda, tensorrt, openvino, coreml, directml. allow_cpu: go on with the CPU when that provider does
    not run, instead of failing at start-up. threads: of one run (CPU: 1; more throughput comes from more callers).
    buckets: the batch sizes the network is run at, each warmed up; default (1,) on CPU, where a batch is dearer than
    its pictures, 1 to 16 elsewhere, and always what the network fixes. min_score: candidates below it are not returned
    (default: the manifest's ``thresholds.low``). gpu_mem_limit_bytes: of CUDA's arena.
    Raises ModelError when the model cannot run, or another provider than the asked one would run it.
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
        gpu_mem_limit_bytes: int | None = None,
        engine_cache: Path | None = None,
    ) -> None:
        self.model = model
        self.manifest = manifest = model.manifest
        require_detection(model)
        self.classes: tuple[str, ...] = tuple(manifest.classes)
        self.provenance = ModelProvenance(manifest.name, manifest.version, manifest.sha256)
        self.score_threshold = manifest.thresholds.score
        self.min_score = manifest.thresholds.low if min_score is None else min_score
        self._rivals = rivals(manifest.classes, manifest.nms)
        self._settings = RunSettings(
            provider, allow_cpu, threads, gpu_mem_limit_bytes=gpu_mem_limit_bytes, cache_folder=engine_cache
        )
        self._data = model.read()
        self._lock = threading.Lock()
        self._loaded: dict[tuple[int, int], _Loaded] = {}
        self._fits: dict[tuple[int, int], InputFit] = {}
        probe = Session(self._data, name=self._name, settings=self._settings)
        self._facts = self._checked_input(probe)
        self.provider = probe.provider
        self.buckets = self._possible(buckets)
        fixed = all(isinstance(side, int) for side in self._facts.shape)
        self._probe = probe if fixed else None  # a network of one shape needs no second session
        self._load(manifest.input.shapes[0])

    def fit(self, source_width: int, source_height: int) -> InputFit:
        """How frames of this size go in: the picture size to send is ``fit.width`` x ``fit.height``.

        Cached. The first call for a shape loads the network for it and warms it up.
        """
        key = (source_width, source_height)
        found = self._fits.get(key)
        if found is None:
            shape = choose_shape(self.manifest, source_width, source_height)
            self._load(shape)
            found = self._fits[key] = fit_shape(self.manifest.input, shape, source_width, source_height)
        return found

    def detect(self, pictures: Sequence[Picture], sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections of each picture, highest score first, in pixels of its original frame.

        pictures: all of one input shape, each as its ``fit`` says (fit.height x fit.width x 3 uint8 RGB).
        sizes: (width, height) of the original frames.
        Raises ModelError when the network fails or a picture does not fit.
        """
        placed = [(self.fit(*size), picture) for size, picture in zip(sizes, pictures, strict=True)]
        if len({(fit.input_width, fit.input_height) for fit, _ in placed}) > 1:
            raise ModelError("pictures of several input shapes cannot share a batch")
        found: list[Detections] = []
        largest = self.buckets[-1]
        for start in range(0, len(placed), largest):
            part = placed[start : start + largest]
            bucket = next(size for size in self.buckets if size >= len(part))
            found += self._run(part, sizes[start : start + largest], bucket)
        return found

    def _run(
        self, placed: Sequence[tuple[InputFit, Picture]], sizes: Sequence[tuple[int, int]], bucket: int
    ) -> list[Detections]:
        first = placed[0][0]
        loaded = self._loaded[first.input_width, first.input_height]
        outputs = self._infer(loaded.session, placed, bucket)
        found = []
        for i, ((fit, _), (width, height)) in enumerate(zip(placed, sizes, strict=True)):
            candidates = loaded.decode([output[i] for output in outputs], self.min_score)
            kept = suppress(candidates, self._rivals, self.manifest.thresholds.nms_iou)
            found.append(self._detections(kept, fit, width, height))
        return found

    def _infer(self, session: Session, placed: Sequence[tuple[InputFit, Picture]], bucket: int) -> list[np.ndarray]:
        tensor = assemble(placed, bucket)
        ran = session.run({self._facts.name: tensor}, self.manifest.output_names())
        outputs = [as_float32(output) for output in ran]
        for name, output in zip(self.manifest.output_names(), outputs, strict=True):
            if output.ndim != 3 or len(output) != bucket:
                got = "x".join(str(side) for side in output.shape)
                raise ModelError(f"{self._name}: output {name} is {got}, not a table for each of {bucket} pictures")
        return outputs

    def _detections(self, kept: Candidates, fit: InputFit, width: int, height: int) -> Detections:
        boxes = fit.to_source(kept.boxes, width, height)
        seen = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))  # some lie in the padding
        return Detections(boxes[seen], np.minimum(kept.scores[seen], np.float32(1)), kept.class_ids[seen], self.classes)

    @property
    def _name(self) -> str:
        return f"model {self.model.name}"

    def _checked_input(self, probe: Session) -> TensorFacts:
        """The network's one input, as the manifest says it is."""
        spec = self.manifest.input
        facts = next((each for each in probe.inputs if each.name == spec.name), None)
        if facts is None or len(probe.inputs) != 1:
            has = ", ".join(str(each) for each in probe.inputs)
            raise ModelError(f"{self._name}: the manifest's input is {spec.name}, the network's: {has}")
        if facts.dtype != spec.dtype or len(facts.shape) != 4:
            raise ModelError(f"{self._name}: the network's input is {facts}, the manifest's {spec.dtype} {spec.layout}")
        missing = set(self.manifest.output_names()) - {each.name for each in probe.outputs}
        if missing:
            has = ", ".join(each.name for each in probe.outputs)
            raise ModelError(f"{self._name}: the network has no output {', '.join(sorted(missing))}, but {has}")
        sides = facts.shape[1:3] if spec.layout == "nhwc" else facts.shape[2:4]
        for shape in spec.shapes:
            wanted = (shape.height, shape.width)
            if any(isinstance(has, int) and has != side for has, side in zip(sides, wanted, strict=True)):
                raise ModelError(f"{self._name}: the network does not take {shape.width}x{shape.height}: {facts}")
        return facts

    def _possible(self, buckets: tuple[int, ...] | None) -> tuple[int, ...]:
        fixed = self._facts.shape[0]
        if isinstance(fixed, int):
            return (fixed,)
        if buckets is not None and (not buckets or min(buckets) < 1):
            raise ModelError(f"buckets are batch sizes from 1 up, not {buckets}")
        return tuple(sorted(set(buckets or ((1,) if self.provider == "cpu" else GPU_BUCKETS))))

    def _load(self, shape: InputShape) -> None:
        """Make the network ready for a shape, once: load, run every bucket, decode what it gave."""
        key = (shape.width, shape.height)
        with self._lock:
            if key in self._loaded:
                return
            session = self._probe or Session(
                self._data, name=self._name, settings=self._settings, fixed=self._fixed(shape)
            )
            loaded = _Loaded(session, decoder_for(self.manifest, shape.width, shape.height))
            self._warm_up(loaded, shape)
            self._loaded[key] = loaded

    def _warm_up(self, loaded: _Loaded, shape: InputShape) -> None:
        empty = np.full((shape.height, shape.width, 3), self.manifest.input.pad, np.uint8)
        whole = InputFit(self.manifest.input, shape.width, shape.height, shape.width, shape.height)
        for bucket in self.buckets:
            outputs = self._infer(loaded.session, [(whole, empty)], bucket)
            try:
                loaded.decode([output[0] for output in outputs], self.min_score)
            except ModelError as error:
                raise ModelError(f"{self._name}: {error}") from None

    def _fixed(self, shape: InputShape) -> dict[str, int]:
        """Sizes of the input's named free dimensions; the batch stays free where several buckets share the session."""
        sides = (shape.height, shape.width)
        sizes = (*sides, 3) if self.manifest.input.layout == "nhwc" else (3, *sides)
        batch = self.buckets[0] if len(self.buckets) == 1 else None
        told = zip(self._facts.shape, (batch, *sizes), strict=True)
        return {name: size for name, size in told if isinstance(name, str) and size is not None}


def require_detection(model: Model) -> None:
    """Raises ModelError for a model of another task: it finds no objects."""
    if model.manifest.task != "detection":
        raise ModelError(f"model {model.name}: its task is {model.manifest.task}: it finds no objects", mend=_OF_TASK)
