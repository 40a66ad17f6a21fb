"""``passerby replay``: a span of the windows topic once more through the stages that ``passerby infer`` runs.

1. index the camera's windows by their headers; choose where the analytics can begin (spans)
2. at the beginning of an epoch their only past is told by what was published before it (totals, the last time)
3. read the windows and run them through ``stages.InferStages``, under the documents they name (plans)
4. hand on the events whose window (``origin``) lies in the span
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.analytics.camera import CameraAnalytics, Observation
from pipeline.bus.base import Malformed, Record
from pipeline.bus.topics import Topics
from pipeline.config import CameraConfig, Config, camera_from_document
from pipeline.core.detections import Detections
from pipeline.core.events import COUNT_WINDOW, Event, microseconds
from pipeline.core.frame import Frame, FrameWindow, Picture
from pipeline.core.rules import CameraRules
from pipeline.errors import ModelError, OffsetGone, RecordMalformed, UsageError
from pipeline.inference.batching import Batcher
from pipeline.inference.detector import Detector
from pipeline.services.labels import LabelWork
from pipeline.services.log import Log
from pipeline.services.plans import Engine, Models, Plan, Plans
from pipeline.services.published import PublishedEvent, last_published
from pipeline.services.scenes import SceneWork
from pipeline.services.spans import CameraIndex, Progress, Span, choose_span, index_camera, no_progress
from pipeline.services.stages import CameraInUse, FrameDetector, InferStages, ObservationFailed, UnknownCamera

_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is wanted. from_, to: of the video in UTC microseconds, or an offset of the partition; None: all there is.

    model: judge by this model (name or folder) instead of the camera's. exact: results as published, or none.
    """

    camera_id: str
    from_us: int | None = None
    from_offset: int | None = None
    to_us: int | None = None
    to_offset: int | None = None
    model: str | None = None
    exact: bool = False


@dataclass(slots=True)
class Replayed:
    """What came of it. span_offsets: [from, to) in the partition, of the windows whose events were handed on.

    refused: offset and reason of windows that could not be analysed. notes: for people.
    """

    index: CameraIndex
    span: Span
    span_offsets: tuple[int, int]
    windows: int = 0
    frames: int = 0
    events: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class CameraSpan:
    """One camera's windows of a span as the stages poll them (base.Consumer)."""

    def __init__(self, records: Iterator[Record[FrameWindow | Malformed]], camera_id: str) -> None:
        self._records = (record for record in records if record.key == camera_id)
        self.ended = False

    def poll(self, timeout_s: float, max_records: int = 1) -> Sequence[Record[FrameWindow | Malformed]]:  # noqa: ARG002
        """The next ones; empty only at the end."""
        found: list[Record[FrameWindow | Malformed]] = []
        while len(found) < max_records:
            record = next(self._records, None)
            if record is None:
                self.ended = True
                break
            found.append(record)
        return found

    def commit(self, records: Sequence[Record[FrameWindow | Malformed]]) -> None:
        """Nothing: who replays is no member of a group."""


def decoded(record: Record[FrameWindow | Malformed]) -> FrameWindow | Future[FrameWindow]:
    """A record's window; a malformed one is refused in its turn, as inference does."""
    if not isinstance(record.value, Malformed):
        return record.value
    future: Future[FrameWindow] = Future()
    future.set_exception(RecordMalformed(record.value.reason))
    return future


class _Results:
    """Collects what the stages give (stages.Results)."""

    def __init__(self, told: Replayed, sink: Callable[[Event], None], progress: Progress) -> None:
        self._told = told
        self._sink = sink
        self._progress = progress
        self._total = told.span.until - told.span.start

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:  # noqa: ARG002
        first, last = self._told.span_offsets
        for event in observation.events:
            if first <= event.data["origin"]["offset"] < last:
                self._told.events += 1
                self._sink(event)

    def done(self, record: Record[Any], window: FrameWindow, observe_s: float) -> None:  # noqa: ARG002
        first, last = self._told.span_offsets
        if first <= record.offset < last:
            self._told.frames += len(window.frames)
        self._step()

    def void(self, record: Record[Any], window: FrameWindow) -> None:
        """Of a reader that was replaced: not in the index either."""

    def refused(self, record: Record[Any], window: FrameWindow | None, error: Exception, /) -> None:
        if isinstance(error, ModelError):
            raise error
        if isinstance(error, UnknownCamera):
            raise UsageError(str(error), mend="its configuration is needed: passerby apply") from error
        self._told.refused.append((record.offset, str(error)))
        if window is not None:
            self._step()

    def _step(self) -> None:
        self._told.windows += 1
        self._progress(min(self._told.windows, self._total), self._total)


