"""Shared by the benchmarks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caloforge.runtime.files import write_json

__all__ = ["keep", "peak_mib", "timed"]


def peak_mib() -> float:
    """Largest memory of this process so far, MiB; `resource` may tell that of the process that started it."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def processor_seconds() -> float:
    """Of this process and of all that it started and that have ended."""
    return sum(os.times()[:4])


def timed(what: Callable[[], Any]) -> dict[str, float]:
    """Processor and wall time of a call."""
    cpu, wall = processor_seconds(), time.perf_counter()
    what()
    return {"cpu": processor_seconds() - cpu, "wall": time.perf_counter() - wall}


def keep(file: Path, name: str, value: dict[str, Any]) -> None:
    """Put a result into a file of results, with where and when it was measured."""
    from minutes import about_here

    told = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, told | {name: value | {"about": about_here()}})
