"""The wheel is whole: installed where no repository is, without torch, it does the main job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


def uv() -> str:
    """The installer the Makefile pins: beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    assert found, "uv is not installed: `make install-dev` does"
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv(), "build", "--quiet", "--wheel", "--out-dir", str(out), str(ROOT)], check=True, timeout=240)
    (built,) = out.glob("passerby-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of a new environment with nothing but the wheel and what it asks for."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(venv)], check=True, timeout=60)
    subprocess.run(
        [uv(), "pip", "install", "--quiet", "--python", str(venv / "bin/python"), "--constraint",
         str(ROOT / "constraints.txt"), f"{wheel}[cpu]"],
        check=True, timeout=240,
    )  # fmt: skip
    return venv / "bin"


def call(command: list[str], folder: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run outside the repository, with no path into it."""
    surroundings = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    surroundings["COLUMNS"] = "200"
    return subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def tracked(*folders: str) -> list[str]:
    """The files of the repository that are no Python, as git knows them."""
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if not name.endswith(".py") and (ROOT / name).exists()]


def test_every_data_file_of_the_packages_is_inside(wheel: Path) -> None:
    expected = tracked("pipeline", "training")
    assert "pipeline/models/passerby-nano/model.onnx" in expected
    assert "pipeline/outputs/templates/report.html.j2" in expected
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in expected if name not in inside] == []


def test_nothing_else_is_inside(wheel: Path) -> None:
    """No tests, no clips, no benchmarks; and small enough to be fetched in a moment."""
    tops = {name.split("/", 1)[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pipeline", "training"}
    assert wheel.stat().st_size < 20 << 20


def test_the_commands_and_the_model_are_there(installed: Path, tmp_path: Path) -> None:
    told = call([str(installed / "passerby"), "--help"], tmp_path)
    assert told.returncode == 0, told.stderr
    assert "Cameras in; people and vehicle counts" in told.stdout
    models = call([str(installed / "passerby"), "models", "list"], tmp_path)
    assert models.returncode == 0, models.stderr
    assert "passerby-nano" in models.stdout
    schema = call([str(installed / "passerby"), "schema"], tmp_path)
    assert json.loads(schema.stdout) == json.loads((ROOT / "docs/passerby.schema.json").read_text())


def test_the_pipeline_needs_no_torch(installed: Path, tmp_path: Path) -> None:
    program = (
        "import importlib, pkgutil, sys, pipeline\n"
        "for found in pkgutil.walk_packages(pipeline.__path__, 'pipeline.'): importlib.import_module(found.name)\n"
        "assert not {'torch', 'training', 'cv2', 'onnx'} & set(sys.modules), sorted(sys.modules)\n"
        "print(pipeline.__file__)\n"
    )
    told = call([str(installed / "python"), "-c", program], tmp_path)
    assert told.returncode == 0, told.stderr
    assert str(installed.parent) in told.stdout


def test_training_without_its_extra_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    told = call([str(installed / "passerby-train"), "evaluate", "somewhere"], tmp_path)
    assert told.returncode != 0
    assert "passerby[training]" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.slow
def test_demo_and_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    demo = call([str(installed / "passerby"), "demo", "--duration", "12", "--no-annotate", "--quiet"], tmp_path)
    assert demo.returncode == 0, demo.stderr
    clip = tmp_path / "out/demo/street.mp4"
    run = call([str(installed / "passerby"), "run", str(clip), "--line", "0,0.6,1,0.6", "--out", "counted"], tmp_path)
    assert run.returncode == 0, run.stderr
    events = [json.loads(line) for line in (tmp_path / "counted/events.jsonl").read_text().splitlines()]
    assert sum(event["type"] == "io.passerby.line.crossed.v1" for event in events) >= 3
    assert "<html" in (tmp_path / "counted/report.html").read_text()
