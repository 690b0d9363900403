"""Shared by the benchmarks."""

from __future__ import annotations

from pathlib import Path

__all__ = ["peak_mib"]


def peak_mib() -> float:
    """Largest memory of this process so far, MiB; `resource` may tell that of the process that started it."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
