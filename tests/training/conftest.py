"""Generated pictures to train on, and small networks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> None:
    """Several threads on a busy machine spin; what a test draws must not hang on the tests before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


def draw_scene(seed: int, folder: Path, name: str, *, shift: int = 0, classes: tuple[int, int] = (0, 2)) -> Path:
    """A picture of 160 x 120 with a backdrop of the seed's, one person (a tall box) and one car (a flat one)."""
    backdrop = np.random.default_rng(seed)
    image = np.full((120, 160, 3), backdrop.integers(60, 190), np.uint8)
    for _ in range(25):
        center = (int(backdrop.integers(0, 160)), int(backdrop.integers(0, 120)))
        color = [int(each) for each in backdrop.integers(0, 255, 3)]
        cv2.circle(image, center, int(backdrop.integers(4, 26)), color, -1)
    rows = []
    for label, (x, y, w, h), color in (
        (classes[0], (20 + shift, 30, 20, 50), (30, 30, 220)),
        (classes[1], (80 + shift, 60, 50, 25), (220, 200, 30)),
    ):
        cv2.rectangle(image, (x, y), (x + w, y + h), color, -1)
        rows.append(f"{label} {(x + w / 2) / 160:.5f} {(y + h / 2) / 120:.5f} {w / 160:.5f} {h / 120:.5f}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    path = folder / "images" / f"{name}.png"
    cv2.imwrite(str(path), image)
    (folder / "labels" / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A data file with two sets of 14 scenes: one labels everything, one only persons (one scene four times)."""
    for k in range(14):
        draw_scene(k, tmp_path / "all", f"a{k:02}", shift=k)
        draw_scene(100 + k, tmp_path / "people", f"p{k:02}", shift=k)
        labels = tmp_path / "people" / "labels" / f"p{k:02}.txt"
        labels.write_text(labels.read_text("utf-8").splitlines()[0], encoding="utf-8")  # the car is not labelled
    for k in range(3):
        draw_scene(100, tmp_path / "people", f"q{k}", shift=2 * k)
    path = tmp_path / "data.yaml"
    path.write_text(
        "sets:\n"
        "  all: {labelled: [person, bicycle, car, motorcycle, bus, truck]}\n"
        "  people: {labelled: [person], weight: 0.5}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A scene data file: three clips of a kind, three of none (a folder each), and two ordinary videos of one scene."""
    av = pytest.importorskip("av")
    for folder, count, frames, step in (("mine/fight", 3, 16, 9), ("mine/none", 3, 16, 1), ("street/road", 2, 26, 2)):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(count):
            path = tmp_path / folder / f"{k}.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("mpeg4", rate=8)
                stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
                for i in range(frames):
                    picture = np.full((64, 96, 3), 40 + 10 * k, np.uint8)
                    cv2.rectangle(picture, ((i * step * 3) % 80, 10), ((i * step * 3) % 80 + 15, 50), (230, 90, 30), -1)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())
    data = tmp_path / "scene.yaml"
    data.write_text(
        "sets:\n"
        "  mine: {folder: mine, labelled: [fight]}\n"
        '  street: {folder: street, labelled: [fight], one_scene: ["road/*"]}\n',
        encoding="utf-8",
    )
    return data
