"""Operations that exported graphs are without, in terms of those that all run-times have.

ONNX has no normal distribution beyond erf, which loses the tails, and no search in sorted numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Exportable"]

ERFC = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587)
ERFC_LAST = (-0.82215223, 0.17087277)
"""Chebyshev's fit to log erfc of Press et al., Numerical Recipes, to 1.2e-7; tree.c has it, too."""
ERFINV = (
    (
        *(2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087),
        *(-0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
    ),
    (
        *(-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773),
        *(-0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
    ),
)
"""Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2011): in the middle and in the tails."""


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """c₀xⁿ + … + cₙ by Horner's rule."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def log_tail(a: Tensor) -> Tensor:
    """log Φ(−a) of a ≥ 0."""
    x = a * math.sqrt(0.5)
    t = 1 / (1 + 0.5 * x)
    return _polynomial((*ERFC, *ERFC_LAST)[::-1], t) - x * x + (0.5 * t).log()


def ndtr(z: Tensor) -> Tensor:
    """Φ(z)."""
    tail = log_tail(z.abs()).exp()
    return torch.where(z < 0, tail, 1 - tail)


def log_ndtr(z: Tensor) -> Tensor:
    """log Φ(z)."""
    tail = log_tail(z.abs())
    return torch.where(z < 0, tail, torch.log1p(-tail.exp()))


def erfc(x: Tensor) -> Tensor:
    """1 − erf x."""
    return 2 * ndtr(x * -math.sqrt(2))


def erfinv(x: Tensor) -> Tensor:
    """The number with this erf, |x| < 1."""
    return _giles(x, (1 - x) * (1 + x))


def ndtri(p: Tensor) -> Tensor:
    """The number with this Φ, 0 < p < 1."""
    return math.sqrt(2) * _giles(2 * p - 1, 4 * p * (1 - p))


def _giles(x: Tensor, rest: Tensor) -> Tensor:
    """The number with erf x, of x and 1 − x²."""
    w = -rest.log()
    middle, tails = _polynomial(ERFINV[0], w - 2.5), _polynomial(ERFINV[1], w.sqrt() - 3)
    return x * torch.where(w < 5, middle, tails)


def searchsorted(sorted_sequence: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    """How many numbers (…, m) are less than values (…, k), or with ``right`` not more, (…, k)."""
    below, value = sorted_sequence[..., None, :], values[..., None]
    return (below <= value if right else below < value).sum(dim=-1)


REPLACED: dict[Any, Callable[..., Any]] = {
    torch.special.ndtr: ndtr,
    torch.special.log_ndtr: log_ndtr,
    torch.special.ndtri: ndtri,
    torch.erfc: erfc,
    torch.special.erfc: erfc,
    torch.erfinv: erfinv,
    torch.special.erfinv: erfinv,
    torch.searchsorted: searchsorted,
}


class Exportable(TorchFunctionMode):
    """What is computed within uses these operations instead of torch's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return REPLACED.get(func, func)(*args, **(kwargs or {}))
