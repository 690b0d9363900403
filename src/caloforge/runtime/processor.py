"""The processor as the system tells of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from caloforge.runtime.cgroups import read_text

__all__ = ["cpu_flags", "processor_maker", "processor_name"]


@cache
def _told() -> Mapping[str, str]:
    """What /proc/cpuinfo says of the first core, by name; nothing where there is no such file."""
    first, _, _ = read_text(Path("/proc/cpuinfo")).partition("\n\n")
    parts = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in parts}


def cpu_flags() -> frozenset[str]:
    """What the system says that this processor can do; empty where it does not say."""
    return frozenset((_told().get("flags") or _told().get("Features", "")).split())


def processor_name() -> str:
    """What the processor calls itself, else its kind."""
    return _told().get("model name") or platform.processor() or platform.machine()


def processor_maker() -> str:
    """Who made the processor; nothing where the system does not say."""
    return _told().get("vendor_id") or _told().get("CPU implementer", "")