class Replay:
    """Replays cameras of a log. Models are loaded once; a context manager that ends their threads.

    config: how the network runs here (its cameras are not looked at), and the folder for relative models.
    """

    def __init__(self, log: Log, topics: Topics, config: Config) -> None:
        self._log = log
        self.topics = topics
        self._config = config
        self._group = config.kafka.infer_group_name
        self._threads = config.inference.threads or os.cpu_count() or 1
        self._folder = Path(config.file).resolve().parent if config.file else Path.cwd()
        self._stack = ExitStack()
        self._models = self._stack.enter_context(Models(config, make_batcher=self._batcher))
        self._plans: dict[str | None, Plans] = {}

    def run(
        self,
        request: ReplayRequest,
        sink: Callable[[Event], None],
        *,
        indexing: Progress = no_progress,
        progress: Progress = no_progress,
    ) -> Replayed:
        """Replay one camera; ``sink`` gets its events in their order.

        Raises UsageError for a span without windows, OffsetGone where nothing is left, BusError, ModelError.
        """
        topics = self.topics
        index = index_camera(self._log, topics, request.camera_id, progress=indexing)
        processed_to = None
        if request.exact:
            processed_to = self._log.committed(self._group, topics.windows.name).get(index.partition)
            if processed_to is None:
                raise OffsetGone(
                    f"group {self._group} has published nothing of partition {index.partition}",
                    mend="start `passerby infer`, or say which group it was in kafka.infer_group",
                )
        first, last = _wanted(index, request)
        span = choose_span(index, first=first, last=last, processed_to=processed_to, exact=request.exact)
        told = self._begin(index, span)
        plans = self.plans(request.model)
        results = _Results(told, sink, progress)
        from_offset, until_offset = index.windows[span.start].offset, index.windows[span.until - 1].offset + 1
        reader = self._log.reader(topics.windows)
        try:
            records = reader.read(index.partition, from_offset, until_offset)
            span_of_camera = CameraSpan(records, request.camera_id)
            stages = InferStages(
                span_of_camera,
                lambda record, window: plans.plan(window, record.partition),
                results,
                decode=decoded,
                max_in_flight=max(_IN_FLIGHT, 2 * self._threads),
            )
            self._seed(told, stages.cameras, plans)
            run_stages(stages, span_of_camera)
        finally:
            reader.close()
        return told

    def plans(self, model: str | None = None) -> Plans:
        """Which configuration judges a window; read once. model: instead of the cameras' own."""
        if model not in self._plans:
            reader = self._log.reader(self.topics.cameras)
            self._stack.callback(reader.close)

            def camera_of(camera_id: str, document: Mapping[str, Any]) -> CameraConfig:
                camera = camera_from_document(camera_id, document, os.environ, self._folder, secrets=False)
                return camera if model is None else camera.model_copy(update={"model": model})

            engine_of: Callable[[CameraConfig], Engine] = self._models.engine
            if model is not None:
                engine_of = self._fitting
            plans = self._plans[model] = Plans(reader, camera_of, engine_of)
            plans.read_all()
        return self._plans[model]

    def close(self) -> None:
        """End the threads."""
        self._stack.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batcher(self, detector: Detector) -> Batcher:
        return Batcher(detector, workers=self._threads, wait_s=self._config.inference.batch_wait_s)

    def _fitting(self, camera: CameraConfig) -> Engine:
        engine = self._models.engine(camera)
        return _Fitting(_Fitted(engine.network, engine.detector), engine)

    def _begin(self, index: CameraIndex, span: Span) -> Replayed:
        first = index.windows[span.first].offset
        last = index.windows[span.last - 1].offset + 1
        told = Replayed(index, span, (first, last), notes=list(span.notes))
        warm = span.first - span.start
        if warm and span.exact:
            told.notes.append(f"{warm} windows before it, from the beginning of the epoch, are replayed as well")
        return told

    def _seed(self, told: Replayed, cameras: dict[str, CameraInUse], plans: Plans) -> None:
        """Give the analytics the past they have at the beginning of an epoch."""
        index, start = told.index, told.index.windows[told.span.start]
        if start.headers.epoch <= 1 and told.span.exact:
            return
        before = last_published(self._log, self.topics, index.camera_id, start)
        if not before:
            if told.span.exact:
                told.notes.append(
                    f"nothing is published of what came before epoch {start.headers.epoch}: totals begin at zero"
                )
            return
        window = _without_pictures(index, told.span.start)
        plan = plans.plan(window, index.partition)
        seeded = seed(plan, before)
        cameras[index.camera_id] = CameraInUse(
            index.partition, epoch=start.headers.epoch - 1, snapshot=seeded.snapshot()
        )


