"""Energies as the networks of splits see them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["FORMS", "UNIT", "asymmetry", "grown", "seen"]

UNIT = 20.0
"""Energies are seen as 0.4·log(1 + E/20 t)."""


def grown(energies: Tensor) -> Tensor:
    """Energies (*) in units of `UNIT` thresholds as networks see them; 0 of 0."""
    return 0.4 * torch.log1p(energies)


def seen(energies: Tensor, threshold: Tensor) -> Tensor:
    """Energies (*) as networks see them; 0 of 0."""
    return grown(energies / (UNIT * threshold))


def asymmetry(left: Tensor, right: Tensor) -> Tensor:
    """(L − R)/(L + R) of energies (*); 0 where there is none."""
    total = left + right
    return (left - right) / torch.where(total > 0, total, 1.0)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "seen": seen,
    "logarithm": lambda energies, threshold: torch.where(
        energies > 0, 0.2 * (energies / threshold).clamp_min(1e-3).log(), 0.0
    ),
    "lit": lambda cells, threshold: 0.3 * cells.sqrt(),
}
"""Numbers (*) as networks see them, see `Source`."""
