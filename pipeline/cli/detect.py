"""``passerby detect``: only the detector, over pictures, folders and clips."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.core.detections import Detections
from pipeline.core.frame import Picture
from pipeline.core.ledger import FrameLedger
from pipeline.errors import OutputError, PasserbyError, SourceError, SourceUnreadable, UsageError
from pipeline.inference.detector import Detector
from pipeline.inference.store import load_model
from pipeline.sources.base import SampledFrame, StreamSettings, SystemClock

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
CLIPS = frozenset({".mp4", ".mkv", ".avi", ".mov", ".m4v", ".ts", ".webm", ".mpg", ".mpeg", ".flv", ".h264", ".h265"})
_EVERY_FRAME_FPS = 1e6
_AHEAD = 4  # pictures a thread that may wait to be written


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of the output: what was seen in one picture or frame of ``width`` x ``height`` pixels."""

    path: str
    frame: int
    width: int
    height: int
    found: Detections

    def line(self) -> str:
        """The line as JSON: boxes in pixels (hundredths), scores to six places, highest first."""
        told: dict[str, Any] = {
            "path": self.path,
            "frame": self.frame,
            "width": self.width,
            "height": self.height,
            "boxes": [[round(float(side), 2) for side in box] for box in self.found.boxes],
            "scores": [round(float(score), 6) for score in self.found.scores],
            "classes": [self.found.classes[i] for i in self.found.class_ids],
        }
        return json.dumps(told, ensure_ascii=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("detect")(_detect)


def _detect(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures, clips, or folders of them.")],
    model: Annotated[str, typer.Option("--model", metavar="M", help="A model's name or folder.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON Lines, one a picture or frame; - for stdout.")
    ],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.001, max=0.99, help="Lowest score; 0.01 suits AP.")
    ] = 0.01,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Pictures at once; default: all cores.")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="cpu, cuda, tensorrt, …")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Run only the detector, and write what it sees.

    A line holds path, frame (0 for a picture), width, height, boxes in pixels, scores and classes.

    \b
    passerby detect pictures/ clip.mp4 --model passerby-nano --out boxes.jsonl
    passerby detect pictures/ --model models/mine --out boxes.jsonl --threshold 0.01

    Exit code: 0 all read, 2 wrong call or model, 3 something could not be read (named on stderr; the rest is written).
    """
    configure(log_format)
    files = files_in(paths, PICTURES | CLIPS, "no picture and no clip")
    workers = threads or os.cpu_count() or 1
    detector = Detector(load_model(model), provider=provider, min_score=threshold)
    failed = 0
    with lines_to(out) as sink, progress_of(quiet) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task("detecting", total=len(files))
        for done, seen in _in_order(_started(files, detector, pool), _AHEAD * workers):
            if isinstance(seen, PasserbyError):
                failed += 1
                progress.console.print(f"passerby: {seen}", markup=False, highlight=False, soft_wrap=True)
            elif seen is not None:
                sink.write(seen.line() + "\n")
            progress.update(task, completed=done)
    raise typer.Exit(3 if failed else 0)


def files_in(paths: list[Path], endings: frozenset[str], lacking: str) -> list[Path]:
    """Every file asked for, folders in order of name, and in them what looks like one by its ending.

    Raises UsageError for a file that is not there, or a folder that holds none (``lacking``).
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in endings]
            if not inside:
                raise UsageError(f"{path}: holds {lacking}")
            files += [each for each in inside if each.is_file()]
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: there is no such file")
    return files


@contextmanager
def lines_to(out: Path) -> Iterator[TextIO]:
    """The file to write lines to, its folder made; - for stdout. Raises OutputError."""
    if str(out) == "-":
        yield sys.stdout
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8") as sink:
            yield sink
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from None


def progress_of(quiet: bool) -> Progress:
    """A bar on stderr, where somebody looks at it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)


_Seen = Seen | PasserbyError | None
_Job = tuple[int, "Future[_Seen]"]


def _started(files: list[Path], detector: Detector, pool: ThreadPoolExecutor) -> Iterator[_Job]:
    """The work in order, each piece already handed to the pool: (files done with it, what it will have seen)."""
    for number, path in enumerate(files, start=1):
        suffix = path.suffix.lower()
        if suffix in PICTURES or (suffix not in CLIPS and is_picture(path)):
            yield number, pool.submit(_picture_seen, path, detector)
        else:
            yield from _clip_seen(number, path, detector, pool)


def _in_order(jobs: Iterator[_Job], ahead: int) -> Iterator[tuple[int, _Seen]]:
    """What the jobs saw, in their order; at most ``ahead`` of them are under way."""
    waiting: deque[_Job] = deque()
    for job in jobs:
        waiting.append(job)
        if len(waiting) >= ahead:
            number, seen = waiting.popleft()
            yield number, seen.result()
    while waiting:
        number, seen = waiting.popleft()
        yield number, seen.result()


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its first bytes."""
    try:
        with Image.open(path):
            return True
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def _picture_seen(path: Path, detector: Detector) -> _Seen:
    try:
        image = read_picture(path)
    except SourceUnreadable as error:
        return error
    fit = detector.fit(*image.size)
    (found,) = detector.detect([scaled(image, fit.width, fit.height)], [image.size])
    return Seen(str(path), 0, *image.size, found)


def read_picture(path: Path) -> Image.Image:
    """A picture in RGB, the way up its EXIF says. Raises SourceUnreadable."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):  # Pillow would cut them off at 255
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except UnidentifiedImageError:
        raise SourceUnreadable(f"{path}: is not a picture") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise SourceUnreadable(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def scaled(image: Image.Image, width: int, height: int) -> Picture:
    """A picture at another size, as the decoder scales frames.

    Shrinking: Pillow's Hamming filter, within 1 dB of OpenCV's INTER_AREA to the decoder's area scaler; enlarging:
    bilinear, as the area scaler does then.
    """
    if image.size != (width, height):
        shrinks = width < image.width or height < image.height
        image = image.resize((width, height), Image.Resampling.HAMMING if shrinks else Image.Resampling.BILINEAR)
    return np.asarray(image)


def _clip_seen(number: int, path: Path, detector: Detector, pool: ThreadPoolExecutor) -> Iterator[_Job]:
    """Every frame of a clip. A clip that breaks off keeps what was read before, and is told as failed."""
    from pipeline.sources.open import open_stream

    def picture_size(width: int, height: int) -> tuple[int, int]:
        fit = detector.fit(width, height)
        return fit.width, fit.height

    settings = StreamSettings(
        camera_id=path.name, source=str(path), sample_fps=_EVERY_FRAME_FPS, mode="every_frame", start_jitter_s=0.0
    )
    stop = threading.Event()
    try:
        with open_stream(settings, picture_size, ledger=FrameLedger(), clock=SystemClock(), stop=stop) as stream:
            for item in stream:
                if isinstance(item, SampledFrame):
                    yield number - 1, pool.submit(_frame_seen, path, item, detector)
    except SourceError as error:
        yield number, _told(error)
    else:
        yield number, _told(None)


def _told(seen: _Seen) -> Future[_Seen]:
    """Something that is known already, among what is still worked on."""
    future: Future[_Seen] = Future()
    future.set_result(seen)
    return future


def _frame_seen(path: Path, item: SampledFrame, detector: Detector) -> _Seen:
    (found,) = detector.detect([item.frame.picture], [(item.width, item.height)])
    return Seen(str(path), item.frame.index, item.width, item.height, found)
