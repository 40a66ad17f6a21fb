"""Two processes train one network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pycocotools")

from training.distributed import average_gradients, place, share_of, told_by_first  # noqa: E402
from training.trainer import read_checkpoint  # noqa: E402

_WORKER = """
import sys
from pathlib import Path

import torch

import training.trainer
from training.distributed import joined, place
from training.session import Start, train_detector
from training.trainer import Recipe, Training

torch.set_num_threads(1)
made = []
kept = Training.__init__
def noted(self, *args, **kwargs):
    kept(self, *args, **kwargs)
    made.append(self)
Training.__init__ = noted
data, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = Recipe(epochs=1, pictures=8, batch=4, workers=0, warmup=1, shapes={(64, 64): 1.0})
with joined(torch.device("cpu")):
    train_detector(data, None, Start(), out / "run", recipe)
    torch.save(made[0].network.state_dict(), out / f"rank{place()[0]}.pt")
"""


def test_alone_nothing_changes() -> None:
    assert place() == (0, 1)
    assert share_of(10, 4) == list(range(10))
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    average_gradients([weight])
    assert weight.grad.tolist() == [1.0, 2.0]
    assert told_by_first(lambda: 0.5, torch.device("cpu")) == 0.5


def test_of_every_batch_each_process_takes_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for rank in range(2):
        monkeypatch.setattr("training.distributed.place", lambda rank=rank: (rank, 2))
        parts.append(share_of(10, 4))
    assert parts == [[0, 1, 4, 5], [2, 3, 6, 7]]  # the last two are no whole batch


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(data_file: Path, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(_WORKER, encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = []
    for rank in range(2):
        told = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        environment = os.environ | told | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        running.append(
            subprocess.Popen(
                [sys.executable, str(worker), str(data_file), str(tmp_path)], env=environment,
                cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    for each in running:
        _, said = each.communicate(timeout=280)
        assert each.returncode == 0, said
    one, other = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_checkpoint(tmp_path / "run" / "best.pt")["step"] == 2
