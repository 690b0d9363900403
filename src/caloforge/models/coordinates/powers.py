"""Powers of energies, for networks that see empty cells as zeros."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["PowerEnergies"]

ROOM = 1.2
"""Energies that come out are at most those whose coordinate is so many times the largest in training."""


class PowerEnergies(nn.Module):
    """y = ((1 + E/κ)^λ − 1)/(λ·s), Box and Cox's transformation of energies ≥ 0; logarithms where λ = 0.

    0 stays 0, and s makes the root mean square of the cells with energy 1. Call `fit` before anything else.

    Args:
        power: λ; 1 for the energies themselves.
        knee: κ, in thresholds.
    """

    unit: Tensor
    scale: Tensor
    largest: Tensor

    def __init__(self, power: float, knee: float) -> None:
        super().__init__()
        self.power, self.knee = power, knee
        for name in ("unit", "scale", "largest"):
            self.register_buffer(name, torch.ones(()))

    @torch.no_grad()
    def begin_fit(self, threshold: float) -> None:
        """Start collecting statistics; ``threshold`` of cells, MeV."""
        self.unit.fill_(self.knee * threshold)
        self.scale.fill_(1.0)
        self._squares, self._lit, self._most = 0.0, 0, 0.0

    @torch.no_grad()
    def fit_batch(self, energies: Tensor) -> None:
        """Take energies (*) in."""
        y = self(energies).double()
        self._squares += float(y.square().sum())
        self._lit += int((energies > 0).sum())
        self._most = max(self._most, float(y.max()))

    @torch.no_grad()
    def end_fit(self) -> None:
        """Keep the statistics collected since `begin_fit` as buffers."""
        self.scale.fill_(math.sqrt(self._squares / max(self._lit, 1)) or 1.0)
        self.largest.fill_(ROOM * self._most).div_(self.scale)

    def forward(self, energies: Tensor) -> Tensor:
        """y of energies (*), MeV."""
        logs = torch.log1p(energies / self.unit)
        raw = logs if self.power == 0 else torch.expm1(self.power * logs) / self.power
        return raw / self.scale

    def inverse(self, y: Tensor) -> Tensor:
        """Energies (*), MeV, of y ≥ 0 (*)."""
        raw = torch.minimum(y, self.largest) * self.scale
        logs = raw if self.power == 0 else torch.log1p(self.power * raw) / self.power
        return self.unit * torch.expm1(logs)
