"""Memory: what a program can still take, and the most it took."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from caloforge.runtime.cgroups import ROOT, own_groups, read_text

if TYPE_CHECKING:
    import torch

__all__ = ["free_memory", "peak_memory_mib"]

UNKNOWN = 1 << 30


def free_memory(root: Path = ROOT) -> int:
    """Bytes that a program can still take without swapping and within its cgroups; 1 GiB where unknown.

    Args:
        root: where the file system begins, for tests.
    """
    available = _field(read_text(root / "proc/meminfo"), "MemAvailable:")
    limits = list(_left_in_groups(root))
    if available is not None:
        limits.append(available * 1024)
    return max(0, min(limits)) if limits else UNKNOWN


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each cgroup has left. Files in its page cache that are not in use count as free."""
    for group in own_groups("memory", root):
        for limit, usage, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            allowed, used = (read_text(group / name).strip() for name in (limit, usage))
            if allowed.isdigit() and used.isdigit():  # "max" is no limit
                yield int(allowed) - int(used) + (_field(read_text(group / "memory.stat"), cache) or 0)


def peak_memory_mib(device: torch.device) -> float:
    """Largest memory so far, MiB: of the GPU's tensors, or of this process where the device is the CPU."""
    if device.type == "cuda":
        import torch

        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    kibibytes = _field(read_text(Path("/proc/self/status")), "VmHWM:")
    if kibibytes is not None:  # on Linux ru_maxrss may be that of the process that started this one
        return round(kibibytes / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _field(text: str, name: str) -> int | None:
    """The number behind a name in lines like ``MemAvailable:  123 kB``."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None
