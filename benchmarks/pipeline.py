"""``python -m benchmarks.pipeline``: Passerby's main job against the bare loop and against a user's script.

Everything is measured in one run, in turns (A B C, A B C, ...), and told as ratios of medians, so that a machine that
is busy or slow moves all alike. Four 1080p25 H.264 files at once, 8 of 25 frames analysed a second.

    (a) throughput of ``passerby run`` over that of the bare loop, same model, same input shape
    (b) the same over that of the user's script, same model, same sampled frames
    (c) ``passerby run`` with the shipped detector over that script with YOLOX-nano, sampled and on every frame
    (d) resident memory a camera
    (e) cost a camera from 1 to 32 cameras (small files)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.clips import ROOT, hd_clips, small_clip
from pipeline.inference.preprocess import fit
from pipeline.inference.store import load_model

YOLOX = ROOT.parent / "shared" / "data" / "models" / "yolox_nano_416_coco.onnx"
Figures = dict[str, float]


def _program(*command: str) -> Figures:
    """Run a program of this folder that prints one JSON object."""
    done = subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, text=True, cwd=ROOT)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def _passerby(files: list[Path], threads: int) -> Figures:
    """``passerby run`` over the files, one camera each, all stages and all its default outputs."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "inference": {"threads": threads},
            "cameras": {
                f"camera{n}": {"source": str(path), "lines": {"middle": {"points": [[0, 0.6], [1, 0.6]]}}}
                for n, path in enumerate(files)
            },
        }
        told = Path(folder) / "passerby.yaml"
        told.write_text(yaml.safe_dump(config), encoding="utf-8")
        out = Path(folder) / "out"
        figures = _program("benchmarks.measured_run", str(told), str(out))
        ledger = json.loads((out / "ledger.json").read_text(encoding="utf-8"))
        figures["frames"] = ledger["totals"]["analysed"]
        return figures


def _rounds(programs: dict[str, Any], rounds: int) -> dict[str, list[Figures]]:
    seen: dict[str, list[Figures]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            figures = program()
            print(
                f"{'warm-up' if turn == 0 else f'round {turn}':8} {name:34} {figures['wall_s']:7.2f} s wall "
                f"{figures['cpu_s']:7.2f} s cpu {figures['frames']:6.0f} frames {figures['rss_mb']:6.0f} MB",
                flush=True,
            )
            if turn:
                seen[name].append(figures)
    return seen


def _median(seen: list[Figures], key: str) -> float:
    return statistics.median(figures[key] for figures in seen)


def _tell(what: str, ours: list[Figures], other: list[Figures], wanted: float) -> None:
    """How many times as fast as ``other`` we are, by the clock and by CPU seconds (which other work disturbs less)."""
    wall = _median(other, "wall_s") / _median(ours, "wall_s")
    cpu = _median(other, "cpu_s") / _median(ours, "cpu_s")
    print(f"{what:50} {wall:5.2f} by the clock   {cpu:5.2f} by CPU   (wanted: {wanted})")


def compare(rounds: int) -> None:
    """(a), (b), (c)."""
    files = hd_clips(4)
    names = [str(path) for path in files]
    model = load_model("passerby-nano")
    shape = fit(model.manifest, 1920, 1080)
    size = f"{shape.input_width}x{shape.input_height}"
    threads = os.cpu_count() or 1
    ours = str(model.path)
    seen = _rounds(
        {
            "passerby run": lambda: _passerby(files, threads),
            f"bare loop, {size}": lambda: _program("benchmarks.bare_loop", ours, size, "8", *names),
            f"script, same model {size}": lambda: _program("benchmarks.users_script", ours, size, "8", *names),
            "script, YOLOX-nano 416x416": lambda: _program(
                "benchmarks.users_script", str(YOLOX), "416x416", "8", *names
            ),
        },
        rounds,
    )
    run, bare, same, nano = seen.values()
    every = _rounds(
        {
            "script, YOLOX-nano, every frame": lambda: _program(
                "benchmarks.users_script", str(YOLOX), "416x416", "0", *names
            )
        },
        1,
    )
    _tell("(a) passerby run / bare loop", run, bare, 0.85)
    _tell("(b) passerby run / script, same model", run, same, 1.4)
    _tell("(c) passerby run / script with YOLOX-nano", run, nano, 2.2)
    _tell("    passerby run / that script on every frame", run, next(iter(every.values())), 4)


def memory() -> None:
    """(d)."""
    sizes = {}
    for cameras in (1, 4):
        figures = _passerby(hd_clips(4)[:cameras], os.cpu_count() or 1)
        sizes[cameras] = figures["rss_mb"]
        print(f"{cameras} camera(s) at 1080p: {figures['rss_mb']:.0f} MB resident at most")
    print(f"(d) resident memory a further camera at 1080p: {(sizes[4] - sizes[1]) / 3:.0f} MB")


def growth() -> None:
    """(e)."""
    cost = {}
    for cameras in (1, 2, 4, 8, 16, 32):
        figures = _passerby([small_clip()] * cameras, os.cpu_count() or 1)
        cost[cameras] = (figures["cpu_s"] - figures["imports_cpu_s"]) / cameras
        print(
            f"(e) {cameras:3} cameras 640x360: {cost[cameras]:6.2f} s cpu a camera, {figures['wall_s']:6.2f} s wall, "
            f"{figures['rss_mb']:6.0f} MB",
            flush=True,
        )
    several = [seconds for cameras, seconds in cost.items() if cameras > 1]
    print(f"(e) dearest over cheapest camera from 2 to 32: {max(several) / min(several):.2f}")


def main() -> None:
    """Print the figures of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds of each program (default 3)")
    parser.add_argument("--only", choices=("compare", "memory", "growth"), help="one part alone")
    given = parser.parse_args()
    if given.only in {None, "compare"}:
        compare(given.rounds)
    if given.only in {None, "memory"}:
        memory()
    if given.only in {None, "growth"}:
        growth()


if __name__ == "__main__":
    main()
