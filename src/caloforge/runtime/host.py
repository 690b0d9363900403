"""The class of a host: processors that round alike, since libraries take the same instructions on them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from caloforge.runtime.cgroups import read_text
from caloforge.runtime.kernel_files import cpu_flags

__all__ = ["host_class"]

DECISIVE = ("avx", "avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "avx512_fp16", "amx_bf16", "sve")
"""Sets of instructions for which libraries have kernels of their own."""
CHOICES = (
    "ATEN_CPU_CAPABILITY",
    "CALOFORGE_KERNELS",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables by which users choose among them."""


def host_class(environment: Mapping[str, str] = os.environ) -> str:
    """Kind and maker of the processor, what it can do, and what of that the user has chosen.

    ``"x86_64 AuthenticAMD avx avx2 fma"``. On two hosts of one class, showers are equal to the last bit.
    """
    chosen = [f"{name}={environment[name]}" for name in CHOICES if environment.get(name)]
    able = [flag for flag in DECISIVE if flag in cpu_flags()]
    return " ".join([platform.machine(), *_maker(), *able, *chosen])


def _maker() -> list[str]:
    """Who made the processor, by whom libraries also choose; nothing where the system does not say."""
    for line in read_text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("vendor_id", "CPU implementer"):
            return [value.strip()]
    return []
