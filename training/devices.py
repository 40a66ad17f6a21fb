"""Where a network is trained: a CPU, or this process's GPU."""

from __future__ import annotations

import os

import torch

from pipeline.errors import UsageError

CPU = torch.device("cpu")


def device_of(told: str) -> torch.device:
    """``auto`` is a GPU where there is one; of several processes (``torchrun``) each has its own.

    Raises UsageError for a device that torch does not know or that is not there.
    """
    there = torch.cuda.is_available()
    kind = ("cuda" if there else "cpu") if told == "auto" else told
    try:
        device = torch.device(kind)
    except RuntimeError:
        raise UsageError(f"--device {told}: torch knows no such device", mend="auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not there:
        raise UsageError(f"--device {told}: torch finds no GPU here", mend="leave it out, or install torch with CUDA")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def halves(device: torch.device) -> bool:
    """Whether bfloat16, which needs no scaling of gradients, is quick there."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
