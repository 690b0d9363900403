"""The class of a host: processors that round alike, since libraries take the same instructions on them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from caloforge.runtime.processor import cpu_flags, processor_maker

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
    maker = [processor_maker()] if processor_maker() else []  # libraries also choose by whom it is
    able = [flag for flag in DECISIVE if flag in cpu_flags()]
    return " ".join([platform.machine(), *maker, *able, *chosen])
