"""``passerby-train quantise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ModelError


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
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Make an INT8 model, measure it beside fp32 on the validation split, keep it if it passes the gate.

    Exit code: 0 kept; 2 not kept, with what was measured.

    Example:

        passerby-train quantise passerby-nano@416x256 --to models/nano-int8 --data training/first_light.yaml
    """
    import torch

    from training.commands.contenders import contender_of
    from training.evaluate import table
    from training.quantise import QuantiseSettings, quantised_model
    from training.session import prepare

    torch.set_num_threads(threads)
    settings = QuantiseSettings(
        calibration=calibration, pictures=pictures, float_head=float_head, reduce_range=reduce_range,  # type: ignore[arg-type]
        max_loss=max_loss, min_speedup=min_speedup, max_difference=max_difference,
    )  # fmt: skip
    prepared = prepare(data, root)
    outcome = quantised_model(
        contender_of(model), prepared.train, prepared.validation, prepared.spec, to, settings, show=True
    )
    typer.echo(table(outcome.scores))
    if not outcome.kept:
        raise ModelError(outcome.verdict(), mend="another --calibration, or a network made for it")
    typer.echo(outcome.verdict())
