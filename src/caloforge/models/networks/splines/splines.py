"""Monotonic rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios, arXiv:1906.04032).

On [−B, B] a spline is given by the widths and heights of K bins and the slopes at their K − 1 inner knots;
beyond it is the identity, and the slope at ±B is one, so that the map is smooth there. One function serves
both directions: the forward direction has a closed form, and so has the inverse (the stable root of a
quadratic equation).

Shapes: ``(*)`` any shape of scalars, ``(3K − 1, *)`` their unconstrained parameters. The parameters come
first so that every operation over bins runs along contiguous memory, and only what the bin of each scalar
needs is normalised: with bins last and all knots computed, splines cost more than the networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from caloforge.models.networks.splines.kernel import compiled_spline, has_kernel

__all__ = ["n_spline_parameters", "rational_quadratic"]

LARGEST_LOGIT = 4.0
"""Bins differ in size by at most exp(2 · 4), about 3000."""
MIN_SLOPE = 1e-3
# softplus(_UNIT_SLOPE) + MIN_SLOPE = 1, so that parameters of zero give the identity
_UNIT_SLOPE = math.log(math.expm1(1.0 - MIN_SLOPE))


def n_spline_parameters(bins: int) -> int:
    """Unconstrained parameters of one spline with ``bins`` bins: K widths, K heights, K − 1 slopes."""
    return 3 * bins - 1


def rational_quadratic(
    x: Tensor,
    parameters: Tensor,
    *,
    bound: float,
    inverse: bool = False,
    largest_logit: float = LARGEST_LOGIT,
    compiled: bool = True,
) -> tuple[Tensor, Tensor]:
    """Map x (*) with the splines ``parameters`` (3K − 1, *): the image (*) and log |dy/dx| (*).

    With ``inverse=True`` x is taken as an image; the result and its logarithmic slope are the inverse's.
    Parameters of zero give the identity. Logits of bins are kept within ±``largest_logit``, so that two bins
    differ in size by at most exp(2·largest_logit). With ``compiled`` the kernel is used where it can.
    """
    if compiled and has_kernel(x, parameters):
        return compiled_spline(x, parameters, bound, inverse, largest_logit)
    return _in_torch(x, parameters, bound, inverse, largest_logit)


def _in_torch(
    x: Tensor, parameters: Tensor, bound: float, inverse: bool, largest_logit: float
) -> tuple[Tensor, Tensor]:
    bins = (len(parameters) + 1) // 3
    flat = parameters.reshape(len(parameters), -1)
    values = x.reshape(1, -1)
    inside = (values > -bound) & (values < bound)
    u = torch.where(inside, values, 0.0)

    # split rather than slices, each of whose gradients would be as large as all parameters; widths and
    # heights go through each operation together, since on a GPU it is operations that cost
    logits, raw = torch.split(flat, [2 * bins, bins - 1])
    sizes = logits.clamp(-largest_logit, largest_logit).exp().view(2, bins, -1)  # not normalised
    sums = sizes.cumsum(dim=1)  # no product with a matrix, which TF32 and autocast would round
    whole = sums[:, -1:]  # (2, 1, N)
    ends = sums[1 if inverse else 0]
    passed = ends[:-1] <= (u + bound) * (ends[-1:] / (2 * bound))  # (K − 1, N)
    k = passed.sum(dim=0, keepdim=True)  # bin of each scalar, (1, N)

    scale, at = 2 * bound / whole, k.expand(2, 1, -1)
    size = sizes.gather(1, at)
    # from the middle, because most of the values are near it and round less
    x0, y0 = ((sums.gather(1, at) - size - 0.5 * whole) * scale).unbind()  # (1, N) each
    width, height = (size * scale).unbind()
    knots = torch.cat([k - 1, k])  # before and behind, (2, N); those at ±B have slope one
    inner = (knots >= 0) & (knots < bins - 1)
    d = torch.where(inner, raw.gather(0, knots.clamp(0, bins - 2)), 0.0)
    d = F.softplus(d + _UNIT_SLOPE) + MIN_SLOPE
    # slopes in units of the bin's own; sums below are of numbers that are not negative, and where g cancels,
    # what is added to it is large: exact to rounding, however steep or flat the spline is
    unit = width / height
    d0, d1 = torch.split(d * unit, 1)
    if inverse:
        # the root of the quadratic equation, its discriminant written as g² + 4 ρ (1 − ρ)
        rho = ((u - y0) / height).clamp(0, 1)
        g = d0 * (1 - rho) - d1 * rho
        q = torch.sqrt(g * g + 4 * rho * (1 - rho)) + g.abs()
        left, rest = torch.where(g > 0, 2 * rho, q), torch.where(g > 0, q, 2 * (1 - rho))
        t, r = left / (left + rest), rest / (left + rest)
    else:
        t = ((u - x0) / width).clamp(0, 1)
        r = 1 - t
    mix = t * r
    bottom = t * t + r * r + (d0 + d1) * mix
    image = x0 + t * width if inverse else y0 + height * ((t * t + d0 * mix) / bottom)
    slope = (d1 * t * t + 2 * mix + d0 * r * r) / (unit * bottom * bottom)
    log_slope = -slope.log() if inverse else slope.log()
    return torch.where(inside, image, values).view_as(x), torch.where(inside, log_slope, 0.0).view_as(x)
