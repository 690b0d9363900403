"""The compiled kernel of a coupling's splines; see coupling.c."""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from caloforge.models.flow.kernels import compiled
from caloforge.models.flow.splines import LARGEST_LOGIT

__all__ = ["map_values"]

MOST_BINS = 64


@cache
def _library(dtype: torch.dtype, halves: bool) -> ctypes.CDLL | None:
    included = Path(__file__).with_name("autoregressive.c").read_bytes()
    return compiled(
        "coupling.c",
        "-DREAL=float" if dtype == torch.float32 else "-DREAL=double",
        "-DBF16=0",
        f"-DHALVES={int(halves)}",
        f"-DINCLUDED={hashlib.sha256(included).hexdigest()[:16]}",  # compiled anew when that file changes
    )


def map_values(
    values: Tensor, raw: Tensor, bias: Tensor, *, bound: float, inverse: bool
) -> tuple[Tensor, Tensor] | None:
    """What `rational_quadratic` gives for values (C, N), raw parameters (Q·C, N) and their biases (Q·C, 1).

    Returns:
        Images and log-slopes, (C, N) each; None where plain torch has to do it: where gradients are wanted,
        on other devices than the CPU, without a compiler.
    """
    tensors = (values, raw, bias)
    bins = (len(bias) // len(values) + 1) // 3
    possible = (
        all(t.device.type == "cpu" for t in tensors)
        and values.dtype in (torch.float32, torch.float64)
        and bias.dtype == values.dtype
        and raw.dtype in (values.dtype, torch.bfloat16)
        and not (raw.dtype == torch.bfloat16 and values.dtype == torch.float64)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
        and not torch.compiler.is_compiling()
        and bins <= MOST_BINS
    )
    library = _library(values.dtype, raw.dtype == torch.bfloat16) if possible else None
    if library is None:
        return None
    images, raw, bias = (
        values.clone(memory_format=torch.contiguous_format),
        raw.contiguous(),
        bias.contiguous(),
    )
    slopes = torch.empty_like(images)
    library.map_values(
        *(ctypes.c_void_p(t.data_ptr()) for t in (images, slopes, raw, bias)),
        *(ctypes.c_int64(size) for size in (*images.shape, bins)),
        ctypes.c_double(bound), ctypes.c_double(LARGEST_LOGIT), ctypes.c_int64(inverse),
    )  # fmt: skip
    return images, slopes
