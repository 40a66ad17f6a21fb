"""``passerby scene``: only the scene model, over clips."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.detect import CLIPS, files_in, lines_to, progress_of
from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import SourceError
from pipeline.inference.detector import Detector
from pipeline.inference.scene import SceneModel, load_scene_files
from pipeline.inference.store import load_model
from pipeline.services.scene_files import ScoredFile, score_file
from pipeline.services.scenes import CameraScenes, SceneEngine
from pipeline.services.wiring import scene_rules_of

_SAMPLE_FPS = 8.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("scene")(_scene)


def _scene(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Clips, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSON Lines, one a clip; - for stdout.")],
    model: Annotated[
        str, typer.Option("--model", metavar="M", help="A scene model's name or folder.")
    ] = "passerby-scene",
    detector: Annotated[
        str, typer.Option("--detector", metavar="M", help="The model that finds the people it looks at.")
    ] = "passerby-nano",
    sample_fps: Annotated[
        float, typer.Option("--sample-fps", min=1.0, max=120.0, help="Frames a second that are looked at.")
    ] = _SAMPLE_FPS,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Clips at once; default: all cores.")] = None,
    provider: Annotated[str, typer.Option("--provider", help="cpu, cuda, tensorrt, …")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Run only the scene model (CNN-LSTM) over clips, and write how sure it is of each kind of event.

    A line holds path, windows (how many spans of two seconds were scored), scores (a kind's highest, before gates) and
    events (kind, start_s, end_s, score: as `passerby run` would publish them).

    \b
    passerby scene clips/ --out scores.jsonl
    passerby scene square.mp4 --model models/mine --out -

    Exit code: 0 all read, 2 wrong call or model, 3 something could not be read (named on stderr; the rest is written).
    """
    configure(log_format)
    files = files_in(paths, CLIPS, "no clip")
    finder = Detector(load_model(detector), provider=provider)
    failed = 0
    workers = threads or os.cpu_count() or 1
    with SceneEngine(SceneModel(load_scene_files(model), provider=provider), threads=1) as engine:
        scenes = CameraScenes(engine, scene_rules_of(engine.model, finder.min_score), always=True)

        def scored(path: Path) -> ScoredFile | SourceError:
            try:
                return score_file(path, finder, scenes, sample_fps)
            except SourceError as error:
                return error

        with lines_to(out) as sink, progress_of(quiet) as progress, ThreadPoolExecutor(workers) as pool:
            task = progress.add_task("looking", total=len(files))
            for told in pool.map(scored, files):
                if isinstance(told, SourceError):
                    failed += 1
                    progress.console.print(f"passerby: {told}", markup=False, highlight=False, soft_wrap=True)
                else:
                    sink.write(json.dumps(told.line(), ensure_ascii=False) + "\n")
                progress.advance(task)
    raise typer.Exit(3 if failed else 0)
