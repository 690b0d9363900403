"""Maps of single energies: over a threshold, of shares, as context. All are deterministic; noise comes in.

Shapes: ``(*)`` any. Energies are MeV, or in another unit that all of them have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "cut_noise",
    "exp_threshold",
    "fill_below",
    "inverse_squeezed_logit",
    "log_energy",
    "log_threshold",
    "squeezed_logit",
]

U_MIN, U_MAX = 2.0**-32, 1 - 2.0**-23
"""Uniform numbers are kept between these: float32 may round one to 0 or 1, which the laws here exclude."""
GAP = 1e-4
"""γ, half the distance between lit and empty cells in y, so that later rounding moves none across."""
LOG_SIGMA = 0.3
LARGEST = 1e15
"""Energies that come out of an exponential are at most this many thresholds, so that sums stay finite."""


def log_energy(energies: Tensor, unit: Tensor | float, scale: float) -> Tensor:
    """log(1 + E/unit)/scale − 1: energies (*) of cells or layers, which may be 0, as context of a network."""
    return torch.log1p(energies / unit) / scale - 1


def fill_below(uniform: Tensor, width: float) -> Tensor:
    """Values y < −γ that stand for empty cells, y = −γ − w·exp(0.3·√2·erf⁻¹(2u − 1)), of uniform u (*).

    Their log-normal density vanishes smoothly at the threshold, so that a smooth model needs no step there
    and spills few empty cells over it; L2LFlows (arXiv:2302.11594) had half a normal one. γ = 10⁻⁴.
    """
    u = uniform.clamp(U_MIN, U_MAX)
    z = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(2.0**-23 - 1, 1 - 2.0**-23))
    return -GAP - width * (LOG_SIGMA * z).exp()


def log_threshold(energies: Tensor, threshold: Tensor | float, below: Tensor) -> Tensor:
    """γ + log(E/threshold) where E ≥ threshold, else ``below`` < −γ of `fill_below`; all (*)."""
    lit = energies >= threshold
    return torch.where(lit, torch.where(lit, energies / threshold, 1.0).log() + GAP, below)


def exp_threshold(y: Tensor, threshold: Tensor | float, cut: bool = True) -> Tensor:
    """Undo `log_threshold`: threshold·exp(y − γ) within [threshold, 10¹⁵·threshold] where y ≥ 0; y (*).

    Where y < 0 it is 0 if ``cut``, else threshold·exp(y − γ), which is below the threshold: so the hottest
    cell is still known where none is lit.
    """
    logs = y - GAP
    lit = logs.clamp(0, math.log(LARGEST))
    return threshold * torch.where(y >= 0, lit, -math.inf if cut else logs).exp()


def cut_noise(energies: Tensor, width: float, threshold: Tensor | float) -> Tensor:
    """Undo the addition of uniform noise: 0 where E < threshold, else max(E − width/2, threshold); E (*).

    Taking half the width off leaves no bias in the mean of energies well above the threshold.
    """
    return torch.where(energies >= threshold, (energies - width / 2).clamp(min=threshold), 0.0)


def squeezed_logit(share: Tensor, alpha: float) -> Tensor:
    """logit(α + (1 − 2α)·share) of shares (*) in [0, 1], finite at both ends; 0 < α < ½."""
    return torch.logit(alpha + (1 - 2 * alpha) * share)


def inverse_squeezed_logit(y: Tensor, alpha: float) -> Tensor:
    """Undo `squeezed_logit`; beyond its range shares lie outside [0, 1] by less than α/(1 − 2α)."""
    return (torch.sigmoid(y) - alpha) / (1 - 2 * alpha)
