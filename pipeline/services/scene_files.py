"""``passerby scene``: what a scene model says of whole files, with the frames, boxes and clips of a run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.analytics.clips import Clip, ClipSeen
from pipeline.analytics.scenes import SceneFact, SceneWatcher
from pipeline.core.frame import FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.core.window import WindowBuilder
from pipeline.inference.detector import Detector
from pipeline.services.scenes import CameraScenes
from pipeline.sources.base import SampledFrame, StreamSettings, SystemClock
from pipeline.sources.open import open_stream


@dataclass(slots=True)
class ScoredFile:
    """One file. windows: clips that were scored. scores: kind -> the highest of them, before gates.

    events: as a run would publish them, in seconds of the file.
    """

    path: str
    windows: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        """The line of the output, scores to six places."""
        scores = {kind: round(score, 6) for kind, score in self.scores.items()}
        return {"path": self.path, "windows": self.windows, "scores": scores, "events": self.events}


def score_file(path: Path, detector: Detector, scenes: CameraScenes, sample_fps: float) -> ScoredFile:
    """Look at every clip of a file. scenes: with ``always``. Raises SourceError, ModelError.

    A file that is shorter than a clip, but not than half of one, is one clip: its last frame is repeated.
    """
    told = ScoredFile(str(path), scores=dict.fromkeys((kind.kind for kind in scenes.rules.kinds), 0.0))
    watcher = SceneWatcher(scenes.rules.kinds)
    clip, seen_any = Clip(), False
    for number, window in enumerate(_windows(path, detector, sample_fps)):
        size = (window.width, window.height)
        found = [detector.detect([frame.picture], [size])[0] for frame in window.frames]
        looked = scenes.look(window, number, found, clip)
        clip = looked.clip
        for frame, seen in zip(window.frames, looked.clips, strict=True):
            _take(told, watcher, frame.captured_at_us, seen)
            seen_any = seen_any or seen is not None
    rule = scenes.rules.clip
    if not seen_any and len(clip.frames) * 2 >= rule.frames:
        seen, _ = scenes.score(_filled(clip, rule.frames, rule.interval_s))
        _take(told, watcher, seen.ends_us, seen)
    _tell(told, watcher.close())
    return told


def _take(told: ScoredFile, watcher: SceneWatcher, at_us: int, seen: ClipSeen | None) -> None:
    _tell(told, watcher.observe(at_us, seen))
    if seen is not None:
        told.windows += 1
        for kind in told.scores:
            told.scores[kind] = max(told.scores[kind], seen.scores[kind])


def _tell(told: ScoredFile, facts: list[SceneFact]) -> None:
    for fact in facts:
        if fact.phase == "end" and fact.ended_us is not None:
            told.events.append(
                {
                    "kind": fact.kind,
                    "start_s": round(fact.started_us / 1e6, 3),
                    "end_s": round(fact.ended_us / 1e6, 3),
                    "score": round(fact.score, 6),
                }
            )


def _filled(clip: Clip, frames: int, interval_s: float) -> Clip:
    """The clip with its last frame repeated."""
    last, missing = clip.frames[-1], frames - len(clip.frames)
    step_us = round(interval_s * 1e6)
    more = (replace(last, at_us=last.at_us + n * step_us) for n in range(1, missing + 1))
    return replace(clip, frames=(*clip.frames, *more))


def _windows(path: Path, detector: Detector, sample_fps: float) -> Iterator[FrameWindow]:
    """The windows of a file, as ingest makes them."""

    def picture_size(width: int, height: int) -> tuple[int, int]:
        fit = detector.fit(width, height)
        return fit.width, fit.height

    settings = StreamSettings(
        camera_id="clip", source=str(path), sample_fps=sample_fps, mode="every_frame", start_jitter_s=0.0
    )
    builder: WindowBuilder | None = None
    stop = threading.Event()
    with open_stream(settings, picture_size, ledger=FrameLedger(), clock=SystemClock(), stop=stop) as stream:
        for item in stream:
            if isinstance(item, SampledFrame):
                if builder is None or builder.epoch != item.epoch:
                    builder = WindowBuilder("clip", item.epoch, sample_fps, "pts")
                yield from builder.add(item.frame, item.width, item.height)
    if builder is not None:
        yield from builder.flush()
