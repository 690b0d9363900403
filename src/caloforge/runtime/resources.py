"""Devices, memory and seeds: what depends on the machine, and what must not."""

from __future__ import annotations

import hashlib
import resource
import sys
from pathlib import Path

import torch

from caloforge.errors import CaloforgeError

__all__ = ["derived_seed", "free_memory", "peak_memory_mib", "pick_device", "seed_torch"]


def derived_seed(*keys: int | str) -> int:
    """A 63-bit seed that is a function of the keys alone, e.g. (seed, "train", epoch, step)."""
    data = "\x1f".join(map(str, keys)).encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little") >> 1


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and ``device``; cheaper than `torch.manual_seed`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def pick_device(name: str) -> torch.device:
    """The device called ``name``; "auto" is a CUDA GPU where there is one, otherwise the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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


def free_memory() -> int:
    """Bytes of memory that a program can still take without swapping; 1 GiB where that is unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 1 << 30


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory so far, MiB: of the GPU's tensors, or of this process where the device is the CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:  # on Linux ru_maxrss may be that of the process that started this one
        status = Path("/proc/self/status").read_text()
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 2**10, 1)
    except (OSError, IndexError, ValueError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
