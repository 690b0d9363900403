"""Where bfloat16 matrix products are faster than float32 ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch

__all__ = ["fast_bf16", "use_bf16"]


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":")[2] for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").split())


def fast_bf16(device: torch.device) -> bool:
    """True where the device multiplies bfloat16 matrices natively (AVX-512 BF16, AMX, recent GPUs)."""
    if device.type == "cpu":
        return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def use_bf16(choice: bool | Literal["auto"], device: torch.device) -> bool:
    """What a model's setting ``bf16`` means on a device; "auto": where `fast_bf16`."""
    return fast_bf16(device) if choice == "auto" else choice