def run_stages(stages: InferStages[Any], span: CameraSpan) -> None:
    """Work until the span has ended. Raises what the analytics raised."""
    while stages.in_flight or not span.ended:
        stages.take(0.0)
        try:
            stages.finish_next()
        except ObservationFailed as failed:
            raise failed.cause from None


def seed(plan: Plan, before: Sequence[PublishedEvent]) -> CameraAnalytics:
    """The analytics as they are between two epochs: no tracks; totals and last time of what was published before."""
    analytics = plan.analytics(None)
    events = [event.event for event in before]
    analytics.writer.floor_us = max(event.time_us for event in events)
    counts = [event for event in events if event.type == COUNT_WINDOW]
    if counts:
        last = max(counts, key=lambda event: event.time_us)
        analytics.counts.carry_totals(last.data["totals"])
        analytics.counts.since_us = microseconds(last.data["totals_since"])
    return analytics


def _without_pictures(index: CameraIndex, number: int) -> FrameWindow:
    """A window of the index without its pictures: enough to ask which plan it is judged under."""
    headers = index.windows[number].headers
    timed = next((place for place in index.windows[number:] if place.headers.revision >= 0), index.windows[number])
    return FrameWindow(
        index.camera_id, headers.epoch, headers.sequence, (), 0, 0, 0.0, "wall",
        revision=timed.headers.revision, writer=headers.writer,
    )  # fmt: skip


def _wanted(index: CameraIndex, request: ReplayRequest) -> tuple[int, int]:
    first, last = 0, len(index.windows)
    if request.from_us is not None:
        first = index.at_time(request.from_us)
    elif request.from_offset is not None:
        first = index.at_offset(request.from_offset)
    if request.to_us is not None:
        last = index.at_time(request.to_us)
    elif request.to_offset is not None:
        last = index.at_offset(request.to_offset)
    return first, last


@dataclass(slots=True)
class _Fitted:
    """A model over pictures that were scaled for another one: scaled again to the size it wants."""

    network: Detector
    batched: FrameDetector

    def submit(self, picture: Picture, width: int, height: int) -> Future[Detections]:
        fit = self.network.fit(width, height)
        if picture.shape[:2] != (fit.height, fit.width):
            scaled = Image.fromarray(picture).resize((fit.width, fit.height), Image.Resampling.BILINEAR)
            picture = np.ascontiguousarray(scaled)
        return self.batched.submit(picture, width, height)


@dataclass(slots=True)
class _Fitting:
    """An engine whose pictures are made to fit (plans.Engine)."""

    detector: FrameDetector
    engine: Engine

    def rules(self, camera: CameraConfig) -> tuple[CameraRules, dict[str, str]]:
        return self.engine.rules(camera)

    def scenes(self, camera: CameraConfig) -> SceneWork | None:
        return self.engine.scenes(camera)

    def labels(self, camera: CameraConfig) -> LabelWork | None:
        return self.engine.labels(camera)
