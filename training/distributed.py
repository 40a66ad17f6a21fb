"""Several processes that train one network, each on its share of every batch (``torchrun`` starts them).

Gradients are averaged after each backward pass, which is what DistributedDataParallel does (Li et al., VLDB 2020), by
one flat exchange: the trainer's own loop, averaged weights and optimiser stay as they are, and are the same in every
process. Without ``torchrun`` nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Be part of the processes that ``torchrun`` started (gloo; NCCL where they train on GPUs), if it started any."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) alone."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def share_of(pictures: int, batch: int) -> list[int]:
    """Of every batch of ``batch`` pictures the part that is this process's, in order: part k of each to process k.

    A last batch that is not whole is left out where there are several processes: all must take as many steps.
    """
    rank, processes = place()
    if processes == 1:
        return list(range(pictures))
    own = batch // processes
    return [start + rank * own + i for start in range(0, pictures - batch + 1, batch) for i in range(own)]


def given_by_first(network: nn.Module) -> None:
    """Give every process the first one's weights: each made its own by chance."""
    if place()[1] > 1:
        for each in network.state_dict().values():
            distributed.broadcast(each, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all their gradients."""
    _, processes = place()
    if processes == 1:
        return
    with_gradient = [each for each in parameters if each.grad is not None]
    flat = torch.cat([each.grad.flatten() for each in with_gradient if each.grad is not None])
    distributed.all_reduce(flat)
    flat /= processes
    at = 0
    for each in with_gradient:
        assert each.grad is not None
        each.grad.copy_(flat[at : at + each.numel()].view_as(each))
        at += each.numel()


def told_by_first(work: Callable[[], float], device: torch.device) -> float:
    """``work`` is done by the first process; all get what it found, so that all stop together."""
    rank, processes = place()
    found = torch.tensor(work() if rank == 0 else 0.0, dtype=torch.float64, device=device)
    if processes > 1:
        distributed.broadcast(found, 0)
    return float(found)
