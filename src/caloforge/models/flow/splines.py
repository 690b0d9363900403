"""Monotonic rational-quadratic splines (Durkan, Bekasov, Murray, Papamakarios, arXiv:1906.04032).

On [−B, B] a spline is given by the widths and heights of K bins and the slopes at their K − 1 inner knots;
beyond it is the identity, and the slope at ±B is one, so that the map is smooth there. One function serves
both directions: the forward direction has a closed form, and so has the inverse (the stable root of a
quadratic equation).

Shapes: ``(*)`` any shape of scalars, ``(3K − 1, *)`` their unconstrained parameters. The parameters come
first so that every operation over bins runs along contiguous memory; with the bins last, softmax over
eight numbers costs more than the networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["n_spline_parameters", "rational_quadratic"]

MIN_BIN = 1e-3
MIN_SLOPE = 1e-3
# softplus(_UNIT_SLOPE) + MIN_SLOPE = 1, so that parameters of zero give the identity
_UNIT_SLOPE = math.log(math.expm1(1.0 - MIN_SLOPE))


def n_spline_parameters(bins: int) -> int:
    """Unconstrained parameters of one spline with ``bins`` bins: K widths, K heights, K − 1 slopes."""
    return 3 * bins - 1


def _knots(logits: Tensor, bound: float) -> Tensor:
    """Knot positions from −bound to bound, (K + 1, *), from unconstrained bin sizes (K, *)."""
    bins = len(logits)
    sizes = MIN_BIN + (1 - MIN_BIN * bins) * torch.softmax(logits, dim=0)
    inner = torch.cumsum(sizes[:-1], dim=0) * (2 * bound) - bound
    edge = torch.full_like(inner[:1], bound)
    return torch.cat([-edge, inner, edge])


def rational_quadratic(
    x: Tensor, parameters: Tensor, *, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Map x (*) with the splines ``parameters`` (3K − 1, *): the image (*) and log |dy/dx| (*).

    With ``inverse=True`` x is taken as an image; the result and its logarithmic slope are the inverse's.
    Parameters of zero give the identity.
    """
    bins = (len(parameters) + 1) // 3
    inside = (x > -bound) & (x < bound)
    u = torch.where(inside, x, torch.zeros_like(x))[None]

    knots_x = _knots(parameters[:bins], bound)
    knots_y = _knots(parameters[bins : 2 * bins], bound)
    slopes = MIN_SLOPE + F.softplus(parameters[2 * bins :] + _UNIT_SLOPE)
    one = torch.ones_like(slopes[:1])
    slopes = torch.cat([one, slopes, one])

    searched = knots_y if inverse else knots_x
    k = (u >= searched[1:-1]).sum(dim=0, keepdim=True)
    x0, x1 = knots_x.gather(0, k), knots_x.gather(0, k + 1)
    y0, y1 = knots_y.gather(0, k), knots_y.gather(0, k + 1)
    d0, d1 = slopes.gather(0, k), slopes.gather(0, k + 1)
    width, height = x1 - x0, y1 - y0
    s = height / width
    curvature = d0 + d1 - 2 * s

    if inverse:
        rise = u - y0
        a = height * (s - d0) + rise * curvature
        b = height * d0 - rise * curvature
        c = -s * rise
        root = torch.sqrt((b * b - 4 * a * c).clamp_min(0))
        t = (2 * c / (-b - root)).clamp(0, 1)
        image = x0 + t * width
    else:
        t = (u - x0) / width
        image = y0 + height * (s * t * t + d0 * t * (1 - t)) / (s + curvature * t * (1 - t))
    mix = t * (1 - t)
    slope = s * s * (d1 * t * t + 2 * s * mix + d0 * (1 - t) ** 2) / (s + curvature * mix) ** 2
    log_slope = torch.log(slope).squeeze(0)
    if inverse:
        log_slope = -log_slope
    return torch.where(inside, image.squeeze(0), x), torch.where(inside, log_slope, torch.zeros_like(x))
