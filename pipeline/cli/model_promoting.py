"""``passerby models promote``: a checked model to where it is found by its name, if it is not worse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.cli.logs import LogFormat, LogFormatOption, configure
from pipeline.errors import ModelError, UsageError
from pipeline.inference.models import AnyModel, copy_model, load_any, refuse_other_task, refuse_place_of, run_once
from pipeline.inference.store import SHIPPED, list_models, promoted_folder

_SHIPPED_MODELS = {"detection": "passerby-nano", "classification": "passerby-daylight", "scene": "passerby-scene"}


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="A model's name or folder.")],
    gate: Annotated[
        Path | None, typer.Option("--gate", metavar="FILE", help="Scores of it and of the present model, see below.")
    ] = None,
    present: Annotated[
        str | None,
        typer.Option("--present", help="The model whose place it takes; default: the one of its name, or the shipped."),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            "--margin", min=0, max=1, help="Worse by so much it may be (AP, AUC or share right), in any figure."
        ),
    ] = 0.01,
    without_gate: Annotated[
        bool, typer.Option("--without-gate", help="Nothing is compared: you have judged it yourself.")
    ] = False,
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Copy a checked model to where `model: NAME` finds it from any folder, if it is not worse than the present one.

    What counts is what `passerby-train evaluate` told of both in one run: detectors' AP, what share classifiers have
    right by scene and class, scene models' AUC and accuracy. A model takes the place only of one of its own task.

    That is $PASSERBY_MODELS, or passerby/models in your data folder (~/.local/share). It is replaced whole or not at
    all: a worker that starts meanwhile reads the old model or the new one. Workers that run keep what they have loaded:
    give a new model a name of its own, write it into the configuration, and `passerby apply` swaps it.

    \b
    passerby-train evaluate models/mine-2 mine --out scores.json
    passerby models promote models/mine-2 --present mine --gate scores.json
    passerby-train evaluate models/fights-2 passerby-scene --data clips.csv --out scores.json
    passerby models promote models/theirs --without-gate

    Exit code: 0 promoted, 2 refused (one line says why).
    """
    configure(log_format)
    model = load_any(name)
    run_once(model)
    if model.folder.parent.resolve() == promoted_folder().resolve():
        raise UsageError(f"{model.name} is promoted already: {model.folder}")
    for place in (promoted_folder(), SHIPPED):
        refuse_other_task(place / model.name, model.name, model.manifest.task)
    if not without_gate:
        _pass_gate(model, _present(model, present), gate, margin)
    elif gate is not None:
        raise UsageError("--gate and --without-gate cannot go together", mend="leave one out")
    kept = copy_model(model, promoted_folder() / model.name)
    Console().print(f"promoted to [bold]{escape(str(kept.folder))}[/]; use it with [bold]model: {kept.name}[/]")


def _present(model: AnyModel, named: str | None) -> AnyModel:
    """The model whose place is taken. Raises ModelError for one of another task."""
    if named is not None:
        present = load_any(named)
    else:
        elsewhere = (promoted_folder(), SHIPPED)
        there = {folder.name for folder in list_models(elsewhere)}
        present = load_any(model.name if model.name in there else _SHIPPED_MODELS[model.manifest.task], elsewhere)
    refuse_place_of(model.name, model.manifest.task, present.name, present.manifest.task)
    return present


def _pass_gate(model: AnyModel, present: AnyModel, scores: Path | None, margin: float) -> None:
    """Tell how the two compare. Raises ModelError where the model may not take the present one's place."""
    from pipeline.inference.gate import judge

    if scores is None:
        raise UsageError(
            f"nothing shows that {model.name} is not worse than {present.name} {present.manifest.version}",
            mend=f"passerby-train evaluate {model.folder} {present.folder} --out scores.json, then --gate scores.json; "
            "or --without-gate",
        )
    gate = judge(scores, model, present, margin)
    console = Console(highlight=False)
    for each in gate.compared:
        console.print(f"  {escape(each.words())} ({each.gain:+.3f})")
    console.print(f"  parity: {escape(gate.parity)}")
    if gate.refusals:
        raise ModelError(f"{model.name} stays where it is: {'; '.join(gate.refusals)}")
