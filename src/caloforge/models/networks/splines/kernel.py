"""The compiled kernel of splines: a map or its gradient in one pass over memory."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from caloforge.models.networks.kernels import HasKernel
from caloforge.runtime.compiled import REALS, compiled, in_threads, traced

__all__ = ["FOLDER", "HasSplineKernel", "compiled_spline", "has_kernel"]

FOLDER = Path(__file__).parent
"""Of the sources; other kernels include the headers in it."""
SOURCE = FOLDER / "splines.c"
FEW_SCALARS = 8192
"""Scalars of which a thread is not worth its start."""


class HasSplineKernel(HasKernel):
    """A network with splines, which are float32 in any case."""

    kernel = "splines"

    def load_kernel(self, bf16: bool) -> bool:
        return compiled(SOURCE, FOLDER, REALS[torch.float32]) is not None


def has_kernel(x: Tensor, parameters: Tensor) -> bool:
    """True where `compiled_spline` can do these."""
    return (
        x.device.type == "cpu"
        and parameters.device.type == "cpu"
        and x.dtype == parameters.dtype
        and x.dtype in REALS
        and x.shape == parameters.shape[1:]
        and type(x) in (Tensor, torch.nn.Parameter)
        and type(parameters) in (Tensor, torch.nn.Parameter)
        and not traced()
        and compiled(SOURCE, FOLDER, REALS[x.dtype]) is not None
    )


def compiled_spline(
    x: Tensor, parameters: Tensor, bound: float, inverse: bool, largest_logit: float
) -> tuple[Tensor, Tensor]:
    """The same as `rational_quadratic`, (*) and (3K − 1, *); first derivatives only."""
    image, log_slope = _Spline.apply(  # type: ignore[no-untyped-call]
        x, parameters, bound, inverse, largest_logit
    )
    return image, log_slope


def _call(name: str, x: Tensor, tensors: list[Tensor], bins: int, *settings: float) -> None:
    function = getattr(compiled(SOURCE, FOLDER, REALS[x.dtype]), name)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    bound, largest, inverse = settings
    end = [ctypes.c_double(bound), ctypes.c_double(largest), ctypes.c_int64(int(inverse))]

    def part(begin: int, stop: int) -> None:
        function(*(ctypes.c_int64(i) for i in (bins, x.numel(), begin, stop)), *pointers, *end)

    in_threads(part, x.numel(), FEW_SCALARS)


class _Spline(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, parameters: Tensor, bound: float, inverse: bool, largest: float
    ) -> tuple[Tensor, Tensor]:
        x, parameters = x.contiguous(), parameters.contiguous()
        image, log_slope = torch.empty_like(x), torch.empty_like(x)
        ctx.settings = (len(parameters) + 1) // 3, bound, largest, inverse
        bins, *settings = ctx.settings
        _call("map", x, [x, parameters, image, log_slope], bins, *settings)
        ctx.save_for_backward(image if inverse else x, parameters)
        return image, log_slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_image: Tensor, grad_slope: Tensor) -> tuple[Tensor | None, ...]:
        data, parameters = ctx.saved_tensors
        grad_x, grad_parameters = torch.empty_like(data), torch.empty_like(parameters)
        given = [data, parameters, grad_image.contiguous(), grad_slope.contiguous(), grad_x, grad_parameters]
        bins, *settings = ctx.settings
        _call("gradient", data, given, bins, *settings)
        return grad_x, grad_parameters, None, None, None
