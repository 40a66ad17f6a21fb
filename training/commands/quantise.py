"""``passerby-train quantise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ModelError, UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(quantise)


def quantise(
    model: Annotated[str, typer.Argument(help="A detector's name or folder; NAME@WxH: its input.")],
    to: Annotated[Path, typer.Option(help="The folder of the INT8 model; what was measured goes to TO.json.")],
    data: Annotated[Path, typer.Option("--data", help="The data file (YAML).")],
    root: Annotated[Path | None, typer.Option(help="The folder of the sets.")] = None,
    calibration: Annotated[str, typer.Option(help="minmax, percentile or entropy.")] = "percentile",
    pictures: Annotated[int, typer.Option(min=1, help="Training pictures to calibrate with.")] = 64,
    float_head: Annotated[bool, typer.Option(help="Leave the last convolutions float.")] = True,
    reduce_range: Annotated[bool, typer.Option(help="7-bit weights: for CPUs without VNNI.")] = True,
    max_loss: Annotated[float, typer.Option(min=0, help="Of AP50, in any group and view.")] = 0.01,
    min_speedup: Annotated[float, typer.Option(min=0, help="Against fp32, in the same run.")] = 1.5,
    max_difference: Annotated[float, typer.Option(min=0, help="Of a score from torch's, on real pictures.")] = 0.2,
    epochs: Annotated[int, typer.Option(min=0, help="Train in 8 bits where accuracy fails without. 0: never.")] = 0,
    epoch_pictures: Annotated[int, typer.Option(min=1, help="Training: pictures an epoch.")] = 3392,
    batch: Annotated[int, typer.Option(min=1, help="Training.")] = 16,
    step: Annotated[float, typer.Option(min=1e-6, help="Training: of a weight, relative to its tensor.")] = 0.001,
    taught: Annotated[float, typer.Option(min=0, max=1, help="Training: share of the loss that fp32 teaches.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Training.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Training: processes that augment pictures.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Training: go on where TO.run stopped.")] = False,
    device: Annotated[str, typer.Option(help="Training: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Make an INT8 model, measure it beside fp32 on the validation split, keep it if it passes the gate.

    With --epochs, a detector of ours whose INT8 is not as good is trained with its convolutions in 8 bits, with
    checkpoints in TO.run, and measured again beside both.

    Exit code: 0 kept; 2 not kept, with what was measured.

    Examples:

        passerby-train quantise passerby-nano@416x256 --to models/nano-int8 --data training/first_light.yaml

        passerby-train quantise passerby-nano@416x256 --to models/nano-int8 --data training/first_light.yaml --epochs 2
    """
    import torch

    from training.commands.contenders import contender_of
    from training.devices import device_of
    from training.evaluate import table
    from training.quantise import QuantiseSettings
    from training.quantise_gate import quantised_model
    from training.quantise_training import Planned
    from training.session import prepare
    from training.trainer import Recipe

    if resume and not epochs:
        raise UsageError("--resume goes on training", mend="say with --epochs how many in all")
    torch.set_num_threads(threads)
    contender = contender_of(model)
    settings = QuantiseSettings(
        calibration=calibration, pictures=pictures, float_head=float_head, reduce_range=reduce_range,  # type: ignore[arg-type]
        max_loss=max_loss, min_speedup=min_speedup, max_difference=max_difference,
    )  # fmt: skip
    recipe = Recipe(
        epochs=epochs, pictures=epoch_pictures, batch=batch, step=step, taught=taught, seed=seed, workers=workers,
        warmup=20, amp=False, shapes={contender.shape: 1.0},
    )  # fmt: skip
    planned = Planned(to.with_name(f"{to.name}.run"), recipe, resume, device_of(device)) if epochs else None
    outcome = quantised_model(contender, prepare(data, root), to, settings, planned, show=True)
    typer.echo(table(outcome.scores))
    if not outcome.kept:
        raise ModelError(outcome.verdict(), mend=outcome.mend())
    typer.echo(outcome.verdict())
