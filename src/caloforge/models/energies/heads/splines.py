"""A head whose density is known."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.energies.base import LayerEnergySettings
from caloforge.models.energies.heads import HEADS, Head
from caloforge.models.energies.inductive import SplineNetwork

__all__ = ["SplineHead"]


@HEADS.add("splines")
class SplineHead(Head):
    """A shift, a scale and a rational-quadratic spline; the loss is −log p."""

    def __init__(self, settings: LayerEnergySettings) -> None:
        super().__init__(settings)
        s = settings
        self.network = SplineNetwork(s.hidden, s.hidden, s.depth, s.bins, s.bound)

    def loss(self, z: Tensor, states: Tensor, generator: torch.Generator | None) -> Tensor:
        return -self.network.log_prob(z, states)

    def sample(self, noise: Tensor, states: Tensor) -> Tensor:
        return self.network.sample(noise, states)
