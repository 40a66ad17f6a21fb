"""What the detector sees in clips, kept in out/bench: rules on boxes can then be measured again within seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.clips import CACHE
from pipeline.core.detections import Detections
from pipeline.core.ledger import FrameLedger
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from pipeline.services.streams import build_stream, model_manifest
from pipeline.sources.base import SampledFrame, StreamSettings, SystemClock


@dataclass(frozen=True)
class SeenClip:
    """The sampled frames of a clip, as ``passerby run`` samples and detects them.

    size: width, height of the original frames. at_us, index: of each frame. found: what was seen in it.
    """

    path: Path
    size: tuple[int, int]
    sample_fps: float
    at_us: list[int]
    index: list[int]
    found: list[Detections]

    @property
    def seconds(self) -> float:
        """How much of the stream was looked at."""
        return (self.at_us[-1] - self.at_us[0]) / 1e6 + 1 / self.sample_fps if self.at_us else 0.0


def seen_clips(paths: Iterable[Path], model: str, sample_fps: float) -> Iterator[SeenClip]:
    """Each clip as ``model`` sees it; detected once for each version of the model and rate."""
    detector: Detector | None = None
    every = list(paths)
    for path in track(every, description=f"{len(every)} clips", transient=True):
        manifest = model_manifest(model)
        kept = CACHE / "seen" / f"{manifest.sha256[:12]}-{sample_fps:g}" / f"{path.parent.name}-{path.name}.npz"
        if not kept.exists():
            detector = detector or Detector(load_model(model))
            _detect(path, detector, sample_fps, kept)
        yield _read(path, kept, tuple(manifest.classes), sample_fps)


def _detect(path: Path, detector: Detector, sample_fps: float, kept: Path) -> None:
    settings = StreamSettings("clip", str(path), sample_fps=sample_fps)
    stream = build_stream(
        settings, detector.manifest, ledger=FrameLedger(), clock=SystemClock(), stop=threading.Event()
    )
    size, at_us, index, found = (0, 0), [], [], []
    for item in stream:
        if isinstance(item, SampledFrame):
            size = (item.width, item.height)
            at_us.append(item.frame.captured_at_us)
            index.append(item.frame.index)
            found += detector.detect([item.frame.picture], [size])
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            size=np.array(size), at_us=np.array(at_us), index=np.array(index),
            many=np.array([len(each) for each in found]),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in found)]),
            scores=np.concatenate([np.zeros(0, np.float32), *(each.scores for each in found)]),
            class_ids=np.concatenate([np.zeros(0, np.int64), *(each.class_ids for each in found)]),
        )  # fmt: skip
    part.rename(kept)


def _read(path: Path, kept: Path, classes: tuple[str, ...], sample_fps: float) -> SeenClip:
    with np.load(kept) as told:
        arrays = dict(told)
    ends = np.cumsum(arrays["many"])[:-1]
    parts = (np.split(arrays[name], ends) for name in ("boxes", "scores", "class_ids"))
    found = [Detections(*each, classes) for each in zip(*parts, strict=True)]
    width, height = arrays["size"].tolist()
    return SeenClip(path, (width, height), sample_fps, arrays["at_us"].tolist(), arrays["index"].tolist(), found)
