"""``passerby-train``: train, evaluate, export, explain. Errors are one line and say what to mend."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import PasserbyError, UsageError
from pipeline.inference.scene import SceneFiles
from pipeline.inference.store import Model
from training.commands import classifier as classifier_commands
from training.commands import pseudo_labels as pseudo_label_commands
from training.commands import quantise as quantise_commands
from training.commands import tools as tool_commands
from training.scene import cli as scene_commands
from training.scene.data import DATA as SCENE_DATA

if TYPE_CHECKING:
    from pipeline.inference.models import AnyModel

app = typer.Typer(
    name="passerby-train",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train the models that ship with Passerby, or your own. Start with: passerby-train detector --help",
)

classifier_commands.register(app)
quantise_commands.register(app)
pseudo_label_commands.register(app)
tool_commands.register(app)
scene_commands.register(app)


class Activation(StrEnum):
    """How the network bends."""

    silu = "silu"
    hardswish = "hardswish"
    relu = "relu"


class Precision(StrEnum):
    """Of the convolutions in an exported file."""

    fp32 = "fp32"
    fp16 = "fp16"


class Learns(StrEnum):
    """What of the network is trained."""

    all = "all"
    names = "names"


class Architecture(StrEnum):
    """The networks that can be trained; a test holds them to training.models.architectures."""

    yolox_nano = "yolox-nano"
    picodet_s = "picodet-s"


DATA = Path(__file__).parent / "first_light.yaml"
DataFile = Annotated[Path, typer.Option("--data", help="The data file (YAML): sets, labelled classes, weights.")]
Root = Annotated[Path | None, typer.Option(help="The folder of the sets, in place of the data file's root.")]
Init = Annotated[Path | None, typer.Option(help="YOLOX-nano or PicoDet-S as ONNX: the weights to start from.")]
Share = Annotated[float, typer.Option(min=0, max=1, help="How far from the start weights to the trained ones.")]
Shapes = Annotated[
    str | None, typer.Option(help="Inputs, width first: 704x416,544x544. To train, also how often: 704x416=0.7,…")
]


@app.command()
def detector(
    out: Annotated[Path, typer.Option(help="Folder of the run: checkpoints.")],
    data: DataFile = DATA,
    root: Root = None,
    init: Init = None,
    start: Annotated[
        Path | None,
        typer.Option(help="A checkpoint or a model (passerby-nano) to start from; --init is then mixed in."),
    ] = None,
    share: Share = 1.0,
    network: Annotated[
        Architecture, typer.Option(help="Without --init and --start: the network to train from nothing.")
    ] = Architecture.yolox_nano,
    activation: Annotated[
        Activation | None, typer.Option(help="hardswish and relu are quicker. [that of the weights]")
    ] = None,
    taught: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the loss that is the distance to the start weights.")
    ] = 0.0,
    learns: Annotated[
        Learns, typer.Option(help="names: only which vehicle it is; boxes stay, and the scores of people and vehicles.")
    ] = Learns.all,
    turned: Annotated[
        float, typer.Option(min=0, max=1, help="How often a picture of people alone is laid on its side: people lie.")
    ] = 0.0,
    step: Annotated[float, typer.Option(min=1e-6, help="Of a weight, relative to its tensor's RMS.")] = 0.0013,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs in all.")] = 8,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures an epoch.")] = 3392,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    shapes: Shapes = None,
    seed: Annotated[int, typer.Option()] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that augment pictures.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Of torch. More than 1 pays only on an idle machine.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; half precision where it is cuda.")] = "auto",
) -> None:
    """Train a detector, or go on with one.

    Examples:

        passerby-train detector --data harvest/data.yaml --start passerby-nano --out runs/mine

        passerby-train detector --init yolox_nano.onnx --out runs/first

        passerby-train detector --out runs/first --resume --epochs 12

        passerby-train detector --init picodet_s_416_coco.onnx --shapes 608x352=0.6,448x448=0.4 --out runs/small

        passerby-train detector --start runs/first/best.pt --activation hardswish --taught 0.5 --out runs/quick

        passerby-train detector --start runs/first/best.pt --learns names --step 0.003 --epochs 3 --out runs/named

        torchrun --nproc-per-node 2 -m training.cli detector --init yolox_nano.onnx --out runs/first

    The data file names sets of pictures (YOLO text or COCO JSON) and which classes each labels:

        root: /data
        sets:
          street: {labelled: [person, vehicle], weight: 2}
          gates: {coco: gates.json, folder: gates/images, labelled: [car, truck]}
    """
    import torch

    from training.devices import device_of
    from training.distributed import joined
    from training.release import shapes_of
    from training.session import Start, train_detector
    from training.trainer import Recipe

    torch.set_num_threads(threads)
    recipe = Recipe(
        epochs=epochs, pictures=pictures, batch=batch, seed=seed, workers=workers,
        activation=activation.value if activation else None, taught=taught, step=step, learns=learns.value,
        turned=turned,
    )  # fmt: skip
    if shapes:
        recipe = replace(recipe, shapes=shapes_of(shapes))
    where = device_of(device)
    with joined(where):
        started = Start(init, start, share, network.value)
        best = train_detector(data, root, started, out, recipe, resume=resume, device=where)
    what = "share of vehicles named rightly" if recipe.learns == "names" else "mean AP50 of people and vehicles"
    typer.echo(f"best validation {best:.3f} ({what}); weights in {out}")


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(help="A name or folder, or FAMILY:FILE.onnx; @WxH: its input.")],
    data: DataFile = DATA,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores here, as JSON.")] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Classifiers: all pictures, not the validation scenes alone.")
    ] = False,
) -> None:
    """Score models on the validation split: AP50 by group, in four views (one darkened, one of people on their side),
    and CPU ms; classifiers: what share is right; scene models: AUC and accuracy on clips. What is written with --out
    is what `passerby models promote --gate` reads.

    Examples:

        passerby-train evaluate models/fights-2 passerby-scene --data clips.csv --out scores.json

        passerby-train evaluate passerby-daylight --data training/daylight.csv --root ../shared/data

        passerby-train evaluate passerby-nano@416x256

        passerby-train evaluate passerby-nano@416x416 yolox:yolox_nano_416_coco.onnx gfl:picodet_s_416_coco.onnx
    """
    from training.commands.contenders import contender_of
    from training.evaluate import evaluate as score
    from training.evaluate import table
    from training.session import prepare

    named = [_named(each) for each in models]
    tasks = {"detection" if each is None else each.manifest.task for each in named}
    if len(tasks) > 1:
        raise UsageError(
            f"models for {' and for '.join(sorted(tasks))} are not scored together", mend="one task a call"
        )
    if tasks == {"scene"}:
        files = [each for each in named if isinstance(each, SceneFiles)]
        return _evaluate_scene_models(files, data if data != DATA else SCENE_DATA, root, out)
    if tasks == {"classification"}:
        classifiers = [each for each in named if isinstance(each, Model)]
        return classifier_commands.evaluate_classifiers(classifiers, data, root, everything, out)
    contenders = [contender_of(each) for each in models]
    prepared = prepare(data, root)
    scores = score(contenders, prepared.validation, prepared.spec, show=True)
    if out is not None:
        out.write_text(json.dumps([each.as_dict() for each in scores], indent=1), encoding="utf-8")
    return typer.echo(table(scores))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="A checkpoint, best.pt for example; or the name of a detector.")],
    to: Annotated[Path, typer.Option(help="The model's folder: model.onnx, manifest.yaml, card.md.")],
    data: DataFile = DATA,
    root: Root = None,
    init: Init = None,
    share: Share = 1.0,
    shapes: Shapes = None,
    version: Annotated[str, typer.Option()] = "0.1.0",
    precision: Annotated[Precision, typer.Option(help="fp16: half the file, for GPUs.")] = Precision.fp32,
    also: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint of another seed from the same start: the mean is exported.")
    ] = None,
) -> None:
    """Write a model folder: ONNX compared with torch on validation pictures, thresholds chosen on them, costs measured.

    Nothing is written when ONNX Runtime and torch differ by more than 1e-3 in scores or 0.1 px in boxes (fp16: 0.05 and
    4 px).

    Examples:

        passerby-train export --checkpoint passerby-small --precision fp16 --to models/small-fp16

        passerby-train export --checkpoint runs/first/best.pt --init yolox_nano.onnx --share 0.8 --to models/mine

        passerby-train export --checkpoint runs/seed1/best.pt --also runs/seed2/best.pt --to models/mine
    """
    from training.checkpoints import is_checkpoint
    from training.release import SHAPES, shapes_of
    from training.session import release_checkpoint
    from training.trainer import task_of

    if is_checkpoint(checkpoint) and task_of(checkpoint) == "classification":
        from training.classifier.session import Source, release_classifier

        classifier, far = release_classifier(checkpoint, to, Source(data, root), version)
        return typer.echo(f"{to}: {classifier.manifest.sha256[:12]}, within {far:.1e} of torch")
    listed = tuple(shapes_of(shapes)) if shapes else SHAPES
    model, apart = release_checkpoint(
        checkpoint, to, data, root, init, share, version, listed, precision.value, also or ()
    )
    told = model.manifest.thresholds
    return typer.echo(f"{to}: {model.manifest.sha256[:12]}, score {told.score}, low {told.low}; {apart.told()}")


@app.command()
def card(
    model: Annotated[Path, typer.Argument(help="The model's folder.")],
    scores: Annotated[Path, typer.Option(help="What `evaluate --out` wrote.")],
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint that was exported: its recipe goes into the card.")],
    command: Annotated[str, typer.Option(help="The command that trained it, as the card is to show it.")],
    data: DataFile = DATA,
    root: Root = None,
    share: Share = 1.0,
    remarks: Annotated[Path | None, typer.Option(help="Markdown to put into the card: limits, what was tried.")] = None,
) -> None:
    """Write a model's card: origin, data, licences, split, figures, limits, command.

    Example:

        passerby-train card models/mine --scores scores.json --checkpoint runs/first/best.pt --command "…"
    """
    from training.session import write_card
    from training.trainer import task_of

    text = remarks.read_text(encoding="utf-8") if remarks is not None else ""
    if task_of(checkpoint) == "classification":
        from training.classifier.session import Source, write_classifier_card

        write_classifier_card(model, scores, checkpoint, command, Source(data, root), text)
        return typer.echo(f"{model / 'card.md'}: written")
    write_card(model, scores, checkpoint, command, data, root, share, text)
    return typer.echo(f"{model / 'card.md'}: written")


def _named(told: str) -> AnyModel | None:
    """The model of that name; None where it is told as only a detector can be."""
    from pipeline.inference.models import load_any

    return None if ":" in told or "@" in told else load_any(told)


def _evaluate_scene_models(models: list[SceneFiles], data: Path, root: Path | None, out: Path | None) -> None:
    import torch

    from training.scene.scoring import evaluate_scene_models, table

    torch.set_num_threads(1)
    scores = evaluate_scene_models(models, data, root)
    if out is not None:
        out.write_text(json.dumps([each.as_dict() for each in scores], indent=1), encoding="utf-8")
    typer.echo(table(scores))


def main() -> None:
    """Entry point: errors raised on purpose become one line on stderr and their exit code."""
    try:
        app()
    except PasserbyError as error:
        sys.stderr.write(f"passerby-train: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"passerby-train: {error.name} is not installed (pip install 'passerby[training]')\n")
        sys.exit(2)


if __name__ == "__main__":  # python -m training.cli, for torchrun
    main()
