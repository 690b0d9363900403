"""Which precision networks compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from caloforge.runtime.processor import cpu_flags

__all__ = ["bf16_autocast", "in_bf16", "native_bf16"]


def native_bf16(device: torch.device) -> bool:
    """True where the device multiplies bfloat16 matrices natively (AVX-512 BF16, AMX, GPUs since Ampere).

    Older GPUs emulate it, which is slower than float32; torch counts them as able.
    """
    if device.type == "cpu":
        return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})
    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8


def in_bf16(setting: bool | Literal["auto"], choice: str, device: torch.device) -> bool:
    """Whether networks compute in bfloat16 on a device.

    Args:
        setting: a model's ``bf16``; "auto": where it is native.
        choice: what is asked for, "float32", "bfloat16" or "auto": what the setting says.
        device: where.
    """
    if choice != "auto":
        return choice == "bfloat16"
    return native_bf16(device) if setting == "auto" else setting


def bf16_autocast(device: torch.device, on: bool) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, or none; a meta device has no autocast, on or off."""
    return torch.autocast(device.type, torch.bfloat16) if on else nullcontext()
