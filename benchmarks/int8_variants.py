"""What of a detector is rounded to 8 bits: AP50 and CPU ms of the static variants that `quantise` was chosen from.

python -m benchmarks.int8_variants passerby-nano@416x256 --data training/first_light.yaml
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from pipeline.inference.store import keep_model
from training.commands.contenders import contender_of
from training.evaluate import MIN_SCORE, Contender, Picture, View, costs_ms, detect_all, picture_of, score_found
from training.quantise import QuantiseSettings, calibration_feeds, left_float, quantise, reader_of
from training.session import prepare

VIEWS: tuple[View, View] = ("16:9", "16:9, darkened")
Feeds = Sequence[dict[str, Any]]


def main() -> None:
    """Print a Markdown table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--pictures", type=int, default=32, help="to calibrate with")
    parser.add_argument("--only", help="rows whose name holds this")
    args = parser.parse_args()
    contender, prepared = contender_of(args.model), prepare(args.data, args.root)
    feeds = calibration_feeds(contender, prepared.train, prepared.spec, args.pictures)
    views = {view: [picture_of(each, prepared.spec, view) for each in prepared.validation] for view in VIEWS}
    whole = contender.model.read()
    ours = QuantiseSettings(pictures=args.pictures)
    made = {
        "every operator": lambda: by_options(whole, feeds, None),
        "every operator, MinMax": lambda: by_options(whole, feeds, None, minmax=True),
        "convolutions": lambda: by_options(whole, feeds, ["Conv"]),
        "convolutions, what comes out of them float": lambda: by_options(
            whole, feeds, ["Conv"], OpTypesToExcludeOutputQuantization=["Conv"]
        ),
        "in use": lambda: quantise(whole, feeds, ours),
        "in use, MinMax": lambda: quantise(whole, feeds, replace(ours, calibration="minmax")),
        "in use, 99.9th percentile": lambda: quantise(whole, feeds, replace(ours, percentile=99.9)),
        "in use, 99.999th percentile": lambda: quantise(whole, feeds, replace(ours, percentile=99.999)),
        "in use, 8-bit weights": lambda: quantise(whole, feeds, replace(ours, reduce_range=False)),
    }
    print("| variant | people | vehicles | people, darkened | vehicles, darkened | ms (fp32 in turns) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, data in made.items():
        if args.only is None or args.only in name:
            print(f"| {name} | {row(contender, data(), views)} |", flush=True)


def by_options(
    whole: bytes, feeds: Feeds, operators: list[str] | None, *, minmax: bool = False, **options: object
) -> bytes:
    """ONNX Runtime's quantiser with ``quantise``'s settings but for these."""
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file, ready, small = (Path(folder) / f"{name}.onnx" for name in ("file", "ready", "small"))
        file.write_bytes(whole)
        quant_pre_process(file, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, small, reader_of(feeds), per_channel=True, reduce_range=True, op_types_to_quantize=operators,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax if minmax else CalibrationMethod.Percentile,
            nodes_to_exclude=left_float(onnx.load(str(ready)), head=True),
            extra_options={"CalibPercentile": 99.99, "ActivationSymmetric": False} | options,
        )  # fmt: skip
        return small.read_bytes()


def row(contender: Contender, data: bytes, views: dict[View, list[Picture]]) -> str:
    """The cells of a network."""
    told = {"name": "variant", "sha256": hashlib.sha256(data).hexdigest(), "file": "model.onnx", "card": None}
    with tempfile.TemporaryDirectory() as folder:
        model = keep_model(data, contender.model.manifest.model_copy(update=told), None, Path(folder) / "variant")
        rival = Contender("variant", model, contender.shape)
        cells = []
        for view in VIEWS:
            found = detect_all(rival.detector(MIN_SCORE), views[view])
            cells += [f"{ap:.3f}" for ap in score_found(rival, view, views[view], found, 0.0).mean.values()]
        whole_ms, ms = costs_ms([contender, rival], views[VIEWS[0]])
    return " | ".join([*cells, f"{ms:.1f} ({whole_ms:.1f})"])


if __name__ == "__main__":
    main()
