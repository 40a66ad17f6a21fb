"""``passerby run``: ingest and inference in one process over the in-memory bus.

1. load the models, settle the cameras (wiring)
2. one ingest thread a camera, one batcher a model, one inference worker
3. every result goes to the sinks: JSON Lines first, then what people look at
4. when the files end (or the run is stopped): drain, order the results, write ledger and report
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from pipeline import __version__
from pipeline.analytics.camera import Observation
from pipeline.bus.memory import MemoryTopic
from pipeline.config import Config, config_sha256
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.ledger import FrameLedger, LedgerLine
from pipeline.core.rules import CameraRules
from pipeline.inference.batching import Batcher
from pipeline.inference.classifier import Classifier
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel
from pipeline.metrics import RunMetrics
from pipeline.outputs.annotated import AnnotatedVideo, Annotator, Totals
from pipeline.outputs.jsonl import JsonLinesWriter, write_ledger
from pipeline.outputs.report import ReportBuilder
from pipeline.outputs.terminal import LiveView, RunView
from pipeline.services import wiring
from pipeline.services.health import Health, serving
from pipeline.services.infer import InferWorker, ResultSink
from pipeline.services.ingest import CameraIngest
from pipeline.services.labels import Labeller
from pipeline.services.monitor import Progress, RunMonitor
from pipeline.services.scenes import SceneEngine
from pipeline.services.signals import stopped_by_signals
from pipeline.sources.base import SystemClock
from pipeline.sources.open import Stream

_log = logging.getLogger(__name__)
_REFRESH_S = 0.25
WINDOWS_TOPIC = "passerby.windows"


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run behaves beside its configuration.

    stop_after_s: wall seconds, None to run to the end. metrics_port: where it answers Prometheus and probes (0: any
    free port), None for nowhere.
    """

    out: Path
    annotate: bool = False
    stop_after_s: float | None = None
    live_view: bool = True
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run. failures: camera_id -> why it could not be read to its end. stopped: asked to end early."""

    out: Path
    ledger: Mapping[str, LedgerLine]
    failures: Mapping[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 when every source was read to its end (or the run was stopped), 3 when some failed."""
        return 3 if self.failures else 0


def run(config: Config, options: RunOptions) -> RunResult:
    """Do the main job. Raises ModelError, ConfigError, OutputError; what was counted until then is kept."""
    ledger, health = FrameLedger(), Health("models")
    metrics = RunMetrics(ledger)
    with serving(options.metrics_port, metrics, health):
        return _run(config, options, ledger, metrics, health)


def _run(config: Config, options: RunOptions, ledger: FrameLedger, metrics: RunMetrics, health: Health) -> RunResult:
    began_s = time.monotonic()
    annotate = options.annotate or config.output.annotate
    parts = wiring.build(config, preview="all" if annotate else "first" if config.output.report else "none")
    health.ready("models")
    stop, clock = threading.Event(), SystemClock()
    topic: MemoryTopic[FrameWindow] = MemoryTopic(WINDOWS_TOPIC, list(parts.cameras))
    with ExitStack() as stack:
        writer = stack.enter_context(JsonLinesWriter(options.out))
        sinks = _Sinks(config, options.out, writer, annotate=annotate)
        stack.callback(sinks.close)
        streams = {
            camera_id: wiring.build_stream(p.measured(metrics.decoded), ledger, clock, stop)
            for camera_id, p in parts.cameras.items()
        }
        _tell_what_there_is(metrics, parts, streams)
        monitor = RunMonitor(
            list(parts.cameras), ledger, now_s=time.monotonic, utc_us=clock.utc_us,
            progress_of=lambda camera_id: _progress(streams[camera_id]),
        )  # fmt: skip
        sinks.add(monitor)
        sinks.add(metrics)
        batchers = {
            name: stack.enter_context(
                Batcher(
                    detector, workers=parts.threads, wait_s=config.inference.batch_wait_s,
                    on_batch=partial(metrics.batch, detector.provenance.model),
                )
            )
            for name, detector in parts.detectors.items()
        }  # fmt: skip
        scenes = {
            name: stack.enter_context(SceneEngine(model, threads=parts.threads, on_clip=metrics.clip))
            for name, model in parts.scenes.items()
        }
        labellers = {name: Labeller(model, metrics.judged) for name, model in parts.classifiers.items()}
        ingests = [
            CameraIngest(camera_id, partial(streams.__getitem__, camera_id), topic.producer(), p.windows, ledger)
            for camera_id, p in parts.cameras.items()
        ]
        worker = InferWorker(
            topic.consumer(),
            lambda camera_id: batchers[parts.cameras[camera_id].config.model],
            lambda camera_id: wiring.build_analytics(parts.cameras[camera_id]),
            sinks,
            ledger,
            scenes_of=lambda camera_id: wiring.build_scenes(parts.cameras[camera_id], scenes),
            labels_of=lambda camera_id: wiring.build_labels(parts.cameras[camera_id], labellers),
            max_in_flight=max(4, 2 * parts.threads),
            on_turn=health.turned,
            on_done=metrics.analysed,
        )
        job = _Job(ingests, worker, topic, ledger, stop)
        first = parts.first_detector
        shown = RunView(first.provenance.model, first.provider, parts.threads, 0.0, 0.0)
        with stopped_by_signals(stop):
            job.start()
            _watch(job, monitor, shown, options, began_s)
        failures = job.finish()
    finite = all(stream.is_finite for stream in streams.values())
    writer.finish(order=finite)
    lines = ledger.lines()
    write_ledger(options.out, lines)
    if config.output.report:
        sinks.write_report(lines, failures, parts)
    if job.error is not None:
        raise job.error
    return RunResult(options.out, lines, failures, time.monotonic() - began_s, stopped=stop.is_set())


