"""``passerby-train classifier``, and what evaluate, export and card do with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UsageError
from pipeline.inference.store import Model
from training.optimizers import Optimizer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(classifier)


def classifier(
    data: Annotated[Path, typer.Option("--data", help="A folder per class, or a list (CSV: file, label, scene).")],
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, scalars.")],
    root: Annotated[Path | None, typer.Option(help="The folder a list's files are relative to.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 16,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures an epoch.")] = 1024,
    batch: Annotated[int, typer.Option(min=2)] = 64,
    optimizer: Annotated[Optimizer, typer.Option(help="sgd has momentum 0.9.")] = "adamw",
    step: Annotated[float, typer.Option(min=1e-6, help="Learning rate; sgd wants about ten times more.")] = 2e-3,
    loss: Annotated[str, typer.Option(help="cross-entropy, or mse of the probabilities.")] = "cross-entropy",
    clip: Annotated[float, typer.Option(min=1e-3, help="Largest norm of the gradient.")] = 5.0,
    patience: Annotated[int, typer.Option(min=0, help="Epochs without a better validation; 0: never stop.")] = 6,
    channels: Annotated[int, typer.Option(min=4, max=64, help="Of the first convolution.")] = 16,
    seed: Annotated[int, typer.Option()] = 0,
    folds: Annotated[int, typer.Option(min=0, help="Instead of one run, so many; each scene is judged unseen.")] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; half precision where it is cuda.")] = "auto",
    scores: Annotated[Path | None, typer.Option(help="Also write the score here (JSON).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
) -> None:
    """Train an image classifier: what a whole picture shows (day, night, rain, empty).

    Examples:

        passerby-train classifier --data pictures --out runs/weather

        passerby-train classifier --data training/daylight.csv --root ../shared/data --out runs/daylight

        passerby-train classifier --data pictures --out runs/folds --folds 5

    A folder per class: `pictures/day/…`, `pictures/night/…`; a folder within a class is a scene, and scenes are never
    divided between training and validation. Where none are named, pictures that look alike are one scene.
    """
    import torch

    from training.classifier.scores import table
    from training.classifier.session import Source, cross_validate, train_classifier
    from training.classifier.trainer import Recipe

    if loss not in {"cross-entropy", "mse"}:
        raise UsageError(f"--loss {loss!r} is not known", mend="cross-entropy or mse")
    torch.set_num_threads(threads)
    recipe = Recipe(
        epochs=epochs, pictures=pictures, batch=batch, optimizer=optimizer, step=step, loss=loss, clip=clip,  # type: ignore[arg-type]
        patience=patience, channels=channels, seed=seed,
    )  # fmt: skip
    source = Source(data, root)
    if folds:
        score = cross_validate(source, out, recipe, folds, device)
    else:
        score = train_classifier(source, out, recipe, resume=resume, device=device)
    write_scores(scores, [score.as_dict()])
    typer.echo(table(score))


def evaluate_classifiers(
    models: list[Model], data: Path, root: Path | None, everything: bool, out: Path | None
) -> None:
    """Score classifiers on the validation scenes of ``data``, or on all of it."""
    from training.classifier.scores import table
    from training.classifier.session import Source, evaluate_classifier

    told = [evaluate_classifier(each, Source(data, root), everything=everything) for each in models]
    write_scores(out, [each.as_dict() for each in told])
    typer.echo("\n\n".join(table(each) for each in told))


def write_scores(path: Path | None, scores: list[dict[str, object]]) -> None:
    """As JSON, behind those that are there already (of folds, then of the run that ships)."""
    if path is None:
        return
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    path.write_text(json.dumps(before + scores, indent=1), encoding="utf-8")
