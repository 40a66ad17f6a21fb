"""``passerby-train scene``: train, evaluate, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UsageError
from training.models.trunk_names import TRUNKS, TrunkName
from training.scene.data import DATA
from training.scene.folds import ASSIGNMENTS

if TYPE_CHECKING:
    from training.scene.session import Place
    from training.scene.trainer import SceneRecipe
    from training.scene.transfer import TransferRecipe

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The CNN-LSTM scene model: what people do (a fight, or a kind of your own), from clips of 2 s.",
)

DataFile = Annotated[Path, typer.Option("--data", help="The data file (YAML): sets of clips, what each labels.")]
Root = Annotated[Path | None, typer.Option(help="The folder of the sets, in place of the data file's root.")]
Detector = Annotated[str, typer.Option(help="The detector that finds the people: a name or a folder.")]
Trunk = Annotated[
    str | None,
    typer.Option(
        help="A YOLOX-nano-shaped ONNX to cut the encoder from (the detector's), or transfer from ImageNet: "
        f"{', '.join(TRUNKS)}."
    ),
]
Init = Annotated[
    Path | None, typer.Option("--init", help="Transfer: the trunk's weights, a state dict. [torchvision fetches them]")
]
FineEpochs = Annotated[int, typer.Option(min=0, help="Transfer: epochs of the whole network, after --epochs.")]
Side = Annotated[int, typer.Option(min=32, max=1024, help="Transfer: of the square pictures, pixels.")]
Cache = Annotated[Path | None, typer.Option(help="Where boxes and features are kept. [~/.cache/passerby/scene]")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="A kind of event; may be repeated. [fight]")]


def register(parent: typer.Typer) -> None:
    """Add the group of commands."""
    parent.add_typer(app, name="scene")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run: the checkpoint.")],
    data: DataFile = DATA,
    root: Root = None,
    kind: Kinds = None,
    detector: Detector = "passerby-nano",
    trunk: Trunk = None,
    cache: Cache = None,
    epochs: Annotated[int, typer.Option(min=1)] = 15,
    init: Init = None,
    fine_epochs: FineEpochs = 3,
    side: Side = 224,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where --out stopped.")] = False,
) -> None:
    """Train a head on every clip of the data file. Clips are decoded, cut and encoded once, and kept.

    Examples:

        passerby-train scene train --out runs/scene

        passerby-train scene train --data mine.yaml --kind loitering --out runs/loitering

        passerby-train scene train --trunk resnet50 --out runs/transfer

    The data file names sets of clips: a CSV (file, label, scene_group), a folder a kind, or ordinary videos:

        root: /data
        sets:
          mine: {folder: clips, labelled: [loitering]}        # clips/loitering/*.mp4, clips/none/*.mp4
          streets: {folder: ordinary, labelled: [loitering]}  # nothing happens here: false alarms are counted on it

    With the name of an ImageNet trunk it is the textbook's recipe: the trunk frozen and a new head for --epochs, then
    both for --fine-epochs with a smaller step, on whole frames of the labelled clips. It is there to be compared with,
    and is not exported.
    """
    from training.scene.session import prepare, train_scene
    from training.scene.trainer import CHECKPOINT, SceneRecipe

    place = _place(data, root, detector, trunk, cache)
    if trunk in TRUNKS:
        from training.scene.transfer_session import train_transfer

        transfer = _transfer(trunk, epochs, fine_epochs, side, seed)
        train_transfer(place, kind or ["fight"], transfer, init, out, resume=resume)
        return typer.echo(f"{out / CHECKPOINT}: trained")
    prepared = prepare(place)
    train_scene(prepared, kind or ["fight"], SceneRecipe(epochs=epochs, seed=seed), out, resume=resume)
    return typer.echo(f"{out / CHECKPOINT}: trained")


@app.command()
def evaluate(
    data: DataFile = DATA,
    root: Root = None,
    kind: Annotated[str, typer.Option(help="The kind of event.")] = "fight",
    detector: Detector = "passerby-nano",
    trunk: Trunk = None,
    cache: Cache = None,
    epochs: Annotated[int, typer.Option(min=1)] = 15,
    init: Init = None,
    fine_epochs: FineEpochs = 3,
    side: Side = 224,
    assignments: Annotated[int, typer.Option(min=1, max=ASSIGNMENTS, help="Transfer: of the folds.")] = ASSIGNMENTS,
    seed: Annotated[int, typer.Option()] = 0,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also each reader alone, textbook, metadata.")] = False,
    kept: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="What the manifest's crop.keep costs at this share; may be repeated."),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="With --kept: of random places.")] = 5,
    out: Annotated[Path | None, typer.Option(help="Also write what a release needs here, as JSON.")] = None,
) -> None:
    """Cross-validate by scene: accuracy, AUC, false alarms on ordinary videos, at thresholds of the other folds.

    Examples:

        passerby-train scene evaluate --out runs/fight.json

        passerby-train scene evaluate --baselines

        passerby-train scene evaluate --kept 1 --kept 0.8 --kept 0.5

        passerby-train scene evaluate --trunk resnet50 --assignments 1

    A crop stays while it holds a share of what the best place holds. With --kept the shipped kind of head is trained as
    ever, and the clips held out are seen through places that such a stay may leave: any that holds at least the share,
    at random (--draws times); the one of them that holds least; and the one that the clip's first half asks for. Real
    stays are kinder than the first, since they set out from a best place. Nothing else is printed then: --baselines and
    --out are refused.
    """
    from training.scene.baselines import baseline_rows
    from training.scene.evaluate import table
    from training.scene.head import HeadShape
    from training.scene.session import evaluate_scene, prepare
    from training.scene.trainer import SceneRecipe

    if kept and (baselines or out is not None or trunk in TRUNKS):
        raise UsageError("--kept goes without --baselines, --out and ImageNet trunks", mend="run it alone")
    place = _place(data, root, detector, trunk, cache)
    if trunk in TRUNKS:
        from training.scene.transfer_session import evaluate_transfer, gather

        transfer = _transfer(trunk, epochs, fine_epochs, side, seed)
        material = gather(place, [kind], transfer, init)
        return typer.echo(table(evaluate_transfer(material, kind, transfer, assignments)))
    if kept:
        return typer.echo(_kept_table(place, kind, SceneRecipe(epochs=epochs, seed=seed), kept, draws))
    shapes = {"ranks + LSTM with attention": HeadShape()}
    if baselines:
        shapes |= {"ranks alone": HeadShape(lstm=False), "LSTM with attention alone": HeadShape(ranks=False)}
    recipe = SceneRecipe(epochs=epochs, seed=seed)
    rows = evaluate_scene(prepare(place), kind, shapes, recipe, out)
    if baselines:
        rows += baseline_rows(place, kind, recipe)
    return typer.echo(table(rows))


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="What `train --out` wrote.")],
    scores: Annotated[list[Path], typer.Option(help="What `evaluate --out` wrote; once a kind.")],
    to: Annotated[Path, typer.Option(help="The model's folder: encoder.onnx, head.onnx, manifest.yaml, card.md.")],
    data: DataFile = DATA,
    root: Root = None,
    detector: Detector = "passerby-nano",
    trunk: Trunk = None,
    cache: Cache = None,
    version: Annotated[str, typer.Option()] = "0.1.0",
    command: Annotated[str, typer.Option(help="What trained it, as the card is to show it.")] = "",
    remarks: Annotated[Path | None, typer.Option(help="Markdown to put into the card: limits, cost, tables.")] = None,
) -> None:
    """Write a model folder: ONNX compared with torch on real crops, thresholds from the cross-validation.

    Nothing is written when ONNX Runtime and torch differ by more than 1e-3 in features (relative) or 1e-4 in scores.

    Example:

        passerby-train scene export --run runs/scene --scores runs/fight.json --to models/scene
    """
    from training.scene.session import prepare, release_scene

    prepared = prepare(_place(data, root, detector, trunk, cache))
    told = command or f"passerby-train scene train --out {run}"
    text = remarks.read_text(encoding="utf-8") if remarks is not None else ""
    files = release_scene(prepared, run, scores, to, version, told, text)
    kinds = ", ".join(f"{kind} from {each.start}" for kind, each in files.manifest.kinds.items())
    typer.echo(f"{to}: {files.sha256[:12]}, {kinds}")


def _place(data: Path, root: Path | None, detector: str, trunk: str | None, cache: Path | None) -> Place:
    import torch

    from training.scene.session import Place

    torch.set_num_threads(1)
    return Place(data, root, detector, Path(trunk) if trunk is not None and trunk not in TRUNKS else None, cache)


def _kept_table(place: Place, kind: str, recipe: SceneRecipe, keeps: list[float], draws: int) -> str:
    from training.scene.kept import evaluate_kept, table
    from training.scene.session import GATE, prepare

    prepared = prepare(place)
    return table(evaluate_kept(prepared.extractor, prepared.videos([kind]), kind, GATE, recipe, keeps, draws))


def _transfer(trunk: TrunkName, epochs: int, fine_epochs: int, side: int, seed: int) -> TransferRecipe:
    from training.scene.transfer import TransferRecipe

    return TransferRecipe(trunk=trunk, side=side, epochs=epochs, fine_epochs=fine_epochs, seed=seed)
