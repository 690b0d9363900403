"""The device that torch calculates on, its name and its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from caloforge.errors import CaloforgeError
from caloforge.runtime.cores import checked_threads

__all__ = ["cpu_threads", "device_name", "pick_device"]


def pick_device(name: str | torch.device) -> torch.device:
    """The device called ``name``; "auto" is a CUDA GPU where there is one, otherwise the CPU.

    Raises:
        CaloforgeError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CaloforgeError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CaloforgeError(
            f"device {name!r} was asked for, but this torch sees no CUDA GPU; use auto or cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CaloforgeError(f"device {name!r} was asked for, but it is not available; use auto or cpu")
    return device


def device_name(device: torch.device) -> str:
    """What the GPU is called, otherwise the kind of device: ``cpu``, ``mps``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def cpu_threads(n: int | None) -> Iterator[None]:
    """Let torch use ``n`` CPU threads for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if n is None else checked_threads(n))
    try:
        yield
    finally:
        torch.set_num_threads(before)
