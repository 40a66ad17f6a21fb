"""``passerby-train data``, ``explain`` and ``tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError

Root = Annotated[Path | None, typer.Option(help="The folder of the sets, or that a list's files are relative to.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(data)
    app.command()(explain)
    app.command()(tune)


def data(
    where: Annotated[Path, typer.Argument(help="A data file (YAML), COCO JSON, list CSV, or folder.")],
    root: Root = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet here (.png or .jpg).")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Pictures on it, what is wrong first.")] = 48,
    split: Annotated[bool, typer.Option(help="Look for the same picture on both sides of the split.")] = True,
) -> None:
    """Look for broken labels and for pictures on both sides of the split; show a contact sheet.

    Exit code: 0 nothing is wrong, 2 something is.

    Example:

        passerby-train data training/first_light.yaml --root ../shared/data/detection --sheet sheet.png
    """
    from pipeline.errors import ConfigError
    from training.checking import check_set, summary, training_side, write_sheet

    train = training_side(where, root) if split else None
    checked = check_set(where, root, train, show=True)
    typer.echo(summary(checked))
    if sheet is not None:
        write_sheet(sheet, checked, tiles)
        typer.echo(f"{sheet}: written")
    wrong = [each for each in checked.findings if each.kind != "no labels"]
    if wrong or checked.twins:
        raise ConfigError(f"{where}: {len(wrong)} labels or pictures are wrong, {len(checked.twins or [])} twins")


def explain(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures.")],
    checkpoint: Annotated[Path, typer.Option(help="Of a detector or a classifier.")],
    out: Annotated[Path, typer.Option(help="Folder for the explanations, one .png a picture.")],
    label: Annotated[str | None, typer.Option(help="Classifier: a class. Detector: person or vehicle.")] = None,
) -> None:
    """Show where in a picture an answer comes from (Grad-CAM).

    Example:

        passerby-train explain street.jpg --checkpoint runs/daylight/best.pt --out explained --label night
    """
    from training.explain import explain as write

    for path in write(checkpoint, pictures, out, label):
        typer.echo(f"{path}: written")


def tune(
    task: Annotated[str, typer.Argument(help="classifier or detector.")],
    data: Annotated[Path, typer.Option("--data", help="As the task's own command takes it.")],
    out: Annotated[Path, typer.Option(help="Folder: study.journal, and a run a trial.")],
    root: Root = None,
    init: Annotated[Path | None, typer.Option(help="Detector: YOLOX-nano as ONNX to start from.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="More trials; those of earlier calls are kept.")] = 10,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    pictures: Annotated[int, typer.Option(min=1, help="An epoch.")] = 512,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Search for the step, the decay and the like (Optuna); the study goes on where the last call stopped.

    Example:

        passerby-train tune classifier --data pictures --out runs/search --trials 20
    """
    import torch

    from training import tune as search
    from training.classifier.session import Source
    from training.classifier.trainer import Recipe as ClassifierRecipe
    from training.session import Start
    from training.trainer import Recipe as DetectorRecipe

    torch.set_num_threads(1)
    if task == "classifier":
        recipe = ClassifierRecipe(epochs=epochs, pictures=pictures, seed=seed)
        objective = search.classifier_objective(Source(data, root), recipe, out)
    elif task == "detector":
        plain = DetectorRecipe(epochs=epochs, pictures=pictures, seed=seed)
        objective = search.detector_objective(data, root, Start(init), plain, out)
    else:
        raise UsageError(f"{task!r} cannot be tuned", mend="classifier or detector")
    typer.echo(search.table(search.tune(out / "study.journal", objective, trials, seed)))
