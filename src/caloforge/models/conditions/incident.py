"""What networks know of the incident particle: energy, direction, impact point, charge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.models.base import ConditionTensors
from caloforge.models.coordinates import RunningMoments

__all__ = ["IncidentContext"]

NEUTRAL = (22, 111, 130, 2112)
CONSTANT = 1e-4


class IncidentContext(nn.Module):
    """Seven standardised numbers: log E, cos θ, cos φ, sin φ, impact x and y, whether neutral.

    A number that is the same for all training showers is 0. Call `begin_fit`, `fit_batch` with every batch
    and `end_fit` to set the statistics.
    """

    size = 7
    mean: Tensor
    std: Tensor
    neutral: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("std", torch.ones(self.size))
        self.register_buffer("neutral", torch.tensor(NEUTRAL), persistent=False)

    def begin_fit(self) -> None:
        """Start collecting statistics."""
        self._moments = RunningMoments((self.size,))

    def fit_batch(self, conditions: ConditionTensors) -> None:
        """Take the conditions of a batch in."""
        self._moments.add(self._raw(conditions))

    def end_fit(self) -> None:
        """Keep the statistics collected since `begin_fit` as buffers."""
        self.mean.copy_(self._moments.mean)
        std = self._moments.std()
        self.std.copy_(torch.where(std > CONSTANT, std, torch.ones_like(std)))
        del self._moments

    def _raw(self, c: ConditionTensors) -> Tensor:
        columns = [
            c.energy.log(),
            c.theta.cos(),
            c.phi.cos(),
            c.phi.sin(),
            *c.impact_point.T,
            self._is_neutral(c),
        ]
        return torch.stack(columns, dim=-1).to(self.mean.dtype)

    def _is_neutral(self, c: ConditionTensors) -> Tensor:
        """1 of neutral particles, else 0, (n,)."""
        return (c.particle[:, None] == self.neutral).any(dim=1).to(c.energy)

    def forward(self, conditions: ConditionTensors) -> Tensor:
        """The numbers of n showers, (n, 7)."""
        return (self._raw(conditions) - self.mean) / self.std