def _tell_what_there_is(metrics: RunMetrics, parts: wiring.RunParts, streams: Mapping[str, Stream]) -> None:
    models: list[Detector | SceneModel | Classifier] = [
        *parts.detectors.values(), *parts.scenes.values(), *parts.classifiers.values(),
    ]  # fmt: skip
    for model in models:
        made = model.provenance
        metrics.model_loaded(made.model, made.model_version, made.model_sha256, model.provider)
    for camera_id, camera in parts.cameras.items():
        stream = streams[camera_id]
        rules, _ = wiring.rules_under(camera.config, camera.detector, camera.scene, camera.classifier)
        metrics.camera_came(rules, lambda stream=stream: stream.health)  # type: ignore[misc]


class _Job:
    """The threads of a run."""

    def __init__(
        self,
        ingests: Sequence[CameraIngest],
        worker: InferWorker,
        topic: MemoryTopic[FrameWindow],
        ledger: FrameLedger,
        stop: threading.Event,
    ) -> None:
        self.error: BaseException | None = None
        self.stop = stop
        self._ingests = ingests
        self._worker = worker
        self._topic = topic
        self._ledger = ledger
        self._thread = threading.Thread(target=self._infer, name="infer", daemon=True)

    def start(self) -> None:
        self._thread.start()
        for ingest in self._ingests:
            ingest.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the work is done."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def finish(self) -> dict[str, str]:
        """Wait for what is left; camera_id -> why it failed."""
        self._thread.join()
        for ingest in self._ingests:
            ingest.join()
        for record in self._topic.drain():  # only after a failure: nobody is left to analyse them
            if record.value.frames:
                self._ledger.dropped(record.key, len(record.value.frames), "failed")
        return {ingest.camera_id: str(ingest.failure) for ingest in self._ingests if ingest.failure is not None}

    def _infer(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:
            self.error = error
            self.stop.set()
            self._worker.abandon()
            self._topic.close()


def _watch(job: _Job, monitor: RunMonitor, shown: RunView, options: RunOptions, began_s: float) -> None:
    """Show the run until it is done or its time is up."""
    with ExitStack() as stack:
        view = stack.enter_context(LiveView()) if options.live_view else None
        while not job.wait(_REFRESH_S):
            uptime_s = time.monotonic() - began_s
            if options.stop_after_s is not None and uptime_s >= options.stop_after_s:
                job.stop.set()
            if view is not None:
                _show(view, monitor, shown, uptime_s)
        if view is not None:
            _show(view, monitor, shown, time.monotonic() - began_s)


def _show(view: LiveView, monitor: RunMonitor, shown: RunView, uptime_s: float) -> None:
    cameras = monitor.views()
    view.update(
        cameras, RunView(shown.model, shown.provider, shown.threads, uptime_s, sum(camera.fps for camera in cameras))
    )


def _progress(stream: Stream) -> Progress | None:
    if not stream.is_finite:
        return None
    return Progress(stream.position_s, stream.duration_s)


class _Sinks:
    """Hands every result to all that want it, the record on disk first."""

    def __init__(self, config: Config, out: Path, writer: JsonLinesWriter, *, annotate: bool) -> None:
        self._config = config
        self._out = out
        self._writer = writer
        self._rules: dict[str, CameraRules] = {name: camera.rules() for name, camera in config.cameras.items()}
        self._report = ReportBuilder(list(self._rules.values())) if config.output.report else None
        self._annotator = Annotator()
        self._video = AnnotatedVideo(out) if annotate else None
        self._others: list[ResultSink] = []

    def add(self, sink: ResultSink) -> None:
        self._others.append(sink)

    def observed(self, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        for event in observation.events:
            self._writer.write(event)
        if self._report is not None:
            self._to_report(self._report, window, frame, observation)
        if self._video is not None and frame is not None:
            self._to_video(self._video, window, frame, observation)
        for sink in self._others:
            sink.observed(window, frame, observation)

    def close(self) -> None:
        if self._video is not None:
            self._video.close()

    def write_report(
        self, lines: Mapping[str, LedgerLine], failures: Mapping[str, str], parts: wiring.RunParts
    ) -> None:
        assert self._report is not None
        model = parts.first_detector.model
        self._report.write(
            self._out / "report.html",
            ledger=lines,
            model_card_markdown=wiring.model_card(model),
            model_facts={
                "model": model.manifest.name,
                "version": model.manifest.version,
                "sha256": model.manifest.sha256,
                "family": model.manifest.family,
                "config sha256": config_sha256(self._config),
            },
            config_yaml_redacted=self._config.redacted_yaml(),
            versions={"passerby": __version__},
            failures=failures,
        )

    @staticmethod
    def _to_report(report: ReportBuilder, window: FrameWindow, frame: Frame | None, observation: Observation) -> None:
        for event in observation.events:
            report.event(event)
        if frame is not None:
            if frame.preview is not None and frame.index == 0:
                report.still(window.camera_id, frame.preview)
            report.tracks(window.camera_id, observation.tracks, window.width, window.height, frame.captured_at_us)

    def _to_video(self, video: AnnotatedVideo, window: FrameWindow, frame: Frame, observation: Observation) -> None:
        camera_id = window.camera_id
        drawn = self._annotator.draw(
            frame.preview if frame.preview is not None else frame.picture,
            size=(window.width, window.height),
            tracks=observation.tracks,
            rules=self._rules[camera_id],
            totals=cast(Totals, observation.totals),
            when_us=frame.captured_at_us,
            camera_id=camera_id,
            masks=self._config.cameras[camera_id].masks,
        )
        video.write(camera_id, drawn, frame.captured_at_us)
